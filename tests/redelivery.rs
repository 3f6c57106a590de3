//! Messages that come again after a break are processed once; what is given back is with the broker.

use serde_json::json;
use stompbox::{app::Drained, dev_broker::Faults};

use crate::harness::{
    client::Msg,
    host::{Host, One, wait_until},
    target::Target,
};

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

#[test]
fn an_input_that_comes_again_while_a_lane_runs_it_waits_for_it() {
    let target = Target::embedded();
    let one = one(
        &target,
        "Slow",
        "client-individual",
        json!({"params": {"ms": 1_500}, "n_threads": 2, "limits": {"fuel": 1_000_000_000_000_u64}}),
    );
    let host = Host::start(&one.config);
    target.client().send(&one.from, &[], b"x").unwrap();
    let did = host.did("one");
    wait_until("it runs", || did.calls.get() == 1);
    target.handle().cut_all();
    host.wait_ended("one", 1);
    assert_eq!(host.drain(), Drained::Clean);
    assert_eq!((did.calls.get(), did.received.get(), did.possible_duplicates.get()), (1, 1, 0));
    assert_eq!(target.drain(&one.from).len(), 0);
    assert_eq!(target.drain(&one.to).iter().map(Msg::text).collect::<Vec<_>>(), ["x"]);
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

/// Nobody processes, so after `max_hold_s` (or 30 s, if that is less) everything is with the broker and the
/// host is not even subscribed.
fn a_long_pause_gives_everything_back(class: &str) {
    let target = Target::embedded();
    let one = one(&target, class, "client-individual", json!({"n_threads": 2}));
    let mut config = one.config.clone();
    config["max_hold_s"] = json!(1);
    let host = Host::start(&config);
    target.client().send_all(&one.from, &["1", "2", "3", "4", "5"]).unwrap();
    wait_until("it has them", || target.handle().queue_depth(&one.from).unacked == 5);
    wait_until("all are given back", || {
        let depth = target.handle().queue_depth(&one.from);
        (depth.waiting, depth.unacked, depth.consumers) == (5, 0, 0)
    });
    assert_eq!(host.drain(), Drained::Clean);
    assert_eq!(target.drain(&one.from).len(), 5);
}

#[test]
fn a_service_that_is_away_for_long_gives_everything_back() {
    a_long_pause_gives_everything_back("UnavailableAlways");
}

#[test]
fn a_processor_that_does_not_initialize_gives_everything_back() {
    a_long_pause_gives_everything_back("InitFails");
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

/// What waits for a lane too long is given back while the lane is busy.
#[test]
fn max_hold_s_gives_back_what_waits_for_a_lane() {
    let target = Target::embedded();
    let patient = json!({"params": {"ms": 4_000}, "limits": {"fuel": 1_000_000_000_000_u64}});
    let one = one(&target, "Slow", "client-individual", patient);
    let mut config = one.config.clone();
    config["max_hold_s"] = json!(1);
    let host = Host::start(&config);
    target.client().send_all(&one.from, &["1", "2", "3"]).unwrap();
    let did = host.did("one");
    wait_until("one runs", || did.calls.get() == 1);
    let redelivered = || target.handle().stats().redelivered;
    wait_until("the others come again", || redelivered() >= 3);
    host.wait_ended("one", 3);
    assert_eq!(host.drain(), Drained::Clean);
    assert_eq!((did.possible_duplicates.get(), target.drain(&one.from).len()), (0, 0));
    assert_eq!(target.drain(&one.to).len(), 3, "each once");
}
