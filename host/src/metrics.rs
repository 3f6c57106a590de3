//! What a processor did, counted.
//!
//! Lanes and settlement count; the demo's table, the log at the end and [`crate::admin`] read. Every delivery that a lane
//! took ends in exactly one of forwarded, filtered, dead-lettered or (after a break) possible duplicate, or is
//! given back to the broker and counted again when it comes again. One that is given back although a part of its
//! outputs had arrived counts as a possible duplicate, too. Names of metrics stand in `admin/page.rs`.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use hdrhistogram::Histogram;

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    pub fn add_one(&self) {
        self.add(1);
    }

    /// Adds that many.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// The sum so far.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The kinds of failed calls: the codes of `CallError`, and `initialize`. Any other is counted as a trap.
const FAILURES: [&str; 7] = ["trap", "fuel", "deadline", "memory", "output-limit", "output-invalid", "initialize"];

/// Failed calls by their code.
#[derive(Debug, Default)]
pub struct Failures([Counter; FAILURES.len()]);

impl Failures {
    /// Counts a failure of this code.
    pub fn add_one(&self, code: &str) {
        let at = FAILURES.iter().position(|known| *known == code).unwrap_or_default();
        if let Some(counter) = self.0.get(at) {
            counter.add_one();
        }
    }

    /// All failures so far.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.iter().map(Counter::get).sum()
    }

    /// The failures of each code.
    pub fn by_code(&self) -> impl Iterator<Item = (&'static str, u64)> {
        FAILURES.into_iter().zip(&self.0).map(|(code, counter)| (code, counter.get()))
    }
}

/// Upper bounds of the buckets of latency, in seconds.
pub const LATENCY_BUCKETS: [f64; 16] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 600.0, f64::INFINITY];

/// Latencies counted in buckets.
#[derive(Debug, Clone, PartialEq)]
pub struct LatencyBuckets {
    /// Settled deliveries.
    pub count: u64,
    /// Their latencies added up, in seconds.
    pub sum: f64,
    /// Each upper bound in seconds, and how many are between it and the one before.
    pub buckets: Vec<(f64, u64)>,
}

/// Upper bounds of the buckets of fuel, in units.
pub const FUEL_BUCKETS: [f64; 9] = [1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e12, f64::INFINITY];

/// Fuel by call.
#[derive(Debug, Default)]
pub struct Fuel {
    used: Counter,
    buckets: [Counter; FUEL_BUCKETS.len()],
}

impl Fuel {
    /// Counts what a call used.
    pub fn record(&self, units: u64) {
        self.used.add(units);
        let at = FUEL_BUCKETS.iter().position(|bound| units as f64 <= *bound);
        if let Some(bucket) = at.and_then(|at| self.buckets.get(at)) {
            bucket.add_one();
        }
    }

    /// The fuel of all calls.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.used.get()
    }

    /// Each upper bound in units, and how many calls are between it and the one before.
    #[must_use]
    pub fn buckets(&self) -> Vec<(f64, u64)> {
        FUEL_BUCKETS.iter().zip(&self.buckets).map(|(bound, calls)| (*bound, calls.get())).collect()
    }
}

/// The counters of one processor.
#[derive(Debug)]
pub struct ProcessorMetrics {
    /// Deliveries given to the processor for the first time.
    pub received: Counter,
    /// Acknowledged after all outputs were confirmed.
    pub forwarded: Counter,
    /// Acknowledged without an output.
    pub filtered: Counter,
    /// Confirmed dead letters.
    pub dead_lettered: Counter,
    /// Held for another attempt, or run again in a fresh instance.
    pub retried: Counter,
    /// Outputs confirmed by the broker.
    pub outputs: Counter,
    /// Outputs that the processor returned although no `out_queue` is configured; PanDA ignores them too.
    pub unsent: Counter,
    /// Settled although their session was gone: the broker delivers them again.
    pub possible_duplicates: Counter,
    /// Failed calls of instances: trap, fuel, deadline, memory, output, initialize.
    pub failures: Failures,
    /// Calls of the component.
    pub calls: Counter,
    /// Fuel used by its calls.
    pub fuel: Fuel,
    latency: Mutex<Option<Histogram<u64>>>,
    latency_micros: Counter,
}

/// Latency from reading a message to settling it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Latency {
    /// Half of the messages were faster.
    pub p50: Duration,
    /// 99 of 100 were faster.
    pub p99: Duration,
    /// The slowest.
    pub max: Duration,
}

