//! A lane: one OS thread with one live instance. Takes a delivery, calls the component, hands the
//! outcome to settlement, takes the next without waiting for the broker.
//!
//! Spawned by [`crate::wiring`], `n_threads` of them for each processor. Guests run here and never on the
//! async runtime's threads, so a guest that spins stops its lane and nothing else. What it runs it asks of its
//! [`Post`] between two messages; while a candidate is on trial it has an instance of the stable generation too.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

use crate::{
    buffer::{Buffer, Nothing, Rest, Taken},
    dead_letter::REPLAY_GENERATION,
    delivery::Delivery,
    metrics::ProcessorMetrics,
    outcome::{CallError, Happened, Reason},
    retry::Pauses,
    sandbox::{Called, Failed, one_line},
    settle::{Job, Next, Settler},
    slots::Slot,
    stage::{Act, On, Post, Seat, Stage, Turn},
    trial::Went,
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
    pub stage: Arc<Stage>,
    /// Its number among the lanes of its processor.
    pub number: usize,
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
        let (mut post, mut away) = (Post::new(self.stage.clone(), self.number), Away::default());
        loop {
            match post.follow() {
                // What must be finished at the end (ack mode auto) is finished all the same.
                Turn::Pause if !self.buffer.is_closed() => {
                    self.stand_by(&post);
                    continue;
                }
                Turn::Go | Turn::Pause => {}
            }
            // The instance comes first: while `initialize` fails, nothing is taken.
            post.choose(None);
            if self.man(&mut post).is_none() {
                if self.buffer.is_closed() {
                    return self.give_up_the_rest(&post);
                }
                continue;
            }
            if !self.wait_while_overloaded(&post) {
                continue;
            }
            post.doing("idle");
            match self.buffer.take_unless(self.settler.reader, || post.is_behind()) {
                Ok(taken) => self.work_on(&mut post, taken, &mut away),
                Err(Nothing::Interrupted) => {}
                Err(Nothing::Closed) => return post.leave(),
            }
        }
    }

    /// Paused by an operator: what it holds goes back to the broker, and after a while everything.
    fn stand_by(&self, post: &Post) {
        post.doing("paused");
        let _rest = self.buffer.rest();
        self.buffer.stand_by(self.settler.reader, || post.is_behind());
    }

    fn work_on(&self, post: &mut Post, taken: Taken, away: &mut Away) {
        let first = !taken.delivery.counted;
        let mut job = self.job(post, taken);
        job.delivery.counted = true;
        if first {
            self.metrics().received.add_one();
        }
        if let Some(job) = if first { self.spared(job) } else { Some(job) } {
            let job = self.named(job);
            self.process(post, job, away);
            post.see_off();
        }
    }

    /// A replayed dead letter may name the generation that is to run it.
    fn named(&self, mut job: Job) -> Job {
        let Some(named) = job.delivery.message.headers.get(REPLAY_GENERATION) else { return job };
        let number = named.parse().ok().filter(|number| self.stage.has(*number));
        if number.is_none() && self.settler.log_rate.allows(named.len()) {
            let known = self.stage.earlier_numbers();
            warn!(processor = %self.settler.processor, id = job.delivery.message.id(), generation = %one_line(named, 20), ?known,
                  "a replayed message names a generation that is not here: what runs takes it");
        }
        job.delivery.run_on = job.delivery.run_on.or(number);
        job
    }

    fn job(&self, post: &Post, taken: Taken) -> Job {
        let (token, by) = (self.in_work.token(), post.stable.act.author.clone());
        Job { delivery: taken.delivery, more: taken.more, token, by, on_trial: false }
    }

    /// The lane ends and there never was an instance: in ack mode auto nobody else has what was read.
    fn give_up_the_rest(&self, post: &Post) {
        while let Some(taken) = self.buffer.take(self.settler.reader) {
            self.settler.give_up(self.job(post, taken), no_instance());
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
            Next::RunAgain(job, _) | Next::OnStable(job, _) | Next::Wait(job, _) => Some(job),
            Next::Done | Next::GivenBack(_) => None,
        }
    }

    /// Runs one delivery to its settlement.
    fn process(&self, post: &mut Post, mut job: Job, away: &mut Away) {
        job.delivery.unavailable_since = away.since;
        let (mut rest, mut reason) = (None, no_instance());
        let mut disputed: Option<(Arc<Act>, Went)> = None;
        while let Some((seated, on)) = self.seat(post, job, &reason, away, &mut rest) {
            job = seated;
            let (next, went) = self.run_once(post, on, job);
            if let Some((act, how)) = disputed.take().filter(|(_, how)| went.is_better_than(*how)) {
                self.stage.dispute(&act, how);
            }
            (job, reason) = match next {
                Next::Done => {
                    *away = Away::default();
                    return;
                }
                Next::RunAgain(job, reason) => (job, reason),
                Next::OnStable(job, reason) => {
                    disputed = post.candidate.as_ref().map(|seat| (seat.act.clone(), went));
                    (job, reason)
                }
                Next::Wait(job, reason) => match self.wait(post, job, reason, away, &mut rest) {
                    Some(again) => again,
                    None => return,
                },
                Next::GivenBack(reason) => {
                    self.pause(post, &reason, away, &mut rest);
                    return;
                }
            };
        }
    }

    /// Sees to an instance for a delivery; none when the delivery is not to be run here: the lane ends, or the processor
    /// is paused and the delivery would wait for what is away.
    fn seat<'a>(
        &'a self,
        post: &mut Post,
        job: Job,
        reason: &Reason,
        away: &Away,
        rest: &mut Option<Rest<'a>>,
    ) -> Option<(Job, On)> {
        let mut waits = away.since.is_some();
        loop {
            if post.follow() == Turn::Pause && waits && self.buffer.may_give_back(&job.delivery) {
                job.delivery.give_back();
                return None;
            }
            post.choose(job.delivery.run_on);
            if !post.is_manned() {
                *rest = None; // A start rests by itself, and a lane counts once.
            }
            match self.man(post) {
                Some(on) => return Some((job, on)),
                None if self.buffer.is_closed() => {
                    self.settler.give_up(job, reason.clone());
                    return None;
                }
                None => waits = true,
            }
        }
    }

    /// One call, and what follows from it.
    fn run_once(&self, post: &mut Post, on: On, mut job: Job) -> (Next, Went) {
        post.doing("processing");
        let seat = post.seat(on);
        (job.by, job.on_trial) = (seat.act.author.clone(), seat.act.author.is_on_trial());
        let (happened, went) = self.call(seat, &mut job);
        let next = self.settler.settle(job, happened);
        // After settling, so that a slow farewell delays no message.
        seat.warm = seat.warm.take().and_then(|left| seat.act.generation.keep(left));
        (next, went)
    }

    /// Waits with a delivery until the processor may be available; none when the delivery is not to be
    /// run again here.
    fn wait<'a>(
        &'a self,
        post: &Post,
        job: Job,
        reason: Reason,
        away: &mut Away,
        rest: &mut Option<Rest<'a>>,
    ) -> Option<(Job, Reason)> {
        let closed = self.pause(post, &reason, away, rest);
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

    /// Pauses because the processor is unavailable, until something else is to run at the latest; returns whether the
    /// host ends.
    fn pause<'a>(&'a self, post: &Post, reason: &Reason, away: &mut Away, rest: &mut Option<Rest<'a>>) -> bool {
        let pause = away.pause();
        warn!(processor = %self.settler.processor, code = reason.code, detail = reason.detail,
              "unavailable: the lane waits {} ms", pause.as_millis());
        rest.get_or_insert_with(|| self.buffer.rest());
        self.buffer.pause_unless(pause, || post.is_behind()) && self.buffer.is_closed()
    }

    /// One call of the component. An instance that failed is gone: the call consumed it.
    fn call(&self, seat: &mut Seat, job: &mut Job) -> (Happened, Went) {
        let delivery = &mut job.delivery;
        delivery.span.record("processor", &*self.settler.processor).record("attempt", delivery.attempt);
        let _entered = delivery.span.enter();
        let metrics = self.metrics();
        metrics.calls.add_one();
        let Some(instance) = seat.warm.take() else { return (Happened::Failed(gone()), Went::Trap) };
        let running = self.slot.as_ref().map(|slot| slot.enter(&delivery.message));
        let began = Instant::now();
        let result = instance.process(&delivery.message, delivery.attempt);
        let took = began.elapsed();
        drop(running);
        if self.verbose {
            self.report(delivery, &result);
        }
        let (fuel, went) = match &result {
            Ok(called) => (called.fuel, Went::of(Ok(&called.outcome))),
            Err(failed) => (failed.fuel, Went::of(Err(&failed.error))),
        };
        seat.act.score.add(went, took, delivery.run_on.is_none());
        if let (Went::Well(outputs), false) = (went, job.on_trial) {
            self.stage.recorder().record(&delivery.message, delivery.attempt, outputs);
        }
        delivery.fuel = delivery.fuel.saturating_add(fuel);
        metrics.fuel.record(fuel);
        match result {
            Ok(called) => {
                metrics.unsent.add(u64::from(called.unsent));
                seat.warm = Some(called.instance);
                (Happened::Decided(called.outcome), went)
            }
            Err(failed) => {
                metrics.failures.add_one(failed.error.code());
                (Happened::Failed(failed.error), went)
            }
        }
    }

    fn report(&self, delivery: &Delivery, result: &Result<Called, Failed>) {
        let (processor, id, attempt) = (&self.settler.processor, delivery.message.id(), delivery.attempt);
        match result {
            Ok(called) => {
                info!(%processor, id, attempt, fuel = called.fuel, outcome = called.outcome.name(), "processed")
            }
            Err(failed) => info!(%processor, id, attempt, fuel = failed.fuel, error = %failed.error, "failed"),
        }
    }

    /// Sees to an instance for the next message; none where the lane ends or something else is to run.
    fn man(&self, post: &mut Post) -> Option<On> {
        let rest = std::cell::OnceCell::new();
        let failed = || self.metrics().failures.add_one("initialize");
        post.man(failed, |pause, is_behind| {
            rest.get_or_init(|| self.buffer.rest());
            self.buffer.pause_unless(pause, is_behind)
        })
    }

    /// Flow control of the broker stops the lane here; false where something else has changed meanwhile. Where dead
    /// letters are refused it goes on, slowly: the next message may be a good one.
    fn wait_while_overloaded(&self, post: &Post) -> bool {
        let (began, mut rest) = (Instant::now(), None);
        while self.settler.overloaded() {
            post.doing("waiting");
            if began.elapsed() >= self.buffer.patience() {
                rest.get_or_insert_with(|| self.buffer.rest());
            }
            if self.buffer.pause(OVERLOADED) {
                return true;
            }
            if post.is_behind() {
                return false;
            }
        }
        if self.settler.clogged() {
            error!(processor = %self.settler.processor, "slowed down: many messages are kept because their dead letters are refused");
            self.buffer.pause(CLOGGED);
        }
        true
    }

    fn metrics(&self) -> &ProcessorMetrics {
        &self.settler.metrics
    }
}

fn no_instance() -> Reason {
    Reason::new("initialize-failed", "no instance could be started before the queue was left")
}

/// Cannot happen: a lane calls what it has manned.
fn gone() -> CallError {
    CallError::Trap("there was no instance".to_owned())
}
