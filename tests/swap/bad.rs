//! Bad versions: refused, or rolled back by themselves, while traffic goes on; no message is worse off.

use std::fs;

use serde_json::{Value, json};
use stompbox::{app::Drained, control::What};

use super::{Swapped, whats};
use crate::{
    compiling,
    harness::{
        guests,
        host::wait_until,
        ledger::Ledger,
        target::{Target, at_once, on_each_broker},
        versions,
    },
};

on_each_broker! {
    one_that_traps_on_each_tenth_message_is_rolled_back
}

const BOTH: &[fn() -> Target] = &[Target::embedded, Target::activemq];

/// Traffic goes on, the bad one goes, and what it could not do the stable one did.
fn bad(target: &Target, first: &str, kind: &str, processor: Value, why: &str) {
    let swapped = Swapped::start_with(target, first, processor);
    let ledger = Ledger::open(target, &swapped.one);
    ledger.set_rate(200);
    wait_until("the stable one has a past", || swapped.host.did("one").calls.get() > 200);
    let changes = swapped.swap(kind, 1);
    assert_eq!(whats(&changes), [What::Loaded, What::OnTrial], "{changes:?}");
    let told = || swapped.host.stage("one");
    wait_until("it is rolled back", || told().generations.iter().any(|each| each.standing == "rolled-back"));
    let report = told();
    assert!(report.generations[0].reason.contains(why), "{report:?}");
    goes_on(target, swapped, ledger);
}

/// Those that do not even come to a trial: what is there, under which name, and what the host says of it.
type Unfit = (&'static str, Vec<u8>, &'static str);

/// Each of them is refused with its reason, and traffic goes on.
fn refused(target: &Target, versions: &[Unfit], processor: Value) {
    let swapped = Swapped::start_with(target, "good", processor);
    let ledger = Ledger::open(target, &swapped.one);
    for (name, bytes, why) in versions {
        swapped.versions.put_bytes(bytes);
        let before = swapped.host.did("one").ended();
        let changes = swapped.reload();
        assert_eq!(whats(&changes), [What::Refused], "{name}: {changes:?}");
        assert!(changes[0].detail.contains(why), "{name}: {changes:?}");
        assert!(changes[0].detail.ends_with("generation 1 runs on"), "{name}: {changes:?}");
        wait_until("messages end", || swapped.host.did("one").ended() > before);
    }
    goes_on(target, swapped, ledger);
}

fn goes_on(target: &Target, swapped: Swapped, ledger: Ledger) {
    let did = swapped.host.did("one");
    let before = did.ended();
    wait_until("the stable one goes on", || did.ended() > before + 100);
    assert_eq!(swapped.stable(), 1);
    let Swapped { one, host, .. } = swapped;
    let balance = ledger.close(target, &one, || assert_eq!(host.drain(), Drained::Clean));
    balance.is_even();
    assert_eq!((balance.duplicated, balance.refused.len()), (0, 0), "{balance}");
    assert!(balance.codes.keys().eq(["five"]), "only what the stable one rejects: {balance}");
}

fn one_that_traps_on_each_tenth_message_is_rolled_back(target: &Target) {
    bad(target, "good", "traps", json!({"n_threads": 2}), "max_trap_share");
}

#[test]
fn one_that_returns_nothing_is_rolled_back() {
    bad(&Target::embedded(), "good", "silent", json!({}), "max_silent_share");
}

#[test]
fn one_that_rejects_is_rolled_back() {
    bad(&Target::embedded(), "good", "rejects", json!({}), "max_reject_share");
}

#[test]
fn one_that_takes_for_ever_is_rolled_back() {
    let limits = json!({"limits": {"time_ms": 1_000, "fuel": 100_000_000_000_u64}, "n_threads": 2});
    bad(&Target::embedded(), "good", "spins", limits, "max_timeout_share");
}

#[test]
fn one_that_takes_twice_as_long_is_rolled_back() {
    at_once(BOTH, |target| bad(target, "slow", "slower", json!({"n_threads": 8}), "max_slowdown"));
}

#[test]
fn a_canary_is_rolled_back_as_well() {
    let canary = json!({"n_threads": 4, "rollout": {"lanes": 0.25}});
    bad(&Target::embedded(), "good", "traps", canary, "max_trap_share");
}

