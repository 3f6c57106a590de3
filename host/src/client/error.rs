//! How connections fail, and what the log tells of it.
//!
//! Everything of the client returns a [`ClientError`]; nothing here decides what follows from one.

use std::{io, time::Duration};

use super::{FileError, flavour::last_cause};
use crate::stomp::{Command, DecodeError, EncodeError, Frame};

/// How the world failed a connection. Every variant ends the connection; the owner reconnects.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No address could be reached.
    #[error("cannot connect to {address}")]
    Connect {
        /// What was tried.
        address: String,
        /// Why the last try failed.
        source: io::Error,
    },
    /// The name has no address.
    #[error("cannot resolve {0}")]
    Resolve(String, #[source] io::Error),
    /// A file for TLS or the login cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// TLS did not come about, mostly since one side does not trust the other.
    #[error("no TLS with {address}: {detail}")]
    Tls {
        /// Who answered.
        address: String,
        /// What was wrong, and what to do about it.
        detail: String,
    },
    /// The broker did not answer CONNECT, or answered something else.
    #[error("{address} answers, but does not open a STOMP session: {detail}")]
    Handshake {
        /// Who answered.
        address: String,
        /// What was wrong.
        detail: String,
    },
    /// The broker sent an ERROR frame.
    #[error("the broker reports an error: {0}")]
    Broker(String),
    /// The queue has a `selector`, and this broker would send everything.
    #[error("this broker ignores selectors: remove \"selector\" from the queue, or everything would be processed")]
    NoSelectors,
    /// A MESSAGE came that no ACK could name.
    #[error("the broker sent a MESSAGE with neither ack nor message-id: use ack_mode auto with this broker")]
    Nameless,
    /// The socket failed or was closed.
    #[error("the connection broke")]
    Io(#[from] io::Error),
    /// The broker closed the connection.
    #[error("the broker closed the connection")]
    Closed,
    /// The kernel has sent again and again, and nothing at the other end has answered.
    #[error("the peer is gone: nothing that was sent is acknowledged by its system")]
    Gone,
    /// What arrived is not STOMP.
    #[error("the broker sent something that is not STOMP")]
    Decode(#[from] DecodeError),
    /// What should be sent cannot be expressed.
    #[error("a frame cannot be sent")]
    Encode(#[from] EncodeError),
    /// Something expected did not come in time.
    #[error("the broker is silent: no {what} within {limit:?}")]
    Silent {
        /// What was expected.
        what: &'static str,
        /// How long it was waited for.
        limit: Duration,
    },
}

/// The text of an ERROR frame, one line, bounded.
pub(crate) fn error_text(frame: &Frame) -> String {
    debug_assert_eq!(frame.command, Command::Error);
    let mut text = frame.headers.get("message").unwrap_or("no message header").to_owned();
    let body = String::from_utf8_lossy(frame.body.get(..frame.body.len().min(64 << 10)).unwrap_or_default());
    let first = || body.lines().map(str::trim).find(|line| !line.is_empty() && !text.contains(line));
    if let Some(line) = last_cause(&body).or_else(first) {
        let line = line.get(..line.floor_char_boundary(300)).unwrap_or(line);
        text = format!("{text}: {line}");
    }
    text.replace(char::is_control, " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_told_with_its_cause() {
        let text =
            |body: &'static str| error_text(&Frame::new(Command::Error, [("message", "COMMIT FAILED")], body.into()));
        assert_eq!(text(""), "COMMIT FAILED");
        assert_eq!(text("COMMIT FAILED\n\nmore\nand more"), "COMMIT FAILED: more");
        let trace = "XAException: COMMIT FAILED\n\tat x\nCaused by: A\n\tat y\nCaused by: no rights\n\t... 5 more\n";
        assert_eq!(text(trace), "COMMIT FAILED: Caused by: no rights");
    }
}
