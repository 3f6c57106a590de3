//! Deliveries on their way to one connection.
//!
//! Filled by [`super::state`] under its lock, emptied by the connection's task, which encodes what it
//! took without the lock.

use std::{collections::VecDeque, sync::Arc};

use bytes::BytesMut;
use tracing::warn;

use super::queue::{Entry, SubId};
use crate::stomp::{Command, Version, encode};

/// One delivery.
#[derive(Debug)]
pub(super) struct Outgoing {
    /// The subscription that it is for.
    pub(super) sub: SubId,
    /// That subscription's id on the wire; none where a 1.0 client gave none.
    pub(super) wire_id: Option<Arc<str>>,
    /// Its number within the subscription; none in ack mode auto.
    pub(super) tag: Option<u64>,
    pub(super) entry: Entry,
}

impl Outgoing {
    /// Appends the MESSAGE frame to `output`. A header of the sender that the consumer's version cannot
    /// express is left out.
    pub(super) fn encode(&self, version: Version, output: &mut BytesMut) {
        let Entry { message, redelivered } = &self.entry;
        let id = message.id();
        let ack = self.tag.filter(|_| version == Version::V1_2).map(|tag| format!("{}.{tag}", self.sub.0));
        let length = message.has_length.then(|| message.body.len().to_string());
        let own = [
            ("message-id", Some(id.as_str())),
            ("subscription", self.wire_id.as_deref()),
            ("ack", ack.as_deref()),
            ("redelivered", redelivered.then_some("true")),
            ("content-length", length.as_deref()),
        ];
        let own = own.iter().filter_map(|(name, value)| value.map(|value| (*name, value)));
        let all = own.clone().chain(message.headers.iter());
        if encode(output, version, Command::Message, all, &message.body).is_err() {
            let some = own.chain(message.headers.iter().filter(|(name, value)| is_plain(name, value)));
            if let Err(error) = encode(output, version, Command::Message, some, &message.body) {
                warn!(%error, "a message cannot be expressed for this consumer");
            }
        }
    }
}

fn is_plain(name: &str, value: &str) -> bool {
    !name.contains([':', '\n', '\r', '\0']) && !value.contains(['\n', '\r', '\0'])
}

/// The deliveries of one connection that its task has not taken.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    items: VecDeque<Outgoing>,
    bytes: usize,
}

impl Outbox {
    /// What its messages take in memory.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds a delivery; true where it is the first.
    pub(super) fn push(&mut self, outgoing: Outgoing) -> bool {
        self.bytes += outgoing.entry.message.size;
        self.items.push_back(outgoing);
        self.items.len() == 1
    }

    /// Takes everything.
    pub(super) fn take(&mut self) -> VecDeque<Outgoing> {
        self.bytes = 0;
        std::mem::take(&mut self.items)
    }

    /// Takes out what is for one subscription.
    pub(super) fn withdraw(&mut self, sub: SubId) -> Vec<Outgoing> {
        let (withdrawn, kept): (Vec<_>, Vec<_>) = self.take().into_iter().partition(|outgoing| outgoing.sub == sub);
        for outgoing in kept {
            self.push(outgoing);
        }
        withdrawn
    }
}
