//! The end of a session's acknowledgements that deliveries hold: one for each epoch.
//!
//! Lanes and producers call it, from any thread. An ACK of a closed epoch is refused here, under the same lock
//! that opens the next one, so none can slip into it; it is remembered for when the broker delivers the message
//! again. Frames are written by [`Acks`] alone.

use std::{sync::Arc, time::Duration};

use tracing::debug;

use super::{
    acks::{Acks, State},
    recall::Seen,
    subscription::AckMode,
};
use crate::delivery::{Delivery, Message, Settle};

/// The end of a delivery in one epoch.
#[derive(Debug)]
pub(super) struct EpochAck {
    pub(super) acks: Arc<Acks>,
    pub(super) epoch: u64,
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
            state.settle(number, message);
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
        let leaves = !nacked
            && !state.leave
            && (self.is_open(&state) || state.recall.waits_longer((self.epoch, number), message, max_hold));
        if nacked || leaves {
            state.leave |= leaves;
            self.acks.ring(state);
        }
        nacked
    }

    fn may_go_back(&self) -> bool {
        // In ack mode client what is settled behind it goes back with it.
        let state = self.acks.lock();
        state.mode != AckMode::Client || state.flavour.has_stable_ids()
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
pub(super) struct AutoAck {
    /// It may deliver a message again of which our ACK was on its way when the connection broke: the host
    /// may have processed it before.
    pub(super) repeats: bool,
}

impl Settle for AutoAck {
    fn ack(&self, _number: u64, message: &Arc<Message>) -> bool {
        !(self.repeats && message.redelivered())
    }

    fn alive(&self) -> bool {
        true
    }
}
