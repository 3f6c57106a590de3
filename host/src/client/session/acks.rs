//! Acknowledgements on their way from lanes and producers to the session's socket.
//!
//! [`EpochAck`] is the end that deliveries hold; [`Acks`] is the session's. An ACK of a closed epoch is
//! refused here, under the same lock that opens the next epoch, so none can slip into it.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;
use tracing::debug;

use crate::{
    client::{ClientError, Connection, doorbell::Doorbell},
    delivery::{Message, Settle},
    stomp::{Command, Version},
};

/// The ACKs of one session.
#[derive(Debug)]
pub(super) struct Acks {
    state: Mutex<State>,
    bell: Doorbell,
    outstanding: AtomicUsize,
    window: usize,
    subscription: &'static str,
}

#[derive(Debug)]
struct State {
    /// The living epoch; none between connections.
    epoch: Option<u64>,
    epochs: u64,
    version: Version,
    staged: Vec<Arc<Message>>,
    receipts: u64,
    awaited: Option<(u64, Instant)>,
}

impl Acks {
    pub(super) fn new(window: usize, subscription: &'static str) -> Self {
        let state =
            State { epoch: None, epochs: 0, version: Version::V1_2, staged: Vec::new(), receipts: 0, awaited: None };
        Self {
            state: Mutex::new(state),
            bell: Doorbell::default(),
            outstanding: AtomicUsize::new(0),
            window,
            subscription,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn open_epoch(self: &Arc<Self>, version: Version) -> Arc<dyn Settle> {
        let mut state = self.lock();
        state.epochs += 1;
        state.epoch = Some(state.epochs);
        state.version = version;
        self.outstanding.store(0, Ordering::Relaxed);
        Arc::new(EpochAck { acks: self.clone(), epoch: state.epochs })
    }

    /// Ends the epoch: what was staged is lost with the connection, and the broker delivers it again.
    pub(super) fn close_epoch(&self) {
        let mut state = self.lock();
        state.epoch = None;
        state.awaited = None;
        if !state.staged.is_empty() {
            debug!(count = state.staged.len(), "acknowledgements lost with the connection");
            state.staged.clear();
        }
    }

    pub(super) fn delivered(&self) {
        self.outstanding.fetch_add(1, Ordering::Relaxed);
    }

    /// Completes when there is something to write.
    pub(super) async fn staged(&self) {
        self.bell.answer().await;
    }

    /// Writes the staged ACKs into the connection's output: here a message is acknowledged on the wire.
    /// The last one asks for a receipt, unless one is awaited already.
    pub(super) fn take_into(&self, connection: &mut Connection) -> Result<(), ClientError> {
        let mut state = self.lock();
        let staged = std::mem::take(&mut state.staged);
        let receipt = (state.awaited.is_none() && !staged.is_empty()).then(|| {
            state.receipts += 1;
            state.awaited = Some((state.receipts, Instant::now()));
            format!("ack-{}", state.receipts)
        });
        let version = state.version;
        drop(state);
        self.outstanding.fetch_sub(staged.len().min(self.outstanding.load(Ordering::Relaxed)), Ordering::Relaxed);
        let last = staged.len().saturating_sub(1);
        for (index, message) in staged.iter().enumerate() {
            let receipt = receipt.as_deref().filter(|_| index == last).map(|id| ("receipt", id));
            let headers = ack_headers(version, message, self.subscription).into_iter().flatten();
            connection.put(Command::Ack, headers.chain(receipt), b"")?;
        }
        Ok(())
    }

    pub(super) fn receipt(&self, id: &str) {
        let mut state = self.lock();
        if state.awaited.is_some_and(|(awaited, _)| id.strip_prefix("ack-") == Some(awaited.to_string().as_str())) {
            state.awaited = None;
        }
    }

    /// Whether the receipt of an ACK is missing for longer than `limit`. While the socket is not read
    /// it cannot arrive, so the clock starts anew.
    pub(super) fn receipt_overdue(&self, limit: Duration, reading: bool) -> bool {
        let mut state = self.lock();
        match &mut state.awaited {
            Some((_, since)) if !reading => {
                *since = Instant::now();
                false
            }
            Some((_, since)) => since.elapsed() > limit,
            None => false,
        }
    }

    /// Whether the broker may be waiting for ACKs before it sends more.
    fn urgent(&self, staged: usize) -> bool {
        staged * 4 >= self.window || staged >= self.outstanding.load(Ordering::Relaxed)
    }
}

/// What an ACK must name: the `ack` header's value as `id` (1.2), `message-id` with `subscription`
/// (1.1; harmless in 1.0).
fn ack_headers<'a>(
    version: Version,
    message: &'a Message,
    subscription: &'static str,
) -> [Option<(&'static str, &'a str)>; 2] {
    match version {
        Version::V1_2 => {
            [message.headers.get("ack").or_else(|| message.headers.get("message-id")).map(|id| ("id", id)), None]
        }
        Version::V1_0 | Version::V1_1 => [Some(("message-id", message.id())), Some(("subscription", subscription))],
    }
}

/// The end of a delivery in one epoch.
#[derive(Debug)]
struct EpochAck {
    acks: Arc<Acks>,
    epoch: u64,
}

impl Settle for EpochAck {
    fn ack(&self, message: &Arc<Message>) -> bool {
        let mut state = self.acks.lock();
        if state.epoch != Some(self.epoch) {
            return false;
        }
        state.staged.push(message.clone());
        let staged = state.staged.len();
        drop(state);
        self.acks.bell.ring(self.acks.urgent(staged));
        true
    }

    fn alive(&self) -> bool {
        self.acks.lock().epoch == Some(self.epoch)
    }
}

/// Ack mode auto: the broker has forgotten the message already, whatever becomes of the session.
#[derive(Debug)]
pub(super) struct AutoAck;

impl Settle for AutoAck {
    fn ack(&self, _message: &Arc<Message>) -> bool {
        true
    }

    fn alive(&self) -> bool {
        true
    }
}
