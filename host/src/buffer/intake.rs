//! The end of the buffer that sessions fill.
//!
//! Called by the sessions of a queue alone; what lanes take stands in [`super`].

use std::{sync::atomic::Ordering, time::Duration};

use tokio::sync::Notify;
use tracing::info;

use super::Buffer;
use crate::delivery::{Delivery, Intake};

impl Intake for Buffer {
    fn push(&self, deliveries: &mut Vec<Delivery>) {
        if deliveries.is_empty() {
            return;
        }
        let mut state = self.lock();
        if state.closed && !self.options.finish_all {
            drop(state);
            return turn_away(deliveries);
        }
        let bytes: usize = deliveries.iter().map(|delivery| delivery.message.byte_len()).sum();
        state.bytes += bytes;
        self.host.used.fetch_add(bytes, Ordering::Relaxed);
        let (idle, count) = (state.idle, deliveries.len());
        deliveries.drain(..).for_each(|delivery| state.waiting.push(delivery));
        drop(state);
        for _ in 0..idle.min(count) {
            self.arrival.notify_one();
        }
    }

    fn has_room(&self) -> bool {
        let mut state = self.lock();
        state.full = !self.roomy(&state);
        !state.full
    }

    fn room(&self) -> &Notify {
        &self.room
    }

    fn wanted(&self) -> bool {
        self.is_wanted()
    }

    fn forget_stale(&self) {
        self.remove(|delivery| !delivery.alive());
    }

    fn may_repeat(&self, count: usize) {
        self.repeats.fetch_add(count as u64, Ordering::Relaxed);
        if count > 0 {
            info!(count, "settled, but the broker may not know: may be processed again, or was by another reader");
        }
    }

    fn was_oversized(&self) {
        self.oversized.fetch_add(1, Ordering::Relaxed);
    }

    fn max_hold(&self) -> Duration {
        self.options.max_hold
    }

    fn give_back_overdue(&self) {
        self.return_overdue();
    }
}

/// Nobody will process them. Their sessions are asked all the same: one that came again, and that is known to be
/// settled, must not go to the next host.
pub(super) fn turn_away(deliveries: &mut Vec<Delivery>) {
    deliveries.drain(..).for_each(|delivery| drop(delivery.claim()));
}
