//! The settlement policy: what happened to a delivery -> what to do about it.
//!
//! A pure table and the only place of this policy. [`crate::settle`] asks [`decide`] with what a call
//! returned or a broker answered, and carries the actions out. Nothing here touches a broker, a clock or an
//! instance, so every row of the settlement table, [`decide`], is one line of a test.

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

impl Outcome {
    /// The outcome in one word, for logs.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Ok(outputs) if outputs.is_empty() => "no output",
            Self::Ok(_) => "outputs",
            Self::Retry { .. } => "retry",
            Self::Reject(_) => "reject",
            Self::Unavailable(_) => "unavailable",
        }
    }
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

/// What happened to a delivery, each a row of the settlement table [`decide`].
#[derive(Debug, Clone, PartialEq)]
pub enum Happened {
    /// The guest decided.
    Decided(Outcome),
    /// The guest failed; its instance is gone (the sandbox consumes it).
    Failed(CallError),
    /// The broker confirmed every output.
    OutputsConfirmed,
    /// The broker refused an output.
    OutputRefused(Reason),
    /// The broker confirmed the dead letter.
    DeadLetterConfirmed,
    /// The broker refused the dead letter.
    DeadLetterRefused {
        /// What it told.
        reason: Reason,
        /// Whether a `state_dir` can take it instead.
        spool: bool,
    },
    /// The spool of the `state_dir` has the dead letter, on disk.
    DeadLetterSpooled,
    /// The spool could not write it.
    SpoolFailed(Reason),
    /// The slot of a crashed host named this message.
    HostCrashed {
        /// How often it was found in a slot, this time included.
        times: u32,
    },
}

/// What must be known of a delivery to decide about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// How often it was given to the processor, this time included.
    pub attempt: u32,
    /// The attempts that the retry policy allows.
    pub max_attempts: u32,
    /// How often an instance failed on it, this time not included.
    pub faults: u32,
    /// How long the processor has answered `unavailable`.
    pub unavailable_for: Duration,
    /// How long it may.
    pub max_unavailable: Duration,
    /// How long it has been tried without success.
    pub failing_for: Duration,
    /// How long it may be: set in ack mode client, where nothing behind it can be acknowledged meanwhile.
    pub max_time: Option<Duration>,
    /// Whether an ACK is of use: its session lives, or will know it when the broker delivers it again.
    pub can_ack: bool,
    /// Whether the generation that ran it is on trial: what it cannot do, the stable one may.
    pub on_trial: bool,
}

/// What to do, carried out in order.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Acknowledge the input: the last action of a delivery.
    Ack,
    /// Send the outputs, confirmed; [`Happened::OutputsConfirmed`] or `OutputRefused` follows.
    Send(Vec<Output>),
    /// Hold the delivery un-acked and give it again, attempt + 1, after this delay or the back-off.
    Hold {
        /// What the processor asked for, not yet clamped.
        delay: Option<Duration>,
        /// Why.
        reason: Reason,
    },
    /// Send the original to the dead letter; `DeadLetterConfirmed` or `DeadLetterRefused` follows.
    DeadLetter(Reason),
    /// Run it again at once in a fresh instance.
    RunAgain(Reason),
    /// Run it again at once on the stable generation, as if it had never been run.
    RunOnStable(Reason),
    /// The lane waits with back-off and runs it again; the attempt is not counted.
    LaneWaits(Reason),
    /// Append the dead letter, with this story, to the spool; `DeadLetterSpooled` or `SpoolFailed` follows.
    Spool(Reason),
    /// Keep the delivery un-acked; it is given to the processor once more, later, and goes the same way.
    KeepDeadLetter,
    /// Raise an alarm.
    Alarm(Reason),
    /// Return the delivery to the broker without acknowledging it.
    GiveBack(Reason),
    /// The message may be delivered and processed again: count it.
    CountPossibleDuplicate,
}

