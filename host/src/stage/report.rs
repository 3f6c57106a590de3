//! What there is to tell of a stage: plain values, as the admin API serves them.

use serde::Serialize;

/// One processor.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct StageReport {
    /// Whether an operator has paused it.
    pub paused: bool,
    /// The newest first: what runs, and what it can be rolled back to.
    pub generations: Vec<GenerationReport>,
    /// Its lanes by number.
    pub lanes: Vec<LaneReport>,
}

/// One generation.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GenerationReport {
    /// Its number.
    pub number: u64,
    /// The SHA-256 of its component.
    pub digest: String,
    /// The version as the component says it.
    pub version: String,
    /// The file that the component came from.
    pub file: String,
    /// `stable`, `on-trial`, `earlier` or `rolled-back`.
    pub standing: &'static str,
    /// Since when it has that standing, in milliseconds since 1970.
    pub since_ms: u64,
    /// Calls of the component.
    pub calls: u64,
    /// Calls that trapped or broke a limit, without those that took too long.
    pub traps: u64,
    /// Calls that took too long.
    pub timeouts: u64,
    /// Messages that it rejected.
    pub rejects: u64,
    /// Outputs that it returned.
    pub outputs: u64,
    /// Half of its calls were faster, in microseconds.
    pub median_us: u64,
    /// Why it was rolled back; empty else.
    pub reason: String,
}

/// One lane.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LaneReport {
    /// Its number.
    pub number: usize,
    /// The generation that it runs; 0 before the first instance.
    pub generation: u64,
    /// `starting`, `idle`, `processing`, `waiting`, `paused` or `ended`.
    pub doing: &'static str,
    /// For how long, in milliseconds.
    pub for_ms: u64,
}
