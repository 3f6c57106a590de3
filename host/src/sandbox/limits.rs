//! The budget of a processor: every number that bounds what a guest can use.
//!
//! Filled by the configuration, read by [`super::instance`] before each call.

use std::time::Duration;

/// What an instance may use, per message unless said otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Units of fuel (about one per WebAssembly instruction) for one message.
    pub fuel: u64,
    /// Wall time for one message.
    pub time: Duration,
    /// Linear memory of the instance, in bytes.
    pub memory_bytes: usize,
    /// Elements of all tables of the instance.
    pub table_elements: usize,
    /// Outputs of one message.
    pub outputs: usize,
    /// Bytes of all outputs of one message, headers included.
    pub output_bytes: usize,
    /// Bytes of log text for one message.
    pub log_bytes: usize,
    /// Bytes of log text a second, for all instances of the processor; its VO has eight times as much for all.
    pub log_bytes_per_second: usize,
    /// Units of fuel for instantiation and `initialize` together.
    pub init_fuel: u64,
    /// Wall time for instantiation and `initialize` together.
    pub init_time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            fuel: 1_000_000_000,
            time: Duration::from_secs(10),
            memory_bytes: 64 << 20,
            table_elements: 100_000,
            outputs: 1_000,
            output_bytes: 64 << 20,
            log_bytes: 64 << 10,
            log_bytes_per_second: 64 << 10,
            init_fuel: 10_000_000_000,
            init_time: Duration::from_secs(60),
        }
    }
}
