//! What a generation did, counted: for the page of operators, and for the verdict over a candidate.
//!
//! Lanes count with every call, so nothing here locks. Beside the sums since its beginning a score keeps what its last
//! calls did, since a candidate is held against what the stable generation does now.

use std::{
    sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

use crate::outcome::{CallError, Outcome};

/// The last calls that count: at least so many, at most twice as many.
const RECENT: u64 = 1_000;
/// Eight buckets to each doubling of microseconds, up to more than an hour.
const BUCKETS: usize = 8 * 33;

/// How a call went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Went {
    /// With so many outputs.
    Well(u64),
    /// It trapped, broke a limit, or there was no instance.
    Trap,
    /// It took too long.
    Timeout,
    /// It gave the message up, or put it off.
    Reject,
}

impl Went {
    /// What a call returned.
    #[must_use]
    pub fn of(result: Result<&Outcome, &CallError>) -> Self {
        match result {
            Ok(Outcome::Ok(outputs)) => Self::Well(outputs.len() as u64),
            Ok(Outcome::Retry { .. } | Outcome::Reject(_) | Outcome::Unavailable(_)) => Self::Reject,
            Err(CallError::Deadline { .. }) => Self::Timeout,
            Err(_) => Self::Trap,
        }
    }
}

impl Went {
    /// Whether a call on the same message went better than another one.
    #[must_use]
    pub fn is_better_than(self, other: Self) -> bool {
        match (self, other) {
            (Self::Well(outputs), Self::Well(others)) => outputs > 0 && others == 0,
            (Self::Well(_), _) => true,
            _ => false,
        }
    }
}

/// What calls did, added up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// All calls.
    pub calls: u64,
    /// Calls that went well.
    pub well: u64,
    /// Their outputs.
    pub outputs: u64,
    /// Calls that trapped or broke a limit.
    pub traps: u64,
    /// Calls that took too long.
    pub timeouts: u64,
    /// Messages that were given up or put off.
    pub rejects: u64,
    /// Half of the calls were faster.
    pub median: Duration,
}

/// What a candidate did with messages of which the stable generation then made more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Disputed {
    /// It trapped, broke a limit, or there was no instance.
    pub traps: u64,
    /// It took too long.
    pub timeouts: u64,
    /// It gave the message up or put it off, or the broker refused its outputs.
    pub rejects: u64,
    /// It returned no output.
    pub silent: u64,
}

#[derive(Debug)]
struct Counts {
    calls: AtomicU64,
    well: AtomicU64,
    outputs: AtomicU64,
    traps: AtomicU64,
    timeouts: AtomicU64,
    rejects: AtomicU64,
    times: [AtomicU32; BUCKETS],
}

impl Default for Counts {
    fn default() -> Self {
        let [calls, well, outputs, traps, timeouts, rejects] = [const { AtomicU64::new(0) }; 6];
        Self { calls, well, outputs, traps, timeouts, rejects, times: [const { AtomicU32::new(0) }; BUCKETS] }
    }
}

impl Counts {
    fn add(&self, went: Went, took: Duration) -> u64 {
        match went {
            Went::Well(outputs) => {
                self.well.fetch_add(1, Relaxed);
                self.outputs.fetch_add(outputs, Relaxed);
            }
            Went::Trap => drop(self.traps.fetch_add(1, Relaxed)),
            Went::Timeout => drop(self.timeouts.fetch_add(1, Relaxed)),
            Went::Reject => drop(self.rejects.fetch_add(1, Relaxed)),
        }
        if let Some(bucket) = self.times.get(bucket(took)) {
            bucket.fetch_add(1, Relaxed);
        }
        self.calls.fetch_add(1, Relaxed) + 1
    }

    fn clear(&self) {
        let Self { calls, well, outputs, traps, timeouts, rejects, times } = self;
        [calls, well, outputs, traps, timeouts, rejects].into_iter().for_each(|count| count.store(0, Relaxed));
        times.iter().for_each(|count| count.store(0, Relaxed));
    }
}

/// The bucket of a time, and of a bucket the longest time in it.
fn bucket(took: Duration) -> usize {
    let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1);
    let doublings = micros.ilog2();
    let within = ((micros << 3) >> doublings) & 7;
    (doublings as usize * 8 + within as usize).min(BUCKETS - 1)
}

fn longest(bucket: usize) -> Duration {
    let (doublings, within) = (bucket / 8, bucket as u64 % 8);
    Duration::from_nanos((((9 + within) * 1_000) << doublings) / 8)
}

/// What one generation did.
#[derive(Debug, Default)]
pub struct Score {
    all: Counts,
    recent: [Counts; 2],
    turn: AtomicUsize,
    disputed: [AtomicU64; 4],
}

