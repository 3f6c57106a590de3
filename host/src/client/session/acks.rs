//! Acknowledgements on their way from lanes and producers to the session's socket.
//!
//! [`EpochAck`] is the end that deliveries hold; [`Acks`] is the session's. An ACK of a closed epoch is
//! refused here, under the same lock that opens the next epoch, so none can slip into it; it is remembered
//! for when the broker delivers the message again. Deliveries are never dropped under the lock: a dropped
//! one comes back here.

use std::{
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;
use tracing::debug;

use super::{
    ack_frame::ack_headers,
    ledger::Ledger,
    recall::{Recall, Seen},
    subscription::{AckMode, Subscription},
};
use crate::{
    client::{ClientError, Connection, Flavour, doorbell::Doorbell},
    delivery::{Delivery, Message, Settle},
    stomp::{Command, Version},
};

/// The ACKs of one session.
#[derive(Debug)]
pub(super) struct Acks {
    state: Mutex<State>,
    bell: Doorbell,
    window: usize,
    mode: AckMode,
    /// Equal values of a header must stay in order.
    ordered: bool,
    subscription: String,
}

#[derive(Debug)]
struct State {
    /// The living epoch; none between connections.
    epoch: Option<u64>,
    epochs: u64,
    version: Version,
    flavour: Flavour,
    /// ACK or NACK, and of what.
    staged: Vec<(Command, Arc<Message>)>,
    /// Empty between calls.
    due: Vec<Arc<Message>>,
    /// Deliveries that the staged frames end.
    ended: usize,
    /// Deliveries of the living epoch that have not ended.
    outstanding: usize,
    ledger: Ledger,
    recall: Recall,
    /// Delivered again, and to be processed after all.
    released: Vec<Delivery>,
    /// Something is to be given back that this broker takes back only with everything else.
    leave: bool,
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
            mode: subscription.ack_mode,
            ordered: subscription.ordered,
            subscription: subscription.id().to_owned(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn open_epoch(self: &Arc<Self>, connection: &Connection) -> Arc<dyn Settle> {
        let mut state = self.lock();
        state.version = connection.version;
        state.flavour = connection.flavour;
        state.outstanding = 0;
        if self.mode == AckMode::Auto {
            let repeats = connection.flavour.wire_mode(self.mode) != self.mode;
            return Arc::new(AutoAck { repeats });
        }
        state.epochs += 1;
        state.epoch = Some(state.epochs);
        state.ledger = Ledger::new(self.mode == AckMode::Client, connection.flavour.has_stable_ids());
        state.recall.set_flavour(connection.flavour);
        Arc::new(EpochAck { acks: self.clone(), epoch: state.epochs })
    }

    /// Ends the epoch: what was staged is lost with the connection. With `confirmed`, the broker has said
    /// that it knows every ACK. What it may not know, and what is still in work, is remembered.
    pub(super) fn close_epoch(&self, confirmed: bool) {
        let mut state = self.lock();
        state.awaited = None;
        let Some(epoch) = state.epoch.take() else { return state.staged.clear() };
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
        let (waited, released) = (state.recall.remember(epoch, remains), mem::take(&mut state.released));
        drop(state);
        drop((waited, released));
    }

    /// The session is over: nothing will be recognised any more.
    pub(super) fn end(&self) {
        let mut state = self.lock();
        let recall = mem::replace(&mut state.recall, Recall::new(0));
        drop(state);
        drop(recall);
    }

    /// Numbers what was read together. Where the host acknowledges in the broker's place (ack mode auto), it
    /// does so here: true means that ACKs must be written before a lane gets to see any of it.
    pub(super) fn admit(&self, batch: &mut Vec<Delivery>) -> bool {
        let mut state = self.lock();
        if self.mode == AckMode::Auto {
            let by_us = state.flavour.wire_mode(self.mode) != self.mode && !batch.is_empty();
            if by_us {
                state.staged.extend(batch.iter().map(|delivery| (Command::Ack, delivery.message.clone())));
            }
            return by_us;
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

    /// Writes the staged ACKs into the connection's output: here a message is acknowledged on the wire.
    /// The last one asks for a receipt, unless one is awaited already.
    pub(super) fn take_into(&self, connection: &mut Connection) -> Result<(), ClientError> {
        let mut state = self.lock();
        let staged = mem::take(&mut state.staged);
        let receipt = (state.awaited.is_none() && !staged.is_empty()).then(|| {
            state.receipts += 1;
            let acked = state.ledger.acked();
            state.awaited = Some(Awaited { number: state.receipts, since: Instant::now(), acked });
            format!("ack-{}", state.receipts)
        });
        state.outstanding = state.outstanding.saturating_sub(mem::take(&mut state.ended));
        let version = state.version;
        drop(state);
        let last = staged.len().saturating_sub(1);
        for (index, (command, message)) in staged.iter().enumerate() {
            let receipt = receipt.as_deref().filter(|_| index == last).map(|id| ("receipt", id));
            let headers = ack_headers(version, message, &self.subscription).into_iter().flatten();
            connection.put(*command, headers.chain(receipt), b"")?;
        }
        Ok(())
    }

    /// Whether the session is to leave, so that the broker takes back what it has.
    pub(super) fn leaving(&self) -> bool {
        self.lock().leave
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
    fn nack(&self, state: &mut State, number: u64, message: &Arc<Message>) -> bool {
        let can = state.flavour.nack_requeues(self.mode) && state.version != Version::V1_0 && !self.ordered;
        if can {
            state.ledger.drop(number);
            state.staged.push((Command::Nack, message.clone()));
            state.ended += 1;
        }
        can
    }

    fn ring(&self, state: MutexGuard<'_, State>) {
        let urgent = state.leave || state.is_urgent(self.window);
        drop(state);
        self.bell.ring(urgent);
    }
}

impl State {
    /// Whether the broker may be waiting for ACKs before it sends more.
    fn is_urgent(&self, window: usize) -> bool {
        self.ended * 4 >= window || self.ended >= self.outstanding
    }

    /// Stages the ACKs that are due now that this delivery is settled.
    fn settle(&mut self, number: u64, message: &Arc<Message>, cumulative: bool) {
        self.ledger.settle(number, message, &mut self.due);
        self.ended += self.due.len();
        if cumulative && !self.due.is_empty() && !self.flavour.wants_each_ack() {
            // The last one stands for all.
            self.staged.clear();
            self.due.drain(..self.due.len() - 1);
        }
        self.staged.extend(self.due.drain(..).map(|message| (Command::Ack, message)));
    }
}

/// The end of a delivery in one epoch.
#[derive(Debug)]
struct EpochAck {
    acks: Arc<Acks>,
    epoch: u64,
}

impl EpochAck {
    fn is_open(&self, state: &State) -> bool {
        state.epoch == Some(self.epoch)
    }
}

impl Settle for EpochAck {
    fn ack(&self, number: u64, message: &Arc<Message>) -> bool {
        let mut state = self.acks.lock();
        if self.is_open(&state) {
            state.settle(number, message, self.acks.mode == AckMode::Client);
            if !state.staged.is_empty() {
                self.acks.ring(state);
            }
            return true;
        }
        let (known, again) = state.recall.end((self.epoch, number), message, true);
        drop(state);
        if let Some(again) = again {
            debug!(id = message.id(), "settled by its first delivery: the second is acknowledged");
            let _ = again.ack();
        }
        known
    }

    fn alive(&self) -> bool {
        self.is_open(&self.acks.lock())
    }

    fn can_ack(&self, number: u64, message: &Message) -> bool {
        let state = self.acks.lock();
        self.is_open(&state) || state.recall.knows((self.epoch, number), message)
    }

    fn dropped(&self, number: u64, message: &Message) {
        let mut state = self.acks.lock();
        if self.is_open(&state) {
            state.outstanding = state.outstanding.saturating_sub(1);
            return state.ledger.drop(number);
        }
        if let (_, Some(again)) = state.recall.end((self.epoch, number), message, false) {
            state.released.push(again);
            drop(state);
            self.acks.bell.ring(true);
        }
    }

    fn give_back(&self, number: u64, message: &Arc<Message>) {
        let mut state = self.acks.lock();
        if !self.is_open(&state) {
            drop(state);
            return self.dropped(number, message);
        }
        if !self.acks.nack(&mut state, number, message) {
            state.ledger.drop(number);
            state.leave = true;
        }
        self.acks.ring(state);
    }

    fn lend_back(&self, number: u64, message: &Arc<Message>, max_hold: Duration) -> bool {
        let mut state = self.acks.lock();
        let nacked = self.is_open(&state) && self.acks.nack(&mut state, number, message);
        // Its number stays in the ledger, so that it is recognised when it comes again.
        state.leave |=
            !nacked && (self.is_open(&state) || state.recall.waits_longer((self.epoch, number), message, max_hold));
        self.acks.ring(state);
        nacked
    }

    fn copied(&self, number: u64, message: &Arc<Message>) {
        let mut state = self.acks.lock();
        if self.is_open(&state) {
            state.ledger.copied(number, message);
        }
    }

    fn claim(&self, delivery: Delivery) -> Option<Delivery> {
        let mut state = self.acks.lock();
        // What follows one that was given back must not overtake it.
        if !self.is_open(&state) || state.leave {
            drop(state);
            return None;
        }
        match state.recall.seen(&delivery.message) {
            Seen::Unknown => Some(delivery),
            Seen::Settled => {
                drop(state);
                debug!(id = delivery.message.id(), "settled before: acknowledged and not processed again");
                let _ = delivery.ack();
                None
            }
            Seen::InWork => {
                debug!(id = delivery.message.id(), "still in work: waits for its first delivery");
                let before = state.recall.wait(delivery);
                drop(state);
                drop(before);
                None
            }
        }
    }
}

/// Ack mode auto: the broker has forgotten the message already, whatever becomes of the session.
#[derive(Debug)]
struct AutoAck {
    /// It may deliver a message again of which our ACK was on its way when the connection broke: the host
    /// may have processed it before.
    repeats: bool,
}

impl Settle for AutoAck {
    fn ack(&self, _number: u64, message: &Arc<Message>) -> bool {
        !(self.repeats && message.redelivered())
    }

    fn alive(&self) -> bool {
        true
    }
}
