//! How much was sent and not answered: what stops the lanes when a broker holds receipts back.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;

use super::{Job, Settler};
use crate::client::{OnDone, Rejected};

/// What is sent and not answered, outputs and dead letters alike.
#[derive(Debug, Default)]
pub struct Unconfirmed {
    bytes: AtomicUsize,
    messages: AtomicUsize,
}

impl Unconfirmed {
    /// Messages and their bytes.
    #[must_use]
    pub fn levels(&self) -> (usize, usize) {
        (self.messages.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed))
    }

    /// Whether there is more of it than this.
    pub(super) fn exceeds(&self, max_bytes: usize, max_messages: usize) -> bool {
        self.bytes.load(Ordering::Relaxed) > max_bytes || self.messages.load(Ordering::Relaxed) > max_messages
    }
}

/// The part of one delivery in [`Unconfirmed`], until it is dropped.
#[derive(Debug)]
pub(super) struct Weight {
    total: Arc<Unconfirmed>,
    bytes: usize,
}

impl Weight {
    pub(super) fn new(total: &Arc<Unconfirmed>, bytes: usize) -> Self {
        total.bytes.fetch_add(bytes, Ordering::Relaxed);
        total.messages.fetch_add(1, Ordering::Relaxed);
        Self { total: total.clone(), bytes }
    }
}

impl Drop for Weight {
    fn drop(&mut self) {
        self.total.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        self.total.messages.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A delivery that waits for the answer to one send.
pub(super) struct Pending<F> {
    pub(super) settler: Arc<Settler>,
    pub(super) job: Job,
    pub(super) weight: Weight,
    /// What is done with the answer.
    pub(super) then: F,
}

impl<F: FnOnce(&Arc<Settler>, Job, Result<(), Rejected>) + Send> OnDone for Pending<F> {
    fn done(self: Box<Self>, fate: Result<(), Rejected>) {
        let Self { settler, job, weight, then } = *self;
        drop(weight);
        then(&settler, job, fate);
    }

    fn is_overdue(&self) -> bool {
        self.settler.buffer.is_overdue(&self.job.delivery)
    }

    fn withdrawn(self: Box<Self>) {
        self.job.delivery.give_back();
    }

    fn delayed(&mut self) {
        self.settler.buffer.lend_back(&mut self.job.delivery);
    }
}

/// What a message takes of memory until it is confirmed, with something for its bookkeeping.
pub(super) fn weigh(headers: &[(String, String)], body: &Bytes) -> usize {
    const BOOKKEEPING: usize = 256;
    BOOKKEEPING + body.len() + headers.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>()
}
