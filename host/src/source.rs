//! A source: a processor without an in queue, which works by the clock.
//!
//! Spawned by [`crate::wiring`], one thread with one live instance for each. A tick begins when its time has
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
    log_rate::LogRate,
    metrics::ProcessorMetrics,
    outcome::{Outcome, Output, Reason},
    retry::{Pauses, RetryPolicy},
    settle::Route,
    stage::{On, Post, Stage, Turn},
    trial::Went,
};

/// The most that a failure says in the words of its guest.
const MAX_WORDS_BYTES: usize = 1 << 10;
/// As good as for ever.
const A_DAY: Duration = Duration::from_secs(86_400);
/// How often a thread that waits for receipts looks whether it is to end.
const LOOK: Duration = Duration::from_millis(100);

/// Tells a source to end.
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

    /// Lets those that pause look around.
    pub fn nudge(&self) {
        drop(self.stopped.lock());
        self.bell.notify_all();
    }

    /// Whether it is to end.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        *self.stopped.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sleeps, or returns early with true when the source is to end.
    pub fn pause(&self, pause: Duration) -> bool {
        self.pause_unless(pause, || false)
    }

    /// Sleeps, or returns early with true when the source is to end or `interrupted`; see [`Stop::nudge`].
    pub fn pause_unless(&self, pause: Duration, interrupted: impl Fn() -> bool) -> bool {
        let guard = self.stopped.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.bell.wait_timeout_while(guard, pause, |stopped| !*stopped && !interrupted());
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }
}

/// What a source works with.
#[derive(Debug)]
pub struct Source {
    /// Its key in the configuration.
    pub name: Arc<str>,
    /// What runs.
    pub stage: Arc<Stage>,
    /// The time from one tick to the next (`interval_ms`).
    pub interval: Duration,
    /// The queues it may send to.
    pub routes: BTreeMap<Arc<str>, Route>,
    /// How an output that was refused is sent again.
    pub retry: RetryPolicy,
    /// What it counts: ticks as received, forwarded or filtered.
    pub metrics: Arc<ProcessorMetrics>,
    /// How fast the log may grow by what its guest says.
    pub log_rate: LogRate,
    /// Whether each tick is logged (`verbose`).
    pub verbose: bool,
    /// When to end.
    pub stop: Arc<Stop>,
}

impl Source {
    /// Ticks until it is told to stop.
    pub fn run(self) {
        let mut post = Post::new(self.stage.clone(), 0);
        let mut ticks = Ticks::new(Instant::now(), self.interval);
        let (mut due, mut unavailable) = (Instant::now() + ticks.until_next(Instant::now()), Pauses::default());
        loop {
            let turn = post.follow();
            if self.stop.is_stopped() {
                return post.leave();
            }
            if turn == Turn::Pause {
                post.doing("paused");
                self.stop.pause_unless(A_DAY, || post.is_behind());
                continue;
            }
            post.choose(None);
            let Some(on) = self.man(&mut post) else { continue };
            post.doing("idle");
            if self.stop.pause_unless(due.saturating_duration_since(Instant::now()), || post.is_behind()) {
                continue;
            }
            let outcome = self.tick(&mut post, on);
            let wait = outcome.map_or(Duration::ZERO, |outcome| self.carry_out(outcome, &mut unavailable));
            due = Instant::now() + wait;
            due += ticks.until_next(due);
        }
    }

    fn man(&self, post: &mut Post) -> Option<On> {
        let failed = || self.metrics.failures.add_one("initialize");
        post.man(failed, |pause, is_behind| self.stop.pause_unless(pause, is_behind))
    }

    /// One tick: what a candidate cannot do, the stable generation may.
    fn tick(&self, post: &mut Post, on: On) -> Option<Outcome> {
        self.metrics.received.add_one();
        let (outcome, went) = self.call(post, on, true);
        if on == On::Stable || matches!(went, Went::Well(1..)) {
            return outcome;
        }
        let candidate = post.candidate.as_ref().map(|seat| seat.act.clone());
        post.choose(Some(post.stable.act.number()));
        self.man(post)?;
        let (outcome, again) = self.call(post, On::Stable, false);
        if let Some(act) = candidate.filter(|_| again.is_better_than(went)) {
            self.stage.dispute(&act, went);
        }
        outcome
    }

    /// One call of the component; an instance that failed is gone.
    fn call(&self, post: &mut Post, on: On, usual: bool) -> (Option<Outcome>, Went) {
        post.doing("processing");
        let seat = post.seat(on);
        let Some(instance) = seat.warm.take() else { return (None, Went::Trap) };
        self.metrics.calls.add_one();
        let began = Instant::now();
        let result = instance.tick();
        let took = began.elapsed();
        let (fuel, went) = match &result {
            Ok(called) => (called.fuel, Went::of(Ok(&called.outcome))),
            Err(failed) => (failed.fuel, Went::of(Err(&failed.error))),
        };
        self.metrics.fuel.record(fuel);
        seat.act.score.add(went, took, usual);
        match result {
            Ok(called) => {
                self.metrics.unsent.add(u64::from(called.unsent));
                if self.verbose {
                    tracing::info!(processor = %self.name, fuel, outcome = called.outcome.name(), "ticked");
                }
                seat.warm = seat.act.generation.keep(called.instance);
                (Some(called.outcome), went)
            }
            Err(failed) => {
                self.metrics.failures.add_one(failed.error.code());
                if self.log_rate.allows(MAX_WORDS_BYTES) {
                    error!(processor = %self.name, code = failed.error.code(), fuel, error = %failed.error,
                           "tick failed, the next one has a fresh instance");
                }
                (None, went)
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
        if self.log_rate.allows(reason.detail.len()) {
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

    /// Sends outputs once and returns those that were refused; none where the source had to end before all answers.
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
