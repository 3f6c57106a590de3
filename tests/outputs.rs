//! Outputs on their way: where they go, that several of one message stand or fall together, what names them.

mod refused;
mod scripted;
mod servers;

use std::{collections::BTreeSet, sync::Arc};

use serde_json::{Value, json};
use stompbox::{app::Drained, dev_broker::Faults, metrics::ProcessorMetrics};

use crate::harness::{
    client::Msg,
    host::{Host, One, wait_until},
    messages::texts,
    target::{Target, on_every_broker},
};

on_every_broker! {
    several_outputs_go_to_the_queues_they_name
    without_use_transaction_they_arrive_too
    the_same_input_gives_the_same_ids
    the_dead_letter_of_a_processor_goes_before_that_of_its_queue
    send_headers_stand_on_what_arrives
    outputs_that_need_not_persist_are_there_for_everybody
}

/// A processor that sends to its out queue, to another one of the same server, and to one of a second.
struct Fan {
    one: One,
    near: String,
    far: String,
}

fn fan(target: &Target, extra: Value) -> Fan {
    let mut one = One::new(target, "FanOut", extra);
    let (near, far) = (format!("{}.near", one.from), format!("{}.far", one.from));
    one.config["processors"]["one"]["out_queues"] = json!(["near", "far"]);
    one.config["mb_servers"]["second"] = target.server();
    one.config["queues"]["near"] = json!({"server": "mb", "destination": near});
    one.config["queues"]["far"] = json!({"server": "second", "destination": far});
    Fan { one, near, far }
}

fn several_outputs_go_to_the_queues_they_name(target: &Target) {
    let fan = fan(target, json!({"n_threads": 2}));
    all_arrive(target, &fan);
}

fn without_use_transaction_they_arrive_too(target: &Target) {
    let mut fan = fan(target, json!({"n_threads": 2}));
    fan.one.config["queues"]["in"]["use_transaction"] = json!(false);
    all_arrive(target, &fan);
}

/// Four outputs of each message: two of a group, two alone on their server.
fn all_arrive(target: &Target, fan: &Fan) {
    const COUNT: usize = 100;
    let host = Host::start(&fan.one.config);
    let mut client = target.client();
    for number in 0..COUNT {
        let body = format!("a{number}\nnear:b{number}\nnear:c{number}\nfar:d{number}");
        let id = format!("input-{number}");
        client.send(&fan.one.from, &[("stompbox_id", &id), ("persistent", "true")], body.as_bytes()).unwrap();
    }
    host.wait_ended("one", COUNT as u64);
    let did = host.did("one");
    assert_eq!(host.drain(), Drained::Clean);
    assert_eq!((did.forwarded.get(), did.outputs.get()), (COUNT as u64, 4 * COUNT as u64));
    let all = |letters: &[&str]| {
        let mut all: Vec<String> =
            letters.iter().flat_map(|letter| (0..COUNT).map(move |number| format!("{letter}{number}"))).collect();
        all.sort();
        all
    };
    let arrived = [&fan.one.to, &fan.near, &fan.far].map(|queue| target.drain(queue));
    assert_eq!(arrived.each_ref().map(|messages| texts(messages)), [all(&["a"]), all(&["b", "c"]), all(&["d"])]);
    let ids: BTreeSet<&str> = arrived.iter().flatten().filter_map(|message| message.header("stompbox_id")).collect();
    assert_eq!(ids.len(), 4 * COUNT, "each output has an id of its own");
    assert_eq!(target.drain(&fan.one.from), []);
}

fn the_same_input_gives_the_same_ids(target: &Target) {
    let one = One::new(target, "FanOut", json!({}));
    let ids = || {
        let host = Host::start(&one.config);
        let headers = [("stompbox_id", "the input"), ("persistent", "true")];
        target.client().send(&one.from, &headers, b"a\nb").unwrap();
        host.wait_ended("one", 1);
        assert_eq!(host.drain(), Drained::Clean);
        let sent = target.drain(&one.to);
        sent.iter().map(|m| (m.text(), m.header("stompbox_id").unwrap().to_owned())).collect::<BTreeSet<_>>()
    };
    let first = ids();
    assert_eq!((first.len(), first), (2, ids()), "after a restart as well");
}

