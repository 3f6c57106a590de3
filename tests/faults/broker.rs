//! What brokers do: they die and come back, say no, and say nothing.

use std::{
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use stompbox::{app::Drained, dev_broker::Faults};

use super::trial::Trial;
use crate::harness::{
    activemq::ActiveMq,
    artemis::Artemis,
    broker::{Broker, Kind},
    host::{Host, One, wait_until},
    long,
    messages::{numbered, texts},
    proxy::{To, Way},
    rabbitmq::RabbitMq,
    results::seed,
    target::{Target, at_once, on_each_broker},
};

on_each_broker! {
    a_poison_output_is_a_dead_letter_and_stops_nothing
    a_refused_dead_letter_stays_with_the_broker
}

/// A broker is killed and started again, with its messages, some of which the host holds for a retry at that moment.
fn the_broker_is_killed<K: Kind>(mut broker: Broker<K>) {
    let target = Target::real(&broker);
    let patient = json!({"retry": {"min_delay_ms": 2_000, "max_delay_ms": 4_000}});
    let mut trial = Trial::start_with(&target, Value::Null, |one| directly(one, &target, &patient));
    let (mut random, rounds) = (seed(), if long() { 20 } else { 3 });
    for _ in 0..rounds {
        let retried = trial.did.retried.get();
        wait_until("some are held for a retry", || trial.did.retried.get() > retried + 3);
        thread::sleep(Duration::from_millis(random.u64(0..500)));
        broker.kill().unwrap();
        broker.start().unwrap();
        trial.crashed();
        trial.recovers(Instant::now());
    }
    trial.finish("SIGKILL of the broker, retries held", rounds);
}

/// Without proxies, since a broker that is down refuses connections.
fn directly(one: &mut One, target: &Target, processor: &Value) {
    for server in ["mb", "other"] {
        one.config["mb_servers"][server] = target.server();
    }
    for (key, value) in processor.as_object().into_iter().flatten() {
        one.config["processors"]["one"][key] = value.clone();
    }
}

#[test]
fn activemq_is_killed_under_load() {
    the_broker_is_killed(ActiveMq::own().unwrap());
}

#[test]
fn rabbitmq_is_killed_under_load() {
    the_broker_is_killed(RabbitMq::own().unwrap());
}

#[test]
fn artemis_is_killed_under_load() {
    the_broker_is_killed(Artemis::own().unwrap());
}

/// Longer than any limit for a missing answer: what looks like flow control is waited for.
fn receipts_are_withheld(target: &Target) {
    let mut trial = Trial::start(target);
    trial.set_rate(50);
    trial.outward.set(To::Client, Way::Hold);
    thread::sleep(Duration::from_secs(if long() { 300 } else { 65 }));
    trial.outward.set(To::Client, Way::Pass);
    trial.recovers(Instant::now());
    assert_eq!(trial.finish("receipts withheld (flow control)", 1).duplicated, 0);
}

#[test]
fn receipts_withheld_for_a_minute_lose_and_double_nothing() {
    at_once(&[Target::embedded, Target::activemq, Target::rabbitmq, Target::artemis], receipts_are_withheld);
}

/// A queue that refuses every SEND; RabbitMQ and Artemis close the connection with it.
fn refusing(target: &Target) -> String {
    match target.name() {
        "ActiveMQ" => Target::REFUSED_BY_ACTIVEMQ.to_owned(),
        "embedded" => {
            let poison = Target::destination("poison");
            let refuse_destinations = vec![poison.clone()];
            target.handle().set_faults(Faults { refuse_destinations, ..Faults::default() });
            poison
        }
        _ => Target::forbidden("poison"),
    }
}

/// One output of a thousand is refused, always, and takes the connection with all others with it.
fn a_poison_output_is_a_dead_letter_and_stops_nothing(target: &Target) {
    let poison = refusing(target);
    let trial = Trial::start_with(target, Value::Null, |one| {
        one.config["queues"]["poison"] = json!({"server": "other", "destination": poison});
        let processor = &mut one.config["processors"]["one"];
        (processor["out_queues"], processor["params"]) = (json!(["poison"]), json!({"poison": true}));
        processor["retry"] = json!({"max_attempts": 2, "min_delay_ms": 20});
        one.config["guard_period"] = json!(0.3);
    });
    wait_until("three poison messages are dead letters", || trial.did.ended() > 2_100);
    let balance = trial.finish("poison output", 1);
    let poisoned = (0..balance.sent).filter(|number| number % 1_000 == 33).count();
    assert!(poisoned >= 2 && balance.codes["output-refused"] >= poisoned, "{balance}");
}

/// Without `state_dir` there is nowhere else to put it: the host keeps trying, and the broker keeps the message.
fn a_refused_dead_letter_stays_with_the_broker(target: &Target) {
    let refused = refusing(target);
    let mut one = One::new(
        target,
        "RejectAll",
        json!({"dead_letter": refused, "retry": {"min_delay_ms": 10, "max_delay_ms": 100}}),
    );
    one.config["guard_period"] = json!(0.2);
    target.client().send_all(&one.from, &numbered(5)).unwrap();
    let host = Host::start(&one.config);
    let did = host.did("one");
    wait_until("each is tried again", || did.calls.get() >= 10);
    assert_eq!((did.ended(), host.drain()), (0, Drained::Clean));
    assert_eq!(texts(&target.drain(&one.from)), numbered(5));
}

/// The embedded broker misbehaves for a moment, several times, under load.
fn for_moments(fault: &str, faults: impl Fn(&One) -> Faults, connections_break: bool) {
    for_moments_with(fault, faults, connections_break, &Value::Null);
}

/// The same with a `state_dir`.
fn for_moments_with(fault: &str, faults: impl Fn(&One) -> Faults, connections_break: bool, state_dir: &Value) {
    let target = Target::embedded();
    let quick = json!({"retry": {"max_attempts": 50, "min_delay_ms": 50, "max_delay_ms": 200}});
    let mut trial = Trial::start_with(&target, Value::Null, |one| {
        directly(one, &target, &quick);
        one.config["state_dir"] = state_dir.clone();
    });
    let (mut random, rounds) = (seed(), if long() { 50 } else { 5 });
    for _ in 0..rounds {
        target.handle().set_faults(faults(&trial.one));
        if connections_break {
            target.handle().cut_all();
        }
        thread::sleep(Duration::from_millis(random.u64(100..600)));
        target.handle().set_faults(Faults::default());
        trial.recovers(Instant::now());
    }
    trial.finish(fault, rounds);
}

#[test]
fn an_error_to_sends_loses_nothing() {
    let refuse = |one: &One| Faults { refuse_destinations: vec![one.to.clone()], ..Faults::default() };
    for_moments("ERROR to each SEND of an output", refuse, false);
}

#[test]
fn an_error_to_subscribe_loses_nothing() {
    let refuse = |one: &One| Faults { refuse_destinations: vec![one.from.clone()], ..Faults::default() };
    for_moments("ERROR to SUBSCRIBE", refuse, true);
}

#[test]
fn an_error_to_acks_loses_nothing() {
    for_moments("ERROR to each ACK", |_| Faults { refuse_acks: true, ..Faults::default() }, false);
}

#[test]
fn refused_logins_lose_nothing() {
    for_moments("login refused", |_| Faults { refuse_logins: true, ..Faults::default() }, true);
}

/// Three connections over four seconds, at most half a second apart when the pauses have grown: no hot loop.
#[test]
fn refused_logins_are_tried_again_at_the_pace_of_the_back_off() {
    let target = Target::embedded();
    let mut trial = Trial::start(&target);
    let tries = |trial: &Trial| trial.inward.count("CONNECT") + trial.outward.count("CONNECT");
    trial.set_rate(50);
    target.handle().set_faults(Faults { refuse_logins: true, ..Faults::default() });
    let before = tries(&trial);
    target.handle().cut_all();
    thread::sleep(Duration::from_secs(4));
    let tried = tries(&trial) - before;
    target.handle().set_faults(Faults::default());
    trial.recovers(Instant::now());
    assert!((6..=3 * 12).contains(&tried), "{tried} tries");
    trial.finish("login refused for 4 s", 1);
}

#[test]
fn refused_dead_letters_lose_nothing() {
    let refuse = |one: &One| Faults { refuse_destinations: vec![one.dead.clone()], ..Faults::default() };
    for_moments("ERROR to each dead letter, no `state_dir`", refuse, false);
}

#[test]
fn refused_dead_letters_are_on_disk_under_load() {
    let dir = tempfile::tempdir().unwrap();
    let refuse = |one: &One| Faults { refuse_destinations: vec![one.dead.clone()], ..Faults::default() };
    for_moments_with("ERROR to each dead letter, `state_dir`", refuse, false, &json!(dir.path()));
    let spool = std::fs::read_to_string(dir.path().join("dead-letters/in.jsonl")).unwrap();
    assert!(spool.lines().count() > 5, "{spool}");
}
