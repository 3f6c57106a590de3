//! `host_port_list` and `connect`: which of several addresses are read from and sent to, and what happens
//! when one of them, or the name of it, changes.

use std::{
    collections::HashMap,
    io,
    net::{SocketAddr, TcpListener},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use serde_json::json;
use stompbox::{
    app::Drained,
    client::{Address, Addresses, ConnectOptions, Phase, ReadFrom, Resolver, SessionState, Timing},
};

use super::{
    nodes::{Node, QUEUE, Reading},
    open,
};
use crate::{
    harness::{
        client::Msg,
        free_port,
        host::{Host, One, wait_until},
        messages::numbered,
        target::Target,
    },
    operate,
};

/// A DNS of the test's own: a name that it does not hold cannot be resolved.
#[derive(Clone, Default)]
struct Dns {
    names: Arc<Mutex<HashMap<String, Vec<SocketAddr>>>>,
    failures: Arc<AtomicUsize>,
}

impl Dns {
    fn set(&self, name: &str, addresses: &[SocketAddr]) {
        self.names.lock().unwrap().insert(name.to_owned(), addresses.to_vec());
    }

    fn forget(&self, name: &str) {
        self.names.lock().unwrap().remove(name);
    }

    /// Servers with these names.
    fn options(&self, names: &[&str]) -> ConnectOptions {
        let (held, failures) = (self.names.clone(), self.failures.clone());
        let resolver = Resolver::of(move |address| {
            held.lock().unwrap().get(&address.host).cloned().ok_or_else(|| {
                failures.fetch_add(1, Ordering::Relaxed);
                io::ErrorKind::NotFound.into()
            })
        });
        let addresses = names.iter().map(|name| Address { host: (*name).into(), port: 1 }).collect();
        let max_backoff = Duration::from_millis(200);
        ConnectOptions { resolver, max_backoff, ..ConnectOptions::new("mb", addresses) }
    }
}

/// Everything is looked at again soon.
fn soon(all: bool) -> ReadFrom {
    let timing = Timing {
        resolve_every: Duration::from_millis(50),
        back_after: Duration::from_millis(200),
        ..Timing::default()
    };
    ReadFrom { all, timing }
}

fn one_consumer_each(nodes: &[&Node]) {
    wait_until("a consumer at each node", || nodes.iter().all(|node| node.consumers() == 1));
}

#[test]
fn every_address_behind_a_name_is_read_and_the_window_divided() {
    let (dns, port) = (Dns::default(), free_port());
    let nodes = ["127.0.0.1", "127.0.0.2", "127.0.0.3"].map(|ip| Node::started(ip, port));
    dns.set("mb", &nodes.each_ref().map(|node| node.address));
    let reading = Reading::start(dns.options(&["mb"]), ReadFrom::default(), 31);
    reading.reaches(SessionState::Subscribed);
    assert!(nodes.iter().all(|node| node.consumers() == 1), "ready means all that can be reached");
    nodes.iter().for_each(|node| node.send(&["x"; 40]));
    let held: Vec<_> = (0..30).map(|_| reading.take()).collect();
    for node in &nodes {
        let depth = node.handle().queue_depth(QUEUE);
        assert_eq!((depth.unacked, depth.waiting), (10, 30), "a third of the window");
    }
    assert!(held.into_iter().all(stompbox::delivery::Delivery::ack));
    (0..90).for_each(|_| reading.settle("x"));
    reading.enter(Phase::Drain);
    reading.reaches(SessionState::Quiet);
    reading.enter(Phase::Finish);
    reading.reaches(SessionState::Closed);
    for node in &nodes {
        assert_eq!(node.handle().queue_depth(QUEUE), Default::default());
    }
}

/// Each address gets at least one, however small the window is.
#[test]
fn a_window_of_one_reads_from_two_addresses() {
    let (dns, port) = (Dns::default(), free_port());
    let nodes = ["127.0.0.1", "127.0.0.2"].map(|ip| Node::started(ip, port));
    dns.set("mb", &nodes.each_ref().map(|node| node.address));
    let reading = Reading::start(dns.options(&["mb"]), ReadFrom::default(), 1);
    nodes.iter().for_each(|node| node.send(&["x"; 2]));
    let held = [reading.take(), reading.take()];
    assert!(nodes.iter().all(|node| node.handle().queue_depth(QUEUE).unacked == 1));
    assert!(held.into_iter().all(stompbox::delivery::Delivery::ack));
    (0..2).for_each(|_| reading.settle("x"));
}

#[test]
fn new_addresses_are_read_and_vanished_ones_left_when_their_deliveries_are_settled() {
    let (dns, port) = (Dns::default(), free_port());
    let [old, stays, new] = ["127.0.0.1", "127.0.0.2", "127.0.0.3"].map(|ip| Node::started(ip, port));
    dns.set("mb", &[old.address, stays.address]);
    let reading = Reading::start(dns.options(&["mb"]), soon(false), 10);
    let told = |nodes: [&Node; 2]| Addresses::from(nodes.map(|node| (node.address.to_string(), true)));
    one_consumer_each(&[&old, &stays]);
    wait_until("both are told", || *reading.addresses.borrow() == told([&old, &stays]));
    old.send(&["from the old one"]);
    let held = reading.take();
    dns.set("mb", &[stays.address, new.address]);
    one_consumer_each(&[&new, &stays]);
    wait_until("the new one is told, the old one no more", || *reading.addresses.borrow() == told([&new, &stays]));
    new.send(&["from the new one"]);
    reading.settle("from the new one");
    old.send(&["too late"]);
    assert_eq!((old.consumers(), old.handle().queue_depth(QUEUE).unacked > 0), (1, true), "it waits for the ACK");
    assert!(held.ack(), "the connection of what was taken lives on");
    wait_until("the old one is left", || old.consumers() == 0);
    let left: Vec<_> = old.client().drain_queue(QUEUE).unwrap().iter().map(Msg::text).collect();
    assert_eq!(left, ["too late"]);
}

#[test]
fn a_dns_that_fails_changes_nothing() {
    let (dns, port) = (Dns::default(), free_port());
    let node = Node::started("127.0.0.1", port);
    dns.set("mb", &[node.address]);
    let reading = Reading::start(dns.options(&["mb"]), soon(false), 10);
    reading.reaches(SessionState::Subscribed);
    node.send(&["held", "x"]);
    let held = reading.take();
    dns.forget("mb");
    wait_until("failing lookups", || dns.failures.load(Ordering::Relaxed) >= 3);
    reading.settle("x");
    assert!(held.ack(), "the connection lives on");
    assert_eq!(node.consumers(), 1);
}

#[test]
fn a_name_that_comes_late_is_found() {
    let (dns, port) = (Dns::default(), free_port());
    let node = Node::started("127.0.0.1", port);
    let reading = Reading::start(dns.options(&["mb"]), soon(false), 10);
    wait_until("failing lookups", || dns.failures.load(Ordering::Relaxed) >= 2);
    assert_eq!(
        *reading.addresses.borrow(),
        Addresses::from([("mb:1".to_owned(), false)]),
        "what is missing has a name"
    );
    dns.set("mb", &[node.address]);
    reading.reaches(SessionState::Subscribed);
}

#[test]
fn ipv4_and_ipv6_of_one_node_count_once() {
    let (dns, port) = (Dns::default(), free_port());
    let [mut four, six] = ["127.0.0.1", "::1"].map(|ip| Node::started(ip, port));
    dns.set("mb", &[six.address, four.address]);
    let reading = Reading::start(dns.options(&["mb"]), soon(false), 10);
    reading.reaches(SessionState::Subscribed);
    assert_eq!((four.consumers(), six.consumers()), (1, 0));
    four.stop();
    wait_until("IPv6 is used when no IPv4 address can be reached", || six.consumers() == 1);
    six.send(&["x"]);
    reading.settle("x");
    four.start();
    wait_until("and left when one can", || (four.consumers(), six.consumers()) == (1, 0));
}

#[test]
fn a_name_with_ipv6_alone_is_read() {
    let (dns, port) = (Dns::default(), free_port());
    let six = Node::started("::1", port);
    dns.set("mb", &[six.address]);
    Reading::start(dns.options(&["mb"]), ReadFrom::default(), 10).reaches(SessionState::Subscribed);
    assert!(open(&dns.options(&["mb"])).is_ok());
}

/// The entries in the order in which they were chosen: the one that is read comes first.
fn chosen<const N: usize>(nodes: [Node; N]) -> [Node; N] {
    let mut nodes = nodes;
    wait_until("one is chosen", || nodes.iter().any(|node| node.consumers() == 1));
    nodes.sort_by_key(|node| std::cmp::Reverse(node.consumers()));
    nodes
}

#[test]
fn connect_any_reads_one_entry_fails_over_and_comes_back() {
    let (dns, port) = (Dns::default(), free_port());
    let nodes = ["127.0.0.1", "127.0.0.2"].map(|ip| Node::started(ip, port));
    dns.set("one", &[nodes[0].address]);
    dns.set("two", &[nodes[1].address]);
    let reading = Reading::start(dns.options(&["one", "two"]), soon(false), 10);
    reading.reaches(SessionState::Subscribed);
    let [mut first, second] = chosen(nodes);
    assert_eq!((first.consumers(), second.consumers()), (1, 0));
    first.stop();
    wait_until("the other is read", || second.consumers() == 1);
    second.send(&["x"]);
    reading.settle("x");
    first.start();
    wait_until("the first choice is read again", || (first.consumers(), second.consumers()) == (1, 0));
    first.send(&["y"]);
    reading.settle("y");
}

#[test]
fn an_entry_is_down_only_when_all_its_addresses_are() {
    let (dns, port) = (Dns::default(), free_port());
    let [mut a, mut b, c, d] = ["127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4"].map(|ip| Node::started(ip, port));
    dns.set("one", &[a.address, b.address]);
    dns.set("two", &[c.address, d.address]);
    let reading = Reading::start(dns.options(&["one", "two"]), ReadFrom::default(), 10);
    reading.reaches(SessionState::Subscribed);
    let (mut c, mut d) = (c, d);
    if c.consumers() == 1 {
        std::mem::swap(&mut a, &mut c);
        std::mem::swap(&mut b, &mut d);
    }
    assert_eq!([&a, &b, &c, &d].map(Node::consumers), [1, 1, 0, 0]);
    a.stop();
    b.send(&["x"]);
    reading.settle("x");
    assert_eq!([&b, &c, &d].map(Node::consumers), [1, 0, 0]);
    b.stop();
    one_consumer_each(&[&c, &d]);
}

/// The dead one takes connections and closes them; it is tried at the pace of the back-off, here of 200 ms, and nothing
/// of the other one waits for it.
#[test]
fn a_name_with_a_dead_address_is_read_from_the_other_one() {
    let (dns, port) = (Dns::default(), free_port());
    let live = Node::started("127.0.0.1", port);
    let dead = TcpListener::bind(("127.0.0.2", port)).unwrap();
    dns.set("mb", &[dead.local_addr().unwrap(), live.address]);
    let tries = Arc::new(AtomicUsize::new(0));
    let counted = tries.clone();
    thread::spawn(move || dead.incoming().for_each(|_| _ = counted.fetch_add(1, Ordering::Relaxed)));
    let began = Instant::now();
    let reading = Reading::start(dns.options(&["mb"]), ReadFrom::default(), 100);
    wait_until("the live one is read", || live.consumers() == 1);
    let bodies: Vec<String> = numbered(5_000);
    for some in bodies.chunks(50) {
        live.send(&some.iter().map(String::as_str).collect::<Vec<_>>());
        some.iter().for_each(|body| reading.settle(body));
    }
    wait_until("the dead one is tried again and again", || tries.load(Ordering::Relaxed) > 5);
    let most = 10 + began.elapsed().as_millis() / 100;
    assert!((tries.load(Ordering::Relaxed) as u128) < most, "no hot loop");
}

/// A server for outputs, and one with several entries to read from.
fn several(nodes: &[Node], out: &Target, connect: &str) -> One {
    let mut one = One::new(out, "Echo", json!({"n_threads": 2}));
    one.config["guard_period"] = json!(0.2);
    one.config["mb_servers"]["nodes"] = json!({"host_port_list": nodes.iter().map(|node| node.address.to_string()).collect::<Vec<_>>(), "connect": connect});
    one.config["queues"]["in"] = json!({"server": "nodes", "destination": QUEUE, "dead_letter": "/queue/dead"});
    one
}

/// A node that is lost shows, though the queue is read from the others and the host is ready.
#[test]
fn connection_up_is_told_of_each_address() {
    let (out, port, page) = (Target::embedded(), free_port(), operate::admin());
    let mut nodes = ["127.0.0.1", "127.0.0.2", "127.0.0.3"].map(|ip| Node::started(ip, port));
    let mut one = several(&nodes, &out, "all");
    one.config["admin"] = json!({"listen": page});
    let _host = Host::start(&one.config);
    let link = "server=\"nodes\",queue=\"in\",purpose=\"consume\",vo=\"\"";
    let up = |last: u8| {
        let series = format!("stompbox_connection_up{{{link},address=\"127.0.0.{last}:{port}\"}}");
        operate::metric(page, &series) == 1.0
    };
    wait_until("all are there", || [1, 2, 3].map(up) == [true; 3]);
    wait_until("ready", || operate::ask(page, "/readyz").0 == 200);
    nodes[1].stop();
    wait_until("one is lost", || [1, 2, 3].map(up) == [true, false, true]);
    // The connection for dead letters may have been there as well; it goes elsewhere.
    wait_until("ready all the same", || operate::ask(page, "/readyz").0 == 200);
    assert_eq!([1, 2, 3].map(up), [true, false, true]);
    nodes[1].start();
    wait_until("it is back", || [1, 2, 3].map(up) == [true; 3]);
    assert_eq!(operate::metric(page, &format!("stompbox_reconnects_total{{{link}}}")), 1.0);
}

/// Drained in the middle, with messages on all nodes: each is either forwarded or still there.
#[test]
fn connect_all_reads_all_entries_and_drains_without_loss() {
    let (out, port) = (Target::embedded(), free_port());
    let nodes = ["127.0.0.1", "127.0.0.2", "127.0.0.3"].map(|ip| Node::started(ip, port));
    let one = several(&nodes, &out, "all");
    let host = Host::start(&one.config);
    assert!(nodes.iter().all(|node| node.consumers() == 1), "ready means all");
    let bodies = |node: usize| (0..3_000).map(|number| format!("{node} {number}")).collect::<Vec<_>>();
    std::thread::scope(|scope| {
        for (number, node) in nodes.iter().enumerate() {
            scope.spawn(move || node.client().send_all(QUEUE, &bodies(number)).unwrap());
        }
        host.wait_ended("one", 500);
    });
    assert_eq!(host.drain(), Drained::Clean);
    let mut seen: Vec<String> = out.drain(&one.to).iter().map(Msg::text).collect();
    for node in &nodes {
        let left = node.client().drain_queue(QUEUE).unwrap();
        seen.extend(left.iter().map(Msg::text));
    }
    seen.sort_unstable();
    let mut sent: Vec<String> = (0..3).flat_map(bodies).collect();
    sent.sort_unstable();
    assert!(seen == sent, "{} of {} messages", seen.len(), sent.len());
}

#[test]
fn connect_any_is_what_a_host_does_by_itself() {
    let (out, port) = (Target::embedded(), free_port());
    let nodes = ["127.0.0.1", "127.0.0.2", "127.0.0.3"].map(|ip| Node::started(ip, port));
    let one = several(&nodes, &out, "any");
    let host = Host::start(&one.config);
    assert_eq!(nodes.iter().map(Node::consumers).sum::<usize>(), 1);
    let [mut first, second, third] = chosen(nodes);
    first.stop();
    wait_until("another is read", || second.consumers() + third.consumers() == 1);
    [&second, &third].into_iter().filter(|node| node.consumers() == 1).for_each(|node| node.send(&["x"]));
    host.wait_ended("one", 1);
    assert_eq!(host.drain(), Drained::Clean);
}

/// Whichever entry or address a sender tries first, it finds the one that is there.
#[test]
fn senders_fail_over_through_entries_and_addresses() {
    let (dns, port) = (Dns::default(), free_port());
    let node = Node::started("127.0.0.3", port);
    let dead = ["127.0.0.1", "127.0.0.2"].map(|ip| Node::at(ip, port).address);
    dns.set("dead", &dead);
    dns.set("half", &[dead[0], node.address]);
    for _ in 0..10 {
        assert_eq!(open(&dns.options(&["unknown", "dead", "half"])).unwrap().peer, node.address);
    }
    let told = open(&dns.options(&["dead"])).unwrap_err();
    assert!(told.contains("cannot connect to dead:1") && told.contains("refused"), "{told}");
    let told = open(&dns.options(&["unknown"])).unwrap_err();
    assert!(told.contains("cannot resolve unknown:1"), "{told}");
}
