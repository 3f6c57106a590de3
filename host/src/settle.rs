//! Carries out what [`crate::outcome::decide`] decided: sends outputs, acknowledges, holds, sends dead
//! letters.
//!
//! Lanes call [`Settler::settle`] with each outcome and go on without waiting; the rest of the way runs on
//! the producer's task: when the broker has answered, [`Settler::settle_later`] asks the table again, now
//! with the answer. Every input that a lane has run passes [`Settler::acknowledge`] when it is done, and the session
//! writes the ACK, except in ack mode auto, where the broker has forgotten it by then. A repeat that the session
//! recognises never comes here: it acknowledges that itself. Outputs leave in [`outputs`], dead letters in [`dead_letters`].

mod answers;
mod dead_letters;
mod ids;
mod outputs;
mod route;
mod unconfirmed;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio_util::task::task_tracker::TaskTrackerToken;
use tracing::{debug, error, warn};

use crate::{
    buffer::Buffer,
    dead_letter::Origin,
    delivery::Delivery,
    log_rate::LogRate,
    metrics::ProcessorMetrics,
    outcome::{Action, Happened, NO_OUTPUT, Outcome, Reason, Standing, decide},
    retry::RetryPolicy,
    slots::Slots,
    spool::Spool,
};

pub use self::{ids::Ids, route::Route, unconfirmed::Unconfirmed};

/// How short `max_hold_s` may make a pause between two attempts.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);

/// Settles the deliveries of one processor.
#[derive(Debug)]
pub struct Settler {
    /// Where retries are held.
    pub buffer: Arc<Buffer>,
    /// The processor's number in the buffer.
    pub reader: usize,
    /// The queues it may send to.
    pub routes: BTreeMap<Arc<str>, Route>,
    /// Where its dead letters go.
    pub dead_letters: Route,
    /// Whether several outputs of one message go in a transaction (`use_transaction` of the in queue).
    pub use_transaction: bool,
    /// Takes dead letters that the broker refuses (`state_dir`).
    pub spool: Option<Arc<Spool>>,
    /// Remembers messages that killed the host until they are settled (`state_dir`).
    pub slots: Option<Arc<Slots>>,
    /// The processor's key in the configuration.
    pub processor: Arc<str>,
    /// How it retries.
    pub retry: RetryPolicy,
    /// How fast the log may grow by the reasons that its guest gives.
    pub log_rate: LogRate,
    /// What it counts.
    pub metrics: Arc<ProcessorMetrics>,
    /// Lanes take nothing new while more than this is unconfirmed (`unconfirmed_mb`).
    pub max_unconfirmed_bytes: usize,
    /// The same for messages (the window of the queue).
    pub max_unconfirmed: usize,
    /// Lanes slow down while more messages than this are kept because their dead letter is refused.
    pub max_kept: usize,
    /// What is sent and not answered.
    pub unconfirmed: Arc<Unconfirmed>,
    /// Messages kept because their dead letter is refused.
    pub kept: Arc<AtomicUsize>,
}

/// A delivery in work. While one exists, the host does not end.
#[derive(Debug)]
pub struct Job {
    /// The delivery.
    pub delivery: Delivery,
    /// Whether more are waiting behind it.
    pub more: bool,
    /// Counted by the drain.
    pub token: TaskTrackerToken,
    /// Which generation ran it last, or would have.
    pub by: Arc<Author>,
    /// Whether that generation was on trial when the call began.
    pub on_trial: bool,
}

/// What settlement knows of the generation that ran a delivery. It stays with what was sent, whatever runs meanwhile.
#[derive(Debug)]
pub struct Author {
    /// Names its outputs.
    pub ids: Ids,
    /// Who it is, for dead letters.
    pub origin: Origin,
    /// The number of the generation that is stable beside it.
    fallback: u64,
    /// Whether it is on trial: then it gives no message up.
    on_trial: AtomicBool,
    /// Messages of which the broker refused its outputs while it was on trial, and then took those of the stable one.
    refused: Arc<AtomicU64>,
}

impl Author {
    /// A generation that is stable from the beginning, or on trial beside the one of this number.
    #[must_use]
    pub fn new(origin: Origin, beside: Option<u64>) -> Arc<Self> {
        let ids = Ids::new(&origin.processor, &origin.digest);
        let (fallback, on_trial) = (beside.unwrap_or_default(), AtomicBool::new(beside.is_some()));
        Arc::new(Self { ids, origin, fallback, on_trial, refused: Arc::default() })
    }

    /// It was on trial and is the stable one now.
    pub fn keep(&self) {
        self.on_trial.store(false, Ordering::Relaxed);
    }