impl Default for ProcessorMetrics {
    fn default() -> Self {
        // Up to an hour in microseconds at two digits; none only if that were out of range.
        let latency = Mutex::new(Histogram::new_with_bounds(1, 3_600_000_000, 2).ok());
        Self {
            received: Counter::default(),
            forwarded: Counter::default(),
            filtered: Counter::default(),
            dead_lettered: Counter::default(),
            retried: Counter::default(),
            outputs: Counter::default(),
            unsent: Counter::default(),
            possible_duplicates: Counter::default(),
            failures: Failures::default(),
            calls: Counter::default(),
            fuel: Fuel::default(),
            latency,
            latency_micros: Counter::default(),
        }
    }
}

impl ProcessorMetrics {
    /// Records how long a delivery took from socket to settlement.
    pub fn settled_after(&self, elapsed: Duration) {
        let micros = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
        self.latency_micros.add(micros);
        if let Some(histogram) = self.latency.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            histogram.saturating_record(micros);
        }
    }

    /// The latency so far.
    #[must_use]
    pub fn latency(&self) -> Latency {
        let guard = self.latency.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(histogram) = guard.as_ref() else { return Latency::default() };
        let at = |quantile| Duration::from_micros(histogram.value_at_quantile(quantile));
        Latency { p50: at(0.5), p99: at(0.99), max: Duration::from_micros(histogram.max()) }
    }

    /// The latency so far, for a monitoring system that knows only buckets. The histogram behind it has two
    /// digits, so one near a bound may be counted on its other side.
    #[must_use]
    pub fn latency_buckets(&self) -> LatencyBuckets {
        let mut buckets = LATENCY_BUCKETS.map(|bound| (bound, 0));
        let guard = self.latency.lock().unwrap_or_else(PoisonError::into_inner);
        let mut count = 0;
        for step in guard.iter().flat_map(Histogram::iter_recorded) {
            let seconds = step.value_iterated_to() as f64 / 1e6;
            let hits = step.count_since_last_iteration();
            count += hits;
            if let Some((_, sum)) = buckets.iter_mut().find(|(bound, _)| seconds <= *bound) {
                *sum += hits;
            }
        }
        let sum = Duration::from_micros(self.latency_micros.get()).as_secs_f64();
        LatencyBuckets { count, sum, buckets: buckets.to_vec() }
    }

    /// Deliveries that have ended.
    #[must_use]
    pub fn ended(&self) -> u64 {
        self.forwarded.get() + self.filtered.get() + self.dead_lettered.get() + self.possible_duplicates.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_latency_is_in_one_bucket() {
        let metrics = ProcessorMetrics::default();
        for millis in [0, 2, 3, 700, 3_000, 100_000_000] {
            metrics.settled_after(Duration::from_millis(millis));
        }
        let latency = metrics.latency_buckets();
        let filled: Vec<_> = latency.buckets.iter().filter(|(_, count)| *count > 0).copied().collect();
        assert_eq!(filled, [(0.0005, 1), (0.0025, 1), (0.005, 1), (1.0, 1), (10.0, 1), (f64::INFINITY, 1)]);
        assert_eq!(latency.count, 6);
        assert!((latency.sum - 100_003.705).abs() < 1e-6, "{}", latency.sum);
    }

    #[test]
    fn every_call_s_fuel_is_in_one_bucket() {
        let fuel = Fuel::default();
        [0, 10_000, 10_001, 2_000_000_000, u64::MAX >> 8].into_iter().for_each(|units| fuel.record(units));
        let filled: Vec<_> = fuel.buckets().into_iter().filter(|(_, calls)| *calls > 0).collect();
        assert_eq!(filled, [(1e4, 2), (1e5, 1), (1e10, 1), (f64::INFINITY, 1)]);
        assert_eq!(fuel.get(), 20_001 + 2_000_000_000 + (u64::MAX >> 8));
    }

    #[test]
    fn failures_are_counted_by_code() {
        let failures = Failures::default();
        ["fuel", "fuel", "initialize", "of tomorrow"].iter().for_each(|code| failures.add_one(code));
        let counted: Vec<_> = failures.by_code().filter(|(_, count)| *count > 0).collect();
        assert_eq!((failures.get(), counted), (4, vec![("trap", 1), ("fuel", 2), ("initialize", 1)]));
    }
}
