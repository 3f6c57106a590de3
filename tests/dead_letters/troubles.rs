//! What goes wrong, and what strangers write: on the embedded broker, which does as it is told.

use std::{net::Ipv4Addr, net::TcpListener};

use serde_json::json;
use stompbox::{app::Drained, dev_broker::Faults};

use super::{Letters, give_up, rejected};
use crate::harness::{
    host::{Host, One, wait_until},
    messages::{numbered, texts},
    target::Target,
};

#[test]
fn what_the_destination_refuses_stays_a_dead_letter() {
    let target = Target::embedded();
    let (one, letters) = rejected(&target, &numbered(2));
    let ids = letters.ids(2);
    target.handle().set_faults(Faults { refuse_destinations: vec![one.from.clone()], ..Faults::default() });
    let (code, out, err) = letters.run(&["replay", "--all"]);
    assert_eq!((code, out.as_str()), (Some(1), "0 dead letter(s) replayed\n"));
    for id in &ids {
        assert!(err.contains(&format!("{id}: the broker refused the message for {}: ", one.from)), "{err}");
    }
    assert!(err.ends_with("error: 2 dead letter(s) named above were not replayed\n"), "{err}");
    target.handle().set_faults(Faults::default());
    assert_eq!(letters.ids(2), ids);
    assert_eq!(letters.done(&["replay", &ids[0], &ids[1]]), "2 dead letter(s) replayed\n");
    assert_eq!(texts(&target.drain(&one.from)), numbered(2));
}

/// As if the command was killed between the two: both places have the message, never none.
#[test]
fn what_cannot_be_removed_is_in_both_places_and_told() {
    let target = Target::embedded();
    let (one, letters) = rejected(&target, &numbered(1));
    letters.ids(1);
    target.handle().set_faults(Faults { refuse_acks: true, ..Faults::default() });
    let (code, out, err) = letters.run(&["replay", "--all"]);
    assert_eq!((code, out.as_str()), (Some(1), "0 dead letter(s) replayed\n"));
    assert!(err.contains("replayed, but the dead letter could not be removed and is still there"), "{err}");
    target.handle().set_faults(Faults::default());
    letters.ids(1);
    assert_eq!(texts(&target.drain(&one.from)), numbered(1));
}

#[test]
fn ids_that_name_none_or_several_do_nothing() {
    let target = Target::embedded();
    // Of seventeen two begin with the same digit.
    let (one, letters) = rejected(&target, &numbered(17));
    let ids = letters.ids(17);
    let first = |id: &String| id[..1].to_owned();
    let twice = ids.iter().map(first).find(|digit| ids.iter().filter(|id| first(id) == *digit).count() > 1).unwrap();
    for command in ["show", "replay", "drop"] {
        let (code, out, err) = letters.run(&[command, &twice]);
        assert_eq!(code, Some(64), "{err}");
        assert!(err.contains(&format!("{twice} is the beginning of ")) && !out.contains("stompbox_"), "{err}");
        let named = ids.iter().filter(|id| id.starts_with(&twice)).take(8);
        assert!(named.into_iter().all(|id| err.contains(id.as_str())), "{err}");
    }
    // A good one beside a bad one is not touched.
    let (code, _, err) = letters.run(&["replay", &ids[0], "0123456789abcdef"]);
    assert_eq!(code, Some(64));
    assert!(err.contains("there is no dead letter 0123456789abcdef"), "{err}");
    for (args, why) in [
        (&["drop", "xyz"][..], "an id has hexadecimal digits"),
        (&["drop"], "required arguments were not provided"),
        (&["drop", &ids[0], "--all", "--yes"], "cannot be used with"),
        (&["drop", &ids[0], "--code", "never"], "go with --all, not with ids"),
    ] {
        let (code, _, err) = letters.run(args);
        assert!(code == Some(64) && err.contains(why), "{args:?}: {code:?} {err}");
    }
    assert_eq!(letters.ids(17), ids);
    assert_eq!(target.drain(&one.from), []);
}