    /// Messages of which the broker refused its outputs while it was on trial, and then took those of the stable one.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Whether it is on trial now.
    #[must_use]
    pub fn is_on_trial(&self) -> bool {
        self.on_trial.load(Ordering::Relaxed)
    }
}

/// What a lane has to do after settling.
#[derive(Debug)]
pub enum Next {
    /// Take the next delivery.
    Done,
    /// Run this one again at once: in the instance that is left, else in a fresh one.
    RunAgain(Job, Reason),
    /// Run this one again at once, on the stable generation.
    OnStable(Job, Reason),
    /// Run this one again after a pause: the processor is unavailable.
    Wait(Job, Reason),
    /// It was given back because the processor is unavailable: pause before the next.
    GivenBack(Reason),
}

impl Settler {
    /// Decides what follows from `happened` and does it.
    pub fn settle(self: &Arc<Self>, mut job: Job, happened: Happened) -> Next {
        self.note(&mut job, &happened);
        let actions = decide(happened, self.standing(&job));
        // Each row has one action that takes the delivery; what stands before it only tells.
        for action in actions {
            match action {
                Action::Ack => self.acknowledge(job),
                Action::CountPossibleDuplicate => self.possible_duplicate(job),
                Action::Send(outputs) => self.send(job, outputs),
                Action::Hold { delay, reason } => return self.hold(job, delay, reason),
                Action::DeadLetter(reason) => self.dead_letter(job, reason),
                Action::KeepDeadLetter => self.keep_dead_letter(job),
                Action::Spool(reason) => self.spool(job, reason),
                Action::RunAgain(reason) => return self.again(job, reason),
                Action::RunOnStable(reason) => return self.on_stable(job, reason),
                Action::LaneWaits(reason) => return Next::Wait(job, reason),
                Action::GiveBack(reason) => {
                    job.delivery.give_back();
                    return Next::GivenBack(reason);
                }
                Action::Alarm(reason) => {
                    self.alarm(&job, &reason);
                    continue;
                }
            }
            break;
        }
        Next::Done
    }

    fn note(&self, job: &mut Job, happened: &Happened) {
        let (delivery, on_trial) = (&mut job.delivery, job.on_trial);
        delivery.kept = None;
        if !on_trial && !matches!(happened, Happened::Decided(Outcome::Ok(_) | Outcome::Unavailable(_))) {
            delivery.failing_since.get_or_insert_with(Instant::now);
        }
        match happened {
            Happened::Decided(Outcome::Unavailable(_)) if on_trial => {}
            Happened::Decided(Outcome::Unavailable(_)) => {
                delivery.unavailable_since.get_or_insert_with(Instant::now);
            }
            Happened::Decided(outcome) => {
                delivery.unavailable_since = None;
                delivery.forwarded = matches!(outcome, Outcome::Ok(outputs) if !outputs.is_empty());
            }
            Happened::DeadLetterConfirmed | Happened::DeadLetterSpooled => delivery.dead_lettered = true,
            Happened::OutputsConfirmed => {
                if let Some(refused) = delivery.refused_on_trial.take() {
                    refused.fetch_add(1, Ordering::Relaxed);
                }
            }
            _ => {}
        }
    }

    fn standing(&self, job: &Job) -> Standing {
        let delivery = &job.delivery;
        Standing {
            attempt: delivery.attempt,
            max_attempts: self.retry.max_attempts,
            faults: delivery.faults,
            unavailable_for: delivery.unavailable_since.map_or(Duration::ZERO, |since| since.elapsed()),
            max_unavailable: self.retry.max_unavailable,
            failing_for: delivery.failing_since.map_or(Duration::ZERO, |since| since.elapsed()),
            max_time: self.retry.max_time,
            can_ack: delivery.can_ack(),
            on_trial: job.on_trial,
        }
    }

    /// Acknowledges the input: every output, or the dead letter, is confirmed.
    fn acknowledge(&self, job: Job) {
        let (received, forwarded, dead) = (job.delivery.received, job.delivery.forwarded, job.delivery.dead_lettered);
        if let Some(slots) = &self.slots {
            slots.settled(&job.delivery.message);
        }
        if !job.delivery.ack() {
            self.metrics.possible_duplicates.add_one();
            return;
        }
        match (dead, forwarded) {
            (true, _) => self.metrics.dead_lettered.add_one(),
            (false, true) => self.metrics.forwarded.add_one(),
            (false, false) => self.metrics.filtered.add_one(),
        }
        self.metrics.settled_after(received.elapsed());
    }

