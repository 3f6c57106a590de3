//! What a guest does before its first message, and after its last.

use serde_json::json;
use stompbox::{
    app::{Drained, Prepared},
    config::Config,
};

use super::{Attack, Fate, P99, PHASE, ROUNDS, end};
use crate::harness::{
    guests,
    host::{One, wait_until},
    neighbour::Pair,
    target::Target,
};

/// The neighbour of a processor of which no instance comes to life: nothing is taken, nothing is lost.
fn neighbour_of_none(class: &str, extra: serde_json::Value) {
    let pair = Pair::start(class, extra);
    let one = pair.host.did("one");
    pair.target.client().send(&pair.bad.from, &[], b"x").unwrap();
    let fair = (0..ROUNDS).any(|_| {
        let beside = pair.alone(PHASE);
        assert_eq!(beside.lost(), 0);
        beside.p99() <= P99
    });
    assert!(fair, "the neighbour is late");
    wait_until("the second try", || one.failures.get() >= 2);
    let failures: Vec<_> = one.failures.by_code().filter(|(_, count)| *count > 0).collect();
    assert!(matches!(failures[..], [("initialize", _)]), "{failures:?}");
    assert_eq!((one.received.get(), one.calls.get()), (0, 0), "nothing is taken");
    assert_eq!(pair.host.drain(), Drained::Clean);
    assert_eq!(pair.target.drain(&pair.bad.from).len(), 1, "given back");
}

#[test]
fn a_spin_inside_initialize() {
    neighbour_of_none("SpinInit", json!({"limits": {"init_fuel": 100_000_000}}));
    neighbour_of_none("SpinInit", json!({"limits": {"init_fuel": 1_000_000_000_000_u64, "init_time_ms": 200}}));
}

#[test]
fn a_describe_that_names_what_initialize_refuses() {
    neighbour_of_none("InitFails", json!({}));
}

#[test]
fn a_trap_in_terminate_after_each_message() {
    let attack = Attack::new("TrapTerminate", json!({"instance": "fresh"}), Fate::Forwarded);
    end(attack.run(), attack.fate);
}

#[test]
fn a_spin_in_terminate_after_each_message() {
    let attack = Attack::new("SpinTerminate", json!({"instance": "fresh"}), Fate::Forwarded);
    end(attack.run(), attack.fate);
}

/// What the host says of a configuration with this component, before it connects to anything.
fn refusal(module: &str) -> String {
    let mut one = One::new(&Target::embedded(), "Raw", json!({"module": module}));
    one.config["plugins"] = json!([guests::plugins_dir()]);
    let loaded = Config::parse(&one.config.to_string(), "test.json".as_ref(), true, &|_| None).unwrap();
    let error = Prepared::new(loaded.config, crate::harness::compile_config()).expect_err(module);
    let told = error.to_string();
    assert!(told.len() < 4_000 && told.lines().count() == 1, "{} bytes: {told:.2000}", told.len());
    told
}

#[test]
fn a_start_function_that_spins_is_refused() {
    let told = refusal("start_spin");
    // A slow machine reaches the second before the billion.
    let stopped = told.contains("used 1000000000 of 1000000000 units of fuel") || told.contains("ran longer than 1s");
    assert!(told.starts_with("processors.one.module: ") && stopped, "{told}");
}

#[test]
fn a_describe_that_hangs_is_refused() {
    let told = refusal("spin_describe");
    assert!(told.starts_with("processors.one.module: ") && told.contains("`describe` failed"), "{told}");
}

#[test]
fn a_description_of_a_million_processors_is_refused() {
    assert!(refusal("describe_million").contains("returned too much"));
}

#[test]
fn a_description_without_names_or_end_is_refused() {
    let told = refusal("describe_nameless");
    assert!(told.starts_with("processors.one.name: ") && told.contains("it has no processor `Raw`"), "{told}");
}
