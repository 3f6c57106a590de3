//! What brokers do: they die and come back, say no, and say nothing.

use std::{path::Path, thread, time::Duration};

use serde_json::{Value, json};
use stompbox::{app::Drained, dev_broker::Faults};

use super::trial::Trial;
use crate::harness::{
    activemq::ActiveMq,
    artemis::Artemis,
    broker::{Broker, Kind},
    host::{Host, One, wait_until},
    messages::{numbered, texts},
    proxy::{To, Way},
    rabbitmq::RabbitMq,
    results::seed,
    rounds,
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
    let (mut random, kills) = (seed(), rounds(3, 50));
    for _ in 0..kills {
        let retried = trial.did.retried.get();
        wait_until("some are held for a retry", || trial.did.retried.get() > retried + 3);
        thread::sleep(Duration::from_millis(random.u64(0..500)));
        broker.kill().unwrap();
        broker.start().unwrap();
        trial.crashed();
        trial.recovers();
    }
    let balance = trial.finish("SIGKILL of the broker, retries held", kills);
    assert_eq!(balance.refused, [0; 0], "{balance}");
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
    thread::sleep(Duration::from_secs(if crate::harness::long() { 300 } else { 65 }));
    trial.outward.set(To::Client, Way::Pass);
    trial.recovers();
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
    let poisoned: Vec<u32> = (0..balance.sent).filter(|number| number % 1_000 == 33).collect();
    assert!(poisoned.len() >= 2, "{balance}");
    assert_eq!(balance.refused, poisoned, "these and no others: {balance}");
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

/// The embedded broker misbehaves for a moment, several times, under load. Returns how many calls were made, and how
/// many messages needed one: two where one of the attempts is meant to fail.
fn for_moments(fault: &str, breaks: bool, state_dir: Option<&Path>, faults: fn(&One) -> Faults) -> (u64, u64) {
    let target = Target::embedded();
    let quick = json!({"retry": {"max_attempts": 50, "min_delay_ms": 50, "max_delay_ms": 200}});
    let mut trial = Trial::start_with(&target, Value::Null, |one| {
        directly(one, &target, &quick);
        one.config["state_dir"] = json!(state_dir);
    });
    let (mut random, count, before) = (seed(), rounds(5, 50), trial.reconnects());
    for _ in 0..count {
        target.handle().set_faults(faults(&trial.one));
        if breaks {
            target.handle().cut_all();
        }
        thread::sleep(Duration::from_millis(random.u64(100..600)));
        target.handle().set_faults(Faults::default());
        trial.recovers();
    }
    assert!(!breaks || trial.reconnects() >= before + u64::from(count), "{} reconnects", trial.reconnects());
    let did = trial.did.clone();
    let balance = trial.finish(fault, count);
    // A flood of failures drains: what is refused often enough is a dead letter, and says so.
    let refused = balance.codes.get("output-refused").copied().unwrap_or_default();
    assert_eq!(balance.refused.len(), refused, "{balance}");
    (did.calls.get(), u64::from(balance.sent) * 12 / 10)
}

#[test]
fn an_error_to_sends_loses_nothing() {
    let refuse = |one: &One| Faults { refuse_destinations: vec![one.to.clone()], ..Faults::default() };
    let (calls, needed) = for_moments("ERROR to each SEND of an output", false, None, refuse);
    assert!(calls > needed + 50, "{calls} calls, {needed} needed: SENDs were refused");
}

#[test]
fn an_error_to_subscribe_loses_nothing() {
    let refuse = |one: &One| Faults { refuse_destinations: vec![one.from.clone()], ..Faults::default() };
    for_moments("ERROR to SUBSCRIBE", true, None, refuse);
}

#[test]
fn an_error_to_acks_loses_nothing() {
    for_moments("ERROR to each ACK", true, None, |_| Faults { refuse_acks: true, ..Faults::default() });
}

#[test]
fn refused_logins_lose_nothing() {
    for_moments("login refused", true, None, |_| Faults { refuse_logins: true, ..Faults::default() });
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
    trial.recovers();
    assert!((6..=3 * 12).contains(&tried), "{tried} tries");
    trial.finish("login refused for 4 s", 1);
}

fn no_dead_letters(one: &One) -> Faults {
    Faults { refuse_destinations: vec![one.dead.clone()], ..Faults::default() }
}

#[test]
fn refused_dead_letters_lose_nothing() {
    let (calls, needed) = for_moments("ERROR to each dead letter, no `state_dir`", false, None, no_dead_letters);
    assert!(calls > needed + 50, "{calls} calls, {needed} needed: dead letters were refused");
}

#[test]
fn refused_dead_letters_are_on_disk_under_load() {
    let dir = tempfile::tempdir().unwrap();
    for_moments("ERROR to each dead letter, `state_dir`", false, Some(dir.path()), no_dead_letters);
    let spool = std::fs::read_to_string(dir.path().join("dead-letters/in.jsonl")).unwrap();
    assert!(spool.lines().count() > 5, "{spool}");
}
