//! Acknowledgements on their way from lanes and producers to the session's socket.
//!
//! [`Acks`] is the session's end; deliveries hold the other, of [`super::epoch_ack`]. Both work under one lock,
//! which also opens and closes epochs. Deliveries are never dropped under it: a dropped one comes back here.

use std::{
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::BytesMut;
use tokio::time::Instant;
use tracing::debug;

use super::{
    ack_frame::ack_headers,
    epoch_ack::{AutoAck, EpochAck},
    ledger::Ledger,
    recall::Recall,
    subscription::{AckMode, Subscription},
};
use crate::{
    client::{Flavour, doorbell::Doorbell},
    delivery::{Delivery, Message, Settle},
    stomp::{Command, EncodeError, Version, encode},
};

/// The ACKs of one session.
#[derive(Debug)]
pub(super) struct Acks {
    state: Mutex<State>,
    pub(super) bell: Doorbell,
    window: usize,
    /// Equal values of a header must stay in order.
    ordered: bool,
    subscription: String,
}

/// What the lock guards.
#[derive(Debug)]
pub(super) struct State {
    /// The living epoch; none between connections.
    pub(super) epoch: Option<u64>,
    epochs: u64,
    version: Version,
    pub(super) flavour: Flavour,
    /// The mode of the living epoch, as it is configured or as the session has learned to do better.
    pub(super) mode: AckMode,
    /// The host acknowledges in the broker's place.
    stands_in: bool,
    /// ACK or NACK, and of what.
    pub(super) staged: Vec<(Command, Arc<Message>)>,
    /// Empty between calls.
    due: Vec<Arc<Message>>,
    /// Deliveries that the staged frames end.
    ended: usize,
    /// Deliveries of the living epoch that have not ended.
    pub(super) outstanding: usize,
    pub(super) ledger: Ledger,
    pub(super) recall: Recall,
    /// Delivered again, and to be processed after all.
    pub(super) released: Vec<Delivery>,
    /// Something is to be given back that this broker takes back only with everything else, or the subscription is to
    /// be made anew.
    pub(super) leave: bool,
    receipts: u64,
    awaited: Option<Awaited>,
}

/// A receipt that the broker owes.
#[derive(Debug)]
struct Awaited {
    number: u64,
    since: Instant,
    /// How much the ledger has acknowledged with it.
    acked: u64,
}

impl Acks {
    pub(super) fn new(subscription: &Subscription) -> Self {
        let state = State {
            epoch: None,
            epochs: 0,
            version: Version::V1_2,
            flavour: Flavour::Unknown,
            mode: subscription.ack_mode,
            stands_in: false,
            staged: Vec::new(),
            due: Vec::new(),
            ended: 0,
            outstanding: 0,
            ledger: Ledger::default(),
            recall: Recall::new(subscription.window),
            released: Vec::new(),
            leave: false,
            receipts: 0,
            awaited: None,
        };
        Self {
            state: Mutex::new(state),
            bell: Doorbell::default(),
            window: subscription.window,
            ordered: subscription.ordered,
            subscription: subscription.id().to_owned(),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection to this broker, of this version. `stands_in` tells whether the host acknowledges in the broker's
    /// place.
    pub(super) fn open_epoch(
        self: &Arc<Self>,
        version: Version,
        flavour: Flavour,
        mode: AckMode,
        stands_in: bool,
    ) -> Arc<dyn Settle> {
        let mut state = self.lock();
        state.version = version;
        state.flavour = flavour;
        state.mode = mode;
        state.stands_in = stands_in;
        state.outstanding = 0;
        state.leave = false;
        if mode == AckMode::Auto {
            state.ledger = Ledger::default();
            return Arc::new(AutoAck { repeats: stands_in });
        }
        state.epochs += 1;
        state.epoch = Some(state.epochs);
        state.ledger = Ledger::new(mode == AckMode::Client, flavour.has_stable_ids());
        state.recall.set_flavour(flavour);
        Arc::new(EpochAck { acks: self.clone(), epoch: state.epochs })
    }

    /// Ends the epoch: what was staged is lost with the connection. With `confirmed`, the broker has said
    /// that it knows every ACK. What it may not know, and what is still in work, is remembered.
    /// Returns how many may be processed again without being recognised.
    pub(super) fn close_epoch(&self, confirmed: bool) -> usize {
        let mut state = self.lock();
        state.awaited = None;
        let Some(epoch) = state.epoch.take() else {
            state.staged.clear();
            // Processed in any case; Artemis does not mark all of what it delivers again.
            let ledger = mem::take(&mut state.ledger);
            return if confirmed { 0 } else { ledger.close().unrecognised };
        };
        state.leave = false;
        state.ended = 0;
        if !state.staged.is_empty() {
            debug!(count = state.staged.len(), "acknowledgements lost with the connection");
        } else if confirmed {
            let acked = state.ledger.acked();
            state.ledger.confirm(acked);
        }
        state.staged.clear();
        let remains = mem::take(&mut state.ledger).close();
        let unrecognised = remains.unrecognised;
        let (waited, released) = (state.recall.remember(epoch, remains), mem::take(&mut state.released));
        let repeats = unrecognised + state.recall.take_unreturned(false);
        drop(state);
        drop((waited, released));
        repeats
    }

    /// The session is over: nothing will be recognised any more. Returns as [`Acks::close_epoch`].
    pub(super) fn end(&self) -> usize {
        let mut state = self.lock();
        let repeats = state.recall.take_unreturned(true);
        let recall = mem::replace(&mut state.recall, Recall::new(0));
        drop(state);
        drop(recall);
        repeats
    }

    /// Numbers what was read together. Where the host acknowledges in the broker's place (ack mode auto), it
    /// does so here: true means that ACKs must be written before a lane gets to see any of it.
    pub(super) fn admit(&self, batch: &mut Vec<Delivery>) -> bool {
        if batch.is_empty() {
            return false;
        }
        let mut state = self.lock();
        if state.mode == AckMode::Auto {
            if state.stands_in {
                state.staged.extend(batch.iter().map(|delivery| (Command::Ack, delivery.message.clone())));
                state.ledger.acknowledge(batch.len());
            }
            return state.stands_in;
        }
        state.outstanding += batch.len();
        for delivery in batch {
            delivery.set_number(state.ledger.admit(&delivery.message));
        }
        false
    }

    /// Completes when there is something to write or to do.
    pub(super) async fn staged(&self) {
        self.bell.answer().await;
    }

    /// Writes the staged ACKs into the output of the epoch's connection: here a message is acknowledged on the wire.
    /// The last one asks for a receipt, unless one is awaited already.
    pub(super) fn take_into(&self, output: &mut BytesMut) -> Result<(), EncodeError> {
        let mut state = self.lock();
        let staged = mem::take(&mut state.staged);
        let receipt = (state.awaited.is_none() && !staged.is_empty()).then(|| {
            state.receipts += 1;
            state.awaited =
                Some(Awaited { number: state.receipts, since: Instant::now(), acked: state.ledger.acked() });
            format!("ack-{}", state.receipts)
        });
        state.outstanding = state.outstanding.saturating_sub(mem::take(&mut state.ended));
        let version = state.version;
        drop(state);
        let last = staged.len().saturating_sub(1);
        for (index, (command, message)) in staged.iter().enumerate() {
            let receipt = receipt.as_deref().filter(|_| index == last).map(|id| ("receipt", id));
            let headers = ack_headers(version, &message.headers, &self.subscription).into_iter().flatten();
            encode(output, version, *command, headers.chain(receipt), b"")?;
        }
        Ok(())
    }

    /// The session is to leave, and to come again.
    pub(super) fn leave(&self) {
        self.lock().leave = true;
    }

    /// Whether the session is to leave, so that the broker takes back what it has.
    pub(super) fn leaving(&self) -> bool {
        self.lock().leave
    }

    /// Whether everything that was delivered has ended, and every ACK is on its way.
    pub(super) fn is_idle(&self) -> bool {
        let state = self.lock();
        state.outstanding == 0 && state.staged.is_empty()
    }

    /// Whether the broker has said that it knows every ACK.
    pub(super) fn all_confirmed(&self) -> bool {
        let state = self.lock();
        state.staged.is_empty() && state.ledger.all_confirmed()
    }

    /// Takes deliveries that waited for one of an older epoch and are to be processed after all.
    pub(super) fn take_released(&self) -> Vec<Delivery> {
        mem::take(&mut self.lock().released)
    }

    pub(super) fn receipt(&self, id: &str) {
        let mut state = self.lock();
        let is_awaited = |awaited: &Awaited| id.strip_prefix("ack-") == Some(awaited.number.to_string().as_str());
        if let Some(awaited) = state.awaited.take_if(|awaited| is_awaited(awaited)) {
            state.ledger.confirm(awaited.acked);
        }
    }

    /// Whether the receipt of an ACK is missing for longer than `limit`. While the socket is not read
    /// it cannot arrive, so the clock starts anew.
    pub(super) fn receipt_overdue(&self, limit: Duration, reading: bool) -> bool {
        let mut state = self.lock();
        match &mut state.awaited {
            Some(awaited) if !reading => {
                awaited.since = Instant::now();
                false
            }
            Some(awaited) => awaited.since.elapsed() > limit,
            None => false,
        }
    }

    /// Gives one message back by itself, where the broker can do that.
    pub(super) fn nack(&self, state: &mut State, number: u64, message: &Arc<Message>) -> bool {
        let can = state.flavour.nack_requeues(state.mode) && state.version != Version::V1_0 && !self.ordered;
        if can {
            state.ledger.drop(number);
            state.staged.push((Command::Nack, message.clone()));
            state.ended += 1;
        }
        can
    }

    pub(super) fn ring(&self, state: MutexGuard<'_, State>) {
        let urgent = state.leave || state.is_urgent(self.window);
        drop(state);
        self.bell.ring(urgent);
    }
}

#[cfg(test)]
impl std::hash::Hash for State {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (self.epoch, self.epochs, self.ended, self.outstanding, self.leave).hash(state);
        self.staged.iter().for_each(|(command, message)| (*command == Command::Ack, message).hash(state));
        self.awaited.as_ref().map(|awaited| awaited.acked).hash(state);
        (&self.ledger, &self.recall, &self.released).hash(state);
    }
}

impl State {
    /// Whether the broker may be waiting for ACKs before it sends more.
    fn is_urgent(&self, window: usize) -> bool {
        self.ended * 4 >= window || self.ended >= self.outstanding
    }

    /// Stages the ACKs that are due now that this delivery is settled.
    pub(super) fn settle(&mut self, number: u64, message: &Arc<Message>) {
        self.ledger.settle(number, message, &mut self.due);
        self.ended += self.due.len();
        if self.mode == AckMode::Client && !self.due.is_empty() && !self.flavour.wants_each_ack() {
            // The last one stands for all.
            self.staged.clear();
            self.due.drain(..self.due.len() - 1);
        }
        self.staged.extend(self.due.drain(..).map(|message| (Command::Ack, message)));
    }
}
