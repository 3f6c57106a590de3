//! Deliveries held un-acked until they are due: the back-off, and a quota so that a flood of failures
//! cannot stop a queue.
//!
//! A plain data structure: [`crate::buffer`] keeps one per processor under its lock.

use std::{
    cmp::Ordering,
    collections::BinaryHeap,
    time::{Duration, Instant},
};

use crate::delivery::Delivery;

/// How long a message is tried in ack mode client.
const HURRY: Duration = Duration::from_secs(5);

/// When and how often a delivery is given again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Attempts in all, the first included; after the last the message is a dead letter.
    pub max_attempts: u32,
    /// The pause after the first attempt; it doubles with each further one.
    pub min_delay: Duration,
    /// The longest pause, also for a pause that a processor asks for.
    pub max_delay: Duration,
    /// How long `unavailable` is not counted as an attempt.
    pub max_unavailable: Duration,
    /// How long it is tried at all: set in ack mode client, where one that waits keeps all behind it from
    /// being acknowledged.
    pub max_time: Option<Duration>,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            max_attempts: 5,
            min_delay: Duration::from_secs(1),
            max_delay: Duration::from_secs(60),
            max_unavailable: Duration::from_secs(3_600),
            max_time: None,
        }
    }
}

impl RetryPolicy {
    /// The policy for ack mode client: all attempts within a few seconds.
    #[must_use]
    pub fn hurried(self) -> Self {
        let longest = HURRY / self.max_attempts.max(1);
        Self {
            min_delay: self.min_delay.min(longest),
            max_delay: self.max_delay.min(longest),
            max_time: Some(HURRY),
            ..self
        }
    }

    /// The pause before the attempt after this one. `jitter` in 0..1 spreads messages that failed
    /// together over the upper half of the pause.
    #[must_use]
    pub fn delay(&self, attempt: u32, asked: Option<Duration>, jitter: f64) -> Duration {
        let doubled =
            || self.min_delay.saturating_mul(1_u32.checked_shl(attempt.saturating_sub(1)).unwrap_or(u32::MAX));
        match asked {
            Some(asked) => asked.min(self.max_delay),
            None => doubled().min(self.max_delay).mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0),
        }
    }
}

/// Pauses that double, for what a processor waits for itself: `initialize`, or a service that is away.
#[derive(Debug)]
pub struct Pauses(Duration);

impl Default for Pauses {
    fn default() -> Self {
        Self(Duration::from_millis(500))
    }
}

impl Pauses {
    const LONGEST: Duration = Duration::from_secs(60);

    /// The pause before the next try.
    pub fn next_pause(&mut self) -> Duration {
        let pause = self.0;
        self.0 = (pause * 2).min(Self::LONGEST);
        pause
    }
}

/// Deliveries in the order in which they are due.
#[derive(Debug)]
pub(crate) struct Held {
    heap: BinaryHeap<Waiting>,
    quota: usize,
    pushed: u64,
}

#[derive(Debug)]
struct Waiting {
    due: Instant,
    order: u64,
    delivery: Delivery,
}

impl Held {
    /// Holds at most `quota` at rest; at least one.
    pub(crate) fn new(quota: usize) -> Self {
        Self { heap: BinaryHeap::new(), quota: quota.max(1), pushed: 0 }
    }

    pub(crate) fn push(&mut self, delivery: Delivery, due: Instant) {
        self.pushed += 1;
        self.heap.push(Waiting { due, order: self.pushed, delivery });
    }

    /// Takes the one due soonest if it is due, or if more are held than the quota allows: then it is
    /// retried now, so that a flood drains to the dead letter.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<Delivery> {
        let due = self.heap.len() > self.quota || self.heap.peek().is_some_and(|first| first.due <= now);
        if due { self.pop_any() } else { None }
    }

    /// Takes the one due soonest, due or not.
    pub(crate) fn pop_any(&mut self) -> Option<Delivery> {
        self.heap.pop().map(|first| first.delivery)
    }

    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.heap.peek().map(|first| first.due)
    }

    pub(crate) fn len(&self) -> usize {
        self.heap.len()
    }

    /// Whether one of them is like this.
    pub(crate) fn any(&self, mut wanted: impl FnMut(&Delivery) -> bool) -> bool {
        self.heap.iter().any(|waiting| wanted(&waiting.delivery))
    }

    /// Moves to `removed` those that are like this.
    pub(crate) fn remove_if(&mut self, mut wanted: impl FnMut(&Delivery) -> bool, removed: &mut Vec<Delivery>) {
        if !self.any(&mut wanted) {
            return;
        }
        for waiting in std::mem::take(&mut self.heap) {
            if wanted(&waiting.delivery) {
                removed.push(waiting.delivery);
            } else {
                self.heap.push(waiting);
            }
        }
    }
}

impl Ord for Waiting {
    /// The heap gives the greatest first: the earliest, and among equals the one held longest.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.due, other.order).cmp(&(self.due, self.order))
    }
}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Waiting {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::testing::delivery;

    fn policy() -> RetryPolicy {
        RetryPolicy {
            max_attempts: 5,
            min_delay: Duration::from_secs(1),
            max_delay: Duration::from_secs(60),
            max_unavailable: Duration::from_secs(3600),
            max_time: None,
        }
    }

    #[test]
    fn the_back_off_doubles_and_is_clamped() {
        let full = |attempt| policy().delay(attempt, None, 1.0).as_secs();
        assert_eq!([1, 2, 3, 7, 40, u32::MAX].map(full), [1, 2, 4, 60, 60, 60]);
        assert_eq!(policy().delay(1, None, 0.0), Duration::from_millis(500));
    }

    #[test]
    fn a_processors_own_delay_is_clamped() {
        assert_eq!(policy().delay(1, Some(Duration::from_millis(3)), 0.5), Duration::from_millis(3));
        assert_eq!(policy().delay(1, Some(Duration::MAX), 0.5), Duration::from_secs(60));
    }

    #[test]
    fn in_a_hurry_all_attempts_fit_into_seconds() {
        let hurried = policy().hurried();
        let pauses: Duration = (1..5).map(|attempt| hurried.delay(attempt, Some(Duration::MAX), 1.0)).sum();
        assert!(pauses <= HURRY && hurried.max_time == Some(HURRY), "{pauses:?}");
        assert_eq!(hurried.max_attempts, 5);
    }

    #[test]
    fn nothing_comes_before_it_is_due() {
        let (now, mut held) = (Instant::now(), Held::new(10));
        held.push(delivery("late"), now + Duration::from_secs(2));
        held.push(delivery("soon"), now + Duration::from_secs(1));
        assert!(held.pop_due(now).is_none());
        assert_eq!(held.next_due(), Some(now + Duration::from_secs(1)));
        assert_eq!(held.pop_due(now + Duration::from_secs(1)).unwrap().message.id(), "soon");
        assert!(held.pop_due(now + Duration::from_secs(1)).is_none());
    }

    #[test]
    fn at_the_quota_the_one_due_soonest_is_retried_now() {
        let (now, mut held) = (Instant::now(), Held::new(2));
        for (id, seconds) in [("c", 30), ("a", 10), ("b", 20)] {
            held.push(delivery(id), now + Duration::from_secs(seconds));
        }
        assert_eq!(held.pop_due(now).unwrap().message.id(), "a");
        assert!(held.pop_due(now).is_none());
        assert_eq!(held.len(), 2);
    }
}
