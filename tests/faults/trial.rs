//! A host under load that meets with faults: what every trial has in common.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use stompbox::{app::Drained, metrics::ProcessorMetrics};

use crate::harness::{
    guests,
    host::{Host, LIMIT, One, wait_within},
    ledger::{Balance, Ledger, sorter},
    proxy::Proxy,
    results::Row,
    target::Target,
};

/// The default `max_buffer_len` and four lanes.
const WINDOW: u64 = 999 + 4;
/// So many outputs must be confirmed after a fault before the host counts as recovered.
const AGAIN: u64 = 50;

/// A host with four lanes at work, its broker behind two proxies: one for what it reads and for its dead letters, one
/// for its outputs.
pub struct Trial<'a> {
    pub target: &'a Target,
    pub inward: Proxy,
    pub outward: Proxy,
    pub one: One,
    pub did: Arc<ProcessorMetrics>,
    host: Host,
    ledger: Ledger,
    recovery: Vec<Duration>,
    /// Numbers up to this one may be missing.
    may_lose: Option<u32>,
    /// How often a broker died, and with it what it had not yet put on disk: it may deliver again what was settled.
    crashes: u32,
}

impl<'a> Trial<'a> {
    pub fn start(target: &'a Target) -> Self {
        Self::start_with(target, json!({}), |_| {})
    }

    /// With settings of the in queue, and what else `change` wants.
    pub fn start_with(target: &'a Target, queue: Value, change: impl FnOnce(&mut One)) -> Self {
        guests::plugins_dir();
        let (inward, outward) = (Proxy::to(target.address), Proxy::to(target.address));
        let mut one = sorter(target, &queue, json!({"n_threads": 4}));
        one.config["mb_servers"]["mb"] = target.server_by(inward.address);
        one.send_to(target.server_by(outward.address));
        change(&mut one);
        let ledger = Ledger::open(target, &one);
        let host = Host::start(&one.config);
        let did = host.did("one");
        let (recovery, may_lose, crashes) = (Vec::new(), None, 0);
        let mut trial = Self { target, inward, outward, one, did, host, ledger, recovery, may_lose, crashes };
        trial.wait_for_more(LIMIT);
        trial
    }

    /// What the broker has sent until now may be gone: ack mode auto.
    pub fn may_lose(&mut self) {
        self.may_lose = Some(self.ledger.highest());
    }

    /// A broker died.
    pub fn crashed(&mut self) {
        self.crashes += 1;
    }

    /// From now on so many messages a second are sent: what lasts for long must not leave a mountain.
    pub fn set_rate(&self, rate: u32) {
        self.ledger.set_rate(rate);
    }

    /// Waits until outputs are confirmed again, which is possible from now on.
    pub fn recovers(&mut self) {
        self.recovers_within(LIMIT);
    }

    pub fn recovers_within(&mut self, limit: Duration) {
        let since = Instant::now();
        self.wait_for_more(limit);
        self.recovery.push(since.elapsed());
    }

    fn wait_for_more(&mut self, limit: Duration) {
        let before = self.did.outputs.get();
        let what = format!("outputs are confirmed again: {:?}", self.did);
        wait_within(limit, &what, || self.did.outputs.get() >= before + AGAIN);
    }

    /// How often any connection came back.
    pub fn reconnects(&self) -> u64 {
        self.host.status().links.iter().map(|link| link.reconnects()).sum()
    }

    /// Ends everything and holds the numbers against each other: nothing may be lost, and each duplicate is an output
    /// that says that it was sent again, or one that the host counted as possible, or of a crash of the broker.
    pub fn finish(self, fault: &str, rounds: u32) -> Balance {
        let Self { target, one, did, host, ledger, recovery, may_lose, crashes, .. } = self;
        let status = host.status();
        let end = || assert_eq!(host.drain(), Drained::Clean);
        let balance = match may_lose {
            Some(highest) => ledger.close_with_losses(highest, target, &one, end),
            None => ledger.close(target, &one, end),
        };
        let repeats: u64 = status.queues.iter().map(|queue| queue.buffer.repeats()).sum();
        let possible = did.possible_duplicates.get() + repeats;
        println!("{fault}, {}: {balance}; {possible} possible duplicates", target.name());
        if may_lose.is_none() {
            balance.is_even();
            // A filtered message leaves no trace but the host's count.
            assert!(did.filtered.get() + possible >= u64::from(balance.filtered), "{did:?}: {balance}");
        }
        let counted = possible + u64::from(crashes) * WINDOW;
        assert!(u64::from(balance.unmarked) <= counted, "{possible} possible duplicates: {balance}");
        Row::new(fault, target.name(), rounds, &balance).recovered(recovery).write();
        balance
    }
}