#[test]
fn filters_choose_by_code_processor_generation_and_queue() {
    let target = Target::embedded();
    let (mut one, two) = (One::new(&target, "RejectAll", json!({})), One::new(&target, "Panic", json!({})));
    one.add(&two);
    let mut client = target.client();
    let host = Host::start(&one.config);
    client.send_all(&two.from, &numbered(2)).unwrap();
    client.send_all(&one.from, &numbered(3)).unwrap();
    host.wait_ended("one", 3);
    host.wait_ended("two", 2);
    assert_eq!(host.drain(), Drained::Clean);
    let letters = Letters::of(&one.config);
    letters.ids(5);
    for (args, count) in [
        (&["list", "--code", "trap"][..], 2),
        (&["list", "--processor", "one"], 3),
        (&["list", "in2"], 2),
        (&["list", "--failed-generation", "1"], 5),
        (&["list", "--failed-generation", "2"], 0),
        (&["list", "--code", "trap", "--processor", "one"], 0),
    ] {
        let out = letters.done(args);
        assert!(out.contains(&format!("{count} dead letter(s)")), "{args:?}: {out}");
    }
    let out = letters.done(&["list", "--limit", "2"]);
    assert!(
        out.contains("\n... and 3 more: ") && out.contains("\n5 dead letter(s): ") && out.lines().count() == 5,
        "{out}"
    );
    assert_eq!(letters.done(&["drop", "--all", "--yes", "--code", "trap"]), "2 dead letter(s) dropped\n");
    assert_eq!(letters.done(&["replay", "--all", "--processor", "one"]), "3 dead letter(s) replayed\n");
    assert_eq!((texts(&target.drain(&one.from)), target.drain(&two.from)), (numbered(3), Vec::new()));
    let (code, _, err) = letters.run(&["list", "inn"]);
    assert_eq!(code, Some(64));
    assert!(err.contains("there is no queue \"inn\"; did you mean \"in\"?"), "{err}");
}

#[test]
fn nothing_that_a_stranger_wrote_drives_the_terminal() {
    let target = Target::embedded();
    let one = One::new(&target, "RejectAll", json!({}));
    let bad = "\u{1b}[31m\u{9b}1A\r\u{7f}\u{202e}";
    let story = [("stompbox_error_code", bad), ("stompbox_error_detail", bad), ("stompbox_processor", bad), (bad, bad)];
    let original = format!("/queue/{bad}");
    let dead = [&story[..], &[("stompbox_original_destination", &original)]].concat();
    target.client().send(&one.dead, &dead, format!("{bad}\nline 2").as_bytes()).unwrap();
    let letters = Letters::of(&one.config);
    let id = letters.ids(1).remove(0);
    for args in [&["list"][..], &["list", "--json"], &["show", &id], &["replay", &id], &["replay", "--all"]] {
        let (_, out, err) = letters.run(args);
        let wrong = |c: char| c.is_control() && c != '\n' || c == '\u{202e}';
        assert!(!out.contains(wrong) && !err.contains(wrong), "{args:?}: {out:?} {err:?}");
        assert!(format!("{out}{err}").contains("[31m"), "it is told: {out:?} {err:?}");
    }
}

/// Who may write dead letters must not choose among all queues that the operator's login may write.
#[test]
fn a_letter_goes_to_no_queue_that_the_configuration_does_not_read() {
    let target = Target::embedded();
    let one = One::new(&target, "RejectAll", json!({}));
    let elsewhere = Target::destination("elsewhere");
    let mut client = target.client();
    client.send(&one.dead, &[("stompbox_original_destination", &elsewhere)], b"forged").unwrap();
    client.send(&one.dead, &[], b"a stranger").unwrap();
    let letters = Letters::of(&one.config);
    letters.ids(2);
    let (code, _, err) = letters.run(&["replay", "--all"]);
    assert_eq!(code, Some(1));
    assert!(err.contains("it has no stompbox_original_destination"), "{err}");
    assert!(err.contains(&format!("if it is right, say --to {elsewhere}")), "{err}");
    assert_eq!(letters.done(&["replay", "--all", "--to", &elsewhere]), "2 dead letter(s) replayed\n");
    assert_eq!(texts(&target.drain(&elsewhere)), ["a stranger", "forged"]);
}

#[test]
fn a_replay_to_a_topic_is_warned_of() {
    let target = Target::embedded();
    let mut one = One::new(&target, "RejectAll", json!({}));
    let topic = one.from.replace("/queue/", "/topic/");
    one.config["queues"]["in"]["destination"] = json!(topic);
    give_up(&target, &one.config, &topic, &numbered(2));
    let letters = Letters::of(&one.config);
    letters.ids(2);
    let (code, out, err) = letters.run(&["replay", "--all"]);
    assert_eq!((code, out.as_str()), (Some(0), "2 dead letter(s) replayed\n"));
    assert_eq!(err.matches(&format!("warning: {topic} is a topic: every subscriber gets")).count(), 1, "{err}");
}

