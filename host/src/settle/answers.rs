//! Deliveries that wait for what the broker answers to their sends.
//!
//! Made by [`super::outputs`] and [`super::dead_letters`] with each send; the producer's task calls them when the
//! answer comes, or when it has not come for too long. What it means is decided by [`Settler::settle`].

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Job, Settler, unconfirmed::Weight};
use crate::client::{OnDone, Rejected};

/// A delivery that waits for the answer to one send.
pub(super) struct Pending<F> {
    pub(super) settler: Arc<Settler>,
    pub(super) job: Job,
    pub(super) weight: Weight,
    /// Whether it is a dead letter: then nothing else is left to try.
    pub(super) last: bool,
    /// What is done with the answer.
    pub(super) then: F,
}

impl<F: FnOnce(&Arc<Settler>, Job, Result<(), Rejected>) + Send> OnDone for Pending<F> {
    fn done(self: Box<Self>, fate: Result<(), Rejected>) {
        let Self { settler, job, weight, then, .. } = *self;
        drop(weight);
        then(&settler, job, fate);
    }

    fn is_overdue(&self) -> bool {
        self.settler.buffer.is_overdue(&self.job.delivery)
    }

    fn withdrawn(self: Box<Self>) {
        self.job.delivery.give_back();
    }

    fn overdue(&mut self) {
        self.settler.buffer.lend_back(&mut self.job.delivery);
    }

    fn abandoned(self: Box<Self>) {
        if self.last {
            self.settler.lost(&self.job);
        } else {
            self.settler.abandoned(self.job);
        }
    }
}

/// What several groups have in common.
pub(super) struct Waiting {
    /// Groups without an answer.
    missing: usize,
    outputs: usize,
    job: Option<Job>,
    /// Whether any group arrived.
    confirmed: bool,
    refused: Option<Rejected>,
    /// What became of groups that got no answer.
    unanswered: Option<Unanswered>,
    _weight: Weight,
}

impl Waiting {
    pub(super) fn new(job: Job, groups: usize, outputs: usize, weight: Weight) -> Arc<Mutex<Self>> {
        Arc::new(Mutex::new(Self {
            missing: groups,
            outputs,
            job: Some(job),
            confirmed: false,
            refused: None,
            unanswered: None,
            _weight: weight,
        }))
    }
}

/// Why there was no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unanswered {
    /// It was taken back unsent.
    Withdrawn,
    /// The queue is left.
    Abandoned,
}

/// One group of several, waiting for its answer.
pub(super) struct Part {
    settler: Arc<Settler>,
    waiting: Arc<Mutex<Waiting>>,
}

impl Part {
    pub(super) fn new(settler: &Arc<Settler>, waiting: &Arc<Mutex<Waiting>>) -> Self {
        Self { settler: settler.clone(), waiting: waiting.clone() }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One group less is missing; the last one settles the input.
    fn ended(&self, mut waiting: MutexGuard<'_, Waiting>) {
        waiting.missing -= 1;
        if waiting.missing > 0 {
            return;
        }
        let answer = waiting.refused.take().map_or(Ok(()), Err);
        let (job, outputs) = (waiting.job.take(), waiting.outputs);
        let (unanswered, confirmed) = (waiting.unanswered, waiting.confirmed);
        drop(waiting);
        let Some(job) = job else { return };
        if confirmed && unanswered.is_some() {
            self.settler.metrics.possible_duplicates.add_one();
        }
        match unanswered {
            None => self.settler.sent(job, outputs, answer),
            Some(Unanswered::Withdrawn) => job.delivery.give_back(),
            Some(Unanswered::Abandoned) => self.settler.abandoned(job),
        }
    }
}

impl OnDone for Part {
    fn done(self: Box<Self>, fate: Result<(), Rejected>) {
        let mut waiting = self.lock();
        match fate {
            Ok(()) => waiting.confirmed = true,
            Err(rejected) => waiting.refused = waiting.refused.take().or(Some(rejected)),
        }
        self.ended(waiting);
    }

    fn is_overdue(&self) -> bool {
        self.lock().job.as_ref().is_some_and(|job| self.settler.buffer.is_overdue(&job.delivery))
    }

    fn withdrawn(self: Box<Self>) {
        let mut waiting = self.lock();
        waiting.unanswered = Some(Unanswered::Withdrawn);
        self.ended(waiting);
    }

    fn abandoned(self: Box<Self>) {
        let mut waiting = self.lock();
        waiting.unanswered = Some(Unanswered::Abandoned);
        self.ended(waiting);
    }

    fn overdue(&mut self) {
        if let Some(job) = &mut self.lock().job {
            self.settler.buffer.lend_back(&mut job.delivery);
        }
    }
}
