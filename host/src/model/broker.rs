//! A broker as far as settlement can see it: one in queue, what was sent, and frames on their way.
//!
//! Written from what was measured on real ones, not from the host's code. It holds the first of the promises: no ACK
//! reaches it for a message of which nothing has come of it yet. [`super::world`] moves it step by step.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::facts::{Facts, Run};
use crate::{
    client::{AckMode, Flavour},
    delivery::testing::SERIAL,
    stomp::{Command, Frame},
};

/// The broker.
#[derive(Hash)]
pub(super) struct Broker {
    pub(super) flavour: Kind,
    pub(super) mode: Mode,
    /// Messages that nobody has, and whether somebody had them.
    pub(super) queue: VecDeque<(u8, bool)>,
    /// Of the living consumer, in the order of delivery: serial and message.
    unacked: Vec<(String, u8)>,
    window: usize,
    /// Deliveries of the living consumer.
    delivered: u32,
    consumers: u32,
    /// Frames of the host that are not read yet, and receipts owed.
    pub(super) acks: VecDeque<Arrived>,
    pub(super) receipts: VecDeque<String>,
    pub(super) senders: [Sender; 3],
}

/// [`Flavour`] with an order, to be part of a state.
pub(super) type Kind = Ordered<Flavour>;
/// The same for ack modes.
pub(super) type Mode = AckMode;

/// A value that never changes, so it tells no states apart.
#[derive(Clone, Copy)]
pub(super) struct Ordered<T>(pub(super) T);

impl<T> std::hash::Hash for Ordered<T> {
    fn hash<H: std::hash::Hasher>(&self, _: &mut H) {}
}

/// A frame as it stands on the wire.
pub(super) struct Arrived(pub(super) Frame);

impl std::hash::Hash for Arrived {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (self.0.command.as_str(), &self.0.body).hash(state);
        self.0.headers.iter().filter(|(name, _)| WIRE.contains(name)).for_each(|header| header.hash(state));
    }
}

/// The headers that matter on the wire.
const WIRE: [&str; 5] = ["id", "receipt", "transaction", "stompbox_resent", SERIAL];

/// A sending connection of the host, seen from the broker.
#[derive(Default, Hash)]
pub(super) struct Sender {
    pub(super) up: bool,
    pub(super) unread: VecDeque<Arrived>,
    transactions: BTreeMap<String, Vec<Sent>>,
    /// Receipts and ERRORs that the host has not read.
    pub(super) answers: Vec<Arrived>,
    /// It sends no more and is closed when its last answer is read.
    pub(super) closing: bool,
}

/// A message that the host sent.
#[derive(Clone, Hash)]
struct Sent {
    what: Bytes,
    serial: Option<String>,
    resent: bool,
}

impl Broker {
    pub(super) fn new(flavour: Flavour, mode: AckMode, messages: u8) -> Self {
        Self {
            flavour: Ordered(flavour),
            mode,
            queue: (0..messages).map(|message| (message, false)).collect(),
            unacked: Vec::new(),
            window: usize::from(messages),
            delivered: 0,
            consumers: 0,
            acks: VecDeque::new(),
            receipts: VecDeque::new(),
            senders: Default::default(),
        }
    }

    /// Whether it forgets what it sends.
    fn forgets(&self) -> bool {
        self.flavour.0.wire_mode(self.mode) == AckMode::Auto
    }

    pub(super) fn subscribe(&mut self) {
        self.consumers += 1;
        self.delivered = 0;
    }

    pub(super) fn can_deliver(&self) -> bool {
        !self.queue.is_empty() && self.unacked.len() < self.window
    }

