//! What an operator can ask of a host at work, and what is answered.
//!
//! [`Control`] is the handle: who hears signals and [`crate::admin`] hold one each. All is carried out by one task,
//! [`crate::manager`], one request after the other. Nothing here changes anything itself.

use serde::Serialize;
use tokio::sync::{mpsc, oneshot};

/// How many requests may wait; more are told that the host is busy.
const MAX_WAITING: usize = 32;

/// What can be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Looks at the configuration and the components again; with a name, at those of one processor alone, and also
    /// where it was rolled back from what is there.
    Reload {
        /// The key of a processor.
        processor: Option<String>,
    },
    /// Goes back to an earlier generation.
    RollBack {
        /// The key of a processor.
        processor: String,
        /// The number of the generation; without it, the one before.
        to: Option<u64>,
    },
    /// Lets a processor take nothing more until it is resumed.
    Pause {
        /// The key of a processor.
        processor: String,
    },
    /// Ends a pause.
    Resume {
        /// The key of a processor.
        processor: String,
    },
    /// Ends the host as SIGTERM does.
    Drain,
}

/// One thing that was done, or refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// The key of the processor that changed; empty for the host.
    pub name: String,
    /// What was done to it.
    pub what: What,
    /// The generation that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    /// The SHA-256 of its component.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// The rest, for people: why, and what to do.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// A generation was prepared and checked.
    Loaded,
    /// Lanes run it from now on, on trial.
    OnTrial,
    /// It is the stable one from now on.
    Stable,
    /// It was refused, or rolled back, and what ran before runs on.
    Refused,
    /// It misbehaved, or an operator wants an earlier one back.
    RolledBack,
    /// There was nothing to do.
    Unchanged,
    /// It takes nothing more.
    Paused,
    /// It takes messages again.
    Resumed,
    /// It came with a new configuration.
    Started,
    /// It changed with a new configuration.
    Restarted,
    /// It went with a new configuration.
    Removed,
    /// The host ends.
    Draining,
}

impl What {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Loaded,
        Self::OnTrial,
        Self::Stable,
        Self::Refused,
        Self::RolledBack,
        Self::Unchanged,
        Self::Paused,
        Self::Resumed,
        Self::Started,
        Self::Restarted,
        Self::Removed,
        Self::Draining,
    ];

    /// The word for people and for the audit log.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Loaded => "loaded",
            Self::OnTrial => "on-trial",
            Self::Stable => "stable",
            Self::Refused => "refused",
            Self::RolledBack => "rolled-back",
            Self::Unchanged => "unchanged",
            Self::Paused => "paused",
            Self::Resumed => "resumed",
            Self::Started => "started",
            Self::Restarted => "restarted",
            Self::Removed => "removed",
            Self::Draining => "draining",
        }
    }
}

/// Why a request was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// There is no such processor or generation; the text names what there is.
    #[error("{0}")]
    Unknown(String),
    /// What is there cannot run, or not now; everything is as it was.
    #[error("{0}")]
    Refused(String),
    /// Too much is asked at once.
    #[error("the host is busy with other requests: try again")]
    Busy,
    /// The host ends.
    #[error("the host is ending")]
    Ending,
}

/// What became of a request: all that was done for it.
pub type Answer = Result<Vec<Change>, ControlError>;

/// A request on its way.
#[derive(Debug)]
pub struct Asked {
    /// What is asked.
    pub request: Request,
    /// Who asks, for the audit log: `admin` or `SIGHUP`.
    pub who: &'static str,
    /// Where the answer goes.
    pub answer: oneshot::Sender<Answer>,
}

/// The handle of a host at work; cheap to clone.
#[derive(Debug, Clone)]
pub struct Control {
    requests: mpsc::Sender<Asked>,
}

impl Control {
    /// Creates the handle and the other end, at which the host takes what is asked.
    #[must_use]
    pub fn new() -> (Self, mpsc::Receiver<Asked>) {
        let (requests, asked) = mpsc::channel(MAX_WAITING);
        (Self { requests }, asked)
    }

    /// Asks, and waits until it is done: a component may be compiled meanwhile.
    ///
    /// # Errors
    /// It was not carried out, and why.
    pub async fn ask(&self, who: &'static str, request: Request) -> Answer {
        let (answer, answered) = oneshot::channel();
        self.requests.try_send(Asked { request, who, answer }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => ControlError::Busy,
            mpsc::error::TrySendError::Closed(_) => ControlError::Ending,
        })?;
        answered.await.unwrap_or(Err(ControlError::Ending))
    }
}
