//! How [`Fields`] reads flags, counts, sizes and times: with a default, and within a range.

use std::ops::RangeInclusive;
use std::time::Duration;

use serde_json::Value;

use super::fields::{Fields, must_be};

impl Fields<'_> {
    /// True or false.
    pub(super) fn flag(&self, key: &'static str, default: bool) -> bool {
        let Some(value) = self.value(key) else {
            return default;
        };
        value.as_bool().unwrap_or_else(|| {
            self.error(key, must_be("true or false", value));
            default
        })
    }

    /// A whole number within a range, if given.
    pub(super) fn number(&self, key: &'static str, range: RangeInclusive<u64>) -> Option<u64> {
        let value = self.value(key)?;
        let number = value.as_u64().or_else(|| value.as_f64().and_then(whole));
        if number.is_some_and(|number| range.contains(&number)) {
            return number;
        }
        let right = format!("a whole number from {} to {}", range.start(), range.end());
        self.error(key, out_of_range(&right, value));
        None
    }

    /// A number that need not be whole, within a range.
    pub(super) fn real(&self, key: &'static str, default: f64, range: RangeInclusive<f64>) -> f64 {
        let Some(value) = self.value(key) else { return default };
        if let Some(number) = value.as_f64().filter(|number| range.contains(number)) {
            return number;
        }
        let right = format!("a number from {} to {}", range.start(), range.end());
        self.error(key, out_of_range(&right, value));
        default
    }

    /// A count.
    pub(super) fn count(&self, key: &'static str, default: usize, range: RangeInclusive<u64>) -> usize {
        self.number(key, range).and_then(|n| usize::try_from(n).ok()).unwrap_or(default)
    }

    /// A size in MiB, given in bytes.
    pub(super) fn mebibytes(&self, key: &'static str, default: usize, range: RangeInclusive<u64>) -> usize {
        self.count(key, default, range).saturating_mul(1 << 20)
    }

    /// A time in milliseconds.
    pub(super) fn millis(&self, key: &'static str, default: u64, range: RangeInclusive<u64>) -> Duration {
        Duration::from_millis(self.number(key, range).unwrap_or(default))
    }

    /// A time in seconds; fractions are welcome.
    pub(super) fn seconds(&self, key: &'static str, default: f64, range: RangeInclusive<f64>) -> Duration {
        let given = self.value(key).map(|value| {
            value.as_f64().filter(|seconds| range.contains(seconds)).unwrap_or_else(|| {
                let right = format!("a number of seconds from {} to {}", range.start(), range.end());
                self.error(key, out_of_range(&right, value));
                default
            })
        });
        Duration::try_from_secs_f64(given.unwrap_or(default)).unwrap_or_default()
    }
}

/// `must be RIGHT, not NUMBER`; for values that are no secrets.
fn out_of_range(right: &str, value: &Value) -> String {
    match value {
        Value::Number(number) => format!("must be {right}, not {number}"),
        _ => must_be(right, value),
    }
}

/// A number such as 1e9 or 2.0 as a whole one.
fn whole(number: f64) -> Option<u64> {
    (number.fract() == 0.0 && (0.0..=1e18).contains(&number)).then_some(number as u64)
}