    /// The next message: its number, and its headers.
    pub(super) fn deliver(&mut self) -> Option<(u8, Vec<(&'static str, String)>)> {
        let (message, redelivered) = self.queue.pop_front()?;
        self.delivered += 1;
        let serial = format!("{}.{}", self.consumers, self.delivered);
        let id = match self.flavour.0 {
            Flavour::ActiveMq | Flavour::Embedded => format!("m{message}"),
            Flavour::Artemis => format!("{},m{message}", self.consumers),
            Flavour::RabbitMq | Flavour::Unknown => format!("T@@{serial}"),
        };
        if !self.forgets() {
            self.unacked.push((serial.clone(), message));
        }
        let redelivered = redelivered.to_string();
        let headers = [("message-id", id), ("ack", serial.clone()), (SERIAL, serial), ("redelivered", redelivered)];
        Some((message, headers.into()))
    }

    /// Reads one frame of the consumer.
    pub(super) fn read_ack(&mut self, facts: &mut Facts) {
        let Some(Arrived(frame)) = self.acks.pop_front() else { return };
        let id = frame.headers.get("id").unwrap_or_default();
        let at = self.unacked.iter().position(|(serial, _)| serial == id);
        let at =
            at.unwrap_or_else(|| panic!("{} names {id:?}, which this connection has not to settle", frame.command));
        let from = if self.flavour.0.wire_mode(self.mode) == AckMode::Client { 0 } else { at };
        for (_, message) in self.unacked.drain(from..=at) {
            match frame.command {
                Command::Nack => self.queue.push_front((message, true)),
                _ if self.mode != AckMode::Auto => facts.acknowledged(message),
                _ => {}
            }
        }
        self.receipts.extend(frame.headers.get("receipt").map(str::to_owned));
    }

    /// The consumer is gone: what it has not acknowledged goes back to where it was.
    pub(super) fn unsubscribe(&mut self) {
        for (_, message) in self.unacked.drain(..).rev() {
            self.queue.push_front((message, true));
        }
        self.acks.clear();
        self.receipts.clear();
    }

    /// Nothing is left.
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.unacked.is_empty()
    }

    /// Whether a sender's next frame is a SEND.
    pub(super) fn next_is_send(&self, sender: usize) -> bool {
        let sender = &self.senders[sender];
        !sender.closing && sender.unread.front().is_some_and(|Arrived(frame)| frame.command == Command::Send)
    }

    /// Reads one frame of a sender; with `refuse` it does not like what it reads.
    pub(super) fn read_send(&mut self, sender: usize, refuse: bool, facts: &mut Facts) {
        let survives = self.flavour.0.survives_error();
        let sender = &mut self.senders[sender];
        let Some(Arrived(frame)) = sender.unread.pop_front() else { return };
        let (transaction, receipt) = (frame.headers.get("transaction"), frame.headers.get("receipt"));
        match (frame.command, transaction) {
            (Command::Begin, Some(name)) => drop(sender.transactions.insert(name.to_owned(), Vec::new())),
            (Command::Commit, Some(name)) => {
                sender.transactions.remove(name).into_iter().flatten().for_each(|sent| sent.store(facts));
            }
            (Command::Send, _) if refuse => {
                facts.refused += 1;
                sender.closing = !survives;
            }
            (Command::Send, Some(name)) => {
                sender.transactions.entry(name.to_owned()).or_default().push(Sent::of(&frame))
            }
            _ => Sent::of(&frame).store(facts),
        }
        let answer = if refuse { Command::Error } else { Command::Receipt };
        if refuse || receipt.is_some() {
            let named = receipt.map(|id| ("receipt-id", id));
            let text = refuse.then_some(("message", "no"));
            sender.answers.push(Arrived(Frame::new(answer, named.into_iter().chain(text), Bytes::new())));
        }
    }

    /// Which of the answers to a sender may be read next: RabbitMQ and Artemis answer when the disk has it.
    pub(super) fn next_answers(&self, sender: usize) -> usize {
        let count = self.senders[sender].answers.len();
        if self.flavour.0.survives_error() { count.min(1) } else { count }
    }
}

impl Sent {
    fn of(frame: &Frame) -> Self {
        Self {
            what: frame.body.clone(),
            serial: frame.headers.get(SERIAL).map(str::to_owned),
            resent: frame.headers.get("stompbox_resent").is_some(),
        }
    }

    fn store(self, facts: &mut Facts) {
        facts.stored(Run::of(&self.what, self.serial.as_deref()), self.resent);
    }
}
