//! What becomes of a message, seen from outside: the rows of the settlement table, on every broker.

use std::{collections::BTreeMap, time::Instant};

use serde_json::json;
use stompbox::app::Drained;

use crate::harness::{
    client::Msg,
    host::{Host, One},
    malformed::malformed,
    messages::{Case, Expected, numbered, status_cases, texts},
    target::{Target, on_every_broker},
};

on_every_broker! {
    outputs_are_sent_and_inputs_acknowledged
    status_reports_are_forwarded_filtered_or_dead_lettered
    a_rejected_message_keeps_its_story
    retries_come_back_until_they_succeed
    exhausted_retries_are_dead_letters
    a_trap_gets_one_fresh_instance
    a_flood_of_retries_drains_and_does_not_stop_the_queue
    bytes_stay_bytes_and_text_stays_text
    a_window_of_one_works
    deliveries_held_for_retry_are_given_back_at_the_end
    ack_mode_auto_settles_what_was_read
    without_an_out_queue_nothing_is_sent
    ack_mode_auto_gives_up_what_no_instance_could_take
}

fn outputs_are_sent_and_inputs_acknowledged(target: &Target) {
    let one = One::new(target, "Echo", json!({"n_threads": 3}));
    let host = Host::start(&one.config);
    target.client().send_all(&one.from, &numbered(3_000)).unwrap();
    host.wait_ended("one", 3_000);
    assert_eq!(host.drain(), Drained::Clean);
    assert_eq!(texts(&target.drain(&one.to)), numbered(3_000));
    assert_eq!(texts(&target.drain(&one.from)), [""; 0], "every input was acknowledged");
}

/// The bodies that the case says belong there, sorted.
fn expected(cases: &[Case], what: Expected) -> Vec<Vec<u8>> {
    let mut bodies: Vec<_> = cases.iter().filter(|case| case.expected == what).map(|case| case.body.clone()).collect();
    bodies.sort();
    bodies
}

fn bodies(messages: &[Msg]) -> Vec<Vec<u8>> {
    let mut bodies: Vec<_> = messages.iter().map(|message| message.body.clone()).collect();
    bodies.sort();
    bodies
}

fn status_reports_are_forwarded_filtered_or_dead_lettered(target: &Target) {
    let module = "pandajedi.jedimsgprocessor.status_report_msg_processor";
    let one = One::new(target, "StatusReportMsgProcPlugin", json!({"module": module, "n_threads": 2}));
    let mut cases = status_cases(1_000, 11);
    cases.extend(malformed(60));
    let all: Vec<Vec<u8>> = cases.iter().map(|case| case.body.clone()).collect();
    let host = Host::start(&one.config);
    target.client().send_all(&one.from, &all).unwrap();
    host.wait_ended("one", all.len() as u64);
    let did = host.did("one");
    assert_eq!(host.drain(), Drained::Clean);
    assert_eq!(bodies(&target.drain(&one.to)), expected(&cases, Expected::Forwarded));
    let dead = target.drain(&one.dead);
    assert_eq!(bodies(&dead), expected(&cases, Expected::Rejected));
    for letter in &dead {
        let code = letter.header("stompbox_error_code").unwrap();
        assert!(["invalid-json", "invalid-message"].contains(&code), "{code}");
        assert!(letter.header("stompbox_error_detail").unwrap().len() > 20, "says what is wrong: {letter:?}");
    }
    assert_eq!(did.filtered.get() as usize, expected(&cases, Expected::Filtered).len());
    assert_eq!(target.drain(&one.from).len(), 0);
}

