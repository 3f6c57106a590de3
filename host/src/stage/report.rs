//! What there is to tell of a stage: plain values, as the admin API serves them.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::{Act, Candidate};

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
    /// How much of its trial is over, in hundredths; 0 where it is not on trial.
    pub trial_percent: u64,
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

/// The same of one on trial.
pub(super) fn of_candidate(candidate: &Candidate) -> GenerationReport {
    let Candidate { act, rollout, began, since } = candidate;
    let by_messages = act.score.calls() as f64 / rollout.messages.max(1) as f64;
    let by_time = began.elapsed().as_secs_f64() / rollout.time.as_secs_f64().max(0.001);
    let trial_percent = (100.0 * by_messages.max(by_time).min(1.0)) as u64;
    GenerationReport { trial_percent, ..of(act, "on-trial", *since, "") }
}

/// What there is to tell of a generation.
pub(super) fn of(act: &Act, standing: &'static str, since: SystemTime, reason: &str) -> GenerationReport {
    let (component, all) = (&act.generation.spec.component, act.score.all());
    let since = since.duration_since(UNIX_EPOCH).unwrap_or_default();
    GenerationReport {
        number: act.number(),
        digest: component.digest().to_owned(),
        version: component.describe().map(|told| told.version.clone()).unwrap_or_default(),
        file: act.generation.file.display().to_string(),
        standing,
        since_ms: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
        calls: all.calls,
        traps: all.traps,
        timeouts: all.timeouts,
        rejects: all.rejects,
        outputs: all.outputs,
        median_us: u64::try_from(all.median.as_micros()).unwrap_or(u64::MAX),
        reason: reason.to_owned(),
        trial_percent: 0,
    }
}
