//! A source: a processor without an in queue, which works by the clock.
//!
//! Spawned by [`crate::app`], one thread with one live instance for each. A tick begins when its time has
//! come and every output of the last one is confirmed: ticks never overlap, and missed ones are dropped.
//! There is no input that a broker could deliver again, so an output that is refused is sent again with
//! the processor's back-off, and said to be lost only after the last attempt.

use std::{
    collections::BTreeMap,
    sync::{Arc, Condvar, Mutex, PoisonError, mpsc},
    time::{Duration, Instant},
};

use tracing::{debug, error, warn};

use crate::{
    generation::Generation,
    metrics::ProcessorMetrics,
    outcome::{Outcome, Output, Reason},
    retry::{Pauses, RetryPolicy},
    sandbox::Instance,
    settle::Route,
};

/// The most that a failure says in the words of its guest.
const MAX_WORDS_BYTES: usize = 1 << 10;
/// How often a thread that waits for receipts looks whether the host ends.
const LOOK: Duration = Duration::from_millis(100);

/// Tells all sources of a host to end.
#[derive(Debug, Default)]
pub struct Stop {
    stopped: Mutex<bool>,
    bell: Condvar,
}

impl Stop {
    /// Ends them: no further tick begins.
    pub fn stop(&self) {
        *self.stopped.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.bell.notify_all();
    }

