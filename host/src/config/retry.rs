//! How often and how fast a failed message is tried again: `retry`.

use std::time::Duration;

use super::fields::Fields;

/// When a failed message is tried again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Attempts in all before the dead letter, at least 1.
    pub max_attempts: u32,
    /// The first delay; later ones double.
    pub min_delay: Duration,
    /// The longest delay.
    pub max_delay: Duration,
    /// How long `unavailable` is not counted as an attempt.
    pub max_unavailable: Duration,
}

const MIN_DELAY_MS: u64 = 1_000;

/// No delivery is held longer than 10 minutes by default, so a longer delay would not be one.
const LONGEST_DELAY_MS: u64 = 600_000;

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            max_attempts: 5,
            min_delay: Duration::from_millis(MIN_DELAY_MS),
            max_delay: Duration::from_secs(60),
            max_unavailable: Duration::from_secs(3_600),
        }
    }
}

impl RetryPolicy {
    pub(super) fn read(fields: &Fields<'_>) -> Self {
        let attempts = fields.number("max_attempts", 1..=1_000);
        let max_delay = fields.millis("max_delay_ms", 60_000, 1..=LONGEST_DELAY_MS);
        let min_delay = fields.millis("min_delay_ms", MIN_DELAY_MS, 1..=LONGEST_DELAY_MS);
        if min_delay > max_delay && fields.value("min_delay_ms").is_some() {
            let message = format!("is above max_delay_ms, which is {}", max_delay.as_millis());
            fields.error("min_delay_ms", message);
        }
        Self {
            max_attempts: attempts.and_then(|n| u32::try_from(n).ok()).unwrap_or(5),
            min_delay: min_delay.min(max_delay),
            max_delay,
            max_unavailable: fields.seconds("max_unavailable_s", 3_600.0, 0.0..=604_800.0),
        }
    }
}
