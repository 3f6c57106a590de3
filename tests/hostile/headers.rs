//! What a guest answers: outputs that are too many, too large, for others, or not what they say.

use std::collections::BTreeMap;

use serde_json::json;
use stompbox::app::Drained;

use super::{Attack, Fate, survive};

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

#[test]
fn header_injection_of_every_kind() {
    let injections = injections();
    let one = injections.iter().map(|header| json!([header]).to_string());
    // One too many; and behind a good one.
    let more =
        [json!(vec![("a", "b"); 65]).to_string(), json!([("good", "1"), ("destination", "/queue/y")]).to_string()];
    let bodies: Vec<String> = one.chain(more).collect();
    let attack = Attack { bodies, ..Attack::new("Headers", json!({}), Fate::Dead("output-invalid")) };
    let pair = attack.run();
    assert_eq!(pair.host.drain(), Drained::Clean);
    let dead = pair.target.drain(&pair.bad.dead);
    let told = dead.iter().map(|letter| (letter.text(), letter.header("stompbox_error_detail").unwrap()));
    let told: BTreeMap<String, &str> = told.collect();
    assert!(attack.bodies.iter().all(|body| told[body].contains("header")), "{told:#?}");
    assert_eq!(pair.target.drain(&pair.bad.to).len() + pair.target.drain("/queue/y").len(), 0, "nothing got out");
}

#[test]
fn good_headers_pass() {
    let bodies = vec![json!(vec![("good", "value: of any kind"); 64]).to_string()];
    survive(&Attack { bodies, ..Attack::new("Headers", json!({}), Fate::Forwarded) });
}
