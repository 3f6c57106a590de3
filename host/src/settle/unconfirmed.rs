//! How much was sent and not answered: what stops the lanes when a broker holds receipts back.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;

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

/// What a message takes of memory until it is confirmed, with something for its bookkeeping.
pub(super) fn weigh(headers: &[(String, String)], body: &Bytes) -> usize {
    const BOOKKEEPING: usize = 256;
    BOOKKEEPING + body.len() + headers.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>()
}