/// The settlement table: the only place of this policy.
#[must_use]
pub fn decide(happened: Happened, standing: Standing) -> Vec<Action> {
    if let Some(reason) = failed_on_trial(&happened, standing) {
        return vec![Action::RunOnStable(reason)];
    }
    match happened {
        Happened::Decided(Outcome::Ok(outputs)) if outputs.is_empty() => acknowledge(standing),
        Happened::Decided(Outcome::Ok(outputs)) => vec![Action::Send(outputs)],
        Happened::Decided(Outcome::Retry { reason, delay }) => vec![retry_or_dead_letter(reason, delay, standing)],
        Happened::Decided(Outcome::Reject(reason)) => vec![Action::DeadLetter(reason)],
        Happened::Decided(Outcome::Unavailable(reason)) if standing.unavailable_for < standing.max_unavailable => {
            let alarm = (standing.unavailable_for >= UNAVAILABLE_ALARM).then(|| Action::Alarm(reason.clone()));
            // In a hurry the lane must not keep it: nothing behind it could be acknowledged.
            let wait = if standing.max_time.is_some() { Action::GiveBack(reason) } else { Action::LaneWaits(reason) };
            alarm.into_iter().chain([wait]).collect()
        }
        Happened::Decided(Outcome::Unavailable(reason)) => vec![retry_or_dead_letter(reason, None, standing)],
        // Time is not deterministic: a slow moment deserves the whole retry policy.
        Happened::Failed(error @ CallError::Deadline { .. }) => {
            vec![retry_or_dead_letter(error.reason(), None, standing)]
        }
        // The state of a warm instance may be at fault: one more try in a fresh one.
        Happened::Failed(error) if standing.faults == 0 => vec![Action::RunAgain(error.reason())],
        Happened::Failed(error) => vec![Action::DeadLetter(error.reason())],
        Happened::OutputsConfirmed | Happened::DeadLetterConfirmed | Happened::DeadLetterSpooled => {
            acknowledge(standing)
        }
        Happened::OutputRefused(reason) => vec![retry_or_dead_letter(reason, None, standing)],
        Happened::DeadLetterRefused { reason, spool: true } => vec![Action::Alarm(refused()), Action::Spool(reason)],
        Happened::DeadLetterRefused { spool: false, .. } => vec![Action::Alarm(refused()), Action::KeepDeadLetter],
        Happened::SpoolFailed(reason) => vec![Action::Alarm(reason), Action::KeepDeadLetter],
        Happened::HostCrashed { times } if times >= 2 => vec![Action::DeadLetter(Reason::new(
            "host-crash",
            format!("the host died {times} times while it processed this message"),
        ))],
        Happened::HostCrashed { .. } => vec![Action::RunAgain(Reason::new("host-crash", "the host died on it once"))],
    }
}

/// A bad candidate costs no message: only the stable generation gives one up, puts it off or returns nothing for it. A
/// bug that returns nothing is the commonest, and an ACK could not be undone.
fn failed_on_trial(happened: &Happened, standing: Standing) -> Option<Reason> {
    if !standing.on_trial {
        return None;
    }
    match happened {
        Happened::Decided(Outcome::Retry { reason, .. } | Outcome::Reject(reason) | Outcome::Unavailable(reason))
        | Happened::OutputRefused(reason) => Some(reason.clone()),
        Happened::Failed(error) => Some(error.reason()),
        Happened::Decided(Outcome::Ok(outputs)) if outputs.is_empty() => {
            Some(Reason::new(NO_OUTPUT, "it returned no output"))
        }
        _ => None,
    }
}

/// The code under which the stable generation is asked about a message that one on trial would filter.
pub const NO_OUTPUT: &str = "no-output";

/// `unavailable` for so long is an alarm.
const UNAVAILABLE_ALARM: Duration = Duration::from_secs(60);

fn refused() -> Reason {
    let detail = "the broker refuses the dead letter: grant the right to send there, or set dead_letter";
    Reason::new("dead-letter-refused", detail)
}

/// An ACK of a dead session is never sent: the broker delivers the message again.
fn acknowledge(standing: Standing) -> Vec<Action> {
    vec![if standing.can_ack { Action::Ack } else { Action::CountPossibleDuplicate }]
}

fn retry_or_dead_letter(reason: Reason, delay: Option<Duration>, standing: Standing) -> Action {
    let time_left = standing.max_time.is_none_or(|max| standing.failing_for < max);
    if standing.attempt < standing.max_attempts && time_left {
        Action::Hold { delay, reason }
    } else {
        Action::DeadLetter(reason)
    }
}

impl Reason {
    /// Creates a reason of the host's own.
    #[must_use]
    pub fn new(code: &str, detail: impl Into<String>) -> Self {
        Self { code: code.to_owned(), detail: detail.into() }
    }
}

/// How a call failed when it was not the guest's decision.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The guest trapped: unreachable, out of bounds, stack overflow, abort.
    #[error("the component trapped: {0}")]
    Trap(String),
    /// The guest used more instructions than its limit.
    #[error("the component used {used} of {limit} units of fuel and needed more")]
    Fuel {
        /// What it used, in units of fuel.
        used: u64,
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

    /// The failure as a reason for a dead letter.
    #[must_use]
    pub fn reason(&self) -> Reason {
        Reason::new(self.code(), self.to_string())
    }
}

#[cfg(test)]
mod tests;
