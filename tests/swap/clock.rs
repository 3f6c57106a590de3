//! Sources, which work by the clock: new versions of them, good and bad, and pauses.

use serde_json::json;
use stompbox::{
    app::Drained,
    control::{Change, Request, What},
};

use super::whats;
use crate::harness::{
    host::{Host, wait_until},
    target::Target,
    versions::Versions,
};

/// A source at work on versions of its own.
struct Ticking {
    target: Target,
    versions: Versions,
    to: String,
    host: Host,
}

impl Ticking {
    /// A trial of fifty ticks.
    fn start() -> Self {
        let (target, versions, to) = (Target::embedded(), Versions::of("sources"), Target::destination("ticks"));
        let beats = format!("{to}.beats");
        let config = json!({
            "plugins": [versions.dir()],
            "mb_servers": {"mb": target.server()},
            "queues": {"out": {"server": "mb", "destination": to}, "beats": {"server": "mb", "destination": beats}},
            "processors": {
                "clock": {
                    "module": "sources", "name": "Versioned", "interval_ms": 2, "out_queue": "out",
                    "rollout": {"messages": 50}
                },
                "other": {"module": "sources", "name": "Beat", "interval_ms": 2, "out_queue": "beats"}
            }
        });
        let host = Host::start(&config);
        let ticking = Self { target, versions, to, host };
        ticking.reload();
        ticking
    }

    fn reload(&self) -> Vec<Change> {
        self.ask(Request::Reload { processor: Some("clock".to_owned()) })
    }

    fn ask(&self, request: Request) -> Vec<Change> {
        self.host.ask(request).unwrap()
    }

    fn standing(&self, number: u64) -> &'static str {
        let generations = self.host.stage("clock").generations;
        generations.iter().find(|each| each.number == number).map_or("none", |each| each.standing)
    }

    /// Waits for some more ticks of this one whose outputs are confirmed.
    fn goes_on(&self, processor: &str) {
        let did = self.host.did(processor);
        let before = did.forwarded.get();
        wait_until("it ticks", || did.forwarded.get() >= before + 20);
    }

    /// Ends: each output that was confirmed is there, once.
    fn end(self) {
        let did = self.host.did("clock");
        assert_eq!(self.host.drain(), Drained::Clean);
        let there = self.target.drain(&self.to).len();
        assert_eq!(u64::try_from(there).unwrap(), did.forwarded.get(), "one output a tick");
    }
}

#[test]
fn good_versions_of_a_source_take_over_between_two_ticks() {
    let ticking = Ticking::start();
    for number in 1..=10_u32 {
        ticking.versions.put("good", number);
        assert_eq!(whats(&ticking.reload()), [What::Loaded, What::OnTrial]);
        wait_until("the trial is over", || ticking.standing(u64::from(number) + 1) == "stable");
    }
    ticking.goes_on("clock");
    assert_eq!(ticking.host.did("clock").failures.get(), 0);
    ticking.end();
}

#[test]
fn a_version_of_a_source_that_traps_or_returns_nothing_is_rolled_back() {
    let ticking = Ticking::start();
    for (number, kind) in [(2, "traps"), (3, "silent")] {
        ticking.goes_on("clock");
        ticking.versions.put(kind, 1);
        assert_eq!(whats(&ticking.reload()), [What::Loaded, What::OnTrial]);
        wait_until("it is rolled back", || ticking.standing(number) == "rolled-back");
        assert_eq!(ticking.standing(1), "stable", "{kind}");
    }
    ticking.goes_on("clock");
    ticking.end();
}

#[test]
fn a_source_that_is_paused_does_not_tick_until_it_is_resumed() {
    let ticking = Ticking::start();
    let one = || "clock".to_owned();
    ticking.goes_on("clock");
    assert_eq!(whats(&ticking.ask(Request::Pause { processor: one() })), [What::Paused]);
    wait_until("it rests", || ticking.host.stage("clock").lanes.iter().all(|lane| lane.doing == "paused"));
    let did = ticking.host.did("clock");
    let before = did.received.get();
    ticking.goes_on("other");
    assert_eq!(did.received.get(), before);
    assert_eq!(whats(&ticking.ask(Request::Resume { processor: one() })), [What::Resumed]);
    ticking.goes_on("clock");
    ticking.ask(Request::Pause { processor: one() });
    ticking.end();
}
