//! A session without its socket: what `super::Session` does with acknowledgements, step by step, for the model.

use std::{hash::Hash, sync::Arc};

use bytes::BytesMut;

use super::{Subscription, acks::Acks};
use crate::{
    client::Flavour,
    delivery::{Delivery, Settle},
    stomp::{Decoder, Frame, FrameLimits, Version},
};

/// A session's acknowledgements.
#[derive(Debug)]
pub(crate) struct Steps {
    acks: Arc<Acks>,
    subscription: Subscription,
}

impl Steps {
    pub(crate) fn new(subscription: Subscription) -> Self {
        Self { acks: Arc::new(Acks::new(&subscription)), subscription }
    }

    /// A connection opens.
    pub(crate) fn open(&self, flavour: Flavour) -> Arc<dyn Settle> {
        self.acks.open_epoch(Version::V1_2, flavour, self.subscription.ack_mode, self.subscription.stands_in(flavour))
    }

    /// The connection is gone, in good order or not; returns how many may be repeated.
    pub(crate) fn close(&self, confirmed: bool) -> usize {
        self.acks.close_epoch(confirmed)
    }

    /// The session is over; returns how many may be repeated.
    pub(crate) fn end(&self) -> usize {
        self.acks.end()
    }

    /// See [`Acks::admit`].
    pub(crate) fn admit(&self, batch: &mut Vec<Delivery>) -> bool {
        self.acks.admit(batch)
    }

    /// Whether a write would do something.
    pub(crate) fn has_staged(&self) -> bool {
        let state = self.acks.lock();
        !state.staged.is_empty() || !state.released.is_empty()
    }

    /// The frames that are written now.
    pub(crate) fn write(&self) -> Vec<Frame> {
        let (mut output, mut decoder) = (BytesMut::new(), Decoder::new(FrameLimits::default()));
        self.acks.take_into(&mut output).unwrap();
        std::iter::from_fn(|| decoder.decode(&mut output).unwrap()).collect()
    }

    pub(crate) fn take_released(&self) -> Vec<Delivery> {
        self.acks.take_released()
    }

    pub(crate) fn is_leaving(&self) -> bool {
        self.acks.leaving()
    }

    pub(crate) fn receipt(&self, id: &str) {
        self.acks.receipt(id);
    }

    /// Feeds everything that its future depends on.
    pub(crate) fn hash(&self, hasher: &mut impl std::hash::Hasher) {
        self.acks.lock().hash(hasher);
    }
}
