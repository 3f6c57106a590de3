//! The STOMP client: sessions that consume, producers that send, each on a socket of its own.
//!
//! [`crate::app`] opens them; [`session`] fills a buffer with deliveries and acknowledges them,
//! [`producer`] sends and reports what was confirmed. It knows nothing of components: what a message is
//! for is decided elsewhere. All differences between brokers stand in [`flavour`].

pub mod address;
pub mod connection;
pub mod consumers;
mod doorbell;
pub mod files;
pub mod flavour;
mod phase;
pub mod probe;
pub mod producer;
pub mod session;
mod stream;
pub mod tls;
mod wiretap;

use std::{fmt, io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::stomp::{Command, DecodeError, EncodeError, Frame};

pub use address::{Address, Reach, Resolver};
pub use connection::Connection;
pub use consumers::{Addresses, Consumers, ReadFrom, Timing};
pub use files::{FileError, read_passcode};
pub use flavour::Flavour;
pub use phase::{Phase, SessionState};
pub use probe::{Probe, Right, Tested};
pub use producer::{OnDone, Outgoing, OutputId, Producer, ProducerTask, Rejected, SendRequest};
pub use session::{AckMode, Session, Subscription};
pub use tls::Tls;

/// How to open a connection to one server.
#[derive(Clone)]
pub struct ConnectOptions {
    /// The server's name in the configuration, for logs.
    pub server: Arc<str>,
    /// Where it listens: one is used, the others are for failover.
    pub addresses: Vec<Address>,
    /// The one address behind the entries that is to be used; found by `resolver` where none is given.
    pub pinned: Option<SocketAddr>,
    /// Finds the addresses behind a name.
    pub resolver: Resolver,
    /// Told what becomes of each try to connect.
    pub reach: Reach,
    /// TLS, where it is wanted.
    pub tls: Option<Tls>,
    /// `login`.
    pub username: Option<String>,
    /// `passcode`.
    pub passcode: Option<String>,
    /// A file that holds the passcode, read at each connect.
    pub passcode_file: Option<PathBuf>,
    /// `host`: the virtual host; not sent where none is configured, as PanDA does.
    pub vhost: Option<String>,
    /// `client-id`.
    pub client_id: Option<String>,
    /// How often we offer to send a heart-beat; zero for never.
    pub send_heartbeat: Duration,
    /// How often we want to receive one; zero for never.
    pub recv_heartbeat: Duration,
    /// Log the details of each connection: how it opens, and the commands of all frames.
    pub verbose: bool,
    /// The ceiling of the reconnect back-off.
    pub max_backoff: Duration,
}

impl ConnectOptions {
    /// A server of that name with these addresses and nothing else: no login, no TLS, no heart-beats.
    #[must_use]
    pub fn new(server: impl Into<Arc<str>>, addresses: Vec<Address>) -> Self {
        Self {
            server: server.into(),
            addresses,
            pinned: None,
            resolver: Resolver::default(),
            reach: Reach::default(),
            tls: None,
            username: None,
            passcode: None,
            passcode_file: None,
            vhost: None,
            client_id: None,
            send_heartbeat: Duration::ZERO,
            recv_heartbeat: Duration::ZERO,
            verbose: false,
            max_backoff: Duration::from_secs(30),
        }
    }
}

impl fmt::Debug for ConnectOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectOptions").field("server", &self.server).finish_non_exhaustive()
    }
}

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

/// The text of an ERROR frame, one line, bounded. ActiveMQ's body is a stack trace, whose last cause is why.
pub(crate) fn error_text(frame: &Frame) -> String {
    debug_assert_eq!(frame.command, Command::Error);
    let mut text = frame.headers.get("message").unwrap_or("no message header").to_owned();
    let body = String::from_utf8_lossy(frame.body.get(..frame.body.len().min(64 << 10)).unwrap_or_default());
    let cause = body.lines().rev().find(|line| line.starts_with("Caused by: "));
    let first = || body.lines().map(str::trim).find(|line| !line.is_empty() && !text.contains(line));
    if let Some(line) = cause.or_else(first) {
        let line = line.get(..line.floor_char_boundary(300)).unwrap_or(line);
        text = format!("{text}: {line}");
    }
    text.replace(char::is_control, " ")
}

/// The receipt of DISCONNECT.
const GOODBYE: &str = "goodbye";
/// How long the broker may take to answer DISCONNECT.
const GOODBYE_LIMIT: Duration = Duration::from_secs(5);

/// Growing pauses between tries, with jitter so that many hosts do not return at the same moment.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
    max: Duration,
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(200);
    const STABLE: Duration = Duration::from_secs(10);

    pub(crate) fn new(max: Duration) -> Self {
        Self { next: Self::FIRST, max: max.max(Self::FIRST) }
    }

    /// The pause before the next try: between half and all of a value that doubles each time.
    pub(crate) fn pause(&mut self) -> Duration {
        let pause = self.next.mul_f64(0.5 + fastrand::f64() / 2.0);
        self.next = (self.next * 2).min(self.max);
        pause
    }

    /// Begins anew after a connection that was opened then and held for long: it was a good one.
    pub(crate) fn after(&mut self, opened: Option<Instant>) {
        if opened.is_some_and(|opened| opened.elapsed() >= Self::STABLE) {
            self.reset();
        }
    }

    pub(crate) fn reset(&mut self) {
        self.next = Self::FIRST;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: Duration = Duration::from_secs(5);

    #[test]
    fn an_error_is_told_with_its_cause() {
        let text =
            |body: &'static str| error_text(&Frame::new(Command::Error, [("message", "COMMIT FAILED")], body.into()));
        assert_eq!(text(""), "COMMIT FAILED");
        assert_eq!(text("COMMIT FAILED\n\nmore\nand more"), "COMMIT FAILED: more");
        let trace = "XAException: COMMIT FAILED\n\tat x\nCaused by: A\n\tat y\nCaused by: no rights\n\t... 5 more\n";
        assert_eq!(text(trace), "COMMIT FAILED: Caused by: no rights");
    }

    #[test]
    fn pauses_double_up_to_the_ceiling_and_begin_anew() {
        let mut backoff = Backoff::new(MAX);
        for _ in 0..2 {
            for full in [200, 400, 800, 1_600, 3_200, 5_000, 5_000, 5_000].map(Duration::from_millis) {
                let pause = backoff.pause();
                assert!(pause >= full / 2 && pause <= full, "{pause:?} of {full:?}");
            }
            backoff.reset();
        }
    }

    #[test]
    fn a_ceiling_below_the_first_pause_is_no_pause_of_zero() {
        let mut backoff = Backoff::new(Duration::ZERO);
        for _ in 0..3 {
            assert!((Backoff::FIRST / 2..=Backoff::FIRST).contains(&backoff.pause()));
        }
    }

    /// Hosts that lost a broker together must not come back together; and the jitter spans the whole half.
    #[test]
    fn no_two_hosts_pause_alike() {
        let pauses = |count: usize| {
            let mut backoff = Backoff::new(Duration::ZERO);
            (0..count).map(|_| backoff.pause()).collect::<Vec<_>>()
        };
        assert_ne!(pauses(10), pauses(10));
        let many = pauses(1_000);
        let middle = Backoff::FIRST * 3 / 4;
        assert!(many.iter().any(|pause| *pause < middle) && many.iter().any(|pause| *pause > middle));
    }
}
