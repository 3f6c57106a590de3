//! How a new generation of a processor is tried out: `rollout`.

use std::ops::RangeInclusive;

use super::fields::Fields;
use crate::trial::Rollout;

const SHARE: RangeInclusive<f64> = 0.0..=1.0;

/// Reads it; what it does not say has its default.
pub(super) fn read(fields: &Fields<'_>) -> Rollout {
    let default = Rollout::default();
    Rollout {
        messages: fields.number("messages", 0..=1_000_000).unwrap_or(default.messages),
        time: fields.seconds("trial_s", default.time.as_secs_f64(), 0.0..=86_400.0),
        share: fields.real("lanes", default.share, SHARE),
        max_trap_share: fields.real("max_trap_share", default.max_trap_share, SHARE),
        max_timeout_share: fields.real("max_timeout_share", default.max_timeout_share, SHARE),
        max_reject_share: fields.real("max_reject_share", default.max_reject_share, SHARE),
        max_silent_share: fields.real("max_silent_share", default.max_silent_share, SHARE),
        max_slowdown: fields.real("max_slowdown", default.max_slowdown, 1.0..=1_000.0),
        max_output_change: fields.real("max_output_change", default.max_output_change, 1.0..=1_000_000.0),
        replay: fields.count("replay", default.replay, 0..=1_000),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::config::tests::config;

    #[test]
    fn each_parameter_of_rollout_reaches_the_processor() {
        let given = json!({
            "messages": 7, "trial_s": 2.5, "lanes": 0.5, "max_trap_share": 0.1, "max_timeout_share": 0.2,
            "max_reject_share": 0.3, "max_silent_share": 0.4, "max_slowdown": 3, "max_output_change": 4, "replay": 5
        });
        let expected = Rollout {
            messages: 7,
            time: Duration::from_millis(2_500),
            share: 0.5,
            max_trap_share: 0.1,
            max_timeout_share: 0.2,
            max_reject_share: 0.3,
            max_silent_share: 0.4,
            max_slowdown: 3.0,
            max_output_change: 4.0,
            replay: 5,
        };
        assert_eq!(config(&[("processors.p.rollout", given)]).processors["p"].rollout, expected);
        assert_eq!(config(&[]).processors["p"].rollout, Rollout::default());
    }
}
