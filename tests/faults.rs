//! The network and the broker fail; nothing is lost.

mod broker;
mod kills;
mod network;
mod stops;
mod trial;

use std::collections::BTreeSet;

use serde_json::json;
use stompbox::{app::Drained, dev_broker::Faults};

use crate::{
    harness::{
        client::Msg,
        host::{Host, One, wait_until},
        messages::numbered,
        target::Target,
    },
    operate::Running,
};

#[test]
fn an_input_is_not_acknowledged_before_its_output_is_confirmed() {
    let target = Target::embedded();
    let one = One::new(&target, "Echo", json!({}));
    let host = Host::start(&one.config);
    target.client().send_all(&one.from, &numbered(10)).unwrap();
    host.wait_ended("one", 10);
    target.handle().set_faults(Faults { drop_receipts: true, ..Faults::default() });
    let mut late = target.client();
    let before = target.handle().queue_depth(&one.to).waiting;
    // The test's sender gets no receipt either, so it does not ask for one.
    late.send_unconfirmed(&one.from, b"late").unwrap();
    wait_until("the output", || target.handle().queue_depth(&one.to).waiting == before + 1);
    let depth = target.handle().queue_depth(&one.from);
    assert_eq!((depth.unacked, host.did("one").ended()), (1, 10), "the input waits for the receipt");
    target.handle().set_faults(Faults::default());
    target.handle().cut_all();
    host.wait_ended("one", 11);
    assert_eq!(host.drain(), Drained::Clean);
}

#[test]
fn cut_connections_lose_nothing() {
    let target = Target::embedded();
    let one = One::new(&target, "Echo", json!({"n_threads": 2}));
    let mut config = one.config.clone();
    config["guard_period"] = json!(1);
    let host = Host::start(&config);
    let mut client = target.client();
    for batch in numbered(5_000).chunks(1_000) {
        client.send_all(&one.from, batch).unwrap();
        target.handle().cut_all();
        client = target.client();
    }
    wait_until("everything is settled", || {
        let depth = target.handle().queue_depth(&one.from);
        depth.waiting + depth.unacked == 0
    });
    assert_eq!(host.drain(), Drained::Clean);
    let out: BTreeSet<String> = target.drain(&one.to).iter().map(Msg::text).collect();
    assert_eq!(out.into_iter().collect::<Vec<_>>(), numbered(5_000), "each at least once");
}

#[test]
fn a_refused_output_is_retried_and_then_a_dead_letter() {
    let target = Target::embedded();
    let one = One::new(&target, "Echo", json!({"retry": {"max_attempts": 2, "min_delay_ms": 10}}));
    let host = Host::start(&one.config);
    target.handle().set_faults(Faults { refuse_destinations: vec![one.to.clone()], ..Faults::default() });
    target.client().send(&one.from, &[], b"x").unwrap();
    host.wait_ended("one", 1);
    assert_eq!(host.drain(), Drained::Clean);
    let dead = target.drain(&one.dead);
    let header = |name: &str| dead[0].header(name);
    assert_eq!((header("stompbox_error_code"), header("stompbox_attempts")), (Some("output-refused"), Some("2")));
}

#[test]
fn a_refused_dead_letter_keeps_the_message() {
    let target = Target::embedded();
    let one = One::new(&target, "RejectAll", json!({"retry": {"max_delay_ms": 200, "min_delay_ms": 10}}));
    let host = Host::start(&one.config);
    target.handle().set_faults(Faults { refuse_destinations: vec![one.dead.clone()], ..Faults::default() });
    target.client().send(&one.from, &[], b"x").unwrap();
    let did = host.did("one");
    wait_until("a second try", || did.calls.get() >= 2);
    assert_eq!((did.ended(), target.handle().queue_depth(&one.from).unacked), (0, 1), "still with the broker");
    target.handle().set_faults(Faults::default());
    host.wait_ended("one", 1);
    assert_eq!(host.drain(), Drained::Clean);
    assert_eq!(target.drain(&one.dead).len(), 1);
}

#[test]
fn a_broker_that_refuses_logins_is_tried_again() {
    let target = Target::embedded();
    let one = One::new(&target, "Echo", json!({}));
    let mut config = one.config.clone();
    config["guard_period"] = json!(0.2);
    let host = Host::start(&config);
    target.handle().set_faults(Faults { refuse_logins: true, ..Faults::default() });
    target.handle().cut_all();
    wait_until("the host is away", || target.handle().queue_depth(&one.from).consumers == 0);
    target.handle().set_faults(Faults::default());
    target.client().send(&one.from, &[], b"x").unwrap();
    host.wait_ended("one", 1);
    assert_eq!(host.drain(), Drained::Clean);
}

/// Where dead letters are refused, their inputs stay in the host; with half the window of them it slows down, or a
/// sick processor would empty its queue into the host.
#[test]
fn lanes_slow_down_while_dead_letters_are_refused() {
    let target = Target::embedded();
    let mut one = One::new(&target, "RejectAll", json!({"retry": {"min_delay_ms": 10, "max_delay_ms": 100}}));
    one.config["queues"]["in"]["max_buffer_len"] = json!(9);
    target.handle().set_faults(Faults { refuse_destinations: vec![one.dead.clone()], ..Faults::default() });
    let log = tempfile::NamedTempFile::new().unwrap();
    let host = Running::start(&one, &[], log.reopen().unwrap().into());
    target.client().send_all(&one.from, &numbered(20)).unwrap();
    let told = || std::fs::read_to_string(log.path()).unwrap();
    wait_until("it says so", || told().contains("slowed down: many messages are kept"));
    drop(host);
    target.handle().set_faults(Faults::default());
    assert_eq!(target.drain(&one.from).len(), 20, "all with the broker");
}
