//! Parameters of queues, each seen from outside.

use std::time::Duration;

use serde_json::json;
use stompbox::app::Drained;

use crate::harness::{
    host::{Host, LIMIT, One, wait_until},
    messages::{numbered, texts},
    target::{Target, on_every_broker},
};

/// How long a test watches for something that must not come.
const QUIET: Duration = Duration::from_millis(700);

on_every_broker! {
    processors_of_one_queue_compete
    a_disabled_queue_is_left_alone
    retry_max_unavailable_s_ends_in_a_dead_letter
    subscription_keeps_what_is_sent_while_the_host_is_away
    max_buffer_len_bounds_what_the_broker_sends_ahead
}

fn processors_of_one_queue_compete(target: &Target) {
    let mut one = One::new(target, "Slow", json!({"params": {"ms": 5}}));
    one.config["processors"]["two"] = one.config["processors"]["one"].clone();
    let host = Host::start(&one.config);
    target.client().send_all(&one.from, &numbered(100)).unwrap();
    let (first, second) = (host.did("one"), host.did("two"));
    wait_until("all ended", || first.ended() + second.ended() >= 100);
    assert_eq!(host.drain(), Drained::Clean);
    assert!(first.ended() > 0 && second.ended() > 0, "{} and {}", first.ended(), second.ended());
    assert_eq!(texts(&target.drain(&one.to)), numbered(100), "each once");
}

fn a_disabled_queue_is_left_alone(target: &Target) {
    let mut one = One::new(target, "Echo", json!({}));
    let other = One::new(target, "Echo", json!({}));
    one.config["queues"]["other"] = json!({"server": "mb", "destination": other.from, "enable": false});
    one.config["processors"]["other"] = one.config["processors"]["one"].clone();
    one.config["processors"]["other"]["in_queue"] = json!("other");
    let host = Host::start(&one.config);
    target.client().send_all(&other.from, &["left alone"]).unwrap();
    target.client().send_all(&one.from, &["taken"]).unwrap();
    host.wait_ended("one", 1);
    assert_eq!(host.drain(), Drained::Clean);
    assert_eq!(texts(&target.drain(&other.from)), ["left alone"]);
    assert_eq!(texts(&target.drain(&one.to)), ["taken"]);
}

fn retry_max_unavailable_s_ends_in_a_dead_letter(target: &Target) {
    let retry = json!({"max_unavailable_s": 0, "max_attempts": 2, "min_delay_ms": 10});
    let mut one = One::new(target, "UnavailableAlways", json!({}));
    // The policy of the queue holds for processors that have none.
    one.config["queues"]["in"]["retry"] = retry;
    let host = Host::start(&one.config);
    target.client().send_all(&one.from, &["x"]).unwrap();
    host.wait_ended("one", 1);
    assert_eq!(host.drain(), Drained::Clean);
    let dead = target.drain(&one.dead);
    assert_eq!((texts(&dead), dead[0].header("stompbox_attempts")), (vec!["x".to_owned()], Some("2")));
}

/// A durable subscription of a topic: the broker keeps what is sent meanwhile.
fn subscription_keeps_what_is_sent_while_the_host_is_away(target: &Target) {
    let mut one = One::new(target, "Echo", json!({}));
    let topic = one.from.replace("/queue/", "/topic/");
    one.config["queues"]["in"] = json!({"server": "mb", "destination": topic, "subscription": "mine"});
    one.config["mb_servers"]["mb"]["client_id"] = json!(topic);
    let host = Host::start(&one.config);
    target.client().send_all(&topic, &["before"]).unwrap();
    host.wait_ended("one", 1);
    assert_eq!(host.drain(), Drained::Clean);
    target.client().send_all(&topic, &["meanwhile"]).unwrap();
    let host = Host::start(&one.config);
    host.wait_ended("one", 1);
    assert_eq!(host.drain(), Drained::Clean);
    assert_eq!(texts(&target.drain(&one.to)), ["before", "meanwhile"]);
}