/// RabbitMQ confirms what is sent to a missing `/amq/queue/x`, and forgets it.
#[test]
fn a_replay_to_a_queue_that_is_missing_makes_it() {
    let target = Target::rabbitmq();
    let one = One::new(&target, "RejectAll", json!({}));
    target.client().send_all(&one.dead, &numbered(3)).unwrap();
    let letters = Letters::of(&one.config).patient(&target);
    letters.ids(3);
    let missing = one.from.replace("/queue/", "/amq/queue/");
    assert_eq!(letters.done(&["replay", "--all", "--to", &missing]), "3 dead letter(s) replayed\n");
    assert_eq!(texts(&target.drain(&one.from)), numbered(3));
}

/// More than is read at once, and what is replayed comes back as often as it is sent: each is sent once.
#[test]
fn a_replay_of_what_fails_again_ends() {
    let target = Target::embedded();
    let one = One::new(&target, "RejectAll", json!({}));
    let bodies = numbered(10_050);
    target.client().send_all(&one.dead, &bodies).unwrap();
    let letters = Letters::of(&one.config);
    let (code, out, err) = letters.run(&["replay", "--all", "--to", &one.dead]);
    assert_eq!((code, out.as_str()), (Some(0), "10050 dead letter(s) replayed\n"), "{err}");
    let left = target.drain(&one.dead);
    assert_eq!(texts(&left), bodies);
    assert!(left.iter().all(|letter| letter.header("stompbox_replay").is_some()));
}

#[test]
fn a_server_that_is_away_is_told_and_others_are_read() {
    let target = Target::embedded();
    let (mut one, _) = rejected(&target, &numbered(1));
    let away = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    one.config["mb_servers"]["away"] =
        json!({"host_port_list": [away.to_string()], "username": "u", "passcode": "not-told"});
    one.config["queues"]["far"] = json!({"server": "away", "destination": "/queue/far"});
    one.config["processors"]["far"] = json!({"module": "hostile", "name": "Echo", "in_queue": "far"});
    let letters = Letters::of(&one.config);
    letters.ids(1);
    let (code, out, err) = letters.run(&["list"]);
    assert_eq!(code, Some(1));
    assert!(out.contains("1 dead letter(s): 1 of in"), "{out}");
    assert!(
        err.contains(&format!("error: far: cannot read /queue/far.DLQ on away at {away}: cannot connect")),
        "{err}"
    );
    letters.done(&["list", "in"]);
    // A spare one may well be away.
    let here = one.config["mb_servers"]["mb"]["host_port_list"][0].clone();
    one.config["mb_servers"]["mb"]["host_port_list"] = json!([here, away.to_string()]);
    one.config["mb_servers"]["mb"]["connect"] = json!("any");
    let (code, out, err) = Letters::of(&one.config).run(&["list", "in"]);
    assert!(code == Some(0) && out.contains("1 dead letter(s): 1 of in"), "{out}{err}");
    assert!(err.contains(&format!("note: in: cannot read {} on mb at {away}: ", one.dead)), "{err}");
    one.config["mb_servers"]["mb"]["connect"] = json!("all");
    assert_eq!(Letters::of(&one.config).run(&["list", "in"]).0, Some(1));
}

#[test]
fn a_refused_login_tells_no_passcode() {
    let target = Target::activemq();
    let one = One::new(&target, "RejectAll", json!({}));
    let mut config = one.config.clone();
    config["mb_servers"]["mb"]["passcode"] = json!("wrong-and-secret");
    config["mb_servers"]["mb"]["verbose"] = json!(true);
    let letters = Letters::of(&config);
    for args in [&["list"][..], &["replay", "--all"], &["list", "--log", "trace"]] {
        let (code, out, err) = letters.run(args);
        assert_eq!(code, Some(1), "{out}{err}");
        assert!(err.contains("it refuses the login") && !format!("{out}{err}").contains("wrong-and-secret"), "{err}");
    }
}

#[test]
fn a_queue_of_rabbitmq_that_counts_each_look_is_warned_of() {
    let target = Target::rabbitmq();
    let one = One::new(&target, "RejectAll", json!({}));
    let kind = [("x-queue-type", "quorum"), ("durable", "true"), ("persistent", "true")];
    target.client().send(&one.dead, &kind, b"x").unwrap();
    let letters = Letters::of(&one.config);
    let warned = |err: &str| err.contains("counts each look as a delivery");
    wait_until("a warning", || warned(&letters.run(&["list"]).2));
    letters.ids(1);
}
