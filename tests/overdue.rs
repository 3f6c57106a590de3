//! What the host has had for longer than `max_hold_s` without running it is with its broker again: what waits for a
//! lane, for its retry, for a service, or for the server of its outputs.

use std::{
    net::TcpListener,
    sync::atomic::{AtomicUsize, Ordering},
};

use serde_json::{Value, json};
use stompbox::app::Drained;

use crate::{
    harness::{
        host::{Host, LIMIT, One, wait_until},
        messages::{numbered, texts},
        proxy::Proxy,
        target::{Target, on_every_broker},
    },
    operate::{admin, metric},
};

on_every_broker! {
    a_service_that_is_away_for_long_gives_everything_back
    a_processor_that_does_not_initialize_gives_everything_back
    max_hold_s_gives_back_what_waits_for_a_lane
    inputs_go_back_while_the_server_of_their_outputs_is_away
}

fn one(target: &Target, class: &str, extra: Value) -> One {
    let mut one = One::new(target, class, extra);
    one.config["guard_period"] = json!(0.3);
    one.config["max_hold_s"] = json!(1);
    one
}

/// Nobody processes, so after `max_hold_s` (or 30 s, if that is less) everything is with the broker for others.
fn a_long_pause_gives_everything_back(target: &Target, class: &str) {
    let proxy = Proxy::to(target.address);
    let mut one = one(target, class, json!({"n_threads": 2}));
    one.config["mb_servers"]["mb"] = target.server_by(proxy.address);
    let host = Host::start(&one.config);
    target.client().send_all(&one.from, &["1", "2", "3", "4", "5"]).unwrap();
    wait_until("it goes", || proxy.count("UNSUBSCRIBE") >= 1);
    let mut other = target.client();
    other.subscribe(&one.from, "client-individual", &[]).unwrap();
    assert_eq!(texts(&other.read(5, LIMIT).unwrap()), ["1", "2", "3", "4", "5"]);
    other.exchange("UNSUBSCRIBE", &[("id", "test")], b"").unwrap();
    other.close().unwrap();
    assert_eq!(host.drain(), Drained::Clean);
    assert_eq!(target.drain(&one.from).len(), 5);
}

fn a_service_that_is_away_for_long_gives_everything_back(target: &Target) {
    a_long_pause_gives_everything_back(target, "UnavailableAlways");
}

fn a_processor_that_does_not_initialize_gives_everything_back(target: &Target) {
    a_long_pause_gives_everything_back(target, "InitFails");
}

/// A retry in ten minutes would be held for longer than `max_hold_s`: it is tried before.
#[test]
fn max_hold_s_brings_retries_forward() {
    let target = Target::embedded();
    let slow = json!({"max_attempts": 3, "min_delay_ms": 600_000, "max_delay_ms": 600_000});
    let mut one = one(&target, "RetryAlways", json!({"retry": slow}));
    one.config["max_hold_s"] = json!(2);
    let host = Host::start(&one.config);
    target.client().send(&one.from, &[], b"x").unwrap();
    host.wait_ended("one", 1);
    assert_eq!(host.drain(), Drained::Clean);
    assert_eq!(target.drain(&one.dead).len(), 1);
}

/// What waits for a lane too long is given back while the lane is busy: RabbitMQ is told of each, the others get
/// all and send it again.
fn max_hold_s_gives_back_what_waits_for_a_lane(target: &Target) {
    let proxy = Proxy::to(target.address);
    let patient = json!({"params": {"ms": 4_000}, "limits": {"fuel": 1_000_000_000_000_u64}});
    let mut one = one(target, "Slow", patient);
    one.config["mb_servers"]["mb"] = target.server_by(proxy.address);
    let host = Host::start(&one.config);
    target.client().send_all(&one.from, &["1", "2", "3"]).unwrap();
    let did = host.did("one");
    wait_until("one runs", || did.calls.get() == 1);
    wait_until("the others are given back", || match target.is_rabbitmq() {
        true => proxy.count("NACK") >= 2,
        false => proxy.count("UNSUBSCRIBE") >= 1,
    });
    host.wait_ended("one", 3);
    assert_eq!(host.drain(), Drained::Clean);
    assert_eq!((did.possible_duplicates.get(), target.drain(&one.from).len()), (0, 0));
    assert_eq!(texts(&target.drain(&one.to)), ["1", "2", "3"], "each once");
}

/// A processor whose outputs go to another server.
fn sends_to(target: &Target, server: Value) -> One {
    let mut one = one(target, "Echo", json!({}));
    one.send_to(server);
    one
}

