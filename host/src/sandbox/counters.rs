//! The counters of a processor: what its guest counts, and what the host counts about its guest.
//!
//! Shared by all instances of a generation, written by [`super::host_api`] and [`super::guest_log`],
//! read by the metrics. It must never grow without bound, whatever names a guest invents.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

/// How many names one processor may count under.
const MAX_NAMES: usize = 50;
/// How long a name may be.
const MAX_NAME_BYTES: usize = 40;

/// The counters of one processor.
#[derive(Debug, Default)]
pub struct Counters {
    values: Mutex<BTreeMap<Box<str>, u64>>,
    refused: AtomicU64,
    dropped_log_bytes: AtomicU64,
    failed_terminates: AtomicU64,
}

impl Counters {
    /// Adds to a counter of the guest; a bad name, or one too many, is refused and counted as such.
    pub(crate) fn add(&self, name: &str, add: u64) {
        let mut values = self.lock();
        if let Some(value) = values.get_mut(name) {
            *value = value.saturating_add(add);
        } else if valid_name(name) && values.len() < MAX_NAMES {
            values.insert(name.into(), add);
        } else {
            self.refused.fetch_add(1, Relaxed);
        }
    }

    /// Counts log text that the budget of its message, or a rate, did not allow.
    pub(crate) fn log_dropped(&self, bytes: usize) {
        if bytes > 0 {
            self.dropped_log_bytes.fetch_add(u64::try_from(bytes).unwrap_or(u64::MAX), Relaxed);
        }
    }

    /// Counts an instance that failed to say farewell.
    pub(crate) fn terminate_failed(&self) {
        self.failed_terminates.fetch_add(1, Relaxed);
    }

    /// Returns how many instances failed in `terminate`.
    #[must_use]
    pub fn failed_terminates(&self) -> u64 {
        self.failed_terminates.load(Relaxed)
    }

    /// Returns the guest's counters by name.
    #[must_use]
    pub fn snapshot(&self) -> Vec<(String, u64)> {
        self.lock().iter().map(|(name, value)| (name.to_string(), *value)).collect()
    }

    /// Returns how many calls of `counter` were refused for their name.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused.load(Relaxed)
    }

    /// Returns how many bytes of log text were dropped because a message exceeded its budget, or the processor or its VO its rate.
    #[must_use]
    pub fn dropped_log_bytes(&self) -> u64 {
        self.dropped_log_bytes.load(Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Box<str>, u64>> {
        // Each change of the map is a single operation: it is whole whoever panicked.
        self.values.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn valid_name(name: &str) -> bool {
    (1..=MAX_NAME_BYTES).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::Counters;

    #[test]
    fn counters_add_up_and_saturate() {
        let counters = Counters::default();
        counters.add("seen", 2);
        counters.add("seen", u64::MAX);
        assert_eq!(counters.snapshot(), [("seen".to_owned(), u64::MAX)]);
    }

    #[test]
    fn bad_names_are_refused() {
        let counters = Counters::default();
        for name in ["", "Upper", "with space", "digit1", "a\nb", &"x".repeat(41)] {
            counters.add(name, 1);
        }
        assert_eq!(counters.snapshot(), []);
        assert_eq!(counters.refused(), 6);
    }

    #[test]
    fn names_are_bounded() {
        let counters = Counters::default();
        for length in 1..=40 {
            counters.add(&"a".repeat(length), 1);
            counters.add(&"b".repeat(length), 1);
        }
        assert_eq!(counters.snapshot().len(), 50);
        assert_eq!(counters.refused(), 30);
    }
}