    fn possible_duplicate(&self, job: Job) {
        debug!(processor = %self.processor, id = job.delivery.message.id(), "settled when the broker had it back: its session had ended, or it was given back meanwhile");
        self.metrics.possible_duplicates.add_one();
    }

    /// Settles from a producer's task, where no lane is at hand to run it again.
    fn settle_later(self: &Arc<Self>, job: Job, happened: Happened) {
        match self.settle(job, happened) {
            Next::Done | Next::GivenBack(_) => {}
            Next::OnStable(mut job, reason) => {
                job.delivery.refused_on_trial = Some(job.by.refused.clone());
                if let Next::RunAgain(job, reason) = self.hold_until(job, Instant::now(), reason) {
                    self.give_up(job, reason);
                }
            }
            Next::RunAgain(job, reason) | Next::Wait(job, reason) => self.give_up(job, reason),
        }
    }

    /// Ends a delivery that nobody can run any more, because the queue is left: the broker has it still,
    /// except in ack mode auto, where it becomes a dead letter.
    pub fn give_up(self: &Arc<Self>, job: Job, reason: Reason) {
        if self.buffer.must_finish() {
            self.dead_letter(job, reason);
        }
    }

    /// Holds the delivery for its next attempt.
    fn hold(&self, mut job: Job, delay: Option<Duration>, reason: Reason) -> Next {
        let pause = self.retry.delay(job.delivery.attempt, delay, fastrand::f64());
        let pause = self.within_max_hold(&job.delivery, pause);
        if self.log_rate.allows(reason.detail.len()) {
            warn!(processor = %self.processor, id = job.delivery.message.id(), attempt = job.delivery.attempt,
                  fuel = job.delivery.fuel, code = reason.code, detail = reason.detail, "retry in {} ms", pause.as_millis());
        }
        self.metrics.retried.add_one();
        job.delivery.attempt += 1;
        self.hold_until(job, Instant::now() + pause, reason)
    }

    /// All attempts that are left must fit into the time for which a delivery may be held: a longer back-off
    /// is shortened evenly, and never to nothing.
    fn within_max_hold(&self, delivery: &Delivery, pause: Duration) -> Duration {
        let left = self.buffer.latest_retry(delivery).saturating_duration_since(Instant::now());
        let attempts = self.retry.max_attempts.saturating_sub(delivery.attempt).max(1);
        pause.min(left / attempts).max(pause.min(SHORTEST_PAUSE))
    }

    /// At the end of the host nothing is held: what must be finished is run again at once.
    fn hold_until(&self, job: Job, due: Instant, reason: Reason) -> Next {
        let Job { delivery, more, token, by, on_trial } = job;
        match self.buffer.hold(self.reader, delivery, due) {
            Err(delivery) if self.buffer.must_finish_held() && delivery.alive() => {
                Next::RunAgain(Job { delivery, more, token, by, on_trial }, reason)
            }
            Ok(()) | Err(_) => Next::Done,
        }
    }

    fn again(&self, mut job: Job, reason: Reason) -> Next {
        if self.log_rate.allows(reason.detail.len()) {
            warn!(processor = %self.processor, id = job.delivery.message.id(), attempt = job.delivery.attempt,
                  fuel = job.delivery.fuel, code = reason.code, detail = reason.detail, "once more, in a fresh instance");
        }
        self.metrics.retried.add_one();
        job.delivery.attempt += 1;
        job.delivery.faults += 1;
        Next::RunAgain(job, reason)
    }

    /// The generation on trial could not do it; that is no attempt.
    fn on_stable(&self, mut job: Job, reason: Reason) -> Next {
        if reason.code != NO_OUTPUT && self.log_rate.allows(reason.detail.len()) {
            warn!(processor = %self.processor, id = job.delivery.message.id(), generation = job.by.origin.generation,
                  code = reason.code, detail = reason.detail, "on trial: once more, on the stable generation");
        }
        job.delivery.run_on = Some(job.by.fallback);
        Next::OnStable(job, reason)
    }

    fn alarm(&self, job: &Job, reason: &Reason) {
        error!(processor = %self.processor, id = job.delivery.message.id(), code = reason.code, detail = reason.detail, "alarm");
    }

    /// Whether so much is unconfirmed that lanes must take nothing more.
    pub fn overloaded(&self) -> bool {
        self.unconfirmed.exceeds(self.max_unconfirmed_bytes, self.max_unconfirmed)
    }

    /// Whether so many messages sit here because their dead letters are refused that lanes must slow down.
    pub fn clogged(&self) -> bool {
        self.kept.load(Ordering::Relaxed) > self.max_kept
    }
}
