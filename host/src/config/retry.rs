//! How often and how fast a failed message is tried again: `retry`.

use super::fields::Fields;
use crate::retry::RetryPolicy;

/// No delivery is held longer than 10 minutes by default, so a longer delay would not be one.
const LONGEST_DELAY_MS: u64 = 600_000;

/// Reads a policy; what it does not say has its default.
pub(super) fn read(fields: &Fields<'_>) -> RetryPolicy {
    let attempts = fields.number("max_attempts", 1..=1_000);
    let max_delay = fields.millis("max_delay_ms", 60_000, 1..=LONGEST_DELAY_MS);
    let min_delay = fields.millis("min_delay_ms", 1_000, 1..=LONGEST_DELAY_MS);
    if min_delay > max_delay && fields.value("min_delay_ms").is_some() {
        let message = format!("is above max_delay_ms, which is {}", max_delay.as_millis());
        fields.error("min_delay_ms", message);
    }
    RetryPolicy {
        max_attempts: attempts.and_then(|n| u32::try_from(n).ok()).unwrap_or(5),
        min_delay: min_delay.min(max_delay),
        max_delay,
        max_unavailable: fields.seconds("max_unavailable_s", 3_600.0, 0.0..=604_800.0),
        max_time: None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::config::tests::config;

    #[test]
    fn each_parameter_of_retry_reaches_the_policy_of_the_processor() {
        let retry = json!({"max_attempts": 3, "min_delay_ms": 5, "max_delay_ms": 10, "max_unavailable_s": 7});
        let policy = RetryPolicy {
            max_attempts: 3,
            min_delay: Duration::from_millis(5),
            max_delay: Duration::from_millis(10),
            max_unavailable: Duration::from_secs(7),
            max_time: None,
        };
        for object in ["queues.q.retry", "processors.p.retry"] {
            assert_eq!(config(&[(object, retry.clone())]).processors["p"].retry, policy, "{object}");
        }
    }
}
