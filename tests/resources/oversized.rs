//! A message over a limit of frames on real brokers: it stays in its queue, and those behind it are processed.

use serde_json::json;
use stompbox::app::Drained;

use crate::{
    harness::{
        host::{Host, One, wait_until},
        messages::{numbered, texts},
        target::Target,
    },
    operate::{admin, metric},
};

/// Header lines that a sender adds. The broker adds its own, and then it is more than 1,000: no broker takes
/// more of a sender than ActiveMQ, which itself takes 1,000.
const LINES: usize = 995;
const MESSAGES: usize = 50;

/// One message over the limit between others, on a broker and in an ack mode.
fn stays_while_the_others_go_on(target: &Target, mode: &str) {
    let address = admin();
    let mut one = One::new(target, "Echo", json!({"n_threads": 2}));
    one.config["queues"]["in"]["ack_mode"] = json!(mode);
    one.config["admin"] = json!({"listen": address});
    one.config["guard_period"] = json!(0.3);
    let names: Vec<String> = (0..LINES).map(|number| format!("h{number}")).collect();
    let headers: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "value")).collect();
    let (bodies, mut client) = (numbered(MESSAGES), target.client());
    client.send_all(&one.from, &bodies[..MESSAGES / 2]).unwrap();
    client.send(&one.from, &headers, b"too many headers").unwrap();
    client.send_all(&one.from, &bodies[MESSAGES / 2..]).unwrap();
    let host = Host::start(&one.config);
    host.wait_ended("one", MESSAGES as u64);
    let series = "stompbox_oversized_messages_total{queue=\"in\",server=\"mb\",vo=\"\"}";
    wait_until("it is counted", || metric(address, series) >= 1.0);
    assert_eq!(host.drain(), Drained::Clean);
    assert_eq!(texts(&target.drain(&one.to)), bodies, "each once");
    let left = target.drain(&one.from);
    assert_eq!((texts(&left), target.drain(&one.dead).len()), (vec!["too many headers".to_owned()], 0));
    assert_eq!(left[0].headers.iter().filter(|(name, _)| name.starts_with('h')).count(), LINES);
}

macro_rules! on {
    ($($broker:ident: $($test:ident in $mode:literal),*;)*) => {
        $(mod $broker {
            use super::{Target, stays_while_the_others_go_on};
            $(#[test] fn $test() { stays_while_the_others_go_on(&Target::$broker(), $mode); })*
        })*
    };
}

// In ack mode auto ActiveMQ has forgotten it when it is read.
on! {
    activemq: it_stays in "client-individual", it_stays_in_mode_client in "client";
    artemis: it_stays in "client-individual", it_stays_in_mode_client in "client", it_stays_in_mode_auto in "auto";
    rabbitmq: it_stays in "client-individual", it_stays_in_mode_client in "client", it_stays_in_mode_auto in "auto";
}
