//! `limits`: of a processor, of a VO and of the host, each bounded by those above it.
//!
//! Turns what is given at the three places into the [`Limits`] of the sandbox.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::fields::Fields;
use crate::sandbox::{MAX_MEMORY_BYTES, MAX_TABLE_ELEMENTS, limits::Limits};

/// The keys of `limits` and what they may be. Their defaults are those of [`Limits`].
const KEYS: [(&str, RangeInclusive<u64>); 10] = [
    ("fuel", 1..=MAX_FUEL),
    ("time_ms", 1..=MAX_TIME_MS),
    ("memory_mb", 1..=(MAX_MEMORY_BYTES >> 20) as u64),
    ("table_elements", 0..=MAX_TABLE_ELEMENTS as u64),
    ("outputs", 0..=1_000_000),
    ("output_mb", 1..=1_024),
    ("log_kb", 0..=1_048_576),
    ("log_kb_s", 1..=1_048_576),
    ("init_fuel", 1..=MAX_FUEL),
    ("init_time_ms", 1..=MAX_TIME_MS),
];

/// Days of computing; keeps sums of fuel far from overflow.
const MAX_FUEL: u64 = 1_000_000_000_000_000;

/// RabbitMQ closes a channel that leaves a delivery without ACK for 30 minutes.
const MAX_TIME_MS: u64 = 1_500_000;

/// The limits that are given at one place, or that apply below it, each with its place.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Budget(BTreeMap<&'static str, Given>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Given {
    value: u64,
    path: String,
}

impl Budget {
    /// Reads the key `limits` of an object that stands under `ceiling`: what is not given is as
    /// above, and what is given must not be more.
    pub(super) fn read(fields: &Fields<'_>, ceiling: &Self) -> Self {
        let own = fields.nested("limits", |limits| Self::read_own(limits, ceiling));
        let mut budget = own.unwrap_or_default();
        for (key, above) in &ceiling.0 {
            budget.0.entry(key).or_insert_with(|| above.clone());
        }
        budget
    }

    fn read_own(limits: &Fields<'_>, ceiling: &Self) -> Self {
        let mut own = Self::default();
        for (key, range) in KEYS {
            let Some(value) = limits.number(key, range) else {
                continue;
            };
            match ceiling.0.get(key).filter(|above| value > above.value) {
                Some(above) => {
                    let Given { value: most, path } = above;
                    limits.error(key, format!("{value} is above the ceiling {most} of {path}"));
                }
                None => drop(own.0.insert(key, Given { value, path: limits.path_of(key) })),
            }
        }
        own
    }

    /// The limits for the sandbox; what is given nowhere has its default.
    pub(super) fn limits(&self) -> Limits {
        let default = Limits::default();
        Limits {
            fuel: self.get("fuel").unwrap_or(default.fuel),
            time: self.get("time_ms").map_or(default.time, Duration::from_millis),
            memory_bytes: self.size("memory_mb", 1 << 20).unwrap_or(default.memory_bytes),
            table_elements: self.size("table_elements", 1).unwrap_or(default.table_elements),
            outputs: self.size("outputs", 1).unwrap_or(default.outputs),
            output_bytes: self.size("output_mb", 1 << 20).unwrap_or(default.output_bytes),
            log_bytes: self.size("log_kb", 1 << 10).unwrap_or(default.log_bytes),
            log_bytes_per_second: self.size("log_kb_s", 1 << 10).unwrap_or(default.log_bytes_per_second),
            init_fuel: self.get("init_fuel").unwrap_or(default.init_fuel),
            init_time: self.get("init_time_ms").map_or(default.init_time, Duration::from_millis),
        }
    }

    fn get(&self, key: &str) -> Option<u64> {
        self.0.get(key).map(|given| given.value)
    }

    fn size(&self, key: &str, unit: usize) -> Option<usize> {
        Some(usize::try_from(self.get(key)?).ok()?.saturating_mul(unit))
    }
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, reason = "a failed test is the answer")]
mod tests {
    use insta::assert_snapshot;
    use serde_json::json;

    use super::super::tests::{config, problems};
    use super::*;

    #[test]
    fn limits_come_from_the_nearest_place() {
        let config = config(&[
            ("limits", json!({"fuel": 2e9, "outputs": 50})),
            ("vos.atlas.limits", json!({"time_ms": 500, "outputs": 20})),
            ("processors.p.vo", json!("atlas")),
            (
                "processors.p.limits",
                json!({
                    "outputs": 10, "memory_mb": 2, "table_elements": 3, "output_mb": 4, "log_kb": 5,
                    "log_kb_s": 8,
                    "init_fuel": 6, "init_time_ms": 7
                }),
            ),
        ]);
        assert_eq!(
            config.processors["p"].limits,
            Limits {
                fuel: 2_000_000_000,
                time: Duration::from_millis(500),
                memory_bytes: 2 << 20,
                table_elements: 3,
                outputs: 10,
                output_bytes: 4 << 20,
                log_bytes: 5 << 10,
                log_bytes_per_second: 8 << 10,
                init_fuel: 6,
                init_time: Duration::from_millis(7),
            }
        );
        assert_eq!((config.limits.outputs, config.vos["atlas"].limits.outputs), (50, 20));
    }

    #[test]
    fn limits_above_a_ceiling_name_both_places() {
        let mut changes = vec![
            ("limits", json!({"fuel": 100, "outputs": 50})),
            ("vos.atlas.limits", json!({"outputs": 51, "time_ms": 500})),
            ("processors.p.limits", json!({"fuel": 101, "time_ms": 501, "memory_mb": 0})),
        ];
        assert_snapshot!(problems(&changes), @"
        vos.atlas.limits.outputs: 51 is above the ceiling 50 of limits.outputs
        processors.p.limits.fuel: 101 is above the ceiling 100 of limits.fuel
        processors.p.limits.memory_mb: must be a whole number from 1 to 1024, not 0
        ");
        changes.push(("processors.p.vo", json!("atlas")));
        assert_snapshot!(problems(&changes), @"
        vos.atlas.limits.outputs: 51 is above the ceiling 50 of limits.outputs
        processors.p.limits.fuel: 101 is above the ceiling 100 of limits.fuel
        processors.p.limits.time_ms: 501 is above the ceiling 500 of vos.atlas.limits.time_ms
        processors.p.limits.memory_mb: must be a whole number from 1 to 1024, not 0
        ");
    }
}
