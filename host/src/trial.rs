//! Whether a new generation is kept: the only place of this policy, pure.
//!
//! Asked by [`crate::stage`] while a candidate is on trial, of which lanes count what it does in a [`Score`]. A failure
//! counts against it only where the stable generation processed the same message well: a bad message is not the
//! candidate's fault.

mod score;

use std::time::Duration;

pub use self::score::{Disputed, Score, Tally, Went};

/// Calls on each side before times and outputs are compared.
const ENOUGH_CALLS: u64 = 50;
/// Outputs that are to be expected before too few or too many of them say anything.
const ENOUGH_OUTPUTS: f64 = 20.0;
/// Timeouts and rejects below this number are chance.
const CHANCE: u64 = 3;
/// A median that is longer by less than this troubles nobody.
const NOTICEABLE: Duration = Duration::from_micros(200);

/// How a new generation is tried out (`rollout`).
#[derive(Debug, Clone, PartialEq)]
pub struct Rollout {
    /// Its trial ends after so many messages.
    pub messages: u64,
    /// Or after this time.
    pub time: Duration,
    /// The share of the lanes that run it, of which there is at least one.
    pub share: f64,
    /// The share of its calls that may trap where the stable one does not.
    pub max_trap_share: f64,
    /// The same for calls that take too long.
    pub max_timeout_share: f64,
    /// The same for messages that it gives up or puts off.
    pub max_reject_share: f64,
    /// The same for messages of which it returns no output.
    pub max_silent_share: f64,
    /// Its median time of a call may be so many times that of the stable one.
    pub max_slowdown: f64,
    /// Its outputs for each message may be so many times fewer, or more.
    pub max_output_change: f64,
    /// Recorded messages that it must process before its trial.
    pub replay: usize,
}

impl Default for Rollout {
    fn default() -> Self {
        Self {
            messages: 1_000,
            time: Duration::from_secs(300),
            share: 1.0,
            max_trap_share: 0.0,
            max_timeout_share: 0.01,
            max_reject_share: 0.01,
            max_silent_share: 0.01,
            max_slowdown: 1.5,
            max_output_change: 2.0,
            replay: 0,
        }
    }
}

/// What is to become of a candidate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Not known yet.
    Wait,
    /// It is the stable one from now on.
    Keep,
    /// It misbehaves, and how.
    RollBack(String),
}

/// Decides. Of the trial is known how long it has lasted, and how many of its messages are under way.
#[must_use]
pub fn judge(
    rollout: &Rollout,
    stable: Tally,
    candidate: Tally,
    disputed: Disputed,
    (age, under_way): (Duration, usize),
) -> Verdict {
    let is_over = candidate.calls >= rollout.messages || age >= rollout.time;
    // At the end nothing is put down to chance any more.
    let chance = if is_over { 1 } else { CHANCE };
    let reason = failing(rollout, candidate, disputed, chance)
        .or_else(|| other_outputs(rollout, stable, candidate))
        .or_else(|| slower(rollout, stable, candidate));
    match reason {
        Some(reason) => Verdict::RollBack(reason),
        // One that hangs with all it has shows nothing yet.
        None if is_over && (candidate.calls > 0 || under_way == 0) => Verdict::Keep,
        None => Verdict::Wait,
    }
}

fn failing(rollout: &Rollout, candidate: Tally, disputed: Disputed, chance: u64) -> Option<String> {
    let calls = candidate.calls.max(1);
    [
        (disputed.traps, 1, rollout.max_trap_share, "it trapped or broke a limit on", "max_trap_share"),
        (disputed.timeouts, chance, rollout.max_timeout_share, "it took too long for", "max_timeout_share"),
        (disputed.rejects, chance, rollout.max_reject_share, "it gave up or put off", "max_reject_share"),
        (disputed.silent, chance, rollout.max_silent_share, "it returned nothing for", "max_silent_share"),
    ]
    .into_iter()
    .find(|(count, least, share, ..)| count >= least && *count as f64 > share * calls as f64)
    .map(|(count, _, _, what, key)| {
        format!("{what} {count} of {calls} messages that the stable generation processed well ({key})")
    })
}

fn other_outputs(rollout: &Rollout, stable: Tally, candidate: Tally) -> Option<String> {
    if stable.well < ENOUGH_CALLS || candidate.well == 0 {
        return None;
    }
    let rate = |tally: Tally| tally.outputs as f64 / tally.well as f64;
    let (expected, got) = (rate(stable) * candidate.well as f64, candidate.outputs as f64);
    let few = expected >= ENOUGH_OUTPUTS && got * rollout.max_output_change < expected;
    let many = got >= ENOUGH_OUTPUTS && got > expected * rollout.max_output_change && candidate.well >= ENOUGH_CALLS;
    (few || many).then(|| {
        format!(
            "it returned {:.2} outputs for each message, the stable generation {:.2} (max_output_change)",
            rate(candidate),
            rate(stable)
        )
    })
}

