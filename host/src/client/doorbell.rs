//! A bell that wakes the owner of a socket: at once, or within a millisecond so that more can join.
//!
//! Lanes and producers ring it for each frame they leave; the owner wakes once and writes everything.
//! Under a backlog this costs a wake-up per batch instead of one per message.

use std::{
    sync::atomic::{AtomicU8, Ordering},
    time::Duration,
};

use tokio::sync::Notify;

const IDLE: u8 = 0;
const LAZY: u8 = 1;
const URGENT: u8 = 2;

/// How long something that is not urgent waits for company.
const LINGER: Duration = Duration::from_millis(1);

#[derive(Debug, Default)]
pub(super) struct Doorbell {
    state: AtomicU8,
    notify: Notify,
}

impl Doorbell {
    /// Announces work for the owner. A lazy ring is answered within a millisecond or two.
    pub(super) fn ring(&self, urgent: bool) {
        let news = if urgent {
            self.state.swap(URGENT, Ordering::AcqRel) != URGENT
        } else {
            self.state.compare_exchange(IDLE, LAZY, Ordering::AcqRel, Ordering::Relaxed).is_ok()
        };
        if news {
            self.notify.notify_one();
        }
    }

    /// Waits for a ring. Cancel-safe: a ring that was not answered is heard by the next wait.
    pub(super) async fn answer(&self) {
        while self.state.load(Ordering::Acquire) == IDLE {
            self.notify.notified().await;
        }
        if self.state.load(Ordering::Acquire) == LAZY {
            let urgent = async {
                while self.state.load(Ordering::Acquire) != URGENT {
                    self.notify.notified().await;
                }
            };
            // Elapsed or urgent: both mean now.
            let _ = tokio::time::timeout(LINGER, urgent).await;
        }
        self.state.store(IDLE, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn urgent_is_answered_at_once_and_lazy_after_lingering() {
        let bell = Doorbell::default();
        let start = tokio::time::Instant::now();
        bell.ring(false);
        bell.ring(true);
        bell.answer().await;
        assert_eq!(start.elapsed(), Duration::ZERO);
        bell.ring(false);
        bell.answer().await;
        assert!(start.elapsed() >= LINGER);
    }

    #[tokio::test(start_paused = true)]
    async fn a_cancelled_wait_loses_no_ring() {
        let bell = Doorbell::default();
        bell.ring(false);
        tokio::select! { biased; () = bell.answer() => panic!("too early"), () = std::future::ready(()) => {} }
        bell.answer().await;
    }
}
