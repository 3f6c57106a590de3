//! Pauses between tries to connect.
//!
//! Whoever owns a connection keeps a [`Backoff`] and asks it after each break; it never sleeps itself.

use std::time::Duration;

use tokio::time::Instant;

/// Growing pauses between tries, with jitter so that many hosts do not return at the same moment.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
    max: Duration,
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(200);
    const STABLE: Duration = Duration::from_secs(10);

    pub(crate) fn new(max: Duration) -> Self {
        Self { next: Self::FIRST, max: max.max(Self::FIRST) }
    }

    /// The pause before the next try: between half and all of a value that doubles each time.
    pub(crate) fn pause(&mut self) -> Duration {
        let pause = self.next.mul_f64(0.5 + fastrand::f64() / 2.0);
        self.next = (self.next * 2).min(self.max);
        pause
    }

    /// Begins anew after a connection that was opened then and held for long: it was a good one.
    pub(crate) fn after(&mut self, opened: Option<Instant>) {
        if opened.is_some_and(|opened| opened.elapsed() >= Self::STABLE) {
            self.reset();
        }
    }

    pub(crate) fn reset(&mut self) {
        self.next = Self::FIRST;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: Duration = Duration::from_secs(5);

    #[test]
    fn pauses_double_up_to_the_ceiling_and_begin_anew() {
        let mut backoff = Backoff::new(MAX);
        for _ in 0..2 {
            for full in [200, 400, 800, 1_600, 3_200, 5_000, 5_000, 5_000].map(Duration::from_millis) {
                let pause = backoff.pause();
                assert!(pause >= full / 2 && pause <= full, "{pause:?} of {full:?}");
            }
            backoff.reset();
        }
    }

    #[test]
    fn a_ceiling_below_the_first_pause_is_no_pause_of_zero() {
        let mut backoff = Backoff::new(Duration::ZERO);
        for _ in 0..3 {
            assert!((Backoff::FIRST / 2..=Backoff::FIRST).contains(&backoff.pause()));
        }
    }

    /// Hosts that lost a broker together must not come back together; and the jitter spans the whole half.
    #[test]
    fn no_two_hosts_pause_alike() {
        let pauses = |count: usize| {
            let mut backoff = Backoff::new(Duration::ZERO);
            (0..count).map(|_| backoff.pause()).collect::<Vec<_>>()
        };
        assert_ne!(pauses(10), pauses(10));
        let many = pauses(1_000);
        let middle = Backoff::FIRST * 3 / 4;
        assert!(many.iter().any(|pause| *pause < middle) && many.iter().any(|pause| *pause > middle));
    }
}