/// Selectors are the broker's: the embedded one and RabbitMQ have none, and are refused rather than read whole.
#[test]
fn selector_takes_only_what_it_selects() {
    for target in [Target::activemq(), Target::artemis(), Target::artemis_prefixed()] {
        let mut one = One::new(&target, "Echo", json!({}));
        one.config["queues"]["in"]["selector"] = json!("vo = 'atlas'");
        let host = Host::start(&one.config);
        let mut client = target.client();
        for vo in ["cms", "atlas", "cms"] {
            client.send(&one.from, &[("vo", vo), ("persistent", "true")], vo.as_bytes()).unwrap();
        }
        host.wait_ended("one", 1);
        assert_eq!(host.drain(), Drained::Clean);
        assert_eq!(texts(&target.drain(&one.to)), ["atlas"]);
        assert_eq!(texts(&target.drain(&one.from)), ["cms", "cms"]);
    }
}

/// One waits and one is with the lane; a second consumer gets the rest at once. Artemis counts bytes, and one more
/// message may fit.
fn max_buffer_len_bounds_what_the_broker_sends_ahead(target: &Target) {
    let (count, most) = (50, if target.is_artemis() { 3 } else { 2 });
    let mut one = One::new(target, "UnavailableAlways", json!({}));
    one.config["queues"]["in"]["max_buffer_len"] = json!(1);
    let host = Host::start(&one.config);
    target.client().send_all(&one.from, &vec![vec![b'x'; 1_600]; count]).unwrap();
    let did = host.did("one");
    wait_until("the lane has tried again", || did.calls.get() >= 2);
    let mut other = target.client();
    other.subscribe(&one.from, "client-individual", &[("consumer-window-size", "-1")]).unwrap();
    let rest = other.read(count - most, LIMIT).unwrap().len() + other.read(most, QUIET).unwrap().len();
    assert!((2..=most).contains(&(count - rest)), "the host has {}", count - rest);
    assert_eq!(host.drain(), Drained::Clean);
}

/// The host has what waits in it and what its lane holds; the rest is with the broker for others.
fn window_of(queue: serde_json::Value, expected: usize) {
    let target = Target::embedded();
    let mut one = One::new(&target, "UnavailableAlways", json!({}));
    for (key, value) in queue.as_object().unwrap() {
        one.config["queues"]["in"][key] = value.clone();
    }
    let host = Host::start(&one.config);
    target.client().send_all(&one.from, &numbered(50)).unwrap();
    let did = host.did("one");
    wait_until("the window is full", || target.handle().queue_depth(&one.from).unacked >= expected);
    wait_until("the lane has tried again", || did.calls.get() >= 2);
    assert_eq!(target.handle().queue_depth(&one.from).unacked, expected);
    assert_eq!(host.drain(), Drained::Clean);
}

#[test]
fn headers_are_those_of_subscribe() {
    window_of(json!({"max_buffer_len": 5, "headers": {"activemq.prefetchSize": "3"}}), 3);
}

/// Without the bound the host would read all of it.
fn bytes_are_bounded(change: impl FnOnce(&mut serde_json::Value)) {
    const COUNT: usize = 100;
    let target = Target::embedded();
    let mut one = One::new(&target, "UnavailableAlways", json!({}));
    change(&mut one.config);
    let host = Host::start(&one.config);
    let large = vec![b'x'; 500_000];
    target.client().send_all(&one.from, &vec![large; COUNT]).unwrap();
    let did = host.did("one");
    wait_until("the lane has tried again", || did.calls.get() >= 3);
    let depth = target.handle().queue_depth(&one.from);
    assert!(depth.unacked < COUNT / 2 && depth.unacked + depth.waiting == COUNT, "{depth:?}");
    assert_eq!(host.drain(), Drained::Clean);
}

#[test]
fn max_buffer_mb_bounds_the_bytes_of_a_queue() {
    bytes_are_bounded(|config| config["queues"]["in"]["max_buffer_mb"] = json!(1));
}

#[test]
fn buffer_mb_bounds_the_bytes_of_the_host() {
    bytes_are_bounded(|config| config["buffer_mb"] = json!(1));
}
