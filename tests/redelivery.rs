//! Messages that come again after a break are processed once; what is given back is with the broker.

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
    a_service_that_is_away_for_long_gives_everything_back
    a_processor_that_does_not_initialize_gives_everything_back
    max_hold_s_gives_back_what_waits_for_a_lane
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
    // The producer connects with its first output, and needs no receipt dropped for that.
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

/// Nobody processes, so after `max_hold_s` (or 30 s, if that is less) everything is with the broker for others.
fn a_long_pause_gives_everything_back(target: &Target, class: &str) {
    let proxy = Proxy::to(target.address);
    let mut one = one(target, class, "client-individual", json!({"n_threads": 2}));
    one.config["mb_servers"]["mb"] = target.server_by(proxy.address);
    one.config["max_hold_s"] = json!(1);
    let host = Host::start(&one.config);
    target.client().send_all(&one.from, &["1", "2", "3", "4", "5"]).unwrap();
    wait_until("it goes", || proxy.count("UNSUBSCRIBE") >= 1);
    let mut other = target.client();
    other.subscribe(&one.from, "client-individual", &[]).unwrap();
    assert_eq!(texts(&other.read(5, LIMIT).unwrap()), ["1", "2", "3", "4", "5"]);
    other.exchange("UNSUBSCRIBE", &[("id", "test")], b"").unwrap();
    other.close().unwrap();
    assert_eq!(host.drain(), Drained::Clean);
    assert_eq!(target.drain(&one.from).len(), 5);
}

fn a_service_that_is_away_for_long_gives_everything_back(target: &Target) {
    a_long_pause_gives_everything_back(target, "UnavailableAlways");
}

fn a_processor_that_does_not_initialize_gives_everything_back(target: &Target) {
    a_long_pause_gives_everything_back(target, "InitFails");
}

/// A retry in ten minutes would be held for longer than `max_hold_s`: it is tried before.
#[test]
fn max_hold_s_brings_retries_forward() {
    let target = Target::embedded();
    let slow = json!({"max_attempts": 3, "min_delay_ms": 600_000, "max_delay_ms": 600_000});
    let one = one(&target, "RetryAlways", "client-individual", json!({"retry": slow}));
    let mut config = one.config.clone();
    config["max_hold_s"] = json!(2);
    let host = Host::start(&config);
    target.client().send(&one.from, &[], b"x").unwrap();
    host.wait_ended("one", 1);
    assert_eq!(host.drain(), Drained::Clean);
    assert_eq!(target.drain(&one.dead).len(), 1);
}

/// What waits for a lane too long is given back while the lane is busy: RabbitMQ is told of each, the others get
/// all and send it again.
fn max_hold_s_gives_back_what_waits_for_a_lane(target: &Target) {
    let proxy = Proxy::to(target.address);
    let patient = json!({"params": {"ms": 4_000}, "limits": {"fuel": 1_000_000_000_000_u64}});
    let mut one = one(target, "Slow", "client-individual", patient);
    one.config["mb_servers"]["mb"] = target.server_by(proxy.address);
    one.config["max_hold_s"] = json!(1);
    let host = Host::start(&one.config);
    target.client().send_all(&one.from, &["1", "2", "3"]).unwrap();
    let did = host.did("one");
    wait_until("one runs", || did.calls.get() == 1);
    wait_until("the others are given back", || match target.is_rabbitmq() {
        true => proxy.count("NACK") >= 2,
        false => proxy.count("UNSUBSCRIBE") >= 1,
    });
    host.wait_ended("one", 3);
    assert_eq!(host.drain(), Drained::Clean);
    assert_eq!((did.possible_duplicates.get(), target.drain(&one.from).len()), (0, 0));
    assert_eq!(texts(&target.drain(&one.to)), ["1", "2", "3"], "each once");
}
