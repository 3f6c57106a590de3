//! The messages over a limit that a broker has outstanding with one connection, and what is told of them.
//!
//! Kept by [`super::epoch::Epoch`]; it writes no frame and logs nothing. Bounded, also where a broker does not heed
//! the window: what is beyond twice the window is counted alone.

use tokio::time::{Duration, Instant};

use crate::stomp::Headers;

/// How often the same is told of them.
pub(super) const ALARM: Duration = Duration::from_secs(60);
/// What still comes so long after they took all of the window was not on its way then.
const SETTLES: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
pub(super) struct Left {
    kept: Vec<One>,
    /// How many there are, and their bytes: also those that are not kept.
    pub(super) count: usize,
    pub(super) bytes: usize,
    /// Whether any message came since the last look.
    arrived: bool,
    full_since: Option<Instant>,
    told: Option<Instant>,
}

#[derive(Debug)]
struct One {
    headers: Headers,
    bytes: usize,
    since: Instant,
}

/// What is wrong when they take all of the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Alarm {
    /// Nothing else can come.
    StandsStill,
    /// The broker sends on all the same.
    KeepsComing,
}

impl Left {
    pub(super) fn add(&mut self, headers: Headers, bytes: usize, window: usize) {
        self.count += 1;
        self.bytes = self.bytes.saturating_add(bytes);
        if self.kept.len() < window.max(1).saturating_mul(2) {
            self.kept.push(One { headers, bytes, since: Instant::now() });
        }
    }

    /// A message came, of whatever size.
    pub(super) fn arrived(&mut self) {
        self.arrived = true;
    }

    /// What is to be told now; asked about once a second.
    pub(super) fn look(&mut self, is_full: bool) -> Option<Alarm> {
        let arrived = std::mem::take(&mut self.arrived);
        if !is_full {
            self.full_since = None;
            return None;
        }
        let full_for = self.full_since.get_or_insert_with(Instant::now).elapsed();
        let is_clear = !arrived || full_for >= SETTLES;
        if !is_clear || self.told.is_some_and(|told| told.elapsed() < ALARM) {
            return None;
        }
        self.told = Some(Instant::now());
        Some(if arrived { Alarm::KeepsComing } else { Alarm::StandsStill })
    }

    /// Takes out those that have been here for longer: the headers of each.
    pub(super) fn take_older(&mut self, than: Duration) -> Vec<Headers> {
        let older: Vec<One> = self.kept.extract_if(.., |one| one.since.elapsed() > than).collect();
        self.count = self.count.saturating_sub(older.len());
        self.bytes = older.iter().fold(self.bytes, |bytes, one| bytes.saturating_sub(one.bytes));
        older.into_iter().map(|one| one.headers).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: usize = 10;

    fn full() -> Left {
        let mut left = Left::default();
        (0..WINDOW).for_each(|_| left.add(Headers::default(), 7, WINDOW));
        left
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_broker_sends_beyond_the_window_is_counted_and_not_kept() {
        let mut left = full();
        (0..100_000).for_each(|_| left.add(Headers::default(), 7, WINDOW));
        assert_eq!((left.count, left.bytes), (100_010, 700_070));
        assert_eq!(left.kept.len(), 2 * WINDOW);
        tokio::time::advance(ALARM).await;
        assert_eq!(left.take_older(ALARM / 2).len(), 2 * WINDOW);
        assert_eq!((left.count, left.bytes), (99_990, 699_930));
    }

    #[tokio::test(start_paused = true)]
    async fn a_queue_stands_still_only_where_nothing_comes() {
        let mut left = full();
        left.arrived();
        assert_eq!(left.look(true), None, "it may have been the last");
        assert_eq!((left.look(false), left.look(true)), (None, Some(Alarm::StandsStill)));
        for expected in [None, Some(Alarm::KeepsComing), None] {
            left.arrived();
            assert_eq!(left.look(true), expected, "once a minute");
            tokio::time::advance(ALARM / 2).await;
            tokio::time::advance(if expected.is_none() { ALARM / 2 } else { Duration::ZERO }).await;
        }
    }
}
