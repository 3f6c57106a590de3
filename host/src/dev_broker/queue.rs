//! Messages and the queues that they wait in.
//!
//! Owned by [`super::state`]. A topic has no queue of its own: each of its subscriptions has a private
//! one. Knows nothing of connections.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;

use crate::stomp::{Frame, Headers};

/// The broker's number of a subscription, also the first part of its ack ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct SubId(pub(super) u64);

/// Headers of a SEND that are for the broker, or that only the broker may set on a MESSAGE.
const NOT_HANDED_ON: [&str; 7] =
    ["receipt", "transaction", "message-id", "subscription", "ack", "redelivered", "content-length"];
/// What a stored message costs beyond its bytes.
const OVERHEAD: usize = 256;
/// Smaller bodies are copied, so that a message never keeps a whole read buffer in memory.
const COPY_BELOW: usize = 16 << 10;
/// What stands before a message's number in its id; the colon has consumers unescape.
const ID_PREFIX: &str = "ID:dev-";

/// One stored message.
#[derive(Debug)]
pub(super) struct Message {
    /// Its number in the order of acceptance: the part of the id that is stable over redeliveries.
    pub(super) number: u64,
    /// The sender's headers, with `destination`.
    pub(super) headers: Headers,
    pub(super) body: Bytes,
    /// Whether the sender gave `content-length`: consumers see it if and only if it did.
    pub(super) has_length: bool,
    /// What it takes from the memory cap.
    pub(super) size: usize,
}

impl Message {
    /// What a message made of `frame` takes from the memory cap.
    pub(super) fn size_of(frame: &Frame) -> usize {
        frame.body.len() + frame.headers.byte_len() + OVERHEAD
    }

    /// Makes a message of a SEND; its number is given when it is accepted.
    pub(super) fn from_frame(frame: &Frame) -> Self {
        let body = if frame.body.len() < COPY_BELOW { Bytes::copy_from_slice(&frame.body) } else { frame.body.clone() };
        Self {
            number: 0,
            headers: frame.headers.iter().filter(|(name, _)| !NOT_HANDED_ON.contains(name)).collect(),
            body,
            has_length: frame.headers.get("content-length").is_some(),
            size: Self::size_of(frame),
        }
    }

    /// The `message-id` of consumers.
    pub(super) fn id(&self) -> String {
        format!("{ID_PREFIX}{}", self.number)
    }

    /// The number within a `message-id`.
    pub(super) fn number_of(id: &str) -> Option<u64> {
        id.strip_prefix(ID_PREFIX)?.parse().ok()
    }
}

/// A message in a queue or with a consumer.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) message: Arc<Message>,
    /// Whether a consumer had it before.
    pub(super) redelivered: bool,
}

/// Messages in the order of their numbers, and who competes for them.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// None for the private queue of a topic's subscription; of a durable one its name.
    pub(super) name: Option<Arc<str>>,
    pub(super) waiting: VecDeque<Entry>,
    /// How many of its messages consumers hold.
    pub(super) unacked: usize,
    consumers: Vec<SubId>,
    /// The index of the consumer whose turn it is.
    turn: usize,
    /// It belongs to a durable subscription and stays when that has no consumer.
    pub(super) durable: bool,
}

impl Queue {
    /// Creates an empty queue.
    pub(super) fn new(name: Option<Arc<str>>) -> Self {
        Self { name, ..Self::default() }
    }

    /// Takes deliveries back to where their numbers belong, which is mostly the head.
    pub(super) fn give_back(&mut self, mut entries: Vec<Entry>) {
        let Some(last) = entries.iter().map(|entry| entry.message.number).max() else { return };
        let older = self.waiting.partition_point(|entry| entry.message.number < last);
        entries.extend(self.waiting.drain(..older));
        entries.sort_by_key(|entry| entry.message.number);
        for entry in entries.into_iter().rev() {
            self.waiting.push_front(entry);
        }
    }

    /// The number of consumers.
    pub(super) fn consumers(&self) -> usize {
        self.consumers.len()
    }

    pub(super) fn add_consumer(&mut self, id: SubId) {
        self.consumers.push(id);
    }

    pub(super) fn remove_consumer(&mut self, id: SubId) {
        if let Some(index) = self.consumers.iter().position(|consumer| *consumer == id) {
            self.consumers.remove(index);
            if index < self.turn {
                self.turn -= 1;
            }
        }
    }

    /// The next consumer in turn that is `ready`.
    pub(super) fn next_consumer(&mut self, mut ready: impl FnMut(SubId) -> bool) -> Option<SubId> {
        let (before, after) = self.consumers.split_at(self.turn.min(self.consumers.len()));
        let mut in_turn = after.iter().chain(before).enumerate();
        let (passed, id) = in_turn.find_map(|(passed, id)| ready(*id).then_some((passed, *id)))?;
        self.turn = (self.turn + passed + 1) % self.consumers.len();
        Some(id)
    }

    /// Whether nothing would be lost without it.
    pub(super) fn is_unused(&self) -> bool {
        self.waiting.is_empty() && self.consumers.is_empty() && !self.durable
    }
}
