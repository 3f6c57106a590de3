//! A lane: one OS thread with one live instance. Takes a delivery, calls the component, hands the
//! outcome to settlement, takes the next without waiting for the broker.
//!
//! Spawned by [`crate::app`], `n_threads` of them for each processor. Guests run here and never on the
//! async runtime's threads, so a guest that spins stops its lane and nothing else.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

use crate::{
    buffer::{Buffer, Rest},
    delivery::Delivery,
    generation::Generation,
    metrics::ProcessorMetrics,
    outcome::{Happened, Reason},
    retry::Pauses,
    sandbox::{Called, Failed, Instance},
    settle::{Job, Next, Settler},
    slots::Slot,
};

/// How long a lane waits before it looks again whether outputs were confirmed.
const OVERLOADED: Duration = Duration::from_millis(5);
/// How long it waits before each message while dead letters are refused.
const CLOGGED: Duration = Duration::from_secs(5);

/// What a lane works with.
#[derive(Debug)]
pub struct Lane {
    /// Where deliveries come from.
    pub buffer: Arc<Buffer>,
    /// Where outcomes go.
    pub settler: Arc<Settler>,
    /// What runs.
    pub generation: Generation,
    /// Whether each delivery is logged (`verbose`).
    pub verbose: bool,
    /// Counts deliveries in work for the drain.
    pub in_work: TaskTracker,
    /// Where it says what it works on (`state_dir`).
    pub slot: Option<Slot>,
}

/// How long a service behind the processor has been away: also for the next message.
#[derive(Debug, Default)]
struct Away {
    since: Option<Instant>,
    pauses: Pauses,
}

impl Away {
    /// The next pause.
    fn pause(&mut self) -> Duration {
        self.since.get_or_insert_with(Instant::now);
        self.pauses.next_pause()
    }
}

impl Lane {
    /// Processes deliveries until the buffer is closed.
    pub fn run(self) {
        let (mut warm, mut away) = (None, Away::default());
        loop {
            // The instance comes first: while `initialize` fails, nothing is taken.
            let Some(instance) = warm.take().or_else(|| self.start()) else { return self.give_up_the_rest() };
            self.wait_while_overloaded();
            let Some(taken) = self.buffer.take(self.settler.reader) else {
                instance.terminate();
                return;
            };
            let mut delivery = taken.delivery;
            let first = !std::mem::replace(&mut delivery.counted, true);
            if first {
                self.metrics().received.add_one();
            }
            let job = Job { delivery, more: taken.more, token: self.in_work.token() };
            warm = match if first { self.spared(job) } else { Some(job) } {
                Some(job) => self.process(instance, job, &mut away),
                None => Some(instance),
            };
        }
    }

    /// The host ends and there never was an instance: in ack mode auto nobody else has what was read.
    fn give_up_the_rest(&self) {
        while let Some(taken) = self.buffer.take(self.settler.reader) {
            let job = Job { delivery: taken.delivery, more: taken.more, token: self.in_work.token() };
            self.settler
                .give_up(job, Reason::new("initialize-failed", "no instance could be started before the host ended"));
        }
    }

    /// Passes a delivery on unless its message has killed the host too often: then it is settled here.
    fn spared(&self, mut job: Job) -> Option<Job> {
        let times = self.slot.as_ref().map_or(0, |slot| slot.slots.crashes_of(&job.delivery.message));
        if times == 0 {
            return Some(job);
        }
        job.delivery.attempt += times - 1; // The table counts this one.
        match self.settler.settle(job, Happened::HostCrashed { times }) {
            Next::RunAgain(job, _) | Next::Wait(job, _) => Some(job),
            Next::Done | Next::GivenBack(_) => None,
        }
    }

    /// Runs one delivery to its settlement; returns the instance if it can be used again.
    fn process(&self, mut instance: Instance, mut job: Job, away: &mut Away) -> Option<Instance> {
        job.delivery.unavailable_since = away.since;
        let mut rest = None;
        loop {
            let (happened, left) = self.call(instance, &mut job);
            let (again, reason) = match self.settler.settle(job, happened) {
                Next::Done => {
                    *away = Away::default();
                    return self.keep(left);
                }
                Next::RunAgain(job, reason) => (job, reason),
                Next::Wait(job, reason) => match self.wait(job, reason, away, &mut rest) {
                    Some(again) => again,
                    None => return self.keep(left),
                },
                Next::GivenBack(reason) => {
                    self.pause(&reason, away, &mut rest);
                    return self.keep(left);
                }
            };
            let next = self.keep(left).or_else(|| {
                rest = None; // A start rests by itself, and a lane counts once.
                self.start()
            });
            let Some(next) = next else {
                self.settler.give_up(again, reason);
                return None;
            };
            (instance, job) = (next, again);
        }
    }

