//! What was rolled back stays so over a restart of the host.

use std::{fs, path::Path};

use serde_json::{Value, json};
use stompbox::{
    app::Drained,
    control::{Request, What},
};

use super::whats;
use crate::harness::{
    host::{Host, One, wait_until},
    ledger::{Ledger, sorter},
    process::program,
    target::Target,
    versions::Versions,
};

fn with_state(target: &Target, versions: &Versions, state: &Path) -> One {
    let mut one = sorter(target, &Value::Null, json!({"n_threads": 2}));
    (one.config["plugins"], one.config["state_dir"]) = (json!([versions.dir()]), json!(state));
    one
}

fn start(one: &One) -> Host {
    let host = Host::start(&one.config);
    // What runs has its copy when the look at the start is over.
    reload(&host, None);
    host
}

fn reload(host: &Host, processor: Option<&str>) -> Vec<What> {
    whats(&host.ask(Request::Reload { processor: processor.map(str::to_owned) }).unwrap())
}

/// Number, digest and file of what runs.
fn stable(host: &Host) -> (u64, String, String) {
    let stable = host.stage("one").generations.into_iter().find(|each| each.standing == "stable").unwrap();
    (stable.number, stable.digest, stable.file)
}

fn digest(host: &Host) -> String {
    stable(host).1
}

fn wait_audited(state: &Path, wanted: [&str; 2]) {
    let audit = || fs::read_to_string(state.join("audit.jsonl")).unwrap_or_default();
    let is_wanted = |line: &str| wanted.iter().all(|wanted| line.contains(wanted));
    wait_until(&format!("{wanted:?} is in the audit log"), || audit().lines().any(is_wanted));
}

/// What `check` says of it.
fn checked(one: &One) -> String {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config.json");
    fs::write(&file, one.config.to_string()).unwrap();
    let run = program().args(["check", "--config"]).arg(&file).output().unwrap();
    assert_eq!(run.status.code(), Some(0), "{run:?}");
    [run.stdout, run.stderr].map(|text| String::from_utf8(text).unwrap()).concat()
}

#[test]
fn a_bad_version_that_was_rolled_back_does_not_come_back_with_a_restart() {
    let (target, versions, state) = (Target::embedded(), Versions::new(), tempfile::tempdir().unwrap());
    let one = with_state(&target, &versions, state.path());
    let host = start(&one);
    let ledger = Ledger::open(&target, &one);
    ledger.set_rate(200);
    wait_until("the stable one has a past", || host.did("one").calls.get() > 200);
    let good = digest(&host);
    versions.put("traps", 1);
    assert_eq!(reload(&host, None), [What::Loaded, What::OnTrial]);
    let is_back = || host.stage("one").generations.iter().any(|each| each.standing == "rolled-back");
    wait_until("it is rolled back", is_back);
    assert_eq!(reload(&host, None), [What::Unchanged]);
    assert_eq!(host.drain(), Drained::Clean);
    let told = checked(&one);
    assert!(told.contains("was rolled back before") && told.contains(&format!("digest {}", &good[..12])), "{told}");

    let host = start(&one);
    wait_audited(state.path(), ["\"who\":\"start\"", "or: stompbox reload one"]);
    let (number, runs, file) = stable(&host);
    assert_eq!((number, &runs), (1, &good));
    assert!(Path::new(&file).starts_with(state.path()), "{file}");
    wait_until("it works", || host.did("one").ended() > 200);
    assert_eq!(reload(&host, None), [What::Unchanged], "the file is looked at");
    versions.put("good", 3);
    assert_eq!(reload(&host, None), [What::Loaded, What::OnTrial], "another one is taken up");
    wait_until("it is the stable one", || stable(&host).0 == 2);
    let balance = ledger.close(&target, &one, || assert_eq!(host.drain(), Drained::Clean));
    balance.is_even();
    assert_eq!(balance.duplicated, 0, "{balance}");
    assert!(balance.codes.keys().eq(["five"]), "only what the good ones reject: {balance}");
    assert!(!checked(&one).contains("rolled back"), "what was avoided is forgotten with another file");
}

