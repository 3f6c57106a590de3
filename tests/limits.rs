//! Limits at work in a running host: what misbehaves ends with its code, and its neighbour goes on.

use serde_json::{Value, json};
use stompbox::app::Drained;

use crate::harness::{
    host::{Host, One, wait_until},
    target::Target,
};

/// Runs one message through a hostile processor while a neighbour in the same host echoes; returns the
/// error code of the dead letter.
fn dead_letter_code(class: &str, extra: Value) -> (String, String) {
    let target = Target::embedded();
    let mut bad = One::new(&target, class, extra);
    let neighbour = One::new(&target, "Echo", json!({"in_queue": "in2", "out_queue": "out2"}));
    for (key, from) in [("in2", "in"), ("out2", "out")] {
        bad.config["queues"][key] = neighbour.config["queues"][from].clone();
    }
    bad.config["processors"]["two"] = neighbour.config["processors"]["one"].clone();
    let host = Host::start(&bad.config);
    target.client().send(&bad.from, &[], b"x").unwrap();
    let (did, two) = (host.did("one"), host.did("two"));
    let mut client = target.client();
    wait_until("the dead letter, with a neighbour that goes on meanwhile", || {
        let before = two.forwarded.get();
        client.send(&neighbour.from, &[], b"neighbour").unwrap();
        wait_until("the neighbour's message", || two.forwarded.get() > before);
        did.dead_lettered.get() == 1
    });
    assert_eq!(host.drain(), Drained::Clean);
    let dead = target.drain(&bad.dead);
    let header = |name: &str| dead[0].header(name).unwrap().to_owned();
    assert_eq!(target.drain(&neighbour.to).len() as u64, two.forwarded.get());
    (header("stompbox_error_code"), header("stompbox_error_detail"))
}

fn code(class: &str, extra: Value) -> String {
    dead_letter_code(class, extra).0
}

#[test]
fn a_spinning_component_ends_at_its_fuel() {
    let (code, detail) = dead_letter_code("Spin", json!({"limits": {"fuel": 200_000_000}}));
    assert_eq!(code, "fuel");
    assert!(detail.contains("200000000"), "says the limit: {detail}");
}

#[test]
fn with_fuel_raised_it_ends_at_its_deadline() {
    let limits = json!({"fuel": 1_000_000_000_000_u64, "time_ms": 300});
    let quick = json!({"max_attempts": 2, "min_delay_ms": 1});
    assert_eq!(code("Spin", json!({"limits": limits, "retry": quick})), "deadline");
}

#[test]
fn a_memory_bomb_gets_its_code() {
    assert_eq!(code("MemoryBomb", json!({"limits": {"memory_mb": 16}})), "memory");
}

#[test]
fn bad_outputs_get_theirs() {
    assert_eq!(code("OutputFlood", json!({})), "output-limit");
    assert_eq!(code("BadHeader", json!({})), "output-invalid");
    assert_eq!(code("BadQueue", json!({})), "output-invalid");
}

#[test]
fn a_stack_overflow_is_a_trap() {
    assert_eq!(code("StackOverflow", json!({})), "trap");
}

#[test]
fn while_initialize_fails_nothing_is_taken() {
    let target = Target::embedded();
    let one = One::new(&target, "InitFails", json!({}));
    let host = Host::start(&one.config);
    target.client().send(&one.from, &[], b"x").unwrap();
    wait_until("the message is with the host", || target.handle().queue_depth(&one.from).unacked == 1);
    assert_eq!(host.did("one").received.get(), 0);
    assert_eq!(host.drain(), Drained::Clean);
    assert_eq!(target.drain(&one.from).len(), 1, "given back");
}

#[test]
fn unavailable_makes_the_lane_wait_and_counts_no_attempt() {
    let target = Target::embedded();
    let one = One::new(&target, "UnavailableAlways", json!({"retry": {"max_attempts": 1}}));
    let host = Host::start(&one.config);
    target.client().send(&one.from, &[], b"x").unwrap();
    let did = host.did("one");
    wait_until("the second call", || did.calls.get() >= 2);
    assert_eq!((did.dead_lettered.get(), did.retried.get()), (0, 0));
    assert_eq!(host.drain(), Drained::Clean);
    assert_eq!(target.drain(&one.from).len(), 1, "given back");
}

#[test]
fn unavailable_for_too_long_is_a_failed_attempt() {
    let target = Target::embedded();
    let one = One::new(&target, "UnavailableAlways", json!({"retry": {"max_attempts": 1, "max_unavailable_s": 1}}));
    let host = Host::start(&one.config);
    target.client().send(&one.from, &[], b"x").unwrap();
    host.wait_ended("one", 1);
    assert_eq!(host.did("one").dead_lettered.get(), 1);
    assert_eq!(host.drain(), Drained::Clean);
}
