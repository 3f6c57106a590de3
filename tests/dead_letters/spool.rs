//! Dead letters that the broker refused: on disk, also while a host writes there.

use serde_json::{Value, json};
use stompbox::{app::Drained, dev_broker::Faults};

use super::{Letters, give_up, lines};
use crate::harness::{
    host::{Host, One, wait_until},
    messages::{numbered, texts},
    target::Target,
};

/// A configuration with a `state_dir`.
fn with_state(one: &One, state: &tempfile::TempDir) -> Value {
    let mut config = one.config.clone();
    config["state_dir"] = json!(state.path());
    config
}

#[test]
fn spooled_letters_are_replayed_while_a_host_spools_more() {
    let (target, state) = (Target::embedded(), tempfile::tempdir().unwrap());
    let one = One::new(&target, "RejectAll", json!({}));
    let config = with_state(&one, &state);
    target.handle().set_faults(Faults { refuse_destinations: vec![one.dead.clone()], ..Faults::default() });
    give_up(&target, &config, &one.from, &numbered(20));
    let letters = Letters::of(&config);
    let (code, out, err) = letters.run(&["list"]);
    assert!(out.ends_with("\n20 dead letter(s): 20 of in in the spool\n"), "{out}");
    assert_eq!(code, Some(1), "the queue itself could not be read");
    assert!(err.contains(&format!("error: in: cannot read {} on mb at ", one.dead)), "{err}");
    let before = letters.ids(20);
    let host = Host::start(&config);
    let (_, out, _) = letters.run(&["replay", "--all"]);
    assert_eq!(out, "20 dead letter(s) replayed\n");
    host.wait_ended("one", 20);
    let after = letters.ids(20);
    assert!(after.iter().all(|id| !before.contains(id)), "they failed again, as new dead letters");
    assert_eq!(lines(state.path()).len(), 40, "the file of a host at work only grows");
    assert_eq!(host.drain(), Drained::Clean);
    let (_, out, _) = letters.run(&["drop", &after[0]]);
    assert_eq!(out, "1 dead letter(s) dropped\n");
    assert_eq!(Host::start(&config).drain(), Drained::Clean);
    let mut bodies: Vec<String> =
        lines(state.path()).iter().map(|line| line["body"].as_str().unwrap().into()).collect();
    bodies.sort();
    assert_eq!(bodies.len(), 19, "what is settled is gone with the next start of a host");
    assert!(bodies.iter().all(|body| numbered(20).contains(body)));
}

#[test]
fn who_settles_keeps_others_from_it() {
    let (target, state) = (Target::embedded(), tempfile::tempdir().unwrap());
    let one = One::new(&target, "RejectAll", json!({}));
    let config = with_state(&one, &state);
    target.handle().set_faults(Faults { refuse_destinations: vec![one.dead.clone()], ..Faults::default() });
    give_up(&target, &config, &one.from, &numbered(1));
    target.handle().set_faults(Faults::default());
    let letters = Letters::of(&config);
    let file = std::fs::File::open(state.path().join("dead-letters/in.jsonl")).unwrap();
    file.lock().unwrap();
    let (code, out, err) = letters.run(&["replay", "--all"]);
    assert_eq!((code, out.as_str()), (Some(1), "0 dead letter(s) replayed\n"));
    assert!(err.contains("another replay or drop is at work on it: wait for its end"), "{err}");
    letters.ids(1);
    drop(file);
    assert_eq!(letters.done(&["replay", "--all"]), "1 dead letter(s) replayed\n");
    assert_eq!(texts(&target.drain(&one.from)), numbered(1));
}

/// The queue for dead letters is a topic, so nothing but the spool is read.
#[test]
fn what_is_not_confirmed_in_time_stays_a_dead_letter() {
    let (target, state) = (Target::embedded(), tempfile::tempdir().unwrap());
    let one = One::new(&target, "RejectAll", json!({"dead_letter": "/topic/nobody"}));
    let config = with_state(&one, &state);
    target.handle().set_faults(Faults { refuse_destinations: vec!["/topic/nobody".into()], ..Faults::default() });
    let host = Host::start_warned(&config);
    target.client().send_all(&one.from, &numbered(150)).unwrap();
    host.wait_ended("one", 150);
    assert_eq!(host.drain(), Drained::Clean);
    let letters = Letters::of(&config);
    target.handle().set_faults(Faults { drop_receipts: true, ..Faults::default() });
    let (code, out, err) = letters.run(&["replay", "--all", "--timeout", "0.5"]);
    assert_eq!((code, out.as_str()), (Some(1), "0 dead letter(s) replayed\n"));
    let late = "not confirmed within 0.5 s: it may have arrived, and the dead letter stays\n";
    assert_eq!(err.matches(late).count(), 100, "{err}");
    assert!(err.contains("\n50 more were not tried\n"), "{err}");
    assert!(err.contains("note: /topic/nobody on mb, where the dead letters of in go, keeps nothing"), "{err}");
    target.handle().set_faults(Faults::default());
    letters.ids(150);
}

/// ActiveMQ tells bytes by a content-length.
#[test]
fn spooled_bytes_stay_bytes_and_text_stays_text() {
    let (target, state) = (Target::activemq(), tempfile::tempdir().unwrap());
    let one = One::new(&target, "RejectAll", json!({"dead_letter": Target::REFUSED_BY_ACTIVEMQ}));
    let config = with_state(&one, &state);
    let host = Host::start(&config);
    let mut client = target.client();
    client.send(&one.from, &[("persistent", "true")], b"text").unwrap();
    client.send(&one.from, &[("persistent", "true"), ("content-length", "5")], b"bytes").unwrap();
    client.send(&one.from, &[("persistent", "true")], &[0, 159, 255]).unwrap();
    host.wait_ended("one", 3);
    assert_eq!(host.drain(), Drained::Clean);
    let letters = Letters::of(&config);
    let (_, shown, _) = letters.run(&["show", &binary_id(&letters)]);
    assert!(shown.contains("\n\n00000000  00 9f ff "), "{shown}");
    let (_, out, _) = letters.run(&["replay", "--all"]);
    assert_eq!(out, "3 dead letter(s) replayed\n");
    let mut replayed = target.drain(&one.from);
    replayed.sort_by_key(|message| message.body.clone());
    let kinds: Vec<_> = replayed.iter().map(|message| (&*message.body, message.header("content-length"))).collect();
    assert_eq!(kinds, [(&[0, 159, 255][..], Some("3")), (b"bytes", Some("5")), (b"text", None)]);
    wait_until("nothing left", || letters.run(&["list"]).1 == "0 dead letter(s)\n");
}

fn binary_id(letters: &Letters) -> String {
    let all = letters.list(3);
    let letter = all.iter().find(|letter| letter["bytes"] == 3).unwrap();
    letter["id"].as_str().unwrap().to_owned()
}