fn a_rejected_message_keeps_its_story(target: &Target) {
    let one = One::new(target, "RejectAll", json!({}));
    let host = Host::start(&one.config);
    target.client().send(&one.from, &[("vo", "atlas"), ("priority", "7"), ("persistent", "true")], b"a body").unwrap();
    host.wait_ended("one", 1);
    assert_eq!(host.drain(), Drained::Clean);
    let dead = target.drain(&one.dead);
    assert_eq!(texts(&dead), ["a body"]);
    let header = |name: &str| dead[0].header(name).unwrap_or_else(|| panic!("no {name} in {:?}", dead[0]));
    assert_eq!(header("vo"), "atlas");
    assert_eq!(header("priority"), "7");
    assert_eq!(header("stompbox_processor"), "one");
    assert_eq!(header("stompbox_module"), "hostile");
    assert_eq!(header("stompbox_attempts"), "1");
    assert_eq!(header("stompbox_generation"), "1");
    assert_eq!(header("stompbox_digest").len(), 64);
    assert_eq!(header("stompbox_original_destination"), one.from);
    assert!(!header("stompbox_error_code").is_empty() && !header("stompbox_error_detail").is_empty());
    assert!(!header("stompbox_original_message_id").is_empty());
    assert!(dead[0].headers.iter().all(|(_, value)| !value.starts_with("t-")), "the sender's receipt: {:?}", dead[0]);
    assert!(header("stompbox_failed_at").parse::<u64>().unwrap() > 1_700_000_000_000);
}

const QUICK: &str = r#"{"max_attempts": 4, "min_delay_ms": 10, "max_delay_ms": 50}"#;

fn quick() -> serde_json::Value {
    serde_json::from_str(QUICK).unwrap()
}

fn retries_come_back_until_they_succeed(target: &Target) {
    let one = One::new(target, "RetryTwice", json!({"retry": quick()}));
    let host = Host::start(&one.config);
    target.client().send_all(&one.from, &numbered(20)).unwrap();
    host.wait_ended("one", 20);
    let did = host.did("one");
    assert_eq!(host.drain(), Drained::Clean);
    assert_eq!(texts(&target.drain(&one.to)), numbered(20));
    assert_eq!((did.received.get(), did.retried.get(), did.forwarded.get()), (20, 40, 20));
}

fn exhausted_retries_are_dead_letters(target: &Target) {
    let one = One::new(target, "RetryAlways", json!({"retry": quick()}));
    let host = Host::start(&one.config);
    target.client().send_all(&one.from, &numbered(3)).unwrap();
    host.wait_ended("one", 3);
    assert_eq!(host.drain(), Drained::Clean);
    let dead = target.drain(&one.dead);
    assert_eq!(texts(&dead), numbered(3));
    assert!(dead.iter().all(|letter| letter.header("stompbox_attempts") == Some("4")), "{dead:?}");
}

fn a_trap_gets_one_fresh_instance(target: &Target) {
    let good = One::new(target, "TrapOnce", json!({}));
    let host = Host::start(&good.config);
    target.client().send_all(&good.from, &numbered(5)).unwrap();
    host.wait_ended("one", 5);
    assert_eq!(host.drain(), Drained::Clean);
    assert_eq!(texts(&target.drain(&good.to)), numbered(5));

    let bad = One::new(target, "Panic", json!({}));
    let host = Host::start(&bad.config);
    target.client().send_all(&bad.from, &numbered(5)).unwrap();
    host.wait_ended("one", 5);
    assert_eq!(host.drain(), Drained::Clean);
    let dead = target.drain(&bad.dead);
    assert_eq!(texts(&dead), numbered(5));
    for letter in &dead {
        assert_eq!(
            (letter.header("stompbox_error_code"), letter.header("stompbox_attempts")),
            (Some("trap"), Some("2"))
        );
    }
}

/// With a window of 11, at most 5 are held; an hour's back-off must not keep the others waiting.
fn a_flood_of_retries_drains_and_does_not_stop_the_queue(target: &Target) {
    let slow = json!({"max_attempts": 3, "min_delay_ms": 600_000, "max_delay_ms": 600_000});
    let mut one = One::new(target, "RetryAlways", json!({"retry": slow}));
    one.config["queues"]["in"]["max_buffer_len"] = json!(10);
    let host = Host::start(&one.config);
    target.client().send_all(&one.from, &numbered(100)).unwrap();
    host.wait_ended("one", 95);
    let did = host.did("one");
    assert_eq!(did.dead_lettered.get(), 95, "all but the half window");
    assert_eq!(host.drain(), Drained::Clean);
    assert_eq!(target.drain(&one.dead).len(), 95);
    assert_eq!(target.drain(&one.from).len(), 5, "what was held is with the broker still");
}

