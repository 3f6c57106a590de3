//! What a processor did, counted.
//!
//! Lanes and settlement count, the demo's table and the log at the end read. Every delivery that a lane
//! took ends in exactly one of forwarded, filtered, dead-lettered or (after a break) possible duplicate.

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
    /// Failed calls of instances: trap, fuel, deadline, memory, output.
    pub failures: Counter,
    /// Calls of the component.
    pub calls: Counter,
    /// Fuel used by all calls.
    pub fuel: Counter,
    latency: Mutex<Option<Histogram<u64>>>,
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
            failures: Counter::default(),
            calls: Counter::default(),
            fuel: Counter::default(),
            latency,
        }
    }
}

impl ProcessorMetrics {
    /// Records how long a delivery took from socket to settlement.
    pub fn settled_after(&self, elapsed: Duration) {
        let micros = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
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

    /// Deliveries that have ended.
    #[must_use]
    pub fn ended(&self) -> u64 {
        self.forwarded.get() + self.filtered.get() + self.dead_lettered.get() + self.possible_duplicates.get()
    }
}
