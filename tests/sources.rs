//! Processors without an in queue, which work by the clock.

use serde_json::{Value, json};
use stompbox::{
    app::{Drained, PrepareError, Prepared},
    config::Config,
    dev_broker::Faults,
};

use crate::harness::{
    guests,
    host::{Host, wait_until},
    messages::texts_in_order,
    target::{Target, on_every_broker},
};

on_every_broker! {
    out_queue_and_out_queues_take_the_outputs_of_ticks
    a_tick_that_fails_gets_a_fresh_instance
}

/// A configuration with one source and the two queues it may send to.
struct Clock {
    to: String,
    more: String,
    config: Value,
}

fn clock(target: &Target, class: &str, interval_ms: u32) -> Clock {
    let (to, more) = (Target::destination(class), Target::destination("more"));
    let config = json!({
        "mb_servers": {"mb": target.server()},
        "queues": {"out": {"server": "mb", "destination": to}, "more": {"server": "mb", "destination": more}},
        "processors": {"clock": {"module": "sources", "name": class, "interval_ms": interval_ms, "out_queue": "out", "out_queues": ["more"]}}
    });
    Clock { to, more, config }
}

fn counted(count: usize) -> Vec<String> {
    (1..=count).map(|number| number.to_string()).collect()
}

fn out_queue_and_out_queues_take_the_outputs_of_ticks(target: &Target) {
    let clock = clock(target, "Both", 5);
    let host = Host::start(&clock.config);
    host.wait_ended("clock", 5);
    let did = host.did("clock");
    assert_eq!(host.drain(), Drained::Clean);
    let ticks = usize::try_from(did.forwarded.get()).unwrap();
    assert_eq!(did.outputs.get(), 2 * did.forwarded.get());
    for queue in [&clock.to, &clock.more] {
        assert_eq!(
            texts_in_order(&target.drain(queue)),
            counted(ticks),
            "one warm instance, none lost, none twice, in order"
        );
    }
}

fn a_tick_that_fails_gets_a_fresh_instance(target: &Target) {
    let clock = clock(target, "TrapOnThird", 5);
    let host = Host::start(&clock.config);
    let did = host.did("clock");
    wait_until("two failures", || did.failures.get() >= 2 && did.forwarded.get() >= 5);
    assert_eq!(host.drain(), Drained::Clean);
    let sent = texts_in_order(&target.drain(&clock.to));
    assert_eq!(sent[..5], ["1", "2", "1", "2", "1"]);
}

#[test]
fn interval_ms_is_the_time_between_two_ticks() {
    let target = Target::embedded();
    let (hourly, often) = (clock(&target, "Beat", 3_600_000), clock(&target, "Beat", 2));
    let (slow, fast) = (Host::start(&hourly.config), Host::start(&often.config));
    slow.wait_ended("clock", 1);
    fast.wait_ended("clock", 20);
    assert_eq!(slow.did("clock").received.get(), 1, "the second tick comes in an hour");
    assert_eq!(slow.drain(), Drained::Clean, "without waiting for it");
    assert_eq!(fast.drain(), Drained::Clean);
}

#[test]
fn the_next_tick_waits_until_the_outputs_are_confirmed() {
    let target = Target::embedded();
    let clock = clock(&target, "Beat", 1);
    target.handle().set_faults(Faults { drop_receipts: true, ..Faults::default() });
    let host = Host::start(&clock.config);
    wait_until("the first output", || target.handle().queue_depth(&clock.to).waiting == 1);
    let did = host.did("clock");
    assert_eq!((did.received.get(), did.forwarded.get()), (1, 0), "500 others are due, and missed");
    target.handle().set_faults(Faults::default());
    target.handle().cut_all();
    host.wait_ended("clock", 3);
    assert_eq!(host.drain(), Drained::Clean);
    let mut all = texts_in_order(&target.drain(&clock.to));
    all.dedup();
    assert_eq!(all, counted(usize::try_from(did.forwarded.get()).unwrap()), "the first one again, and none missing");
}

#[test]
fn an_output_that_is_refused_is_sent_again() {
    let target = Target::embedded();
    let mut clock = clock(&target, "Both", 1);
    clock.config["processors"]["clock"]["retry"] = json!({"max_attempts": 1_000, "min_delay_ms": 1, "max_delay_ms": 1});
    let refuse = vec![clock.more.clone()];
    target.handle().set_faults(Faults { refuse_destinations: refuse, ..Faults::default() });
    let host = Host::start(&clock.config);
    let did = host.did("clock");
    wait_until("some attempts", || did.retried.get() >= 3);
    assert_eq!((did.received.get(), did.outputs.get()), (1, 1), "the output that was confirmed is not sent again");
    target.handle().set_faults(Faults::default());
    host.wait_ended("clock", 1);
    assert_eq!(host.drain(), Drained::Clean);
    assert_eq!(texts_in_order(&target.drain(&clock.more))[..1], ["1"]);
}

#[test]
fn every_answer_of_a_source_is_followed_by_a_next_tick() {
    let target = Target::embedded();
    let clock = clock(&target, "Moody", 1);
    let host = Host::start(&clock.config);
    host.wait_ended("clock", 2);
    assert_eq!(host.drain(), Drained::Clean);
    assert_eq!(texts_in_order(&target.drain(&clock.to))[..2], ["4", "5"]);
}

fn problems(target: &Target, changes: &[(&str, Value)]) -> String {
    let mut config = clock(target, "Beat", 1).config;
    config["plugins"] = json!([guests::plugins_dir()]);
    for (key, value) in changes {
        config["processors"]["clock"][key] = value.clone();
    }
    let loaded = Config::parse(&config.to_string(), "test.json".as_ref(), true, &|_| None).unwrap();
    match Prepared::new(loaded.config, crate::harness::compile_config()) {
        Err(PrepareError::Processors(problems)) => problems[0].to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_world_of_the_component_decides_about_in_queue() {
    let target = Target::embedded();
    let reads = problems(&target, &[("in_queue", json!("out"))]);
    assert!(reads.starts_with("processors.clock.in_queue: ") && reads.ends_with("remove in_queue"), "{reads}");
    let blind = problems(&target, &[("module", json!("hostile")), ("name", json!("Echo"))]);
    assert!(blind.starts_with("processors.clock.in_queue: ") && blind.contains("name the queue"), "{blind}");
}
