//! Inputs whose outputs wait for a server for longer than `max_hold_s` are with their broker again.

use std::net::TcpListener;

use serde_json::json;
use stompbox::{app::Drained, dev_broker::Faults};

use crate::harness::{
    host::{Host, One, wait_until},
    messages::{numbered, texts},
    target::{Target, on_every_broker},
};

on_every_broker! {
    inputs_go_back_while_the_server_of_their_outputs_is_away
}

/// A processor whose outputs go to another server.
fn sends_to(target: &Target, server: serde_json::Value) -> One {
    let mut one = One::new(target, "Echo", json!({}));
    one.config["mb_servers"]["other"] = server;
    one.config["queues"]["out"]["server"] = json!("other");
    // The dead letters' server is that of the input.
    one.config["guard_period"] = json!(0.1);
    one.config["max_hold_s"] = json!(1);
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

/// A server that takes outputs and does not confirm them.
fn silent() -> Target {
    let silent = Target::embedded();
    silent.handle().set_faults(Faults { drop_receipts: true, ..Faults::default() });
    silent
}

/// It confirms from now on, and what was in flight is sent again.
fn speak(silent: &Target) {
    silent.handle().set_faults(Faults::default());
    silent.handle().cut_all();
}

/// The output may have arrived: its input is with the broker, and recognised when it comes again.
#[test]
fn an_input_whose_output_is_not_confirmed_goes_back_and_is_processed_once() {
    let (target, silent) = (Target::embedded(), silent());
    let one = sends_to(&target, silent.server());
    let host = Host::start(&one.config);
    target.client().send(&one.from, &[], b"x").unwrap();
    wait_until("it was given back twice", || target.handle().stats().redelivered >= 2);
    speak(&silent);
    host.wait_ended("one", 1);
    let did = host.did("one");
    assert_eq!(host.drain(), Drained::Clean);
    assert_eq!((did.calls.get(), did.forwarded.get(), did.possible_duplicates.get()), (1, 1, 0));
    assert_eq!(target.drain(&one.from).len(), 0);
}

/// RabbitMQ gives a message no id that stays, so it is processed again, and counted.
#[test]
fn where_ids_are_new_each_time_an_input_that_goes_back_may_be_doubled() {
    let (target, silent) = (Target::rabbitmq(), silent());
    let one = sends_to(&target, silent.server());
    let host = Host::start(&one.config);
    target.client().send_all(&one.from, &["x"]).unwrap();
    let did = host.did("one");
    wait_until("it came again", || did.calls.get() >= 2);
    speak(&silent);
    wait_until("one is settled", || did.forwarded.get() == 1);
    assert_eq!(host.drain(), Drained::Clean);
    assert!(did.possible_duplicates.get() >= 1, "{did:?}");
    assert_eq!(target.drain(&one.from).len(), 0);
}

/// Lanes that can do nothing because nothing is confirmed leave everything to others.
#[test]
fn lanes_that_wait_for_confirmations_keep_nothing_from_others() {
    let (target, silent) = (Target::embedded(), silent());
    let mut one = sends_to(&target, silent.server());
    one.config["queues"]["in"]["max_buffer_len"] = json!(1);
    let host = Host::start(&one.config);
    target.client().send_all(&one.from, &numbered(9)).unwrap();
    let alone = || {
        let depth = target.handle().queue_depth(&one.from);
        (depth.waiting, depth.unacked, depth.consumers) == (9, 0, 0)
    };
    wait_until("all are with the broker", alone);
    speak(&silent);
    host.wait_ended("one", 9);
    let did = host.did("one");
    assert_eq!(host.drain(), Drained::Clean);
    assert_eq!((did.calls.get(), did.possible_duplicates.get()), (9, 0));
}
