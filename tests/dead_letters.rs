//! `stompbox dead-letters`: what a host gave up is listed, shown, replayed and dropped, and nothing else happens to it.

mod spool;
mod troubles;
mod wire;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use stompbox::app::Drained;

use crate::harness::{
    client::Msg,
    host::{Host, One, wait_until},
    messages::{numbered, texts},
    process::program,
    target::{Target, on_every_broker},
};

on_every_broker! {
    what_a_host_gave_up_is_listed_and_stays
    a_replay_sends_the_original_under_a_new_id
    a_replay_goes_through_a_host_that_accepts_it
    what_is_dropped_is_gone_and_the_rest_stays
}

/// A configuration in a file, for the command.
struct Letters {
    _dir: tempfile::TempDir,
    file: PathBuf,
    /// How long a silence is the end of a queue.
    wait: &'static str,
}

impl Letters {
    fn of(config: &Value) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.json");
        fs::write(&file, config.to_string()).unwrap();
        Self { _dir: dir, file, wait: "0.4" }
    }

    /// A real broker on a busy machine may be silent before it has said all.
    fn patient(self, target: &Target) -> Self {
        Self { wait: if target.name() == "embedded" { self.wait } else { "3" }, ..self }
    }

    /// Exit code, standard output, standard error.
    fn run(&self, args: &[&str]) -> (Option<i32>, String, String) {
        self.run_waiting(self.wait, args)
    }

    fn run_waiting(&self, wait: &str, args: &[&str]) -> (Option<i32>, String, String) {
        let mut command = program();
        command.arg("dead-letters").args(&args[..1]).arg("--config").arg(&self.file).args(["--wait", wait]);
        let done = command.args(&args[1..]).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (done.status.code(), text(done.stdout), text(done.stderr))
    }

    /// What is to succeed without a word on standard error.
    fn done(&self, args: &[&str]) -> String {
        let (code, out, err) = self.run(args);
        assert_eq!((code, err.as_str()), (Some(0), ""), "{args:?}: {out}");
        out
    }

    /// The letters that there are; what is on its way to the queue takes its time.
    fn list(&self, count: usize) -> Vec<Value> {
        let mut letters = Vec::new();
        wait_until(&format!("{count} dead letters"), || {
            let (_, out, _) = self.run_waiting("0.4", &["list", "--json", "--limit", "1000000"]);
            letters = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            letters.len() == count
        });
        letters
    }

    /// Their ids.
    fn ids(&self, count: usize) -> Vec<String> {
        self.list(count).iter().map(|letter| letter["id"].as_str().unwrap().to_owned()).collect()
    }
}

/// Lets a host give up these messages.
fn give_up(target: &Target, config: &Value, from: &str, bodies: &[String]) {
    let host = Host::start(config);
    let headers = [("vo", "atlas"), ("priority", "7"), ("persistent", "true"), ("stompbox_id", "old")];
    let mut client = target.client();
    for body in bodies {
        client.send(from, &headers, body.as_bytes()).unwrap();
    }
    host.wait_ended("one", bodies.len() as u64);
    assert_eq!(host.drain(), Drained::Clean);
}

/// A queue with dead letters of these bodies.
fn rejected(target: &Target, bodies: &[String]) -> (One, Letters) {
    let one = One::new(target, "RejectAll", json!({}));
    give_up(target, &one.config, &one.from, bodies);
    let letters = Letters::of(&one.config).patient(target);
    (one, letters)
}

fn what_a_host_gave_up_is_listed_and_stays(target: &Target) {
    let bodies = numbered(3);
    let (one, letters) = rejected(target, &bodies);
    // Artemis takes a message away after ten deliveries.
    for _ in 0..12 {
        letters.list(3);
    }
    let listed = letters.list(3);
    for letter in &listed {
        let is = |key: &str| letter[key].clone();
        assert_eq!((is("queue"), is("server"), is("where")), (json!("in"), json!("mb"), json!(one.dead)));
        assert_eq!((is("error_code"), is("processor"), is("module")), (json!("never"), json!("one"), json!("hostile")));
        assert_eq!((is("generation"), is("attempts"), is("bytes")), (json!(1), json!(1), json!(13)));
        assert_eq!(is("original_destination"), json!(one.from));
    }
    let mut failed_at: Vec<u64> = listed.iter().map(|letter| letter["failed_at_ms"].as_u64().unwrap()).collect();
    assert!(failed_at.is_sorted() && failed_at.pop() > Some(1_700_000_000_000), "oldest first");
    let table = letters.done(&["list", "in"]);
    for (letter, line) in listed.iter().zip(table.lines().skip(1)) {
        assert!(line.contains(letter["id"].as_str().unwrap()) && line.contains("every message is rejected"), "{table}");
    }
    assert!(table.ends_with(&format!("\n3 dead letter(s): 3 of in in {} on mb\n", one.dead)), "{table}");
    shown(&letters, &listed[0], &bodies);
    let left = target.drain(&one.dead);
    assert_eq!(texts(&left), bodies);
    if target.is_artemis() || target.name() == "ActiveMQ" {
        let redelivered = |letter: &Msg| letter.header("redelivered") == Some("true");
        assert!(!left.iter().any(redelivered), "nobody counts what was looked at: {left:?}");
    }
}