fn bytes_stay_bytes_and_text_stays_text(target: &Target) {
    let one = One::new(target, "Echo", json!({}));
    let host = Host::start(&one.config);
    let bodies_in: Vec<Vec<u8>> = vec![
        b"plain".to_vec(),
        "h\u{e4}lt \u{20ac}".into(),
        vec![0, 159, 146, 150, 0],
        Vec::new(),
        b"a\nb\r\n\n".to_vec(),
    ];
    target.client().send_all(&one.from, &bodies_in).unwrap();
    host.wait_ended("one", 5);
    assert_eq!(host.drain(), Drained::Clean);
    let out = target.drain(&one.to);
    let mut sorted = bodies_in;
    sorted.sort();
    assert_eq!(bodies(&out), sorted);
    let lengths: BTreeMap<_, _> = out.iter().map(|m| (m.body.clone(), m.header("content-length").is_some())).collect();
    // RabbitMQ and Artemis give every message a content-length.
    assert_eq!(lengths[&b"plain".to_vec()], target.counts_text(), "text travels as text");
    assert!(lengths[&vec![0, 159, 146, 150, 0]], "bytes travel as bytes");
}

fn a_window_of_one_works(target: &Target) {
    let mut one = One::new(target, "Echo", json!({}));
    one.config["queues"]["in"]["max_buffer_len"] = json!(1);
    let host = Host::start(&one.config);
    target.client().send_all(&one.from, &numbered(300)).unwrap();
    host.wait_ended("one", 300);
    assert_eq!(host.drain(), Drained::Clean);
    let out = target.drain(&one.to);
    assert_eq!(out.iter().map(Msg::text).collect::<Vec<_>>(), numbered(300), "one lane keeps the order");
}

fn deliveries_held_for_retry_are_given_back_at_the_end(target: &Target) {
    let slow = json!({"max_attempts": 3, "min_delay_ms": 600_000, "max_delay_ms": 600_000});
    let one = One::new(target, "RetryAlways", json!({"retry": slow}));
    let host = Host::start(&one.config);
    target.client().send_all(&one.from, &numbered(4)).unwrap();
    let did = host.did("one");
    crate::harness::host::wait_until("4 held", || did.retried.get() == 4);
    let began = Instant::now();
    assert_eq!(host.drain(), Drained::Clean);
    assert!(began.elapsed().as_secs() < 20, "a drain does not wait for what is held");
    assert_eq!(texts(&target.drain(&one.from)), numbered(4));
}

fn ack_mode_auto_settles_what_was_read(target: &Target) {
    let mut one = One::new(target, "RetryTwice", json!({"retry": quick()}));
    one.config["queues"]["in"]["ack_mode"] = json!("auto");
    let host = Host::start(&one.config);
    target.client().send_all(&one.from, &numbered(200)).unwrap();
    let did = host.did("one");
    crate::harness::host::wait_until("the first arrived", || did.received.get() > 0);
    assert_eq!(host.drain(), Drained::Clean);
    let (out, left) = (target.drain(&one.to), target.drain(&one.from));
    assert_eq!(texts(&[out, left].concat()), numbered(200), "sent or still with the broker");
}

fn without_an_out_queue_nothing_is_sent(target: &Target) {
    let one = One::new(target, "Echo", json!({"out_queue": null}));
    let host = Host::start(&one.config);
    target.client().send_all(&one.from, &numbered(3)).unwrap();
    host.wait_ended("one", 3);
    let did = host.did("one");
    assert_eq!(host.drain(), Drained::Clean);
    assert_eq!((did.unsent.get(), did.filtered.get()), (3, 3));
    assert_eq!(target.drain(&one.from).len(), 0);
}

fn ack_mode_auto_gives_up_what_no_instance_could_take(target: &Target) {
    let mut one = One::new(target, "InitFails", json!({}));
    one.config["queues"]["in"]["ack_mode"] = json!("auto");
    let host = Host::start(&one.config);
    target.client().send_all(&one.from, &numbered(10)).unwrap();
    assert_eq!(host.drain(), Drained::Clean);
    let (dead, left) = (target.drain(&one.dead), target.drain(&one.from));
    assert_eq!(texts(&[dead, left].concat()), numbered(10), "a dead letter or still with the broker");
}