/// Nothing was ever sent, so nothing can be doubled.
fn inputs_go_back_while_the_server_of_their_outputs_is_away(target: &Target) {
    let nobody = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap();
    let one = sends_to(target, json!({"host_port_list": [nobody.to_string()]}));
    let host = Host::start(&one.config);
    target.client().send_all(&one.from, &numbered(5)).unwrap();
    let did = host.did("one");
    wait_until("all were given back and came again", || did.calls.get() >= 10);
    assert_eq!(host.drain(), Drained::Clean);
    assert_eq!((did.ended(), did.possible_duplicates.get()), (0, 0));
    assert_eq!(texts(&target.drain(&one.from)), numbered(5));
}

/// The output may have arrived: its input is with the broker, and recognised when it comes again.
#[test]
fn an_input_whose_output_is_not_confirmed_goes_back_and_is_processed_once() {
    let (target, silent, address) = (Target::embedded(), Target::silent(), admin());
    let mut one = sends_to(&target, silent.server());
    one.config["admin"] = json!({"listen": address});
    let host = Host::start(&one.config);
    target.client().send(&one.from, &[], b"x").unwrap();
    wait_until("it was given back twice", || target.handle().stats().redelivered >= 2);
    silent.speak();
    host.wait_ended("one", 1);
    let did = host.did("one");
    let stale = "stompbox_buffer_dropped_stale_total{queue=\"in\",server=\"mb\",vo=\"\"}";
    assert!(metric(address, stale) >= 1.0, "it came again while it was in work");
    assert_eq!(host.drain(), Drained::Clean);
    assert_eq!((did.calls.get(), did.forwarded.get(), did.possible_duplicates.get()), (1, 1, 0));
    assert_eq!(target.drain(&one.from).len(), 0);
}

/// RabbitMQ gives a message no id that stays, so it is processed again, and counted.
#[test]
fn where_ids_are_new_each_time_an_input_that_goes_back_may_be_doubled() {
    let (target, silent, address) = (Target::rabbitmq(), Target::silent(), admin());
    let mut one = sends_to(&target, silent.server());
    one.config["admin"] = json!({"listen": address});
    let host = Host::start(&one.config);
    target.client().send_all(&one.from, &["x"]).unwrap();
    let did = host.did("one");
    wait_until("it came again", || did.calls.get() >= 2);
    let level = |name: &str| metric(address, &format!("stompbox_unconfirmed_{name}{{processor=\"one\",vo=\"\"}}"));
    wait_until("outputs are unconfirmed", || level("messages") >= 2.0 && level("bytes") >= 2.0);
    silent.speak();
    wait_until("one is settled", || did.forwarded.get() == 1);
    let doubled = "stompbox_messages_settled_total{processor=\"one\",vo=\"\",outcome=\"possible_duplicate\"}";
    wait_until("the other is counted", || metric(address, doubled) >= 1.0);
    wait_until("all is confirmed", || (level("messages"), level("bytes")) == (0.0, 0.0));
    assert_eq!(host.drain(), Drained::Clean);
    assert!(did.possible_duplicates.get() >= 1, "{did:?}");
    assert_eq!(target.drain(&one.from).len(), 0);
}

/// Lanes that can do nothing because nothing is confirmed leave everything to others.
#[test]
fn lanes_that_wait_for_confirmations_keep_nothing_from_others() {
    let (target, silent) = (Target::embedded(), Target::silent());
    let mut one = sends_to(&target, silent.server());
    one.config["queues"]["in"]["max_buffer_len"] = json!(1);
    let host = Host::start(&one.config);
    target.client().send_all(&one.from, &numbered(9)).unwrap();
    let alone = || {
        let depth = target.handle().queue_depth(&one.from);
        (depth.waiting, depth.unacked, depth.consumers) == (9, 0, 0)
    };
    wait_until("all are with the broker", alone);
    silent.speak();
    host.wait_ended("one", 9);
    let did = host.did("one");
    assert_eq!(host.drain(), Drained::Clean);
    assert_eq!((did.calls.get(), did.possible_duplicates.get()), (9, 0));
}

/// Fourteen tries: with the default of 30 s they would take minutes.
#[test]
fn guard_period_bounds_the_pauses_between_tries() {
    let (target, nobody) = (Target::embedded(), TcpListener::bind(("127.0.0.1", 0)).unwrap());
    let address = nobody.local_addr().unwrap();
    let _host = Host::start(&sends_to(&target, json!({"host_port_list": [address.to_string()]})).config);
    let tries = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        // Each is closed without a word.
        scope.spawn(|| (0..14).for_each(|_| drop((nobody.accept().unwrap(), tries.fetch_add(1, Ordering::Relaxed)))));
        wait_until("fourteen tries", || tries.load(Ordering::Relaxed) == 14);
    });
}