fn shown(letters: &Letters, letter: &Value, bodies: &[String]) {
    let id = letter["id"].as_str().unwrap();
    let shown = letters.done(&["show", &id[..9]]);
    assert!(shown.starts_with(&format!("dead letter {id} in /queue/")), "{shown}");
    for line in ["\nvo: atlas\n", "\nstompbox_error_code: never\n", "\nstompbox_processor: one\n"] {
        assert!(shown.contains(line), "{shown}");
    }
    assert!(bodies.iter().any(|body| shown.ends_with(&format!("\n\n{body}\n"))), "{shown}");
}

fn a_replay_sends_the_original_under_a_new_id(target: &Target) {
    let (one, letters) = rejected(target, &numbered(2));
    let ids = letters.ids(2);
    let out = letters.done(&["replay", &ids[0], "--generation", "7"]);
    assert_eq!(out, "1 dead letter(s) replayed\n");
    assert_eq!(letters.ids(1), ids[1..]);
    let replayed = target.drain(&one.from);
    assert_eq!(replayed.len(), 1, "{replayed:?}");
    let header = |name: &str| replayed[0].header(name);
    assert_eq!((header("vo"), header("priority"), header("persistent")), (Some("atlas"), Some("7"), Some("true")));
    assert_eq!(header("stompbox_replay_generation"), Some("7"));
    let id = header("stompbox_id").expect("an id of its own");
    assert!(id.len() == 32 && id.bytes().all(|digit| digit.is_ascii_hexdigit()), "{id}");
    assert_eq!(header("content-length").is_some(), target.counts_text(), "text stays text: {replayed:?}");
    let left: Vec<_> = replayed[0].headers.iter().filter(|(name, _)| name.starts_with("stompbox_")).collect();
    assert_eq!(left.len(), 3, "no story is left: {left:?}");
}

fn a_replay_goes_through_a_host_that_accepts_it(target: &Target) {
    let bodies = numbered(150);
    let (mut one, letters) = rejected(target, &bodies);
    one.config["processors"]["one"]["name"] = json!("Echo");
    let host = Host::start(&one.config);
    let mut replayed = 0;
    // Where the end of a queue is a silence, one replay may not see all.
    wait_until("all replayed", || {
        let out = letters.done(&["replay", "--all"]);
        replayed += out.split(' ').next().unwrap().parse::<u64>().unwrap();
        replayed >= 150
    });
    host.wait_ended("one", 150);
    assert_eq!(host.drain(), Drained::Clean);
    assert_eq!((texts(&target.drain(&one.to)), replayed), (bodies, 150));
    assert_eq!(target.drain(&one.dead), []);
    assert_eq!(letters.done(&["list"]), "0 dead letter(s)\n");
}

fn what_is_dropped_is_gone_and_the_rest_stays(target: &Target) {
    let (one, letters) = rejected(target, &numbered(3));
    let ids = letters.ids(3);
    assert_eq!(letters.done(&["drop", &ids[1]]), "1 dead letter(s) dropped\n");
    assert_eq!(letters.ids(2), [ids[0].clone(), ids[2].clone()]);
    let (code, out, err) = letters.run(&["drop", "--all"]);
    assert_eq!((code, out.as_str()), (Some(64), ""));
    assert!(err.contains("say --yes as well"), "{err}");
    letters.ids(2);
    wait_until("all dropped", || letters.done(&["drop", "--all", "--yes"]) == "0 dead letter(s) dropped\n");
    assert_eq!(target.drain(&one.dead), []);
    assert_eq!(target.drain(&one.from), [], "nothing is sent");
}

/// What stands in the file of the queue `in`, with where each line says that it is live or not.
fn lines(state: &Path) -> Vec<BTreeMap<String, Value>> {
    let text = fs::read_to_string(state.join("dead-letters/in.jsonl")).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}
