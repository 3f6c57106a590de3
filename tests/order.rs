//! `order_by`: equal values stay in order, with many lanes and retries, on every broker.

use std::collections::BTreeMap;

use serde_json::json;
use stompbox::app::Drained;

use crate::harness::{
    host::{Host, One},
    target::{Target, on_every_broker},
};

on_every_broker! {
    order_by_keeps_equal_values_in_order
    order_by_holds_across_processors_of_one_queue
}

/// Each value has its messages 0 to 19, of which two stumble on their first attempt.
const EACH: usize = 20;
const VALUES: usize = 8;

fn order_by_keeps_equal_values_in_order(target: &Target) {
    stays_in_order(target, 1);
}

fn order_by_holds_across_processors_of_one_queue(target: &Target) {
    stays_in_order(target, 2);
}

fn stays_in_order(target: &Target, processors: usize) {
    let mut one = One::new(target, "Stumble", json!({"n_threads": 4}));
    one.config["queues"]["in"]["order_by"] = json!("task");
    if processors == 2 {
        one.config["processors"]["two"] = one.config["processors"]["one"].clone();
    }
    let mut client = target.client();
    for number in 0..EACH {
        for value in 0..VALUES {
            let (value, body) = (format!("v{value}"), format!("v{value} {number:02}"));
            client.send(&one.from, &[("task", &value), ("persistent", "true")], body.as_bytes()).unwrap();
        }
    }
    let host = Host::start(&one.config);
    let names: Vec<&str> = ["one", "two"].into_iter().take(processors).collect();
    crate::harness::host::wait_until("all ended", || {
        names.iter().map(|name| host.did(name).ended()).sum::<u64>() >= (EACH * VALUES) as u64
    });
    let retried: u64 = names.iter().map(|name| host.did(name).retried.get()).sum();
    assert_eq!(host.drain(), Drained::Clean);
    assert_eq!(retried, (VALUES * 2) as u64);
    let mut by_value = BTreeMap::<String, Vec<String>>::new();
    for output in target.drain(&one.to) {
        let (value, number) = output.text().split_once(' ').map(|(v, n)| (v.to_owned(), n.to_owned())).unwrap();
        by_value.entry(value).or_default().push(number);
    }
    let in_order: Vec<String> = (0..EACH).map(|number| format!("{number:02}")).collect();
    assert_eq!(by_value.len(), VALUES);
    assert!(by_value.values().all(|numbers| *numbers == in_order), "{by_value:?}");
}
