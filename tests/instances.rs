//! Instances in a running host: what they keep, what they can reach, how they end.

use std::{
    io::ErrorKind,
    net::TcpListener,
    time::{SystemTime, UNIX_EPOCH},
};

use serde_json::{Value, json};
use stompbox::app::Drained;

use crate::harness::{
    client::Msg,
    host::{Host, One, wait_until},
    target::Target,
};
use crate::operate::{admin, metric};

/// Gives messages to one processor; returns the bodies of its outputs in order.
fn answers(class: &str, extra: Value, bodies: &[&str]) -> Vec<String> {
    let target = Target::embedded();
    let one = One::new(&target, class, extra);
    let host = Host::start(&one.config);
    target.client().send_all(&one.from, bodies).unwrap();
    host.wait_ended("one", bodies.len() as u64);
    assert_eq!(host.drain(), Drained::Clean);
    assert_eq!(target.drain(&one.from).len(), 0, "every input was acknowledged");
    target.drain(&one.to).iter().map(Msg::text).collect()
}

#[test]
fn a_lane_keeps_one_warm_instance() {
    assert_eq!(answers("Count", json!({}), &["a", "b", "c", "d"]), ["1", "2", "3", "4"]);
}

#[test]
fn after_a_trap_the_instance_is_a_new_one() {
    // The second attempt of "trap" is the first message of the new instance.
    assert_eq!(answers("Count", json!({}), &["a", "b", "trap", "c", "d"]), ["1", "2", "1", "2", "3"]);
}

#[test]
fn a_fresh_instance_for_each_message_keeps_nothing() {
    assert_eq!(answers("Count", json!({"instance": "fresh"}), &["a", "b", "trap", "c"]), ["1"; 4]);
}

#[test]
fn each_lane_has_an_instance_of_its_own() {
    let counts = answers("Count", json!({"n_threads": 3}), &["x"; 300]);
    let mut counts: Vec<usize> = counts.iter().map(|count| count.parse().unwrap()).collect();
    counts.sort_unstable();
    let lanes = counts.iter().filter(|count| **count == 1).count();
    assert!((1..=3).contains(&lanes), "{lanes} instances began to count");
    let highest = counts.last().copied().unwrap();
    for count in 1..=highest {
        let seen = counts.iter().filter(|seen| **seen == count).count();
        assert!((1..=lanes).contains(&seen), "{count} was counted {seen} times by {lanes} instances");
    }
}

/// Of five messages three are in work at once, and none has ended; the others wait.
#[test]
fn n_threads_is_how_many_calls_run_at_once() {
    let (target, address) = (Target::embedded(), admin());
    let mut one = One::new(&target, "Sleep", json!({"n_threads": 3, "limits": {"time_ms": 600_000}}));
    one.config["admin"] = json!({"listen": address});
    let host = Host::start(&one.config);
    target.client().send_all(&one.from, &["x"; 5]).unwrap();
    let waiting = "stompbox_buffer_waiting{queue=\"in\",server=\"mb\",vo=\"\"}";
    let did = host.did("one");
    wait_until("three are in work", || did.calls.get() >= 3 && metric(address, waiting) <= 2.0);
    assert_eq!((did.calls.get(), did.ended(), metric(address, waiting)), (3, 0, 2.0));
}

#[test]
fn nothing_is_granted() {
    assert!(std::env::vars_os().next().is_some(), "the host has an environment to hide");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let params = json!({"address": listener.local_addr().unwrap().to_string()});
    for instance in ["warm", "fresh"] {
        assert_eq!(answers("Snoop", json!({"params": params, "instance": instance}), &["x"]), [""]);
    }
    listener.set_nonblocking(true).unwrap();
    assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock, "somebody connected");
}

#[test]
fn clocks_and_random_numbers_work() {
    let unix_ms = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
    let before = unix_ms();
    let seen = answers("ClockAndRandom", json!({"instance": "fresh"}), &["x"; 3]);
    let after = unix_ms();
    let seen: Vec<Value> = seen.iter().map(|text| serde_json::from_str(text).unwrap()).collect();
    for one in &seen {
        assert!(one["napped_us"].as_u64().unwrap() >= 1_000, "{one}");
        assert!((before..=after).contains(&one["unix_ms"].as_u64().unwrap()), "{before} {one} {after}");
    }
    let random = |index: usize| seen[index]["random"].as_u64().unwrap();
    assert!(random(0) != random(1) && random(1) != random(2) && random(0) != random(2), "{seen:?}");
}

/// Each of the lanes has one second for its farewell; without that budget this would never end.
#[test]
fn a_spinning_terminate_does_not_hold_up_the_drain() {
    assert_eq!(answers("SpinTerminate", json!({"n_threads": 3}), &["a"]), ["a"]);
}

#[test]
fn a_spinning_terminate_does_not_hold_up_fresh_instances() {
    assert_eq!(answers("SpinTerminate", json!({"instance": "fresh"}), &["a", "b"]), ["a", "b"]);
}
