//! A message over a limit of frames on real brokers: it stays in its queue, and those behind it are processed.

use serde_json::{Value, json};
use stompbox::app::Drained;

use crate::{
    check::check,
    harness::{
        client::Msg,
        host::{Host, One, wait_until},
        messages::{numbered, texts},
        process::Process,
        target::Target,
    },
    operate::{admin, metric},
};

/// Header lines that a sender adds. The broker adds its own, and then it is more than 1,000: no broker takes
/// more of a sender than ActiveMQ, which itself takes 1,000.
const LINES: usize = 995;
const MESSAGES: usize = 50;

/// A message over a limit, with the header `big`, between others, in an ack mode: they are processed, it stays.
fn stays_while_the_others_go_on(target: &Target, queue: Value, headers: &[(&str, &str)], body: &[u8]) -> Msg {
    let address = admin();
    let mut one = One::new(target, "Echo", json!({"n_threads": 2}));
    for (key, value) in queue.as_object().into_iter().flatten() {
        one.config["queues"]["in"][key] = value.clone();
    }
    one.config["admin"] = json!({"listen": address});
    one.config["guard_period"] = json!(0.3);
    let (bodies, mut client) = (numbered(MESSAGES), target.client());
    client.send_all(&one.from, &bodies[..MESSAGES / 2]).unwrap();
    client.send(&one.from, headers, body).unwrap();
    client.send_all(&one.from, &bodies[MESSAGES / 2..]).unwrap();
    let host = Host::start(&one.config);
    host.wait_ended("one", MESSAGES as u64);
    let series = "stompbox_oversized_messages_total{queue=\"in\",server=\"mb\",vo=\"\"}";
    wait_until("it is counted", || metric(address, series) >= 1.0);
    assert_eq!(host.drain(), Drained::Clean);
    assert_eq!(texts(&target.drain(&one.to)), bodies, "each once");
    let mut left = target.drain(&one.from);
    assert_eq!((left.len(), target.drain(&one.dead).len()), (1, 0));
    left.remove(0)
}

fn many_headers() -> Vec<(String, String)> {
    (0..LINES).map(|number| (format!("h{number}"), "x".repeat(40))).collect()
}

fn borrowed(headers: &[(String, String)]) -> Vec<(&str, &str)> {
    headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

fn with_headers(target: &Target, queue: Value) {
    let left = stays_while_the_others_go_on(target, queue, &borrowed(&many_headers()), b"too many headers");
    assert_eq!(left.text(), "too many headers");
    assert_eq!(left.headers.iter().filter(|(name, _)| name.starts_with('h')).count(), LINES);
}

fn in_mode(target: &Target, mode: &str) {
    with_headers(target, json!({"ack_mode": mode}));
}

/// Artemis counts bytes: what it has outstanding with us is more than the window of ten messages.
fn in_a_window_of(target: &Target, max_buffer_len: usize) {
    with_headers(target, json!({"max_buffer_len": max_buffer_len}));
}

/// What an operator reads: which message, what is too much of it, and what to do.
#[test]
fn the_log_says_which_message_stays_and_what_to_do() {
    let (target, dir) = (Target::activemq(), tempfile::tempdir().unwrap());
    let one = One::new(&target, "Echo", json!({}));
    target.client().send(&one.from, &borrowed(&many_headers()), b"too many headers").unwrap();
    let host = Process::start(dir.path(), &one.config);
    let told = || host.log().lines().find(|line| line.contains("over a limit of the host")).map(str::to_owned);
    wait_until("it is told", || told().is_some());
    let line = told().unwrap();
    for part in [
        "ERROR",
        "queue=in",
        "ID:",
        one.from.as_str(),
        "number of headers is 100",
        "over the limit of 1000",
        "stays with its broker un-acked",
        "remove it from its queue at the broker",
    ] {
        assert!(line.contains(part), "{part}: {line}");
    }
    assert!(host.terminate().success());
    assert_eq!(texts(&target.drain(&one.from)), ["too many headers"]);
}

/// `check --connect` looks whether it may read, and RabbitMQ sends it a message.
#[test]
fn check_minds_it_not() {
    let target = Target::rabbitmq();
    let one = One::new(&target, "Echo", json!({}));
    target.client().send(&one.from, &borrowed(&many_headers()), b"too many headers").unwrap();
    let (code, out, err) = check(&one.config);
    assert_eq!(code, Some(0), "{out}\n{err}");
    assert_eq!(texts(&target.drain(&one.from)), ["too many headers"]);
}

/// The test's ActiveMQ and Artemis have no memory for so much.
#[test]
fn a_body_over_100_mib_stays_on_rabbitmq() {
    let body = vec![b'x'; (100 << 20) + 1];
    let left = stays_while_the_others_go_on(&Target::rabbitmq(), json!({}), &[], &body);
    assert_eq!(left.body.len(), body.len());
}

macro_rules! on {
    ($($broker:ident: $($test:ident $with:ident $value:literal),*;)*) => {
        $(mod $broker {
            use super::Target;
            $(#[test] fn $test() { super::$with(&Target::$broker(), $value); })*
        })*
    };
}

// In ack mode auto ActiveMQ has forgotten it when it is read.
on! {
    activemq:
        it_stays in_mode "client-individual",
        it_stays_in_mode_client in_mode "client",
        it_stays_in_a_small_window in_a_window_of 8;
    artemis:
        it_stays in_mode "client-individual",
        it_stays_in_mode_client in_mode "client",
        it_stays_in_mode_auto in_mode "auto",
        it_stays_in_a_small_window in_a_window_of 8;
    rabbitmq:
        it_stays in_mode "client-individual",
        it_stays_in_mode_client in_mode "client",
        it_stays_in_mode_auto in_mode "auto",
        it_stays_in_a_small_window in_a_window_of 8;
}