    /// Sleeps, or returns early with true when the host ends.
    pub fn pause(&self, pause: Duration) -> bool {
        let guard = self.stopped.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.bell.wait_timeout_while(guard, pause, |stopped| !*stopped);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

/// What a source works with.
#[derive(Debug)]
pub struct Source {
    /// Its key in the configuration.
    pub name: Arc<str>,
    /// What runs.
    pub generation: Generation,
    /// The time from one tick to the next (`interval_ms`).
    pub interval: Duration,
    /// The queues it may send to.
    pub routes: BTreeMap<Arc<str>, Route>,
    /// How an output that was refused is sent again.
    pub retry: RetryPolicy,
    /// What it counts: ticks as received, forwarded or filtered.
    pub metrics: Arc<ProcessorMetrics>,
    /// Whether each tick is logged (`verbose`).
    pub verbose: bool,
    /// When to end.
    pub stop: Arc<Stop>,
}

impl Source {
    /// Ticks until the host ends.
    pub fn run(self) {
        let mut ticks = Ticks::new(Instant::now(), self.interval);
        let mut warm = None;
        let (mut wait, mut unavailable) = (Duration::ZERO, Pauses::default());
        loop {
            let pause = |pause| self.stop.pause(pause);
            let Some(instance) = warm.take().or_else(|| self.generation.start(pause)) else { return };
            if self.stop.pause(wait) || self.stop.pause(ticks.until_next(Instant::now())) {
                return instance.terminate();
            }
            let (outcome, left) = self.tick(instance);
            wait = outcome.map_or(Duration::ZERO, |outcome| self.carry_out(outcome, &mut unavailable));
            warm = self.generation.keep(left);
        }
    }

    /// One call of the component; one that failed is gone, and the next tick gets a fresh one.
    fn tick(&self, instance: Instance) -> (Option<Outcome>, Option<Instance>) {
        let metrics = &self.metrics;
        metrics.received.add_one();
        metrics.calls.add_one();
        match instance.tick() {
            Ok(called) => {
                metrics.fuel.record(called.fuel);
                metrics.unsent.add(u64::from(called.unsent));
                if self.verbose {
                    tracing::info!(processor = %self.name, fuel = called.fuel, outcome = called.outcome.name(), "ticked");
                }
                (Some(called.outcome), Some(called.instance))
            }
            Err(failed) => {
                metrics.fuel.record(failed.fuel);
                metrics.failures.add_one(failed.error.code());
                if self.generation.spec.log_rate().allows(MAX_WORDS_BYTES) {
                    error!(processor = %self.name, code = failed.error.code(), fuel = failed.fuel, error = %failed.error,
                           "tick failed, the next one has a fresh instance");
                }
                (None, None)
            }
        }
    }

    /// Does what a tick decided; returns how long to wait at least before the next one.
    fn carry_out(&self, outcome: Outcome, unavailable: &mut Pauses) -> Duration {
        let begun = Instant::now();
        if let Outcome::Unavailable(reason) = outcome {
            let pause = unavailable.next_pause();
            self.warn(&reason, "unavailable", pause);
            return pause;
        }
        *unavailable = Pauses::default();
        match outcome {
            Outcome::Ok(outputs) if outputs.is_empty() => self.metrics.filtered.add_one(),
            Outcome::Ok(outputs) => {
                if self.send(outputs) {
                    self.metrics.forwarded.add_one();
                    self.metrics.settled_after(begun.elapsed());
                }
            }
            Outcome::Retry { reason, delay } => {
                self.metrics.retried.add_one();
                let pause = delay.unwrap_or_default().min(self.retry.max_delay);
                self.warn(&reason, "asks for another tick", pause);
                return pause;
            }
            Outcome::Reject(reason) => self.warn(&reason, "gave this tick up", Duration::ZERO),
            Outcome::Unavailable(_) => {}
        }
        Duration::ZERO
    }

    fn warn(&self, reason: &Reason, what: &str, pause: Duration) {
        if self.generation.spec.log_rate().allows(reason.detail.len()) {
            warn!(processor = %self.name, code = reason.code, detail = reason.detail, wait_ms = pause.as_millis(), "{what}");
        }
    }

    /// Sends outputs and waits until all are confirmed; refused ones are sent again. False where some
    /// were not confirmed in the end.
    fn send(&self, mut outputs: Vec<Output>) -> bool {
        for attempt in 1..=self.retry.max_attempts {
            let Some(refused) = self.attempt(outputs, attempt) else { return false };
            if refused.is_empty() {
                return true;
            }
            outputs = refused;
            if attempt < self.retry.max_attempts {
                self.metrics.retried.add_one();
                // At the end of the host the last attempts follow at once.
                self.stop.pause(self.retry.delay(attempt, None, fastrand::f64()));
            }
        }
        error!(processor = %self.name, outputs = outputs.len(), "lost: the broker refused these outputs of a tick each time");
        false
    }

    /// Sends outputs once and returns those that were refused; none where the host ended before all answers.
    fn attempt(&self, outputs: Vec<Output>, attempt: u32) -> Option<Vec<Output>> {
        let (answer, answers) = mpsc::channel();
        let (mut refused, mut missing) = (Vec::new(), outputs.len());
        for output in outputs {
            let Some(route) = self.routes.get(&output.queue) else {
                missing -= 1;
                error!(processor = %self.name, queue = %output.queue, "an output for a queue without a route");
                continue;
            };
            let (answer, again) = (answer.clone(), output.clone());
            let done = Box::new(move |result: Result<(), _>| {
                // Nobody hears it where the host has ended.
                let _ = answer.send(result.map_err(|rejected| (again, rejected)));
            });
            route.send(output.headers, output.body, false, true, done);
        }
        drop(answer);
        while missing > 0 {
            match answers.recv_timeout(LOOK) {
                Ok(Ok(())) => self.metrics.outputs.add_one(),
                Ok(Err((output, rejected))) => {
                    warn!(processor = %self.name, attempt, error = %rejected, "output refused");
                    refused.push(output);
                }
                // The drain waits for this thread as long as its grace period allows.
                Err(mpsc::RecvTimeoutError::Timeout) => continue,
                Err(mpsc::RecvTimeoutError::Disconnected) => return None,
            }
            missing -= 1;
        }
        debug!(processor = %self.name, attempt, refused = refused.len(), "all outputs are answered");
        Some(refused)
    }
}

/// The times of the ticks: multiples of the interval since the start.
#[derive(Debug)]
struct Ticks {
    next: Instant,
    interval: Duration,
}

impl Ticks {
    fn new(start: Instant, interval: Duration) -> Self {
        Self { next: start, interval: interval.max(Duration::from_millis(1)) }
    }

    /// How long it is until the next tick, which is thereby taken; those that were missed are dropped.
    fn until_next(&mut self, now: Instant) -> Duration {
        let late = now.saturating_duration_since(self.next);
        let missed = late.as_nanos() / self.interval.as_nanos().max(1);
        self.next += self.interval.saturating_mul(u32::try_from(missed).unwrap_or(u32::MAX));
        let wait = self.next.saturating_duration_since(now);
        self.next += self.interval;
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_come_at_multiples_of_the_interval_and_missed_ones_are_dropped() {
        let (start, ms) = (Instant::now(), Duration::from_millis);
        let mut ticks = Ticks::new(start, ms(100));
        assert_eq!(ticks.until_next(start), ms(0), "the first one comes at once");
        assert_eq!(ticks.until_next(start + ms(30)), ms(70));
        assert_eq!(ticks.until_next(start + ms(250)), ms(0), "50 ms late");
        assert_eq!(ticks.until_next(start + ms(260)), ms(40));
        assert_eq!(ticks.until_next(start + ms(1_020)), ms(0), "six were missed: one is made up for");
        assert_eq!(ticks.until_next(start + ms(1_030)), ms(70));
    }

    #[test]
    fn a_stopped_pause_ends_at_once() {
        let stop = Stop::default();
        assert!(!stop.pause(Duration::from_millis(1)));
        stop.stop();
        assert!(stop.pause(Duration::from_secs(3_600)));
    }
}
