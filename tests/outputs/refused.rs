//! Outputs to where the host may not send, on brokers that close the connection at that.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use stompbox::app::Drained;

use super::{GROUPS, fan, is_refused, settle_groups, two_attempts};
use crate::harness::{
    host::{Host, One},
    messages::texts,
    target::Target,
};

/// Two attempts of each message, and connections that come back soon.
fn twice(config: &mut Value) {
    config["queues"]["in"]["retry"] = two_attempts();
    config["guard_period"] = json!(0.1);
}

fn a_refused_output_is_a_dead_letter(target: &Target, why: &str) {
    let mut one = One::new(target, "Echo", json!({}));
    let forbidden = Target::forbidden("x");
    one.config["queues"]["out"]["destination"] = json!(forbidden);
    twice(&mut one.config);
    let host = Host::start(&one.config);
    target.client().send_all(&one.from, &["x"]).unwrap();
    host.wait_ended("one", 1);
    let did = host.did("one");
    assert_eq!(host.drain(), Drained::Clean);
    assert_eq!((did.outputs.get(), did.retried.get(), did.dead_lettered.get()), (0, 1, 1));
    is_refused(&target.drain(&one.dead), "x", &[&forbidden, why]);
    assert_eq!(target.drain(&one.from), []);
}

/// One output of three is refused, and the others of its message with it; other messages go on, although their
/// outputs were on the connection that the broker closed. Returns what arrived of the refused message.
fn a_refused_output_refuses_the_group(target: &Target, why: &str) -> Vec<String> {
    let mut fan = fan(target, json!({}));
    let forbidden = Target::forbidden("x");
    fan.one.config["queues"]["near"]["destination"] = json!(forbidden);
    twice(&mut fan.one.config);
    let did = settle_groups(target, &fan);
    assert_eq!((did.forwarded.get(), did.dead_lettered.get()), (3, 1));
    is_refused(&target.drain(&fan.one.dead), GROUPS[1], &[&forbidden, why]);
    let out = target.drain(&fan.one.to);
    // What was in flight when the connection was closed is sent again, and says so.
    let all: BTreeSet<String> = texts(&out).into_iter().collect();
    let (bad, good): (Vec<_>, Vec<_>) = all.into_iter().partition(|text| text.starts_with("bad"));
    assert_eq!(good, ["alone", "good 1", "good 2", "good 3", "good 4"]);
    for text in good {
        let unmarked = out.iter().filter(|output| output.text() == text && output.header("stompbox_resent").is_none());
        assert!(unmarked.count() <= 1, "{out:#?}");
    }
    bad
}

/// ACCESS_REFUSED, or "Processing error" where more was on its way when the channel closed.
const RABBITMQ_SAYS: &str = "the broker reports an error: ";

#[test]
fn a_refused_output_is_a_dead_letter_on_rabbitmq() {
    a_refused_output_is_a_dead_letter(&Target::rabbitmq(), RABBITMQ_SAYS);
}

#[test]
fn a_refused_output_is_a_dead_letter_on_artemis() {
    for target in [Target::artemis(), Target::artemis_prefixed()] {
        a_refused_output_is_a_dead_letter(&target, "does not have permission");
    }
}

/// RabbitMQ has no transactions that keep their word: what stood before the refused one arrives.
#[test]
fn a_refused_output_refuses_the_group_on_rabbitmq() {
    let arrived = a_refused_output_refuses_the_group(&Target::rabbitmq(), RABBITMQ_SAYS);
    assert!(!arrived.iter().any(|text| text == "bad 2"), "{arrived:?}");
}

/// Artemis may carry out a transaction without the SEND that it refuses, and confirm it before it says so.
#[test]
fn a_refused_output_refuses_the_group_on_artemis() {
    for target in [Target::artemis(), Target::artemis_prefixed()] {
        let arrived = a_refused_output_refuses_the_group(&target, "does not have permission");
        assert!(!arrived.iter().any(|text| text == "bad 2"), "{arrived:?}");
    }
}
