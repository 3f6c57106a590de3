//! A producer without its socket: what `super::ProducerTask` does with the outbox, step by step, for the model.

use std::hash::Hasher;

use bytes::BytesMut;

use super::{Outbox, Producer, outgoing::Link, take_answer};
use crate::{
    client::Flavour,
    stomp::{Decoder, Frame, FrameLimits, Version},
};

impl Producer {
    /// One that nobody connects.
    pub(crate) fn unconnected() -> Self {
        Self { outbox: Outbox::default().into() }
    }

    pub(crate) fn connect(&self, flavour: Flavour) {
        self.outbox.connected(Link { version: Version::V1_2, flavour });
    }

    /// The connection is gone.
    pub(crate) fn cut(&self, why: &str, said_no: bool) {
        self.outbox.disconnected(why, said_no);
    }

    /// Whether a write would write something.
    pub(crate) fn has_encoded(&self) -> bool {
        self.outbox.has_encoded()
    }

    /// The frames that are written now.
    pub(crate) fn write(&self) -> Vec<Frame> {
        let (mut output, mut decoder) = (BytesMut::new(), Decoder::new(FrameLimits::default()));
        self.outbox.take_into(&mut output);
        std::iter::from_fn(|| decoder.decode(&mut output).unwrap()).collect()
    }

    /// Takes an answer of the broker; an error says that the connection must be closed.
    pub(crate) fn hear(&self, frame: &Frame, flavour: Flavour) -> Result<(), String> {
        take_answer(&self.outbox, frame, flavour).map(drop).map_err(|error| error.to_string())
    }

    /// A second has passed, and everything is overdue.
    pub(crate) fn withdraw_overdue(&self) {
        self.outbox.withdraw_overdue();
    }

    /// Feeds everything that its future depends on.
    pub(crate) fn hash(&self, hasher: &mut impl Hasher) {
        self.outbox.hash(hasher);
    }
}
