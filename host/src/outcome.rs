//! The settlement policy: what happened to a delivery -> what to do about it.
//!
//! A pure table and the only place of this policy. [`crate::lane`] calls [`decide`] with what a call
//! returned, [`crate::settle`] carries the actions out. Nothing here touches a broker, a clock or an
//! instance, so every row of the design's settlement table is one line of a test.

use std::time::Duration;

use bytes::Bytes;

/// What the processor decided about a message.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// Accepted: send these outputs (perhaps none), then acknowledge.
    Ok(Vec<Output>),
    /// It may work later, after this delay or the host's back-off.
    Retry {
        /// Why, for the log and for the dead letter of the last attempt.
        reason: Reason,
        /// The delay the processor asked for, not yet clamped.
        delay: Option<Duration>,
    },
    /// It will never work.
    Reject(Reason),
    /// A service behind the processor is away.
    Unavailable(Reason),
}

/// One output, validated: its queue is one the processor may name, its headers are clean.
#[derive(Debug, Clone, PartialEq)]
pub struct Output {
    /// The configured name of the queue it goes to.
    pub queue: std::sync::Arc<str>,
    /// The guest's headers.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Bytes,
}

/// Why something was not accepted: a code for machines, a sentence for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// A short word, `[a-z0-9-]`, at most 64 bytes.
    pub code: String,
    /// One sentence, at most 1 KiB.
    pub detail: String,
}

/// How a call failed when it was not the guest's decision.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The guest trapped: unreachable, out of bounds, stack overflow, abort.
    #[error("the component trapped: {0}")]
    Trap(String),
    /// The guest used more instructions than its limit.
    #[error("the component used up its fuel of {limit}")]
    Fuel {
        /// The limit in units of fuel.
        limit: u64,
    },
    /// The guest ran longer than its limit.
    #[error("the component ran longer than {limit:?}")]
    Deadline {
        /// The limit.
        limit: Duration,
    },
    /// The guest asked for more memory than its limit, then failed.
    #[error("the component asked for {wanted_bytes} bytes of memory, its limit is {limit_bytes}")]
    Memory {
        /// What it asked for.
        wanted_bytes: u64,
        /// The limit.
        limit_bytes: u64,
    },
    /// The guest returned more outputs, or larger ones, than its limit.
    #[error("the component returned too much: {0}")]
    OutputLimit(String),
    /// The guest returned an output that breaks the rules.
    #[error("the component returned an invalid output: {0}")]
    OutputInvalid(String),
}

impl CallError {
    /// The code under which dead letters, logs and metrics know this failure.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Trap(_) => "trap",
            Self::Fuel { .. } => "fuel",
            Self::Deadline { .. } => "deadline",
            Self::Memory { .. } => "memory",
            Self::OutputLimit(_) => "output-limit",
            Self::OutputInvalid(_) => "output-invalid",
        }
    }
}
