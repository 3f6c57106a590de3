//! What a broker has no more is kept, and what may be processed twice is counted, also where nobody would notice.

use std::{thread, time::Duration};

use serde_json::{Value, json};
use stompbox::app::Drained;

use crate::harness::{
    host::{Host, One, wait_until},
    messages::{numbered, texts},
    proxy::{Proxy, To, Way},
    target::{Target, on_every_broker},
};

on_every_broker! {
    a_topic_loses_nothing_while_lanes_wait
    a_forced_end_in_ack_mode_auto_makes_dead_letters
}

/// A processor whose outputs go to another server, and that gives back after a second.
fn sends_to(target: &Target, class: &str, server: Value) -> One {
    let mut one = One::new(target, class, json!({}));
    one.send_to(server);
    one.config["guard_period"] = json!(0.1);
    one.config["max_hold_s"] = json!(1);
    one
}

/// Longer than `max_hold_s`, after which a queue's messages would be given back.
fn outlast_max_hold() {
    thread::sleep(Duration::from_millis(2_500));
}

/// The broker keeps nothing of a topic: what was given back, or came while the host was away by itself, would be gone.
fn a_topic_loses_nothing_while_lanes_wait(target: &Target) {
    let silent = Target::silent();
    let mut one = sends_to(target, "Echo", silent.server());
    let topic = one.from.replace("/queue/", "/topic/");
    one.config["queues"]["in"] = json!({"server": "mb", "destination": topic, "max_buffer_len": 1});
    let host = Host::start_warned(&one.config);
    target.client().send_all(&topic, &numbered(9)).unwrap();
    let did = host.did("one");
    wait_until("the lane has some", || did.calls.get() >= 2);
    outlast_max_hold();
    silent.speak();
    host.wait_ended("one", 9);
    assert_eq!(host.drain(), Drained::Clean);
    assert_eq!((did.calls.get(), did.forwarded.get()), (9, 9));
}

/// What the broker forgot when it was read, and what nobody confirms, is not lost with the host.
fn a_forced_end_in_ack_mode_auto_makes_dead_letters(target: &Target) {
    let silent = Target::silent();
    let mut one = sends_to(target, "Echo", silent.server());
    one.config["queues"]["in"]["ack_mode"] = json!("auto");
    let host = Host::start(&one.config);
    target.client().send_all(&one.from, &numbered(3)).unwrap();
    let did = host.did("one");
    wait_until("all are on their way", || did.calls.get() == 3);
    assert_eq!(host.drain_within(Duration::from_millis(500)), Drained::Forced);
    let dead = target.drain(&one.dead);
    assert_eq!(texts(&dead), numbered(3));
    assert!(dead.iter().all(|letter| letter.header("stompbox_error_code") == Some("not-confirmed")));
}

/// As one whose disk is busy: what is acknowledged would come again if the host left before that is confirmed.
#[test]
fn a_drain_waits_for_a_broker_that_confirms_acks_slowly() {
    let (target, silent) = (Target::embedded(), Target::silent());
    let proxy = Proxy::to(target.address);
    let mut one = sends_to(&target, "Echo", silent.server());
    one.config["max_hold_s"] = json!(600);
    one.config["mb_servers"]["slow"] = target.server_by(proxy.address);
    one.config["queues"]["in"]["server"] = json!("slow");
    let host = Host::start(&one.config);
    target.client().send_all(&one.from, &numbered(20)).unwrap();
    let did = host.did("one");
    wait_until("all are on their way", || did.calls.get() == 20);
    proxy.hold();
    silent.speak();
    host.wait_ended("one", 20);
    thread::scope(|scope| {
        let drained = scope.spawn(|| host.drain());
        wait_until("the goodbye is on its way", || proxy.count("UNSUBSCRIBE") == 1);
        // Longer than a goodbye may take for which nothing waits.
        thread::sleep(Duration::from_secs(8));
        proxy.set(To::Client, Way::Pass);
        assert_eq!(drained.join().unwrap(), Drained::Clean);
    });
}

/// RabbitMQ's ids do not tell: what was settled behind a message that waits is processed again after a break.
#[test]
fn what_a_cumulative_ack_never_covered_is_counted_where_ids_are_new() {
    let (target, silent) = (Target::rabbitmq(), Target::silent());
    let proxy = Proxy::to(target.address);
    let mut one = sends_to(&target, "FanOut", silent.server());
    let near = format!("{}.near", one.from);
    one.config["queues"]["in"]["ack_mode"] = json!("client");
    one.config["mb_servers"]["by_proxy"] = one.config["mb_servers"]["mb"].clone();
    one.config["mb_servers"]["by_proxy"]["host_port_list"] = json!([proxy.address.to_string()]);
    one.config["queues"]["in"]["server"] = json!("by_proxy");
    one.config["queues"]["near"] = json!({"server": "mb", "destination": near});
    one.config["processors"]["one"]["out_queues"] = json!(["near"]);
    let host = Host::start(&one.config);
    target.client().send_all(&one.from, &["nobody answers", "near:1", "near:2", "near:3"]).unwrap();
    let did = host.did("one");
    wait_until("three are settled", || did.forwarded.get() == 3);
    outlast_max_hold();
    assert_eq!((did.calls.get(), host.repeats("in")), (4, 0), "nothing is given back that takes others along");
    proxy.cut_all();
    wait_until("all come again", || did.forwarded.get() == 6);
    assert_eq!(host.repeats("in"), 3);
    silent.speak();
    wait_until("all are settled", || did.forwarded.get() + did.possible_duplicates.get() == 8);
    assert_eq!(host.drain(), Drained::Clean);
    assert_eq!(target.drain(&one.from).len(), 0);
}

/// What was lent back went to another reader of the queue.
#[test]
fn what_another_reader_got_is_counted() {
    let (target, silent) = (Target::embedded(), Target::silent());
    let first = sends_to(&target, "Echo", silent.server());
    let host = Host::start(&first.config);
    target.client().send(&first.from, &[], b"x").unwrap();
    let did = host.did("one");
    wait_until("it is on its way", || did.calls.get() == 1);
    let mut second = first.config.clone();
    second["queues"]["out"]["server"] = json!("mb");
    let other = Host::start(&second);
    let did_other = other.did("one");
    wait_until("the other has processed it", || did_other.forwarded.get() == 1);
    silent.speak();
    host.wait_ended("one", 1);
    let status = host.status();
    assert_eq!((host.drain(), other.drain()), (Drained::Clean, Drained::Clean));
    assert_eq!((did.forwarded.get(), status.queues[0].buffer.repeats()), (1, 1));
}
