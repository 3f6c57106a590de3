//! Processors that do their worst, beside a neighbour in the same host that must not notice: each ends within its
//! budget and under its code, nothing is lost, and the neighbour's messages are not late.

mod calls;
mod headers;
mod lives;
mod logs;

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use serde_json::{Value, json};
use stompbox::{app::Drained, metrics::ProcessorMetrics};

use crate::harness::{host::wait_until, messages::numbered, neighbour::Pair};

/// The neighbour's p99 at most.
const P99: Duration = Duration::from_millis(25);

/// How long it is measured at least: 200 messages.
const PHASE: Duration = Duration::from_secs(1);

/// How often it may be measured: a busy machine delays anybody.
const ROUNDS: usize = 3;

/// What happens to a message of a hostile processor.
#[derive(Clone, Copy, PartialEq)]
enum Fate {
    /// A dead letter with this code, which stands in the metric of each of its calls, too.
    Dead(&'static str),
    /// Forwarded: it ends well, and only what was too much is missing.
    Forwarded,
    /// Forwarded, some by a second attempt, after a first one that failed with this code.
    Mended(&'static str),
}

/// A hostile processor, and what it is given again and again.
struct Attack {
    class: &'static str,
    /// Merged into its object.
    extra: Value,
    bodies: Vec<String>,
    fate: Fate,
}

impl Attack {
    fn new(class: &'static str, extra: Value, fate: Fate) -> Self {
        Self { class, extra, bodies: numbered(1), fate }
    }

    /// A guest of `tests/raw`.
    fn raw(module: &'static str, limits: Value, fate: Fate) -> Self {
        Self::new("Raw", json!({"module": module, "limits": limits, "retry": {"max_attempts": 1}}), fate)
    }

    /// Runs it beside its neighbour; returns the pair, still at work.
    fn run(&self) -> Pair {
        // One after the other: each is a load that the others would measure.
        static TURN: Mutex<()> = Mutex::new(());
        let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let pair = Pair::start(self.class, self.extra.clone());
        let (one, two) = (pair.host.did("one"), pair.host.did("two"));
        let (mut given, mut sent, mut told) = (0, 0, Vec::new());
        for round in 1..=ROUNDS {
            let alone = pair.alone(PHASE);
            let beside = pair.beside(&self.bodies, PHASE, &mut given);
            sent += alone.sent + beside.sent;
            assert_eq!((alone.lost(), beside.lost()), (0, 0), "the neighbour lost nothing");
            told.push(format!("round {round}: p99 alone {:?}, beside {:?}", alone.p99(), beside.p99()));
            if beside.p99() <= P99 {
                break;
            }
            assert!(round < ROUNDS || alone.p99() > P99, "the neighbour is late: {told:#?}");
        }
        println!("{}: {told:?}", self.extra["module"].as_str().unwrap_or(self.class));
        self.judge(&one, given);
        wait_until("the neighbour's messages are settled", || two.ended() >= sent);
        assert_eq!((two.forwarded.get(), two.failures.get()), (sent, 0), "{two:?}");
        pair
    }

    /// Every message has its fate, and every failed call its code.
    fn judge(&self, one: &ProcessorMetrics, given: u64) {
        let failures: Vec<_> = one.failures.by_code().filter(|(_, count)| *count > 0).collect();
        match self.fate {
            Fate::Dead(code) => {
                assert_eq!((one.dead_lettered.get(), one.forwarded.get()), (given, 0), "{one:?}");
                assert!(
                    matches!(failures[..], [(only, count)] if only == code && count == one.calls.get()),
                    "{failures:?}"
                );
            }
            Fate::Forwarded => {
                assert_eq!((one.forwarded.get(), one.dead_lettered.get()), (given, 0), "{one:?}");
                assert_eq!(failures, []);
            }
            Fate::Mended(code) => {
                assert_eq!((one.forwarded.get(), one.dead_lettered.get()), (given, 0), "{one:?}");
                assert!(
                    matches!(failures[..], [(only, count)] if only == code && count == one.retried.get()),
                    "{failures:?}"
                );
            }
        }
        assert_eq!(one.received.get(), given);
    }
}

/// Ends it, and checks what lies in its queues; returns the details of its dead letters.
fn end(pair: Pair, fate: Fate) -> Vec<String> {
    let ended = pair.host.did("one").ended();
    assert_eq!(pair.host.drain(), Drained::Clean);
    let (dead, out) = (pair.target.drain(&pair.bad.dead), pair.target.drain(&pair.bad.to));
    let Fate::Dead(code) = fate else {
        assert_eq!((dead.len(), out.len() as u64), (0, ended));
        return Vec::new();
    };
    assert_eq!((dead.len() as u64, out.len()), (ended, 0));
    let header = |name| dead.iter().map(move |letter| letter.header(name).unwrap().to_owned());
    assert!(header("stompbox_error_code").all(|told| told == code));
    header("stompbox_error_detail").collect()
}

/// Runs an attack to its end; returns the details of the dead letters.
fn survive(attack: &Attack) -> Vec<String> {
    end(attack.run(), attack.fate)
}