    /// Waits with a delivery until the processor may be available; none when the delivery is not to be
    /// run again here.
    fn wait<'a>(
        &'a self,
        job: Job,
        reason: Reason,
        away: &mut Away,
        rest: &mut Option<Rest<'a>>,
    ) -> Option<(Job, Reason)> {
        let closed = self.pause(&reason, away, rest);
        if closed || !job.delivery.alive() {
            self.settler.give_up(job, reason);
            return None;
        }
        if self.buffer.is_overdue(&job.delivery) {
            job.delivery.give_back();
            return None;
        }
        Some((job, reason))
    }

    /// Pauses because the processor is unavailable; returns whether the host ends.
    fn pause<'a>(&'a self, reason: &Reason, away: &mut Away, rest: &mut Option<Rest<'a>>) -> bool {
        let pause = away.pause();
        warn!(processor = %self.settler.origin.processor, code = reason.code, detail = reason.detail,
              "unavailable: the lane waits {} ms", pause.as_millis());
        rest.get_or_insert_with(|| self.buffer.rest());
        self.buffer.pause(pause)
    }

    /// What is left of an instance for the next message. Asked after settling, so that a slow farewell
    /// delays no message.
    fn keep(&self, left: Option<Instance>) -> Option<Instance> {
        self.generation.keep(left)
    }

    /// One call of the component. An instance that failed is gone: the call consumed it.
    fn call(&self, instance: Instance, job: &mut Job) -> (Happened, Option<Instance>) {
        let delivery = &mut job.delivery;
        delivery.span.record("processor", &*self.settler.origin.processor).record("attempt", delivery.attempt);
        let _entered = delivery.span.enter();
        let metrics = self.metrics();
        metrics.calls.add_one();
        let running = self.slot.as_ref().map(|slot| slot.enter(&delivery.message));
        let result = instance.process(&delivery.message, delivery.attempt);
        drop(running);
        if self.verbose {
            self.report(delivery, &result);
        }
        let fuel = match &result {
            Ok(called) => called.fuel,
            Err(failed) => failed.fuel,
        };
        delivery.fuel = delivery.fuel.saturating_add(fuel);
        metrics.fuel.record(fuel);
        match result {
            Ok(called) => {
                metrics.unsent.add(u64::from(called.unsent));
                (Happened::Decided(called.outcome), Some(called.instance))
            }
            Err(failed) => {
                metrics.failures.add_one(failed.error.code());
                (Happened::Failed(failed.error), None)
            }
        }
    }

    fn report(&self, delivery: &Delivery, result: &Result<Called, Failed>) {
        let (processor, id, attempt) = (&self.settler.origin.processor, delivery.message.id(), delivery.attempt);
        match result {
            Ok(called) => {
                info!(%processor, id, attempt, fuel = called.fuel, outcome = called.outcome.name(), "processed")
            }
            Err(failed) => info!(%processor, id, attempt, fuel = failed.fuel, error = %failed.error, "failed"),
        }
    }

    /// Makes an instance; none when the host ends.
    fn start(&self) -> Option<Instance> {
        let rest = std::cell::OnceCell::new();
        self.generation.start(|pause| {
            rest.get_or_init(|| self.buffer.rest());
            self.metrics().failures.add_one("initialize");
            self.buffer.pause(pause)
        })
    }

    /// Flow control of the broker stops the lane here. Where dead letters are refused it goes on, slowly:
    /// the next message may be a good one.
    fn wait_while_overloaded(&self) {
        let (began, mut rest) = (Instant::now(), None);
        while self.settler.overloaded() {
            if began.elapsed() >= self.buffer.patience() {
                rest.get_or_insert_with(|| self.buffer.rest());
            }
            if self.buffer.pause(OVERLOADED) {
                return;
            }
        }
        if self.settler.clogged() {
            error!(processor = %self.settler.origin.processor, "slowed down: many messages are kept because their dead letters are refused");
            self.buffer.pause(CLOGGED);
        }
    }

    fn metrics(&self) -> &ProcessorMetrics {
        &self.settler.metrics
    }
}
