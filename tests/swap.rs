//! Nothing stops: new versions of a component take over while messages flow, and bad ones cost none.

mod back;
mod bad;
mod clock;
mod config;
mod kept;
mod rewire;
mod steady;
mod told;
mod unconfirmed;

use std::{
    fs,
    io::Write as _,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use stompbox::{
    app::Drained,
    control::{Change, Request, What},
    sandbox::CompileLimits,
};

use crate::harness::{
    host::{Host, One, wait_until},
    ledger::{Ledger, sorter},
    long,
    target::{Target, on_each_broker},
    versions::{self, Versions},
};

/// A sorter at work on versions of its own, with this `rollout`.
struct Swapped {
    versions: Versions,
    one: One,
    host: Host,
}

impl Swapped {
    fn start(target: &Target, processor: Value) -> Self {
        Self::start_with(target, "good", processor)
    }

    fn start_with(target: &Target, kind: &str, processor: Value) -> Self {
        let versions = Versions::new();
        versions.put(kind, 0);
        let mut one = sorter(target, &Value::Null, processor);
        one.config["plugins"] = json!([versions.dir()]);
        // Enough for what is good.
        let limits = CompileLimits { memory_bytes: 100 << 20, ..CompileLimits::default() };
        let host = Host::start_compiling(&one.config, limits);
        // The host looks at all files once more when it has started: what a test puts there comes after that.
        host.ask(Request::Reload { processor: Some("one".to_owned()) }).unwrap();
        Self { versions, one, host }
    }

    /// Puts a version there and has it taken up.
    fn swap(&self, kind: &str, number: u32) -> Vec<Change> {
        self.versions.put(kind, number);
        self.reload()
    }

    fn reload(&self) -> Vec<Change> {
        self.host.ask(Request::Reload { processor: Some("one".to_owned()) }).unwrap()
    }

    fn stable(&self) -> u64 {
        self.host.stage("one").generations.iter().find(|each| each.standing == "stable").unwrap().number
    }
}

fn whats(changes: &[Change]) -> Vec<What> {
    changes.iter().map(|change| change.what).collect()
}

/// Many swaps under load: each version is on trial for some messages before the next comes.
fn swaps_under_load(target: &Target, swaps: u32) {
    let swapped = Swapped::start(target, json!({"n_threads": 4, "rollout": {"messages": 20}}));
    let ledger = Ledger::open(target, &swapped.one);
    for number in 1..=swaps {
        let changes = swapped.swap("good", number % 10 + 1);
        assert_eq!(whats(&changes), [What::Loaded, What::OnTrial], "{changes:?}");
        wait_until("the trial is over", || swapped.stable() == u64::from(number) + 1);
    }
    // No connection was touched.
    assert!(swapped.host.status().links.iter().all(|link| link.is_up() && link.reconnects() == 0));
    let (did, Swapped { one, host, .. }) = (swapped.host.did("one"), swapped);
    let balance = ledger.close(target, &one, || assert_eq!(host.drain(), Drained::Clean));
    println!("{swaps} swaps, {}: {balance}", target.name());
    balance.is_even();
    assert_eq!((balance.duplicated, did.possible_duplicates.get()), (0, 0), "{balance}");
}

on_each_broker! {
    two_hundred_swaps_under_load_lose_and_double_nothing
}

/// On the embedded broker and ActiveMQ as many as a release wants, elsewhere fewer.
fn two_hundred_swaps_under_load_lose_and_double_nothing(target: &Target) {
    let many = !target.is_artemis() && !target.is_rabbitmq();
    swaps_under_load(target, if many || long() { 200 } else { 20 });
}

#[test]
fn a_file_that_changes_is_taken_up_by_itself_once_it_is_whole() {
    let target = Target::embedded();
    let swapped = Swapped::start(&target, json!({"rollout": {"messages": 0}}));
    let (whole, began) = (versions::bytes("good", 7), Instant::now());
    // Copied slowly: what is there of it is no component, and nobody complains.
    for part in [whole.len() / 3, whole.len() / 2] {
        fs::write(swapped.versions.file(), &whole[..part]).unwrap();
    }
    fs::write(swapped.versions.file(), &whole).unwrap();
    wait_until("it is taken up", || swapped.stable() == 2);
    assert!(began.elapsed() >= Duration::from_secs(1), "it must have been the same for a second");
    assert_eq!(swapped.host.drain(), Drained::Clean);
}

/// A file that stays open for writing tells nothing of what is written into it, as files on NFS never do.
#[test]
fn a_change_that_nobody_tells_of_is_found() {
    let target = Target::embedded();
    let swapped = Swapped::start(&target, json!({"rollout": {"messages": 0}}));
    // Past the look at the start, by events.
    swapped.versions.put("good", 1);
    wait_until("it is taken up", || swapped.stable() == 2);
    let mut open = fs::OpenOptions::new().write(true).open(swapped.versions.file()).unwrap();
    open.write_all(&versions::bytes("good", 2)).unwrap();
    wait_until("it is taken up without an event", || swapped.stable() == 3);
    drop(open);
    assert_eq!(swapped.host.drain(), Drained::Clean);
}

/// What it filters the stable generation is asked about, which says nothing of what that one usually does.
#[test]
fn a_good_version_is_kept_where_most_messages_are_filtered() {
    let target = Target::embedded();
    let swapped = Swapped::start(&target, json!({"n_threads": 2, "rollout": {"messages": 600}}));
    let bodies: Vec<String> =
        (0..1_000).map(|number| format!("x {number:05}{}", if number % 10 == 0 { 1 } else { 4 })).collect();
    let mut client = target.client();
    for generation in 2..5 {
        client.send_all(&swapped.one.from, &bodies).unwrap();
        swapped.host.wait_ended("one", (u64::from(generation) - 1) * 2_000 - 1_000);
        assert_eq!(whats(&swapped.swap("good", generation)), [What::Loaded, What::OnTrial]);
        client.send_all(&swapped.one.from, &bodies).unwrap();
        wait_until("the trial is over", || swapped.host.stage("one").generations[0].standing != "on-trial");
        assert_eq!(swapped.stable(), u64::from(generation), "{:?}", swapped.host.stage("one"));
        swapped.host.wait_ended("one", (u64::from(generation) - 1) * 2_000);
    }
    assert_eq!(swapped.host.drain(), Drained::Clean);
}

#[test]
fn a_canary_that_is_good_is_kept_on_all_lanes() {
    let target = Target::embedded();
    let canary = json!({"n_threads": 4, "rollout": {"lanes": 0.25, "messages": 100}});
    let swapped = Swapped::start(&target, canary);
    let changes = swapped.swap("good", 1);
    assert!(changes[1].detail.starts_with("on 1 of 4 lanes"), "{changes:?}");
    let on_it = || swapped.host.stage("one").lanes.iter().filter(|lane| lane.generation == 2).count();
    wait_until("a lane runs it", || on_it() == 1);
    let mut client = target.client();
    let bodies: Vec<String> = (0..100).map(|number| format!("x {number:05}1")).collect();
    wait_until("the trial is over", || {
        client.send_all(&swapped.one.from, &bodies).unwrap();
        assert!(on_it() == 1 || swapped.stable() == 2, "one lane alone: {:?}", swapped.host.stage("one"));
        swapped.stable() == 2
    });
    wait_until("all lanes run it", || on_it() == 4);
    assert_eq!(swapped.host.drain(), Drained::Clean);
}

/// One component behind two processors: each swaps for itself.
#[test]
fn one_component_behind_several_processors_swaps_processor_by_processor() {
    let (target, versions) = (Target::embedded(), Versions::new());
    let mut one = sorter(&target, &Value::Null, json!({"rollout": {"messages": 0}}));
    let mut other = sorter(&target, &Value::Null, json!({"rollout": {"messages": 1_000_000}}));
    other.config["processors"]["one"]["params"] = json!({"poison": false});
    one.add(&other);
    one.config["plugins"] = json!([versions.dir()]);
    let host = Host::start(&one.config);
    host.ask(Request::Reload { processor: None }).unwrap();
    versions.put("good", 1);
    let changes = host.ask(Request::Reload { processor: Some("one".to_owned()) }).unwrap();
    assert_eq!(whats(&changes), [What::Loaded, What::OnTrial]);
    assert_eq!(host.stage("two").generations.len(), 1, "the other runs what it ran");
    let changes = host.ask(Request::Reload { processor: None }).unwrap();
    let loaded: Vec<&str> =
        changes.iter().filter(|change| change.what == What::Loaded).map(|change| change.name.as_str()).collect();
    assert_eq!(loaded, ["two"], "{changes:?}");
    assert_eq!(host.drain(), Drained::Clean);
}
