//! Limits at work in a running host: what misbehaves ends with its code, and its neighbour goes on.

use serde_json::{Value, json};
use stompbox::app::Drained;

use crate::harness::{
    host::{Host, One, wait_until},
    messages::numbered,
    neighbour::Pair,
    target::Target,
};

/// Runs one message through a hostile processor; returns code and detail of the dead letter. The neighbour
/// works before and after.
fn dead_letter_code(class: &str, extra: Value) -> (String, String) {
    let pair = Pair::start(class, extra);
    let mut client = pair.target.client();
    pair.echo(&mut client);
    client.send(&pair.bad.from, &[], b"x").unwrap();
    pair.end(1)
}

/// Runs calls that last until their deadline, more than there are CPU permits, and 20 messages of the neighbour
/// meanwhile, one after the other; returns the code of the dead letters.
fn neighbour_works_during(class: &str) -> String {
    let lanes = std::thread::available_parallelism().unwrap().get() as u64 + 2;
    let limits = json!({"fuel": 1_000_000_000_000_u64, "time_ms": 3_000});
    let pair = Pair::start(class, json!({"limits": limits, "retry": {"max_attempts": 1}, "n_threads": lanes}));
    let mut client = pair.target.client();
    client.send_all(&pair.bad.from, &numbered(lanes as usize)).unwrap();
    let one = pair.host.did("one");
    wait_until("the bad calls have begun", || one.calls.get() == lanes);
    for number in 1..=20 {
        pair.echo(&mut client);
        let bad = (one.calls.get(), one.failures.get(), one.dead_lettered.get());
        assert_eq!(bad, (lanes, 0, 0), "after {number} messages the bad calls still run");
    }
    assert_eq!(pair.host.did("two").forwarded.get(), 20);
    pair.end(lanes).0
}

#[test]
fn a_neighbour_works_while_a_call_spins() {
    assert_eq!(neighbour_works_during("Spin"), "deadline");
}

#[test]
fn a_neighbour_works_while_a_call_sleeps() {
    assert_eq!(neighbour_works_during("Sleep"), "deadline");
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

/// A VO with 30 busy lanes and one with a single lane: each has the time that it can use, not a thirtieth. Whose turn it
/// is, `permits/tests.rs` says call by call; here the thirty also have the time in which the single one is not waiting,
/// which is longer on a busy machine, so it is compared with turns by lane, which cost the same number on any machine.
#[test]
fn a_single_lane_gets_its_share_beside_thirty_of_another_vo() {
    const MESSAGES: u64 = 50;
    const LANES: u64 = 30;
    let target = Target::embedded();
    let work = |vo: &str, lanes: u64| json!({"vo": vo, "n_threads": lanes, "params": {"steps": 3_000_000}});
    let mut big = One::new(&target, "Work", work("big", LANES));
    let small = One::new(&target, "Work", work("small", 1));
    big.add(&small);
    big.config["vos"] = json!({"big": {"queues": ["in", "out"]}, "small": {"queues": ["in2", "out2"]}});
    let host = Host::start(&big.config);
    let mut client = target.client();
    client.send_all(&big.from, &numbered((MESSAGES * LANES * 2) as usize)).unwrap();
    let (one, two) = (host.did("one"), host.did("two"));
    wait_until("all thirty work", || one.forwarded.get() >= 2 * LANES);
    client.send_all(&small.from, &numbered(MESSAGES as usize)).unwrap();
    let before = one.forwarded.get();
    wait_until("the small one is through", || two.forwarded.get() == MESSAGES);
    let (meanwhile, by_lane) = (one.forwarded.get() - before, MESSAGES * LANES);
    println!(
        "the single lane did {MESSAGES} messages, the thirty {meanwhile}; by turns of lanes it would be {by_lane}"
    );
    assert!(meanwhile < by_lane / 2, "{meanwhile} of the thirty lanes to {MESSAGES} of the single one");
    drop(host);
}
