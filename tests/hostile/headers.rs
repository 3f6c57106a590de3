//! What a guest answers: outputs that are too many, too large, for others, or not what they say.

use std::collections::BTreeMap;

use serde_json::json;
use stompbox::app::Drained;

use super::{Attack, Fate, survive};
use crate::harness::{
    client::Msg,
    host::{Host, One},
    target::{Target, on_every_broker},
};

#[test]
fn a_million_outputs_with_one_body() {
    survive(&Attack::raw("aliased_outputs", json!({}), Fate::Dead("output-limit")));
}

#[test]
fn a_thousand_outputs_with_one_list_of_a_million_headers() {
    survive(&Attack::raw("aliased_headers", json!({}), Fate::Dead("output-limit")));
}

#[test]
fn too_many_outputs() {
    let told = survive(&Attack::new("OutputFlood", json!({}), Fate::Dead("output-limit")));
    assert!(told.iter().all(|detail| detail.ends_with("100000 outputs, the limit is 1000")), "{told:?}");
}

#[test]
fn a_body_that_is_too_large() {
    survive(&Attack::new("HugeBody", json!({"limits": {"output_mb": 8}}), Fate::Dead("output-limit")));
}

#[test]
fn a_queue_that_nobody_declared() {
    let told = survive(&Attack::new("BadQueue", json!({}), Fate::Dead("output-invalid")));
    assert!(told.iter().all(|detail| detail.contains("queue `undeclared`")), "{told:?}");
}

#[test]
fn a_queue_of_which_the_name_is_no_text() {
    let told = survive(&Attack::raw("not_utf8", json!({}), Fate::Dead("output-invalid")));
    assert!(told.iter().all(|detail| detail.contains("utf-8")), "{told:?}");
}

/// Names and values that would do harm, or that are none.
fn injections() -> Vec<(String, String)> {
    let refused = [
        "destination",
        "receipt",
        "transaction",
        "content-length",
        "subscription",
        "ack",
        "id",
        "message-id",
        "login",
        "passcode",
        "host",
        "selector",
        "stompbox_id",
        "stompbox_resent",
        "_AMQ_DUPL_ID",
        "AMQ_SCHEDULED_DELAY",
        "destination-type",
        "amq-msg-type",
        "x-queue-name",
    ];
    let cases = refused.iter().flat_map(|name| [name.to_lowercase(), name.to_uppercase()]);
    let names = ["", "a\nb", "a\rb", "a:b", "a b", "a\\b", "a\0b", "ü", "destination\n", "x\n\n\0SEND\n"];
    let values = ["a\nb", "a\r\nb", "a\0b", "\u{1b}[2J", "\u{85}", "x\n\nbody\0SEND\ndestination:/queue/y\n\n\0"];
    let long = [("n".repeat(65), "x".to_owned()), ("name".to_owned(), "v".repeat(1_025))];
    let typed = [
        ("priority", "10"),
        ("priority", "high"),
        ("priority", "-1"),
        ("persistent", "maybe"),
        ("expires", "soon"),
        ("ttl", "-1"),
        ("reply-to", "/temp-queue/x"),
    ];
    let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    (cases.map(|name| (name, "1".to_owned())))
        .chain(names.map(|name| owned((name, "1"))))
        .chain(values.map(|value| owned(("name", value))))
        .chain(long)
        .chain(typed.map(owned))
        .collect()
}

/// What breaks a rule of the headers of an output, a body of the guest `Headers` each; `elsewhere` is where some
/// would like to go.
fn forbidden(elsewhere: &str) -> Vec<String> {
    let injections = injections();
    let one = injections.iter().map(|header| json!([header]).to_string());
    // One too many; and behind a good one.
    let more =
        [json!(vec![("a", "b"); 65]).to_string(), json!([("good", "1"), ("destination", elsewhere)]).to_string()];
    one.chain(more).collect()
}

#[test]
fn header_injection_of_every_kind() {
    let bodies = forbidden("/queue/y");
    survive(&Attack { bodies, ..Attack::new("Headers", json!({}), Fate::Dead("output-invalid")) });
}

on_every_broker! {
    no_forbidden_header_gets_out
    other_headers_arrive_as_they_are
}

fn headers_of(target: &Target, bodies: &[String]) -> (One, Host) {
    let one = One::new(target, "Headers", json!({"retry": {"max_attempts": 1}, "n_threads": 2}));
    let host = Host::start(&one.config);
    target.client().send_all(&one.from, bodies).unwrap();
    host.wait_ended("one", bodies.len() as u64);
    (one, host)
}

fn no_forbidden_header_gets_out(target: &Target) {
    let elsewhere = Target::destination("elsewhere");
    let bodies = forbidden(&elsewhere);
    let (one, host) = headers_of(target, &bodies);
    assert_eq!(host.drain(), Drained::Clean);
    assert_eq!(target.drain(&one.to).len() + target.drain(&elsewhere).len(), 0, "nothing got out");
    let dead = target.drain(&one.dead);
    assert_eq!((dead.len(), target.drain(&one.from).len()), (bodies.len(), 0), "each is a dead letter, once");
    let told = dead.iter().map(|letter| (letter.text(), letter));
    let told: BTreeMap<String, &Msg> = told.collect();
    for body in &bodies {
        let of = |name| told[body].header(name).unwrap();
        assert_eq!(of("stompbox_error_code"), "output-invalid", "{body}");
        assert!(of("stompbox_error_detail").contains("header"), "{body}: {}", of("stompbox_error_detail"));
    }
}

/// All that a guest may say, up to each limit.
fn allowed() -> Vec<(String, String)> {
    let value = |text: &str| text.to_owned();
    let mut headers = vec![
        (value("colons"), value("a:b::c\\c")),
        (value("backslashes"), value(r"\n \r \\ \c \0 C:\new")),
        (value("unicode"), value("\u{e9}\u{4e2d}\u{1f600}")),
        (value("quotes"), value("\"'`<>{}[]%20&amp;")),
        (value("inner"), value("two  spaces")),
        (value("Case-Matters_1.2"), value("x")),
        (value("case-matters_1.2"), value("y")),
        ("n".repeat(64), "v".repeat(1_024)),
        (value("priority"), value("9")),
    ];
    let rest = headers.len()..64;
    headers.extend(rest.map(|number| (format!("h{number}"), format!("value {number}"))));
    headers
}

fn other_headers_arrive_as_they_are(target: &Target) {
    let headers = allowed();
    let (one, host) = headers_of(target, &[json!(headers).to_string()]);
    assert_eq!(host.drain(), Drained::Clean);
    let (out, dead) = (target.drain(&one.to), target.drain(&one.dead));
    assert_eq!((out.len(), dead), (1, Vec::new()));
    for (name, value) in &headers {
        assert_eq!(out[0].header(name), Some(value.as_str()), "{name}");
    }
    assert_eq!(out[0].header("destination"), Some(one.to.as_str()));
}

#[test]
fn good_headers_pass() {
    let bodies = vec![json!(vec![("good", "value: of any kind"); 64]).to_string()];
    survive(&Attack { bodies, ..Attack::new("Headers", json!({}), Fate::Forwarded) });
}
