//! What a processor answers when it does not accept a message.
//!
//! Called by authors; [`crate::rt`] turns it into the `failure` of the contract.

use std::fmt;
use std::time::Duration;

use crate::Reason;
use crate::bindings::handler::stompbox::processor::types::{Failure, RetryRequest};
use crate::json::JsonError;

/// Decides what becomes of a message that was not processed.
///
/// A `code` is a short word for machines, `[a-z0-9-]`: it becomes a header of the dead letter and a label
/// in the metrics. A `detail` is one sentence for people.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Error {
    /// It may work later: the message is held and given again, a limited number of times.
    Retry {
        /// Why.
        reason: Reason,
        /// How long to wait at least; none leaves it to the host's back-off.
        after: Option<Duration>,
    },
    /// It will never work: the message goes to the dead letter now.
    Reject(Reason),
    /// A service is away and every message would fail alike: this lane waits, no attempt is counted.
    Unavailable(Reason),
    /// Anything else, in words: the host treats it as a retry.
    Other(String),
}

impl Error {
    /// Asks for the message to be given again, after the host's back-off or [`Error::after`].
    pub fn retry(code: impl Into<String>, detail: impl Into<String>) -> Self {
        Error::Retry { reason: reason(code, detail), after: None }
    }

    /// Gives the message up: it goes to the dead letter.
    pub fn reject(code: impl Into<String>, detail: impl Into<String>) -> Self {
        Error::Reject(reason(code, detail))
    }

    /// Says that a service which every message needs is away.
    pub fn unavailable(code: impl Into<String>, detail: impl Into<String>) -> Self {
        Error::Unavailable(reason(code, detail))
    }

    /// Wraps any other error; the host treats it as a retry.
    pub fn other(error: impl fmt::Display) -> Self {
        Error::Other(error.to_string())
    }

    /// Sets how long a retry waits at least; changes nothing on the other kinds.
    pub fn after(mut self, delay: Duration) -> Self {
        if let Error::Retry { after, .. } = &mut self {
            *after = Some(delay);
        }
        self
    }
}

fn reason(code: impl Into<String>, detail: impl Into<String>) -> Reason {
    Reason { code: code.into(), detail: detail.into() }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Retry { reason, .. } => write!(f, "retry, {}: {}", reason.code, reason.detail),
            Error::Reject(reason) => write!(f, "rejected, {}: {}", reason.code, reason.detail),
            Error::Unavailable(reason) => {
                write!(f, "unavailable, {}: {}", reason.code, reason.detail)
            }
            Error::Other(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for Error {}

impl From<String> for Error {
    fn from(text: String) -> Self {
        Error::Other(text)
    }
}

impl From<&str> for Error {
    fn from(text: &str) -> Self {
        Error::Other(text.to_owned())
    }
}

impl From<JsonError> for Error {
    fn from(error: JsonError) -> Self {
        Error::reject(error.code(), error.to_string())
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::Retry { reason, after } => Failure::Retry(RetryRequest {
                reason,
                delay_ms: after.map(|delay| u64::try_from(delay.as_millis()).unwrap_or(u64::MAX)),
            }),
            Error::Reject(reason) => Failure::Reject(reason),
            Error::Unavailable(reason) => Failure::Unavailable(reason),
            Error::Other(text) => Failure::Other(text),
        }
    }
}

/// Says of any failed [`Result`] what it means for the message, so that `?` can be used on it.
///
/// ```
/// use stompbox_sdk::{Error, OrError};
///
/// fn priority(text: &str) -> Result<u8, Error> {
///     text.parse::<u8>().or_reject("bad-priority")
/// }
/// assert_eq!(priority("x"), Err(Error::reject("bad-priority", "invalid digit found in string")));
/// ```
pub trait OrError<T> {
    /// The message will never work: see [`Error::reject`].
    ///
    /// # Errors
    /// The error of `self`, as a rejection with this code.
    fn or_reject(self, code: &str) -> Result<T, Error>;

    /// The message may work later: see [`Error::retry`].
    ///
    /// # Errors
    /// The error of `self`, as a retry with this code.
    fn or_retry(self, code: &str) -> Result<T, Error>;

    /// A service is away: see [`Error::unavailable`].
    ///
    /// # Errors
    /// The error of `self`, as unavailable with this code.
    fn or_unavailable(self, code: &str) -> Result<T, Error>;
}

impl<T, E: fmt::Display> OrError<T> for Result<T, E> {
    fn or_reject(self, code: &str) -> Result<T, Error> {
        self.map_err(|error| Error::reject(code, error.to_string()))
    }

    fn or_retry(self, code: &str) -> Result<T, Error> {
        self.map_err(|error| Error::retry(code, error.to_string()))
    }

    fn or_unavailable(self, code: &str) -> Result<T, Error> {
        self.map_err(|error| Error::unavailable(code, error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delay_belongs_to_a_retry_only() {
        let delay = Duration::from_secs(2);
        let failure = Failure::from(Error::retry("busy", "later").after(delay));
        let reason = Reason { code: "busy".into(), detail: "later".into() };
        assert_eq!(failure, Failure::Retry(RetryRequest { reason, delay_ms: Some(2_000) }));
        assert_eq!(Error::reject("bad", "x").after(delay), Error::reject("bad", "x"));
    }

    #[test]
    fn an_endless_delay_saturates() {
        let failure = Failure::from(Error::retry("busy", "later").after(Duration::MAX));
        assert!(matches!(failure, Failure::Retry(RetryRequest { delay_ms: Some(u64::MAX), .. })));
    }

    #[test]
    fn text_is_any_other_error() {
        assert_eq!(Failure::from(Error::from("odd")), Failure::Other("odd".into()));
        assert_eq!(Error::from(String::from("odd")), Error::other("odd"));
    }

    #[test]
    fn each_kind_reads_well() {
        assert_eq!(Error::reject("bad", "no id").to_string(), "rejected, bad: no id");
        assert_eq!(Error::unavailable("db", "down").to_string(), "unavailable, db: down");
        assert_eq!("x".parse::<u8>().or_retry("n").unwrap_err().to_string(), "retry, n: invalid digit found in string");
    }
}
