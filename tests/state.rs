//! What a host keeps in its `state_dir`: dead letters that nobody took, and what killed it.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Stdio},
};

use serde_json::{Value, json};
use stompbox::{app::Drained, dev_broker::Faults};

use crate::{
    harness::process::program,
    harness::{
        client::Msg,
        guests,
        host::{Host, One, wait_until},
        target::{Target, on_every_broker},
    },
};

on_every_broker! {
    a_message_that_kills_the_host_twice_is_a_dead_letter
}

/// The dead letters on disk for the queue `in`.
fn spooled(state: &Path) -> Vec<Value> {
    let text = fs::read_to_string(state.join("dead-letters/in.jsonl")).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn with_state(one: &One, state: &Path) -> Value {
    let mut config = one.config.clone();
    config["state_dir"] = json!(state);
    config
}

/// The broker refuses the dead letters of these inputs; each is on disk before it is acknowledged.
fn refused_dead_letters_are_spooled(target: &Target, one: &One) {
    let dir = tempfile::tempdir().unwrap();
    let host = Host::start(&with_state(one, dir.path()));
    let bodies: Vec<String> = (0..50).map(|number| format!("body {number:02}")).collect();
    target.client().send_all(&one.from, &bodies).unwrap();
    target.client().send(&one.from, &[("vo", "atlas"), ("persistent", "true")], &[0, 1, 255]).unwrap();
    host.wait_ended("one", 51);
    let did = host.did("one");
    assert_eq!((host.drain(), did.dead_lettered.get()), (Drained::Clean, 51));
    assert_eq!(target.drain(&one.from).len(), 0, "acknowledged");
    let lines = spooled(dir.path());
    let mut texts: Vec<&str> = lines.iter().filter_map(|line| line["body"].as_str()).collect();
    texts.sort_unstable();
    assert_eq!(texts, bodies);
    let binary = lines.iter().find(|line| line["body"].is_null()).unwrap();
    assert_eq!(binary["body_base64"], "AAH/");
    let headers = binary["headers"].as_array().unwrap();
    let header = |name: &str| headers.iter().find(|pair| pair[0] == name).map(|pair| &pair[1]);
    assert_eq!((header("vo"), header("stompbox_processor")), (Some(&json!("atlas")), Some(&json!("one"))));
    assert!(header("stompbox_error_code").is_some() && header("stompbox_original_message_id").is_some());
}

#[test]
fn state_dir_takes_dead_letters_that_the_embedded_broker_refuses() {
    let target = Target::embedded();
    let one = One::new(&target, "RejectAll", json!({}));
    target.handle().set_faults(Faults { refuse_destinations: vec![one.dead.clone()], ..Faults::default() });
    refused_dead_letters_are_spooled(&target, &one);
}

#[test]
fn state_dir_takes_dead_letters_that_activemq_refuses() {
    let target = Target::activemq();
    let one = One::new(&target, "RejectAll", json!({"dead_letter": Target::REFUSED_BY_ACTIVEMQ}));
    refused_dead_letters_are_spooled(&target, &one);
}

/// Nobody may send to this queue, so each refusal ends the connection.
fn nobody_may_send(target: &Target) {
    let mut one = One::new(target, "RejectAll", json!({"dead_letter": Target::forbidden("DLQ")}));
    one.config["guard_period"] = json!(0.1);
    refused_dead_letters_are_spooled(target, &one);
}

#[test]
fn state_dir_takes_dead_letters_that_rabbitmq_refuses() {
    nobody_may_send(&Target::rabbitmq());
}

#[test]
fn state_dir_takes_dead_letters_that_artemis_refuses() {
    nobody_may_send(&Target::artemis());
    nobody_may_send(&Target::artemis_prefixed());
}

/// Neither broker nor disk takes it: it stays with the broker, and is tried again.
#[test]
fn what_the_disk_refuses_too_is_held() {
    let (target, dir) = (Target::embedded(), tempfile::tempdir().unwrap());
    let one = One::new(&target, "RejectAll", json!({"retry": {"max_delay_ms": 100, "min_delay_ms": 10}}));
    let in_the_way = dir.path().join("dead-letters/in.jsonl");
    fs::create_dir_all(&in_the_way).unwrap();
    target.handle().set_faults(Faults { refuse_destinations: vec![one.dead.clone()], ..Faults::default() });
    let host = Host::start(&with_state(&one, dir.path()));
    target.client().send(&one.from, &[], b"x").unwrap();
    let did = host.did("one");
    wait_until("a second try", || did.calls.get() >= 2);
    assert_eq!((did.ended(), target.handle().queue_depth(&one.from).unacked), (0, 1), "still with the broker");
    fs::remove_dir(&in_the_way).unwrap();
    host.wait_ended("one", 1);
    assert_eq!(host.drain(), Drained::Clean);
    assert_eq!(spooled(dir.path()).len(), 1);
}

/// A host of its own process.
fn start(dir: &Path, config: &Value) -> (Child, Box<dyn Iterator<Item = String>>) {
    let file = dir.join("config.json");
    fs::write(&file, config.to_string()).unwrap();
    let mut child = program().args(["run", "--config"]).arg(&file).stderr(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    (child, Box::new(lines))
}

#[test]
fn a_state_dir_is_one_hosts() {
    let (target, dir) = (Target::embedded(), tempfile::tempdir().unwrap());
    let mut one = One::new(&target, "Echo", json!({}));
    one.config["plugins"] = json!([guests::plugins_dir()]);
    let state = dir.path().join("state");
    let config = with_state(&one, &state);
    let first = Host::start(&config);
    let (mut second, log) = start(dir.path(), &config);
    let log: Vec<String> = log.collect();
    assert_eq!(second.wait().unwrap().code(), Some(1), "{log:#?}");
    let lock = state.join("lock");
    assert!(log.iter().any(|line| line.contains(lock.to_str().unwrap()) && line.contains("another host")), "{log:#?}");
    assert_eq!(first.drain(), Drained::Clean);
}

fn a_message_that_kills_the_host_twice_is_a_dead_letter(target: &Target) {
    let dir = tempfile::tempdir().unwrap();
    let limits = json!({"fuel": 1_000_000_000_000_000_u64, "time_ms": 1_500_000});
    let mut one = One::new(target, "SpinOn", json!({"limits": limits}));
    one.config["plugins"] = json!([guests::plugins_dir()]);
    let config = with_state(&one, &dir.path().join("state"));
    target.client().send_all(&one.from, &["spin", "good 1", "good 2"]).unwrap();
    for _ in 0..2 {
        let (mut host, mut log) = start(dir.path(), &config);
        log.find(|line| line.contains("it spins")).expect("the call begins");
        host.kill().unwrap(); // SIGKILL
        host.wait().unwrap();
    }
    let (mut host, log) = start(dir.path(), &config);
    let mut dead = target.client();
    dead.subscribe(&one.dead, "client-individual", &[]).unwrap();
    let letters = dead.read(1, crate::harness::host::LIMIT).unwrap();
    assert_eq!(letters.iter().map(Msg::text).collect::<Vec<_>>(), ["spin"]);
    let header = |name: &str| letters[0].header(name);
    assert_eq!((header("stompbox_error_code"), header("stompbox_attempts")), (Some("host-crash"), Some("2")));
    let mut out = target.client();
    out.subscribe(&one.to, "client-individual", &[]).unwrap();
    let mut good: Vec<String> = out.read(2, crate::harness::host::LIMIT).unwrap().iter().map(Msg::text).collect();
    good.sort();
    assert_eq!(good, ["good 1", "good 2"]);
    assert!(std::process::Command::new("kill").arg(host.id().to_string()).status().unwrap().success());
    let log: Vec<String> = log.collect();
    assert!(host.wait().unwrap().success(), "{log:#?}");
    assert_eq!(target.drain(&one.from), [], "settled");
}
