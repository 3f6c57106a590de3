//! A bad hour: every message of one processor fails, each in the way that costs most, and nobody else notices.

use serde_json::{Value, json};
use stompbox::app::Drained;

use crate::harness::{
    host::{Host, One},
    messages::{numbered, texts},
    target::Target,
};

/// Messages of the processor that fails, and of each of its neighbours.
const BAD: usize = 20_000;
const GOOD: usize = 2_000;

/// A processor that fails, beside one of the same VO and one of another.
struct Hour {
    target: Target,
    bad: One,
    neighbours: [One; 2],
    host: Host,
}

impl Hour {
    /// Everybody's messages wait when it begins.
    fn begin(class: &str, extra: Value) -> Self {
        let target = Target::embedded();
        let mut bad = One::new(&target, class, extra);
        bad.config["vos"] = json!({"atlas": {}, "cms": {}});
        bad.config["processors"]["one"]["vo"] = json!("atlas");
        let neighbours = ["atlas", "cms"].map(|vo| One::new(&target, "Echo", json!({"vo": vo})));
        for (number, neighbour) in neighbours.iter().enumerate() {
            let mut processor = neighbour.config["processors"]["one"].clone();
            for key in ["in", "out"] {
                let name = format!("{key}{number}");
                bad.config["queues"][&name] = neighbour.config["queues"][key].clone();
                processor[format!("{key}_queue")] = json!(name);
            }
            bad.config["processors"][format!("neighbour{number}")] = processor;
        }
        let mut client = target.client();
        client.send_all(&bad.from, &numbered(BAD)).unwrap();
        neighbours.iter().for_each(|one| client.send_all(&one.from, &numbered(GOOD)).unwrap());
        let host = Host::start(&bad.config);
        Self { target, bad, neighbours, host }
    }

    /// Waits until the neighbours are done; each message of theirs came out once.
    fn neighbours_are_done(&self) {
        ["neighbour0", "neighbour1"].iter().for_each(|name| self.host.wait_ended(name, GOOD as u64));
        for one in &self.neighbours {
            assert_eq!(texts(&self.target.drain(&one.to)), numbered(GOOD));
        }
    }
}

/// Thousands wait for their next attempt at a time, which is in a minute: at the quota the next is tried now.
#[test]
fn retries_without_end_drain_to_the_dead_letter() {
    let retry = json!({"max_attempts": 3, "min_delay_ms": 60_000});
    let hour = Hour::begin("RetryAlways", json!({"retry": retry}));
    hour.neighbours_are_done();
    let one = hour.host.did("one");
    assert!(one.ended() < BAD as u64, "the bad hour is not over: {one:?}");
    // What is left of the quota at the end would be tried in a minute.
    hour.host.wait_ended("one", (BAD - 1_000) as u64);
    assert_eq!(hour.host.drain(), Drained::Clean);
    let (dead, left) = (hour.target.drain(&hour.bad.dead), hour.target.drain(&hour.bad.from));
    assert!(dead.iter().all(|letter| letter.header("stompbox_attempts") == Some("3")));
    assert_eq!(texts(&[dead, left].concat()), numbered(BAD), "each is a dead letter or with its broker, once");
    assert_eq!(hour.target.drain(&hour.bad.to).len(), 0);
}

/// Nothing is given up while a service is away, so this one's messages wait, all of them with their broker.
#[test]
fn a_service_that_is_away_keeps_its_own_messages_waiting() {
    let hour = Hour::begin("UnavailableAlways", json!({"n_threads": 4}));
    hour.neighbours_are_done();
    assert_eq!(hour.host.did("one").ended(), 0);
    assert_eq!(hour.host.drain(), Drained::Clean);
    assert_eq!(texts(&hour.target.drain(&hour.bad.from)), numbered(BAD));
}
