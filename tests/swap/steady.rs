//! What swaps cost those who wait, and what they leave behind: next to nothing.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use stompbox::app::Drained;

use super::Swapped;
use crate::harness::{
    free_port, host::wait_until, ledger::sorter, process::Process, rounds, target::Target, versions::Versions,
};

/// Messages a second.
const RATE: u32 = 500;
/// How much longer the longest gap may be than without swaps.
const MARGIN: Duration = Duration::from_millis(10);
/// A busy machine has gaps of its own: so many rounds may tell.
const ROUNDS: u32 = 3;

/// The longest time between two outputs while `meanwhile` is going on.
fn longest_gap(target: &Target, swapped: &Swapped, meanwhile: impl FnOnce()) -> Duration {
    let stop = Arc::new(AtomicBool::new(false));
    let (mut client, from, stopped) = (target.client(), swapped.one.from.clone(), stop.clone());
    let sender = thread::spawn(move || {
        let mut next = Instant::now();
        while !stopped.load(Ordering::Relaxed) {
            thread::sleep(next.saturating_duration_since(Instant::now()));
            next += Duration::from_secs(1) / RATE;
            client.send_unconfirmed(&from, b"x 000001").unwrap();
        }
        client.close().unwrap();
    });
    let (mut client, stopped) = (target.client(), stop.clone());
    client.subscribe(&swapped.one.to, "auto", &[]).unwrap();
    let reader = thread::spawn(move || {
        let (mut last, mut longest) = (None, Duration::ZERO);
        while !stopped.load(Ordering::Relaxed) {
            for _ in client.read(1, Duration::from_millis(200)).unwrap() {
                let before = last.replace(Instant::now());
                longest = longest.max(before.map_or(Duration::ZERO, |before: Instant| before.elapsed()));
            }
        }
        client.close().unwrap();
        longest
    });
    meanwhile();
    stop.store(true, Ordering::Relaxed);
    sender.join().unwrap();
    reader.join().unwrap()
}

/// The same load with and without swaps, in turns.
fn swaps_delay_nobody(target: &Target) {
    let swapped = Swapped::start(target, json!({"n_threads": 2, "rollout": {"messages": 20}}));
    let mut number = 0;
    let mut swap = || {
        number += 1;
        swapped.swap("good", number % 10 + 1);
        wait_until("the trial is over", || swapped.stable() == u64::from(number) + 1);
    };
    // Compiled once.
    longest_gap(target, &swapped, || (0..10).for_each(|_| swap()));
    let mut told = Vec::new();
    for _ in 0..ROUNDS {
        let began = Instant::now();
        let with = longest_gap(target, &swapped, || (0..70).for_each(|_| swap()));
        let took = began.elapsed();
        let without = longest_gap(target, &swapped, || thread::sleep(took));
        told.push((with, without));
        if with <= without + MARGIN {
            break;
        }
    }
    println!("{}: longest gap with and without swaps, by round: {told:?}", target.name());
    assert_eq!(swapped.host.drain(), Drained::Clean);
    assert!(told.iter().any(|(with, without)| *with <= *without + MARGIN), "{told:?}");
}

#[test]
fn the_longest_gap_is_that_of_the_same_load_without_swaps() {
    swaps_delay_nobody(&Target::embedded());
}

#[test]
fn the_longest_gap_on_activemq_is_that_of_the_same_load_without_swaps() {
    swaps_delay_nobody(&Target::activemq());
}

/// The program itself, asked as operators ask it: by files, and by SIGHUP or over HTTP.
#[test]
fn memory_after_two_hundred_swaps_is_that_after_five() {
    let (target, versions, dir) = (Target::embedded(), Versions::new(), tempfile::tempdir().unwrap());
    let admin = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let mut one = sorter(&target, &Value::Null, json!({"n_threads": 4, "rollout": {"messages": 0}}));
    one.config["plugins"] = json!([versions.dir()]);
    one.config["admin"] = json!({"listen": admin});
    let host = Process::start(dir.path(), &one.config);
    let ask = |head: &str| crate::admin::send(admin, &format!("{head} HTTP/1.1\r\nHost: 127.0.0.1"), "").2;
    let swap = |number: u32| {
        versions.put("good", number % 10);
        if number.is_multiple_of(2) {
            host.reload();
        } else {
            ask("POST /v1/processors/one/reload");
        }
        let stable = |told: &Value| {
            let all = told["generations"].as_array().cloned().unwrap_or_default();
            all.iter().any(|each| each["standing"] == "stable" && each["number"] == number + 1)
        };
        wait_until("it is the stable one", || stable(&ask("GET /v1/processors/one")));
        target.client().send_all(&one.from, &[format!("x {number:06}")]).unwrap();
    };
    (1..=5).for_each(&swap);
    let few = host.resident_kib();
    let all = rounds(200, 2_000);
    (6..=all).for_each(&swap);
    let many = host.resident_kib();
    println!("resident after 5 swaps {few} KiB, after {all} {many} KiB");
    // Some is fragments of what the process allocated. An instance that stays with each swap would be 100 MB.
    assert!(many <= few + few / 2, "memory grows: {few} KiB after 5 swaps, {many} after {all}");
    assert!(host.terminate().success());
}
