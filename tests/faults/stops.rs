//! The host is told to stop under load, and started again; and what Artemis makes of hosts that only die.

use std::{thread, time::Duration};

use serde_json::json;

use crate::harness::{
    guests,
    host::{One, wait_until},
    ledger::{Ledger, sorter},
    process::Process,
    results::{Row, seed},
    rounds,
    target::{Target, on_each_broker},
};

on_each_broker! {
    sigterm_under_load_loses_and_doubles_nothing
}

fn sigterm_under_load_loses_and_doubles_nothing(target: &Target) {
    ["client-individual", "client", "auto"].iter().for_each(|ack_mode| stopped_under_load(target, ack_mode));
}

fn stopped_under_load(target: &Target, ack_mode: &str) {
    let one = sorter(target, &json!({"ack_mode": ack_mode}), json!({"n_threads": 4}));
    let dir = tempfile::tempdir().unwrap();
    guests::plugins_dir();
    let (mut random, stops) = (seed(), rounds(3, 50));
    let ledger = Ledger::open(target, &one);
    for _ in 0..stops {
        let host = Process::start(dir.path(), &one.config);
        thread::sleep(Duration::from_millis(random.u64(0..250)));
        assert!(host.terminate().success());
    }
    let host = Process::start(dir.path(), &one.config);
    let balance = ledger.close(target, &one, || assert!(host.terminate().success()));
    println!("{balance}");
    balance.is_even();
    assert_eq!((balance.duplicated, &*balance.refused), (0, &[][..]), "{balance}");
    Row::new(&format!("SIGTERM of the host, ack mode `{ack_mode}`"), target.name(), stops, &balance).write();
}

/// Artemis counts the deliveries whose connection broke, at least that of the oldest; after ten it takes the message
/// away, to its own queue for such ones. That is why its addresses for Stompbox want `max-delivery-attempts` -1.
#[test]
fn by_default_artemis_takes_away_what_ten_dead_hosts_had() {
    let target = Target::artemis();
    let one = One::new(&target, "SpinOn", json!({"limits": {"fuel": 1_000_000_000_000_000_u64, "time_ms": 600_000}}));
    let dir = tempfile::tempdir().unwrap();
    let body = format!("spin of {}", one.from);
    target.client().send_all(&one.from, &[&body]).unwrap();
    for _ in 0..10 {
        let host = Process::start(dir.path(), &one.config);
        wait_until("it has the message", || host.log().contains("it spins"));
        host.kill();
    }
    let taken = || target.taken_away().iter().any(|message| message.text() == body);
    wait_until("it is in the broker's own dead-letter queue", taken);
    assert_eq!(target.drain(&one.from), [], "and nowhere else");
}