fn the_dead_letter_of_a_processor_goes_before_that_of_its_queue(target: &Target) {
    let mut one = One::new(target, "RejectAll", json!({}));
    let (of_queue, of_processor) = (format!("{}.queues", one.from), format!("{}.processors", one.from));
    let reject = |config: &Value| {
        let host = Host::start(config);
        let headers = [("stompbox_id", "kept"), ("persistent", "true")];
        target.client().send(&one.from, &headers, b"x").unwrap();
        host.wait_ended("one", 1);
        assert_eq!(host.drain(), Drained::Clean);
        [&one.dead, &of_queue, &of_processor].map(|queue| {
            let dead = target.drain(queue);
            assert!(dead.iter().all(|letter| letter.header("stompbox_id") == Some("kept")), "{dead:?}");
            dead.len()
        })
    };
    let mut config = one.config.take();
    config["queues"]["in"]["dead_letter"] = json!(of_queue);
    assert_eq!(reject(&config), [0, 1, 0]);
    config["processors"]["one"]["dead_letter"] = json!(of_processor);
    assert_eq!(reject(&config), [0, 0, 1]);
}

fn send_headers_stand_on_what_arrives(target: &Target) {
    let mut one = One::new(target, "Echo", json!({}));
    one.config["queues"]["out"]["send_headers"] = json!({"origin": "stompbox", "vo": "atlas"});
    let host = Host::start(&one.config);
    target.client().send(&one.from, &[("persistent", "true")], b"x").unwrap();
    host.wait_ended("one", 1);
    assert_eq!(host.drain(), Drained::Clean);
    let out = target.drain(&one.to);
    assert_eq!((out[0].header("origin"), out[0].header("vo")), (Some("stompbox"), Some("atlas")));
}

/// On RabbitMQ such a SEND would declare a queue that is gone with our connection.
fn outputs_that_need_not_persist_are_there_for_everybody(target: &Target) {
    let mut one = One::new(target, "Echo", json!({}));
    one.config["queues"]["out"]["persistent"] = json!(false);
    let host = Host::start(&one.config);
    target.client().send_all(&one.from, &["a", "b"]).unwrap();
    host.wait_ended("one", 2);
    assert_eq!(host.drain(), Drained::Clean);
    assert_eq!(texts(&target.drain(&one.to)), ["a", "b"]);
}

/// Two attempts of each message, soon.
fn two_attempts() -> Value {
    json!({"max_attempts": 2, "min_delay_ms": 10, "max_delay_ms": 50})
}

/// Four messages, of which an output of the second one goes to the queue `near`.
const GROUPS: [&str; 4] = ["good 1\ngood 2", "bad 1\nnear:bad 2\nbad 3", "good 3\ngood 4", "alone"];

/// Runs [`GROUPS`] to their end.
fn settle_groups(target: &Target, fan: &Fan) -> Arc<ProcessorMetrics> {
    let host = Host::start(&fan.one.config);
    target.client().send_all(&fan.one.from, &GROUPS).unwrap();
    host.wait_ended("one", 4);
    let did = host.did("one");
    assert_eq!(host.drain(), Drained::Clean);
    did
}

/// One dead letter, because an output was refused twice; its detail tells all of these.
fn is_refused(dead: &[Msg], body: &str, details: &[&str]) {
    assert_eq!(texts(dead), [body]);
    let header = |name: &str| dead[0].header(name).unwrap();
    assert_eq!((header("stompbox_error_code"), header("stompbox_attempts")), ("output-refused", "2"));
    let detail = header("stompbox_error_detail");
    assert!(details.iter().all(|part| detail.contains(part)), "{detail}");
}