/// One after the other, each on trial after the others were rolled back.
#[test]
fn on_activemq_no_bad_version_costs_a_message() {
    let target = Target::activemq();
    let limits = json!({"time_ms": 1_000, "fuel": 100_000_000_000_u64});
    let swapped = Swapped::start_with(&target, "good", json!({"n_threads": 2, "limits": limits}));
    let ledger = Ledger::open(&target, &swapped.one);
    ledger.set_rate(200);
    let did = swapped.host.did("one");
    wait_until("the stable one has a past", || did.calls.get() > 200);
    let rolled_back = || {
        let generations = swapped.host.stage("one").generations;
        generations.iter().filter(|each| each.standing == "rolled-back").count()
    };
    for (number, kind) in ["traps", "silent", "rejects", "spins"].into_iter().enumerate() {
        assert_eq!(whats(&swapped.swap(kind, 1)), [What::Loaded, What::OnTrial], "{kind}");
        wait_until("it is rolled back", || rolled_back() == number + 1);
    }
    goes_on(&target, swapped, ledger);
}

#[test]
fn one_that_does_not_initialize_is_refused() {
    at_once(BOTH, |target| {
        let fails = ("fails", versions::bytes("fails", 1), "does not like to be initialized");
        let hangs = ("hangs", versions::bytes("hangs", 1), "fuel");
        refused(target, &[fails, hangs], json!({"limits": {"init_fuel": 100_000_000}}));
    });
}

/// With fuel for hours, the time ends it.
#[test]
fn one_whose_initialize_hangs_is_refused_when_its_time_is_over() {
    at_once(BOTH, |target| {
        let hangs = ("hangs", versions::bytes("hangs", 2), "ran longer than 500ms");
        let limits = json!({"limits": {"init_time_ms": 500, "init_fuel": 1_000_000_000_000_000_u64}});
        refused(target, &[hangs], limits);
    });
}

#[test]
fn what_is_no_fitting_component_is_refused() {
    at_once(BOTH, |target| {
        let whole = versions::bytes("good", 1);
        let of = |module: &str| fs::read(guests::component(module)).unwrap();
        let unfit = [
            ("half-written", whole[..whole.len() / 2].to_vec(), "cannot be compiled"),
            ("no component", b"#!/usr/bin/python3".to_vec(), "not a WebAssembly component"),
            ("empty", Vec::new(), "not a WebAssembly component"),
            ("of the wrong world", of("sources"), "is of world source"),
            ("with another name", of("hostile"), "Sort"),
            ("with an import", compiling::importing(&["wasi:http/outgoing-handler@0.2.0"]), "wasi:http"),
        ];
        refused(target, &unfit, json!({}));
    });
}

/// One that no cache has.
#[test]
fn one_that_takes_the_compiler_too_much_is_refused() {
    at_once(BOTH, |target| {
        let bomb = compiling::bomb(2_500_000 + fastrand::usize(..10_000));
        refused(target, &[("a compile bomb", bomb, "takes more than 100 MiB of memory")], json!({}));
    });
}

#[test]
fn replay_refuses_what_does_not_process_recorded_messages() {
    let target = Target::embedded();
    let swapped = Swapped::start_with(&target, "good", json!({"rollout": {"replay": 100}}));
    let ledger = Ledger::open(&target, &swapped.one);
    wait_until("messages are recorded", || swapped.host.did("one").calls.get() > 200);
    for (kind, why) in [("traps", "replay of recorded message"), ("silent", "no outputs"), ("rejects", "reject")] {
        let changes = swapped.swap(kind, 1);
        assert_eq!(whats(&changes), [What::Refused], "{kind}: {changes:?}");
        assert!(changes[0].detail.contains(why), "{kind}: {changes:?}");
    }
    assert_eq!(whats(&swapped.swap("good", 2)), [What::Loaded, What::OnTrial]);
    let Swapped { one, host, .. } = swapped;
    let balance = ledger.close(&target, &one, || assert_eq!(host.drain(), Drained::Clean));
    balance.is_even();
    assert_eq!(balance.duplicated, 0, "{balance}");
}
