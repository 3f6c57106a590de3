//! The embedded development broker: for the first run, for development and for fault injection.
//!
//! It lives in memory and keeps what real brokers keep: prefetch, redelivery, cumulative and individual
//! ACK, NACK, receipts, transactions, competing consumers, topics and a memory cap that holds senders
//! back. Started by the `demo` and `dev-broker` commands, by tests and by benches; never by `run`:
//! what it holds is gone when it stops.
//!
//! The way through it: a [`peer`] owns one socket and reads whole frames, its [`session`] turns each into
//! a call of the one [`state`], which answers with deliveries in the outboxes of other peers.

mod outbox;
mod peer;
mod queue;
mod refusal;
mod session;
mod state;
mod wire;

use std::{
    fmt, io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::Notify,
    time::sleep,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{Instrument, debug, info_span, warn};

use self::{peer::Peer, state::State};

/// Connections at a time; a further one is closed at once.
const MAX_CONNECTIONS: usize = 1_024;
/// The pause after a failed accept, which mostly means that the process has no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How the broker behaves from the start.
#[derive(Clone)]
pub struct BrokerOptions {
    /// Cap over all stored messages; at the cap senders are held back.
    pub memory_bytes: usize,
    /// What goes wrong on purpose.
    pub faults: Faults,
    /// The only `login` that is let in; none lets everybody in.
    pub username: Option<String>,
    /// The `passcode` it must give.
    pub passcode: Option<String>,
}

impl Default for BrokerOptions {
    fn default() -> Self {
        Self { memory_bytes: 256 << 20, faults: Faults::default(), username: None, passcode: None }
    }
}

impl fmt::Debug for BrokerOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BrokerOptions")
            .field("memory_bytes", &self.memory_bytes)
            .field("faults", &self.faults)
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

/// What goes wrong on purpose; can be changed at any time with [`BrokerHandle::set_faults`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Faults {
    /// Frames are handled, but no RECEIPT leaves.
    pub drop_receipts: bool,
    /// How long each batch of outgoing frames waits before it is written, at most ten minutes.
    pub delay: Duration,
    /// Destinations whose SEND and SUBSCRIBE are answered with ERROR.
    pub refuse_destinations: Vec<String>,
    /// Every CONNECT is answered with ERROR.
    pub refuse_logins: bool,
    /// Every ACK and NACK is answered with ERROR, and nothing is settled.
    pub refuse_acks: bool,
}

/// How much a queue holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Depth {
    /// Messages that no consumer has.
    pub waiting: usize,
    /// Messages that a consumer has and has not acknowledged.
    pub unacked: usize,
    /// Its subscriptions.
    pub consumers: usize,
}

/// What the broker has done since its start, and what it holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Messages accepted from senders; those of a transaction when it is committed.
    pub sent: u64,
    /// Deliveries written for consumers, redeliveries included.
    pub delivered: u64,
    /// Messages acknowledged; in ack mode auto there is nothing to acknowledge.
    pub acked: u64,
    /// Messages refused with NACK.
    pub nacked: u64,
    /// Deliveries that bore `redelivered:true`.
    pub redelivered: u64,
    /// Open connections.
    pub connections: usize,
    /// Connections that are not read because the memory cap is reached.
    pub held: usize,
    /// Bytes of all stored messages.
    pub memory_bytes: usize,
}

/// A bound broker; [`DevBroker::run`] serves.
#[derive(Debug)]
pub struct DevBroker {
    listener: TcpListener,
    local_addr: SocketAddr,
    shared: Arc<Shared>,
}

impl DevBroker {
    /// Binds the listening socket, so that clients may connect from now on.
    ///
    /// # Errors
    /// The address cannot be bound.
    pub async fn bind(addr: SocketAddr, options: BrokerOptions) -> io::Result<Self> {
        let listener = TcpListener::bind(addr).await?;
        let local_addr = listener.local_addr()?;
        let state = Mutex::new(State::new(options.memory_bytes, options.faults.clone()));
        let shared = Arc::new(Shared { state, changed: Notify::new(), stopping: CancellationToken::new(), options });
        Ok(Self { listener, local_addr, shared })
    }

    /// The address that it listens on, with the real port.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// A handle to watch and to disturb it.
    #[must_use]
    pub fn handle(&self) -> BrokerHandle {
        BrokerHandle { shared: self.shared.clone() }
    }

    /// Serves until `shutdown` completes, then closes every connection and returns.
    pub async fn run(self, shutdown: impl Future) {
        let peers = TaskTracker::new();
        tokio::select! {
            () = self.accept(&peers) => {}
            _ = shutdown => {}
        }
        drop(self.listener);
        self.shared.stopping.cancel();
        self.shared.lock().remove_all_peers();
        peers.close();
        peers.wait().await;
    }

    async fn accept(&self, peers: &TaskTracker) {
        loop {
            match self.listener.accept().await {
                Ok(_) if peers.len() >= MAX_CONNECTIONS => warn!("too many connections: one more was closed"),
                Ok((stream, address)) => self.serve(peers, stream, address),
                Err(error) => {
                    warn!(%error, "accept failed");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn serve(&self, peers: &TaskTracker, stream: TcpStream, address: SocketAddr) {
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%error, "the connection broke before it was served");
            return;
        }
        let peer = Peer::new(self.shared.clone(), stream);
        peers.spawn(peer.run().instrument(info_span!("peer", %address)));
    }
}

/// Watches and disturbs a broker; cheap to clone.
#[derive(Debug, Clone)]
pub struct BrokerHandle {
    shared: Arc<Shared>,
}

impl BrokerHandle {
    /// Closes every connection without a word. When this returns, un-acked deliveries are back in their
    /// queues.
    pub fn cut_all(&self) {
        self.shared.lock().remove_all_peers();
        self.shared.changed.notify_waiters();
    }

    /// Replaces the faults; they act from the next frame on.
    pub fn set_faults(&self, faults: Faults) {
        self.shared.lock().faults = faults;
    }

    /// The faults in force.
    #[must_use]
    pub fn faults(&self) -> Faults {
        self.shared.lock().faults.clone()
    }

    /// How much a queue holds; zeros for a queue that nobody uses. The name is the full destination.
    #[must_use]
    pub fn queue_depth(&self, destination: &str) -> Depth {
        self.shared.lock().depth(destination)
    }

    /// What was done so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.shared.lock().stats()
    }

    /// Waits until `reached` is true. It is asked again after every change of the broker's state.
    pub async fn wait_for(&self, mut reached: impl FnMut(&Self) -> bool) {
        loop {
            let changed = self.shared.changed.notified();
            if reached(self) {
                return;
            }
            changed.await;
        }
    }
}

/// What all connections share.
struct Shared {
    state: Mutex<State>,
    /// Rung after each batch of changes, for [`BrokerHandle::wait_for`].
    changed: Notify,
    /// Cancelled when the broker stops: nobody waits for goodbyes any more.
    stopping: CancellationToken,
    options: BrokerOptions,
}

impl Shared {
    /// Locks the state: for one batch of frames, never across an await.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("options", &self.options).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