impl Score {
    /// Counts a call. One that is not `usual`, with a message that somebody else could not do, says nothing of what this
    /// generation does with the messages of the queue.
    pub fn add(&self, went: Went, took: Duration, usual: bool) {
        self.all.add(went, took);
        if !usual {
            return;
        }
        let turn = self.turn.load(Relaxed);
        let Some(now) = self.recent.get(turn & 1) else { return };
        if now.add(went, took) == RECENT
            && let Some(next) = self.recent.get((turn + 1) & 1)
        {
            next.clear();
            self.turn.store(turn + 1, Relaxed);
        }
    }

    /// Counts a call on a message of which the stable generation then made more.
    pub fn dispute(&self, went: Went) {
        let [traps, timeouts, rejects, silent] = &self.disputed;
        match went {
            Went::Well(_) => drop(silent.fetch_add(1, Relaxed)),
            Went::Trap => drop(traps.fetch_add(1, Relaxed)),
            Went::Timeout => drop(timeouts.fetch_add(1, Relaxed)),
            Went::Reject => drop(rejects.fetch_add(1, Relaxed)),
        }
    }

    /// What the stable generation did better.
    #[must_use]
    pub fn disputed(&self) -> Disputed {
        let [traps, timeouts, rejects, silent] = self.disputed.each_ref().map(|count| count.load(Relaxed));
        Disputed { traps, timeouts, rejects, silent }
    }

    /// All calls so far.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.all.calls.load(Relaxed)
    }

    /// What all calls did.
    #[must_use]
    pub fn all(&self) -> Tally {
        tally(&[&self.all])
    }

    /// What the last calls did.
    #[must_use]
    pub fn recent(&self) -> Tally {
        tally(&self.recent.each_ref())
    }
}

fn tally(counts: &[&Counts]) -> Tally {
    let sum = |of: fn(&Counts) -> &AtomicU64| counts.iter().map(|counts| of(counts).load(Relaxed)).sum();
    let times =
        |at: usize| counts.iter().filter_map(move |counts| counts.times.get(at)).map(|n| u64::from(n.load(Relaxed)));
    let half = (0..BUCKETS).flat_map(times).sum::<u64>().div_ceil(2);
    let mut passed = 0;
    let median = (0..BUCKETS).find(|at| {
        passed += times(*at).sum::<u64>();
        passed >= half && passed > 0
    });
    Tally {
        calls: sum(|counts| &counts.calls),
        well: sum(|counts| &counts.well),
        outputs: sum(|counts| &counts.outputs),
        traps: sum(|counts| &counts.traps),
        timeouts: sum(|counts| &counts.timeouts),
        rejects: sum(|counts| &counts.rejects),
        median: median.map_or(Duration::ZERO, longest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_within_an_eighth() {
        for micros in [1, 3, 10, 100, 999, 12_345, 3_600_000_000] {
            let score = Score::default();
            for part in [0.5, 1.0, 1.0, 1.0, 40.0] {
                score.add(Went::Well(1), Duration::from_micros(micros).mul_f64(part), true);
            }
            let (median, exact) = (score.all().median.as_secs_f64(), micros as f64 / 1e6);
            assert!((exact..=exact * 1.26).contains(&median), "{micros} us: {median}");
        }
        assert_eq!(Score::default().all().median, Duration::ZERO);
    }

    #[test]
    fn recent_forgets_and_all_does_not() {
        let score = Score::default();
        (0..RECENT).for_each(|_| score.add(Went::Trap, Duration::ZERO, true));
        assert_eq!((score.recent().traps, score.recent().calls), (RECENT, RECENT));
        (0..2 * RECENT).for_each(|_| score.add(Went::Well(3), Duration::ZERO, true));
        let (recent, all) = (score.recent(), score.all());
        assert_eq!((recent.traps, recent.well), (0, RECENT), "{recent:?}");
        assert_eq!((all.calls, all.traps, all.outputs), (3 * RECENT, RECENT, 6 * RECENT));
    }

    #[test]
    fn what_another_could_not_do_is_not_what_it_usually_does() {
        let score = Score::default();
        (0..100).for_each(|_| score.add(Went::Well(1), Duration::from_millis(1), true));
        (0..900).for_each(|_| score.add(Went::Well(0), Duration::from_millis(9), false));
        let recent = score.recent();
        assert_eq!((recent.calls, recent.outputs, score.calls()), (100, 100, 1_000));
        assert!(recent.median < Duration::from_millis(2), "{recent:?}");
    }

    #[test]
    fn each_outcome_counts_as_one_kind() {
        let reason = || crate::outcome::Reason::new("why", "because");
        let (retry, trap) = (Outcome::Retry { reason: reason(), delay: None }, CallError::Trap("x".into()));
        let late = CallError::Deadline { limit: Duration::ZERO };
        assert_eq!(Went::of(Ok(&Outcome::Ok(vec![]))), Went::Well(0));
        for rejected in [retry, Outcome::Reject(reason()), Outcome::Unavailable(reason())] {
            assert_eq!(Went::of(Ok(&rejected)), Went::Reject);
        }
        assert_eq!((Went::of(Err(&trap)), Went::of(Err(&late))), (Went::Trap, Went::Timeout));
    }
}