#[test]
fn a_version_that_an_operator_left_is_run_again_where_nothing_else_is_to_be_had_or_it_is_pinned() {
    let (target, versions, state) = (Target::embedded(), Versions::new(), tempfile::tempdir().unwrap());
    let mut one = with_state(&target, &versions, state.path());
    one.config["processors"]["one"]["rollout"] = json!({"messages": 0});
    let host = start(&one);
    let mut digests = vec![digest(&host)];
    for number in 1..=2 {
        versions.put("good", number);
        assert_eq!(reload(&host, None), [What::Loaded, What::OnTrial]);
        wait_until("it is the stable one", || stable(&host).0 == u64::from(number) + 1);
        digests.push(digest(&host));
    }
    host.ask(Request::RollBack { processor: "one".to_owned(), to: Some(1) }).unwrap();
    assert_eq!(host.drain(), Drained::Clean);
    let again = |one: &One| {
        let host = start(one);
        let runs = digest(&host);
        assert_eq!(host.drain(), Drained::Clean);
        runs
    };
    assert_eq!(again(&one), digests[0], "also where others were stable since");
    assert_eq!(again(&one), digests[0], "and once more");
    let mut pinned = with_state(&target, &versions, state.path());
    pinned.config["processors"]["one"]["sha256"] = json!(digests[2]);
    pinned.config["processors"]["one"]["rollout"] = json!({"messages": 0});
    let told = checked(&pinned);
    assert!(told.contains("runs all the same") && told.contains("another component"), "{told}");
    fs::remove_file(state.path().join("kept").join(format!("{}.wasm", digests[0]))).unwrap();
    assert_eq!(again(&one), digests[2], "the copy is gone");
    wait_audited(state.path(), ["\"who\":\"start\"", "runs all the same"]);
}

/// An operator who reloads by name wants it after all, also after the next restart.
#[test]
fn what_an_operator_insists_on_is_not_avoided_any_more() {
    let (target, versions, state) = (Target::embedded(), Versions::new(), tempfile::tempdir().unwrap());
    let one = with_state(&target, &versions, state.path());
    let host = start(&one);
    versions.put("good", 1);
    assert_eq!(reload(&host, None), [What::Loaded, What::OnTrial]);
    host.ask(Request::RollBack { processor: "one".to_owned(), to: None }).unwrap();
    assert_eq!(host.drain(), Drained::Clean);
    let host = start(&one);
    let good = digest(&host);
    assert_eq!(reload(&host, Some("one")), [What::Loaded, What::OnTrial]);
    assert_eq!(host.drain(), Drained::Clean);
    let host = start(&one);
    assert_ne!(digest(&host), good);
    assert_eq!(host.drain(), Drained::Clean);
}

#[test]
fn what_was_rolled_back_and_is_wanted_again_runs_also_after_a_restart() {
    let (target, versions, state) = (Target::embedded(), Versions::new(), tempfile::tempdir().unwrap());
    let mut one = with_state(&target, &versions, state.path());
    one.config["processors"]["one"]["rollout"] = json!({"messages": 0});
    let host = start(&one);
    let take_up = |number: u32| {
        versions.put("good", number);
        assert_eq!(reload(&host, None), [What::Loaded, What::OnTrial]);
        wait_until("it is the stable one", || stable(&host).0 == u64::from(number) + 1);
        digest(&host)
    };
    let go_back = |to| drop(host.ask(Request::RollBack { processor: "one".to_owned(), to: Some(to) }).unwrap());
    let wanted = take_up(1);
    go_back(1);
    take_up(2);
    go_back(2);
    assert_eq!(digest(&host), wanted);
    assert_eq!(host.drain(), Drained::Clean);
    assert!(checked(&one).contains(&format!("digest {}", &wanted[..12])), "by its copy");
    versions.put("good", 1);
    let told = checked(&one);
    assert!(!told.contains("was rolled back before"), "by its file: {told}");
    let host = start(&one);
    let (_, runs, file) = stable(&host);
    assert_eq!(runs, wanted);
    assert!(!Path::new(&file).starts_with(state.path()), "{file}");
    assert_eq!(host.drain(), Drained::Clean);
}
