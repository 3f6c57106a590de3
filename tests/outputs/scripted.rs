//! What a host sends, seen by a scripted broker of each kind; its inputs come from the embedded one.

use std::net::TcpListener;

use serde_json::{Value, json};
use stompbox::app::Drained;

use crate::harness::{
    host::{Host, One, wait_until},
    peer::{Peer, Received},
    target::Target,
};

/// How long a test watches for something that must not come.
const QUIET: std::time::Duration = std::time::Duration::from_millis(300);
const ACTIVEMQ: &str = "ActiveMQ/6.3.1";
const ARTEMIS: &str = "ActiveMQ-Artemis/2.44.0";
const RABBITMQ: &str = "RabbitMQ/3.10.8";

/// A host whose outputs go to a scripted broker.
struct Scripted {
    target: Target,
    one: One,
    host: Host,
    listener: TcpListener,
}

impl Scripted {
    fn start(class: &str, change: impl FnOnce(&mut Value)) -> Self {
        let target = Target::embedded();
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let mut one = One::new(&target, class, json!({}));
        let address = listener.local_addr().unwrap().to_string();
        one.config["mb_servers"]["scripted"] = json!({"host_port_list": [address]});
        one.config["queues"]["out"]["server"] = json!("scripted");
        change(&mut one.config);
        let host = Host::start(&one.config);
        Self { target, one, host, listener }
    }

    /// Takes the sending connection as a broker of this name.
    fn accept(&self, server: &str) -> Peer {
        let greeting = [("version", "1.2"), ("server", server)];
        let mut peer = Peer::accept(&self.listener).unwrap().greeting(&greeting);
        peer.serve("CONNECT").unwrap();
        peer
    }

    fn send(&self, body: &str) {
        self.target.client().send(&self.one.from, &[], body.as_bytes()).unwrap();
    }

    /// Waits until one input was acknowledged, and ends.
    fn finish(self, mut peer: Peer) {
        self.host.wait_ended("one", 1);
        let served = std::thread::spawn(move || while let Ok(Some(_)) = peer.serve_one() {});
        assert_eq!(self.host.drain(), Drained::Clean);
        served.join().unwrap();
    }
}

fn without_transactions(config: &mut Value) {
    config["queues"]["in"]["use_transaction"] = json!(false);
}

#[test]
fn with_use_transaction_a_group_is_one_transaction_where_the_broker_has_them() {
    for server in [ACTIVEMQ, ARTEMIS, "stompbox-dev-broker/1"] {
        let scripted = Scripted::start("FanOut", |_| {});
        let mut peer = scripted.accept(server);
        scripted.send("a\nb");
        let begin = peer.expect("BEGIN").unwrap();
        let name = begin.header("transaction").unwrap().to_owned();
        // Artemis may confirm a COMMIT before it refuses a SEND.
        let each = server == ARTEMIS;
        let mut sends = Vec::new();
        for body in ["a", "b"] {
            let send = peer.expect("SEND").unwrap();
            assert_eq!((send.frame.text().as_str(), send.header("receipt").is_some()), (body, each), "{server}");
            assert_eq!((send.header("transaction"), send.header("_AMQ_DUPL_ID")), (Some(&*name), None));
            assert!(send.header("stompbox_id").is_some());
            sends.push(send);
        }
        let commit = peer.expect("COMMIT").unwrap();
        assert_eq!(commit.header("transaction"), Some(&*name));
        if each {
            peer.answer(&commit).unwrap();
            peer.answer(&sends[0]).unwrap();
            peer.stays_quiet(QUIET).unwrap();
        }
        assert_eq!(scripted.host.did("one").ended(), 0, "not before the RECEIPT");
        peer.answer(if each { &sends[1] } else { &commit }).unwrap();
        scripted.finish(peer);
    }
}

#[test]
fn without_use_transaction_or_transactions_each_send_has_its_receipt() {
    for (server, wanted) in [(ACTIVEMQ, false), (ARTEMIS, false), (RABBITMQ, true), ("nobody", true)] {
        let scripted = Scripted::start("FanOut", |config| {
            if !wanted {
                without_transactions(config);
            }
        });
        let mut peer = scripted.accept(server);
        scripted.send("a\nb");
        let sends = [(); 2].map(|()| peer.expect("SEND").unwrap());
        assert!(sends.iter().all(|send| send.header("transaction").is_none() && send.header("receipt").is_some()));
        peer.answer(&sends[1]).unwrap();
        peer.stays_quiet(QUIET).unwrap();
        assert_eq!(scripted.host.did("one").ended(), 0, "{server}: one receipt is missing");
        peer.answer(&sends[0]).unwrap();
        scripted.finish(peer);
    }
}

