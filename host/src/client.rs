//! The STOMP client: sessions that consume, producers that send, each on a socket of its own.
//!
//! A peer that is gone is noticed by the socket ([`stream`]: keep-alive, TCP_USER_TIMEOUT), by heart-beats
//! ([`Connection::beat`]), by receipts of ACKs that do not come ([`session`]), and where receipts of SENDs are missing by
//! what the kernel knows ([`producer`], `tcp_table`).
//!
//! [`crate::wiring`] opens them; [`session`] fills a buffer with deliveries and acknowledges them,
//! [`producer`] sends and reports what was confirmed. It knows nothing of components: what a message is
//! for is decided elsewhere. All differences between brokers stand in [`flavour`].

pub mod address;
mod backoff;
pub mod connection;
pub mod consumers;
mod doorbell;
mod error;
pub mod files;
pub mod flavour;
pub mod peek;
mod phase;
pub mod probe;
pub mod producer;
pub mod session;
mod stream;
mod tcp_table;
pub mod tls;
mod wiretap;

use std::{fmt, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use self::{
    backoff::Backoff,
    connection::{GOODBYE, GOODBYE_LIMIT},
    error::error_text,
};

pub use address::{Address, Reach, Resolver};
pub use connection::Connection;
pub use consumers::{Addresses, Consumers, ReadFrom, Timing};
pub use error::ClientError;
pub use files::{FileError, read_passcode};
pub use flavour::Flavour;
pub use peek::{Look, Peek, Seen};
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
