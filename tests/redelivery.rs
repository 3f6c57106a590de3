//! Messages that come again after a break are processed once.

use serde_json::json;
use stompbox::{app::Drained, dev_broker::Faults};

use crate::harness::{
    host::{Host, LIMIT, One, wait_until},
    messages::texts,
    proxy::Proxy,
    target::{Target, on_every_broker},
};

on_every_broker! {
    an_input_that_comes_again_is_processed_once_where_ids_are_stable
    an_input_that_comes_again_while_a_lane_runs_it_waits_for_it
}

fn one(target: &Target, class: &str, ack_mode: &str, extra: serde_json::Value) -> One {
    let mut one = One::new(target, class, extra);
    one.config["queues"]["in"]["ack_mode"] = json!(ack_mode);
    one.config["guard_period"] = json!(0.3);
    one
}

/// The connections are cut while an output waits for its receipt: the input comes again.
fn cut_before_the_receipt(ack_mode: &str) {
    let target = Target::embedded();
    let one = one(&target, "Echo", ack_mode, json!({"n_threads": 2}));
    let host = Host::start(&one.config);
    // When this one has ended both connections stand, and the receipt of SUBSCRIBE is through.
    target.client().send(&one.from, &[], b"first").unwrap();
    host.wait_ended("one", 1);
    target.handle().set_faults(Faults { drop_receipts: true, ..Faults::default() });
    target.client().send_unconfirmed(&one.from, b"x").unwrap();
    wait_until("the output", || target.handle().queue_depth(&one.to).waiting == 2);
    target.handle().set_faults(Faults::default());
    target.handle().cut_all();
    host.wait_ended("one", 2);
    wait_until("nothing is left", || {
        let depth = target.handle().queue_depth(&one.from);
        depth.waiting + depth.unacked == 0 && depth.consumers == 1
    });
    let did = host.did("one");
    assert_eq!(host.drain(), Drained::Clean);
    assert_eq!((did.calls.get(), did.forwarded.get(), did.possible_duplicates.get()), (2, 2, 0), "{ack_mode}");
    assert_eq!(target.drain(&one.from).len(), 0);
}

#[test]
fn an_input_that_comes_again_is_processed_once_in_ack_mode_client_individual() {
    cut_before_the_receipt("client-individual");
}

#[test]
fn an_input_that_comes_again_is_processed_once_in_ack_mode_client() {
    cut_before_the_receipt("client");
}

#[test]
fn an_input_survives_the_break_in_ack_mode_auto() {
    cut_before_the_receipt("auto");
}

/// An output is with its broker and its receipt on the way when the network breaks: the input comes again. On
/// RabbitMQ nothing tells that it does.
fn an_input_that_comes_again_is_processed_once_where_ids_are_stable(target: &Target) {
    let (inward, outward) = (Proxy::to(target.address), Proxy::to(target.address));
    let mut one = one(target, "Echo", "client-individual", json!({"n_threads": 2}));
    one.config["mb_servers"]["mb"] = target.server_by(inward.address);
    one.config["mb_servers"]["out"] = target.server_by(outward.address);
    one.config["queues"]["out"]["server"] = json!("out");
    let host = Host::start(&one.config);
    let mut reader = target.client();
    reader.subscribe(&one.to, "client-individual", &[("consumer-window-size", "-1")]).unwrap();
    target.client().send_all(&one.from, &["first"]).unwrap();
    host.wait_ended("one", 1);
    assert_eq!(texts(&reader.read(1, LIMIT).unwrap()), ["first"]);
    outward.hold();
    target.client().send_all(&one.from, &["x"]).unwrap();
    assert_eq!(texts(&reader.read(1, LIMIT).unwrap()), ["x"]);
    inward.cut_all();
    outward.cut_all();
    host.wait_ended("one", 2);
    // Behind it: when this one has come, it has come again.
    target.client().send_all(&one.from, &["last"]).unwrap();
    reader.close().unwrap();
    ends_with(host, target, &one, 3);
    let mut out = texts(&target.drain(&one.to));
    // Only Artemis drops an output that was sent again.
    assert!(!target.is_artemis() || out.len() == 3, "{out:?}");
    out.dedup();
    assert_eq!(out, ["first", "last", "x"], "nothing is lost");
}

/// All inputs end, each by one call; but RabbitMQ's that came again by two, and the first counts as a possible
/// duplicate.
fn ends_with(host: Host, target: &Target, one: &One, inputs: u64) {
    let again = u64::from(target.is_rabbitmq());
    host.wait_ended("one", inputs + again);
    let did = host.did("one");
    assert_eq!(host.drain(), Drained::Clean);
    let counted = (did.calls.get(), did.forwarded.get(), did.possible_duplicates.get());
    assert_eq!(counted, (inputs + again, inputs, again));
    assert_eq!(target.drain(&one.from), []);
}

fn an_input_that_comes_again_while_a_lane_runs_it_waits_for_it(target: &Target) {
    let proxy = Proxy::to(target.address);
    let mut one = one(
        target,
        "Slow",
        "client-individual",
        json!({"params": {"ms": 1_500}, "n_threads": 2, "limits": {"fuel": 1_000_000_000_000_u64}}),
    );
    one.config["mb_servers"]["mb"] = target.server_by(proxy.address);
    let host = Host::start(&one.config);
    target.client().send_all(&one.from, &["x"]).unwrap();
    let did = host.did("one");
    wait_until("it runs", || did.calls.get() == 1);
    proxy.cut_all();
    host.wait_ended("one", 1);
    target.client().send_all(&one.from, &["last"]).unwrap();
    ends_with(host, target, &one, 2);
    let mut out = texts(&target.drain(&one.to));
    assert!(target.is_rabbitmq() || out.len() == 2, "{out:?}");
    out.dedup();
    assert_eq!(out, ["last", "x"], "nothing is lost");
}

/// What only waited in the host or was held for retry when the connection broke is processed when it comes
/// again.
#[test]
fn what_was_not_in_work_when_the_connection_broke_is_processed() {
    let target = Target::embedded();
    let slow = json!({"max_attempts": 3, "min_delay_ms": 600_000, "max_delay_ms": 600_000});
    let one = one(&target, "RetryTwice", "client-individual", json!({"retry": slow}));
    let mut config = one.config.clone();
    config["queues"]["in"]["max_buffer_len"] = json!(20);
    let host = Host::start(&config);
    let bodies: Vec<String> = (0..5).map(|number| number.to_string()).collect();
    target.client().send_all(&one.from, &bodies).unwrap();
    let did = host.did("one");
    wait_until("all are held", || did.retried.get() == 5);
    target.handle().cut_all();
    wait_until("all are held again", || did.retried.get() == 10);
    assert_eq!((did.received.get(), host.drain()), (10, Drained::Clean));
    assert_eq!(target.drain(&one.from).len(), 5, "with the broker");
}