/// One output of three is refused: none arrives, the story is told, and other messages go on. The policy is
/// that of the queue: two attempts.
fn a_refused_output_refuses_the_group(target: &Target, mut fan: Fan, why: &str) {
    fan.one.config["queues"]["in"]["retry"] = two_attempts();
    let did = settle_groups(target, &fan);
    assert_eq!(texts(&target.drain(&fan.one.to)), ["alone", "good 1", "good 2", "good 3", "good 4"]);
    assert_eq!((did.outputs.get(), did.retried.get(), did.dead_lettered.get()), (5, 1, 1));
    is_refused(&target.drain(&fan.one.dead), GROUPS[1], &[&fan.near, why]);
}

#[test]
fn a_refused_output_refuses_the_group_on_the_embedded_broker() {
    let target = Target::embedded();
    let fan = fan(&target, json!({}));
    target.handle().set_faults(Faults { refuse_destinations: vec![fan.near.clone()], ..Faults::default() });
    let why = format!("destination {} is refused", fan.near);
    a_refused_output_refuses_the_group(&target, fan, &why);
}

#[test]
fn a_refused_output_refuses_the_group_on_activemq() {
    let target = Target::activemq();
    let mut fan = fan(&target, json!({}));
    fan.one.config["queues"]["near"]["destination"] = json!(Target::REFUSED_BY_ACTIVEMQ);
    fan.near = Target::REFUSED_BY_ACTIVEMQ.to_owned();
    a_refused_output_refuses_the_group(&target, fan, "nowhere");
}

/// ActiveMQ confirms the COMMIT and carries it out without the SEND that is wrong in itself.
#[test]
fn activemq_confirms_a_transaction_that_it_complained_about_and_nobody_believes_it() {
    let target = Target::activemq();
    let mut fan = fan(&target, json!({"retry": two_attempts()}));
    fan.one.config["queues"]["near"]["send_headers"] = json!({"amq-msg-type": "map"});
    let host = Host::start(&fan.one.config);
    target.client().send_all(&fan.one.from, &["first\nnear:lost", "good 1\ngood 2"]).unwrap();
    host.wait_ended("one", 2);
    let did = host.did("one");
    assert_eq!(host.drain(), Drained::Clean);
    assert_eq!((did.forwarded.get(), did.dead_lettered.get(), did.retried.get()), (1, 1, 1));
    assert_eq!(texts(&target.drain(&fan.one.dead)), ["first\nnear:lost"]);
    let arrived: BTreeSet<String> = texts(&target.drain(&fan.one.to)).into_iter().collect();
    assert_eq!(arrived.into_iter().collect::<Vec<_>>(), ["first", "good 1", "good 2"]);
}

/// A transaction whose COMMIT has no RECEIPT is sent again, whole and alone.
#[test]
fn a_group_that_was_cut_is_sent_again() {
    let target = Target::embedded();
    let fan = fan(&target, json!({}));
    let host = Host::start(&fan.one.config);
    target.handle().set_faults(Faults { drop_receipts: true, ..Faults::default() });
    target.client().send_unconfirmed(&fan.one.from, b"a\nb\nnear:c").unwrap();
    wait_until("the outputs", || target.handle().queue_depth(&fan.near).waiting == 1);
    assert_eq!(host.did("one").ended(), 0, "the input waits for the receipt");
    target.handle().set_faults(Faults::default());
    target.handle().cut_all();
    host.wait_ended("one", 1);
    assert_eq!(host.drain(), Drained::Clean);
    let out = target.drain(&fan.one.to);
    let all: BTreeSet<String> = out.iter().map(Msg::text).collect();
    assert_eq!(all.into_iter().collect::<Vec<_>>(), ["a", "b"]);
    let resent = out.iter().filter(|message| message.header("stompbox_resent").is_some());
    assert!(resent.count() >= 2, "{out:?}");
    let ids: BTreeSet<_> = out.iter().filter_map(|message| message.header("stompbox_id")).collect();
    assert_eq!(ids.len(), 2, "who receives them twice can tell: {out:?}");
}