/// Artemis confirms a COMMIT although it refuses a SEND of the transaction, and names innocent ones after it in
/// further ERRORs; only the first tells something.
#[test]
fn artemis_refuses_a_transaction_by_closing_and_others_go_on() {
    let scripted = Scripted::start("FanOut", |config| {
        config["processors"]["one"]["retry"] = json!({"max_attempts": 1});
    });
    let mut peer = scripted.accept(ARTEMIS);
    scripted.send("a\nb");
    scripted.send("innocent");
    peer.expect("BEGIN").unwrap();
    let sends = [(); 2].map(|()| peer.expect("SEND").unwrap());
    let commit = peer.expect("COMMIT").unwrap();
    let innocent = peer.expect("SEND").unwrap();
    [&sends[0], &commit].iter().for_each(|frame| peer.answer(frame).unwrap());
    for (frame, text) in [(&sends[1], "no permission to SEND"), (&innocent, "Connection is not valid")] {
        let headers = [("message", text), ("receipt-id", frame.header("receipt").unwrap())];
        // It may have been closed on already.
        let _ = peer.send("ERROR", &headers, b"");
    }
    drop(peer);
    peer = scripted.accept(ARTEMIS);
    assert_eq!(peer.serve("SEND").unwrap().frame.text(), "innocent");
    scripted.host.wait_ended("one", 2);
    let dead = scripted.target.drain(&scripted.one.dead);
    assert_eq!(dead.len(), 1);
    let detail = dead[0].header("stompbox_error_detail").unwrap();
    assert!(detail.contains("no permission to SEND"), "{detail}");
    scripted.finish(peer);
}

#[test]
fn artemis_can_tell_a_resent_output_by_its_id() {
    let scripted = Scripted::start("Echo", |_| {});
    let ids = |send: &Received| ["stompbox_id", "_AMQ_DUPL_ID"].map(|name| send.header(name).map(str::to_owned));
    let mut peer = scripted.accept(ARTEMIS);
    scripted.send("a");
    let first = ids(&peer.expect("SEND").unwrap());
    assert!(first[0].as_ref().is_some_and(|id| id.len() == 32), "{first:?}");
    assert_eq!(first[0], first[1]);
    drop(peer);
    let mut peer = scripted.accept(ARTEMIS);
    let again = peer.serve("SEND").unwrap();
    assert_eq!((ids(&again), again.header("stompbox_resent")), (first, Some("true")));
    scripted.finish(peer);
}

#[test]
fn persistent_is_said_of_each_output() {
    for persistent in ["true", "false"] {
        let scripted = Scripted::start("Echo", |config| {
            config["queues"]["out"]["persistent"] = json!(persistent == "true");
        });
        let mut peer = scripted.accept(ACTIVEMQ);
        scripted.send("a");
        assert_eq!(peer.serve("SEND").unwrap().header("persistent"), Some(persistent));
        scripted.finish(peer);
    }
}

/// The second megabyte waits until the first is confirmed.
#[test]
fn unconfirmed_mb_stops_the_lanes() {
    let scripted = Scripted::start("Echo", |config| config["processors"]["one"]["unconfirmed_mb"] = json!(1));
    let mut peer = scripted.accept(ACTIVEMQ);
    let body = "x".repeat(600 << 10);
    (0..4).for_each(|_| scripted.send(&body));
    let did = scripted.host.did("one");
    let sends = [(); 2].map(|()| peer.expect("SEND").unwrap());
    peer.stays_quiet(QUIET).unwrap();
    assert_eq!(did.calls.get(), 2, "1.2 MB are unconfirmed");
    sends.iter().for_each(|send| peer.answer(send).unwrap());
    (0..2).for_each(|_| drop(peer.serve("SEND").unwrap()));
    wait_until("the others", || did.forwarded.get() == 4);
    scripted.finish(peer);
}

/// One VO's outputs are not confirmed; the other's go on over a connection of their own.
#[test]
fn each_vo_sends_over_its_own_connection() {
    let scripted = Scripted::start("Echo", |config| {
        config["vos"] = json!({"atlas": {}, "cms": {}});
        let other = Target::destination("cms");
        config["queues"]["other"] = json!({"server": "mb", "destination": other});
        config["processors"]["one"]["vo"] = json!("atlas");
        let mut two = config["processors"]["one"].clone();
        two["vo"] = json!("cms");
        two["in_queue"] = json!("other");
        config["processors"]["two"] = two;
    });
    let mut peers = [(); 2].map(|()| scripted.accept(ACTIVEMQ));
    let (stuck, free) = (&scripted.one.from, scripted.one.config["queues"]["other"]["destination"].as_str().unwrap());
    let mut client = scripted.target.client();
    client.send(stuck, &[], b"stuck").unwrap();
    client.send(free, &[], b"free").unwrap();
    let sends = peers.each_mut().map(|peer| peer.expect("SEND").unwrap());
    for (peer, send) in peers.iter_mut().zip(&sends).filter(|(_, send)| send.frame.text() == "free") {
        peer.answer(send).unwrap();
    }
    scripted.host.wait_ended("two", 1);
    assert_eq!(scripted.host.did("one").ended(), 0);
}
