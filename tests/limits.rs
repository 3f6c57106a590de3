//! Limits at work in a running host: what misbehaves ends with its code, and its neighbour goes on.

use serde_json::{Value, json};
use stompbox::app::Drained;

use crate::harness::{
    client::Client,
    host::{Host, One, wait_until},
    target::Target,
};

/// A hostile processor `one` and a neighbour `two` that echoes, in one host.
struct Pair {
    target: Target,
    bad: One,
    neighbour: One,
    host: Host,
}

impl Pair {
    fn start(class: &str, extra: Value) -> Self {
        let target = Target::embedded();
        let mut bad = One::new(&target, class, extra);
        let neighbour = One::new(&target, "Echo", json!({"in_queue": "in2", "out_queue": "out2"}));
        for (key, from) in [("in2", "in"), ("out2", "out")] {
            bad.config["queues"][key] = neighbour.config["queues"][from].clone();
        }
        bad.config["processors"]["two"] = neighbour.config["processors"]["one"].clone();
        let host = Host::start(&bad.config);
        Self { target, bad, neighbour, host }
    }

    /// Sends the neighbour one message and waits until it is forwarded.
    fn echo(&self, client: &mut Client) {
        let two = self.host.did("two");
        let before = two.forwarded.get();
        client.send(&self.neighbour.from, &[], b"neighbour").unwrap();
        wait_until("the neighbour's message", || two.forwarded.get() > before);
    }

    /// Waits for the dead letter, drains, and returns the letter's code and detail.
    fn end(self) -> (String, String) {
        let (one, two) = (self.host.did("one"), self.host.did("two"));
        wait_until("the dead letter", || one.dead_lettered.get() == 1);
        self.echo(&mut self.target.client());
        assert_eq!(self.host.drain(), Drained::Clean);
        let dead = self.target.drain(&self.bad.dead);
        assert_eq!(dead.len(), 1);
        let header = |name: &str| dead[0].header(name).unwrap().to_owned();
        assert_eq!(self.target.drain(&self.neighbour.to).len() as u64, two.forwarded.get());
        (header("stompbox_error_code"), header("stompbox_error_detail"))
    }
}

/// Runs one message through a hostile processor; returns code and detail of the dead letter. The neighbour
/// works before and after.
fn dead_letter_code(class: &str, extra: Value) -> (String, String) {
    let pair = Pair::start(class, extra);
    let mut client = pair.target.client();
    pair.echo(&mut client);
    client.send(&pair.bad.from, &[], b"x").unwrap();
    pair.end()
}

/// Runs one call that lasts until its deadline, and 20 messages of the neighbour meanwhile, one after the
/// other; returns the code of the dead letter.
fn neighbour_works_during(class: &str) -> String {
    let limits = json!({"fuel": 1_000_000_000_000_u64, "time_ms": 3_000});
    let pair = Pair::start(class, json!({"limits": limits, "retry": {"max_attempts": 1}}));
    let mut client = pair.target.client();
    client.send(&pair.bad.from, &[], b"x").unwrap();
    let one = pair.host.did("one");
    wait_until("the bad call has begun", || one.calls.get() == 1);
    for number in 1..=20 {
        pair.echo(&mut client);
        let bad = (one.calls.get(), one.failures.get(), one.dead_lettered.get());
        assert_eq!(bad, (1, 0, 0), "after {number} messages the bad call still runs");
    }
    assert_eq!(pair.host.did("two").forwarded.get(), 20);
    pair.end().0
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