fn slower(rollout: &Rollout, stable: Tally, candidate: Tally) -> Option<String> {
    let enough = stable.calls >= ENOUGH_CALLS && candidate.calls >= ENOUGH_CALLS;
    let bound = stable.median.mul_f64(rollout.max_slowdown).max(stable.median + NOTICEABLE);
    (enough && candidate.median > bound).then(|| {
        format!(
            "half of its calls take longer than {} us, of the stable generation {} us (max_slowdown)",
            candidate.median.as_micros(),
            stable.median.as_micros()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const STABLE: Tally =
        Tally { calls: 1_000, well: 1_000, outputs: 660, traps: 0, timeouts: 0, rejects: 0, median: ms(2) };
    const FINE: Disputed = Disputed { traps: 0, timeouts: 0, rejects: 0, silent: 0 };

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn after(calls: u64, outputs: u64, median: Duration, disputed: Disputed) -> Verdict {
        let candidate = Tally { calls, well: calls, outputs, median, ..Tally::default() };
        judge(&Rollout::default(), STABLE, candidate, disputed, (ms(10), 0))
    }

    fn is_back(verdict: &Verdict, key: &str) -> bool {
        matches!(verdict, Verdict::RollBack(reason) if reason.contains(key))
    }

    #[test]
    fn one_that_does_the_same_is_kept_after_so_many_messages_or_so_long() {
        assert_eq!(after(999, 660, ms(2), FINE), Verdict::Wait);
        assert_eq!(after(1_000, 660, ms(2), FINE), Verdict::Keep);
        let none = Tally::default();
        assert_eq!(judge(&Rollout::default(), STABLE, none, FINE, (ms(299_999), 0)), Verdict::Wait);
        assert_eq!(judge(&Rollout::default(), STABLE, none, FINE, (ms(300_000), 0)), Verdict::Keep);
    }

    #[test]
    fn one_that_hangs_with_all_it_has_is_not_kept_and_at_the_end_nothing_is_chance() {
        let (end, none) = (Rollout::default().time, Tally::default());
        assert_eq!(judge(&Rollout::default(), STABLE, none, FINE, (end, 2)), Verdict::Wait);
        let hung = Tally { calls: 2, timeouts: 2, ..none };
        let verdict = judge(&Rollout::default(), STABLE, hung, Disputed { timeouts: 1, ..FINE }, (end, 2));
        assert!(is_back(&verdict, "max_timeout_share"), "{verdict:?}");
    }

    #[test]
    fn one_trap_is_enough_and_some_timeouts_or_rejects_are_chance() {
        assert!(is_back(&after(10, 7, ms(2), Disputed { traps: 1, ..FINE }), "max_trap_share"));
        for (disputed, key) in [
            (Disputed { timeouts: 3, ..FINE }, "max_timeout_share"),
            (Disputed { rejects: 3, ..FINE }, "max_reject_share"),
            (Disputed { silent: 3, ..FINE }, "max_silent_share"),
        ] {
            assert!(is_back(&after(250, 165, ms(2), disputed), key), "{key}");
            assert_eq!(after(301, 199, ms(2), disputed), Verdict::Wait, "{key}: below 1 %");
        }
        assert_eq!(after(10, 7, ms(2), Disputed { timeouts: 2, rejects: 2, ..FINE }), Verdict::Wait);
    }

    #[test]
    fn one_that_returns_nothing_or_too_much_goes_back() {
        assert_eq!(after(30, 0, ms(2), FINE), Verdict::Wait, "19.8 outputs were to be expected");
        assert!(is_back(&after(31, 0, ms(2), FINE), "max_output_change"));
        assert!(is_back(&after(100, 32, ms(2), FINE), "max_output_change"));
        assert_eq!(after(100, 34, ms(2), FINE), Verdict::Wait);
        assert!(is_back(&after(100, 140, ms(2), FINE), "max_output_change"));
        assert_eq!(after(100, 130, ms(2), FINE), Verdict::Wait);
        let quiet = Tally { outputs: 0, ..STABLE };
        let candidate = Tally { calls: 100, well: 100, outputs: 40, ..Tally::default() };
        assert!(is_back(&judge(&Rollout::default(), quiet, candidate, FINE, (ms(1), 0)), "max_output_change"));
    }

    #[test]
    fn one_that_is_slower_goes_back_where_it_matters() {
        assert!(is_back(&after(50, 33, ms(4), FINE), "max_slowdown"));
        assert_eq!(after(49, 33, ms(4), FINE), Verdict::Wait, "too few calls");
        assert_eq!(after(50, 33, ms(3), FINE), Verdict::Wait);
        let fast = Tally { median: Duration::from_micros(6), ..STABLE };
        let candidate = Tally { calls: 500, well: 500, outputs: 330, median: Duration::from_micros(60), ..STABLE };
        assert_eq!(judge(&Rollout::default(), fast, candidate, FINE, (ms(1), 0)), Verdict::Wait, "nobody notices");
    }

    #[test]
    fn without_a_past_only_failures_count() {
        let candidate = Tally { calls: 500, well: 500, outputs: 0, median: ms(100), ..Tally::default() };
        assert_eq!(judge(&Rollout::default(), Tally::default(), candidate, FINE, (ms(1), 0)), Verdict::Wait);
    }
}
