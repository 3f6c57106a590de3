//! Everything that the broker holds: queues, subscriptions, outboxes, un-acked deliveries.
//!
//! Pure: no sockets, no clock, no waiting. Sessions call it under one lock with the frames of one read;
//! it answers by filling outboxes and ringing the bells of their owners. What it must never do is drop
//! a message of a queue: one that does not fit is held back with its sender ([`Step::Held`]).

mod memory;
mod settle;
mod subscribe;
mod transact;

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use self::{memory::Memory, transact::Transactions};
pub(super) use self::{
    settle::{Delivered, DeliveryName, Verdict},
    subscribe::{AckMode, Wanted},
};
use super::{
    Depth, Faults, Stats,
    outbox::{Outbox, Outgoing},
    queue::{Entry, Message, Queue, SubId},
    refusal::Refusal,
};
use crate::stomp::Frame;

/// A consumer with more unsent bytes than this is not fed.
const FEED_BYTES: usize = 1 << 20;
/// Destinations that begin with this are topics, all others are queues.
const TOPIC: &str = "/topic/";

/// The broker's number of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct PeerId(u64);

impl PeerId {
    /// The bare number, for the session id.
    pub(super) fn number(self) -> u64 {
        self.0
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct QueueId(u64);

/// Whether a frame was handled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// It was.
    Done,
    /// The memory cap is reached: the sender's bell rings when it is worth another try.
    Held,
}

/// The connection's side of the state.
#[derive(Debug)]
struct PeerState {
    /// Wakes its task.
    bell: Arc<Notify>,
    /// Ends its task.
    cut: CancellationToken,
    outbox: Outbox,
    /// Bytes of deliveries that its task has taken and not yet written.
    in_flight: usize,
    /// It was passed over because too much is unsent.
    passed_over: bool,
    /// By the id that the client uses.
    subscriptions: HashMap<String, SubId>,
    transactions: Transactions,
}

impl PeerState {
    fn has_room(&self) -> bool {
        self.outbox.bytes() + self.in_flight < FEED_BYTES
    }
}

#[derive(Debug)]
struct Subscription {
    peer: PeerId,
    wire_id: Option<Arc<str>>,
    queue: QueueId,
    /// Where the queue is private to it.
    topic: Option<Arc<str>>,
    /// Its queue stays when the connection goes.
    durable: bool,
    mode: AckMode,
    prefetch: usize,
    last_tag: u64,
    /// In the order of delivery.
    unacked: BTreeMap<u64, Entry>,
}

/// Everything that the broker holds.
#[derive(Debug)]
pub(super) struct State {
    /// What goes wrong on purpose.
    pub(super) faults: Faults,
    memory: Memory,
    peers: HashMap<PeerId, PeerState>,
    subscriptions: HashMap<SubId, Subscription>,
    queues: HashMap<QueueId, Queue>,
    names: HashMap<Arc<str>, QueueId>,
    topics: HashMap<Arc<str>, Vec<QueueId>>,
    last_id: u64,
    counts: Stats,
}

impl State {
    /// Creates an empty broker.
    pub(super) fn new(memory_bytes: usize, faults: Faults) -> Self {
        Self {
            faults,
            memory: Memory::new(memory_bytes),
            peers: HashMap::new(),
            subscriptions: HashMap::new(),
            queues: HashMap::new(),
            names: HashMap::new(),
            topics: HashMap::new(),
            last_id: 0,
            counts: Stats::default(),
        }
    }

    fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// Adds a connection. `bell` rings when there is something to take or to try again; `cut` is
    /// cancelled when the broker drops it.
    pub(super) fn add_peer(&mut self, bell: Arc<Notify>, cut: CancellationToken) -> PeerId {
        let id = PeerId(self.next_id());
        let peer = PeerState {
            bell,
            cut,
            outbox: Outbox::default(),
            in_flight: 0,
            passed_over: false,
            subscriptions: HashMap::new(),
            transactions: Transactions::default(),
        };
        self.peers.insert(id, peer);
        id
    }

    /// Whether the connection still counts; frames of one that was cut are not handled.
    pub(super) fn has_peer(&self, id: PeerId) -> bool {
        self.peers.contains_key(&id)
    }

    /// Removes a connection: its transactions are forgotten, its deliveries go back to their queues.
    pub(super) fn remove_peer(&mut self, id: PeerId) {
        if let Some(peer) = self.peers.remove(&id) {
            self.bury(id, peer);
        }
    }

    /// Removes all connections: none receives what another gives back.
    pub(super) fn remove_all_peers(&mut self) {
        for (id, peer) in std::mem::take(&mut self.peers) {
            self.bury(id, peer);
        }
    }

    fn bury(&mut self, id: PeerId, mut peer: PeerState) {
        peer.cut.cancel();
        self.memory.unstage(peer.transactions.bytes());
        self.memory.forget_held(id);
        for sub in peer.subscriptions.into_values() {
            let unsent = peer.outbox.withdraw(sub);
            self.detach(sub, unsent);
        }
    }

    /// How much a queue holds.
    pub(super) fn depth(&self, name: &str) -> Depth {
        let queue = self.names.get(name).and_then(|id| self.queues.get(id));
        queue.map_or_else(Depth::default, |queue| Depth {
            waiting: queue.waiting.len(),
            unacked: queue.unacked,
            consumers: queue.consumers(),
        })
    }

    /// What was done so far.
    pub(super) fn stats(&self) -> Stats {
        Stats {
            connections: self.peers.len(),
            held: self.memory.held(),
            memory_bytes: self.memory.used(),
            ..self.counts
        }
    }

    /// Takes a message, or holds its sender back.
    pub(super) fn send(&mut self, peer: PeerId, destination: &str, frame: &Frame) -> Result<Step, Refusal> {
        let size = Message::size_of(frame);
        self.memory.check(size)?;
        if !self.memory.fits(size.saturating_mul(self.copies(destination))) {
            self.memory.hold(peer);
            return Ok(Step::Held);
        }
        self.publish(destination, Message::from_frame(frame));
        Ok(Step::Done)
    }

    /// How many queues a message for `destination` goes to.
    fn copies(&self, destination: &str) -> usize {
        if destination.starts_with(TOPIC) { self.topics.get(destination).map_or(0, Vec::len) } else { 1 }
    }

    /// Gives a message its number and puts it where it belongs; there must be room.
    fn publish(&mut self, destination: &str, mut message: Message) {
        self.counts.sent += 1;
        message.number = self.counts.sent;
        let entry = Entry { message: Arc::new(message), redelivered: false };
        if destination.starts_with(TOPIC) {
            for id in self.topics.get(destination).cloned().unwrap_or_default() {
                self.enqueue(id, entry.clone());
            }
        } else {
            let id = self.queue_named(destination);
            self.enqueue(id, entry);
        }
    }

    fn queue_named(&mut self, name: &str) -> QueueId {
        if let Some(id) = self.names.get(name) {
            return *id;
        }
        let id = QueueId(self.next_id());
        let name: Arc<str> = name.into();
        self.queues.insert(id, Queue::new(Some(name.clone())));
        self.names.insert(name, id);
        id
    }

    fn enqueue(&mut self, id: QueueId, entry: Entry) {
        self.memory.take(entry.message.size);
        if let Some(queue) = self.queues.get_mut(&id) {
            queue.waiting.push_back(entry);
        }
        self.dispatch(id);
    }

    fn release(&mut self, bytes: usize) {
        for peer in self.memory.release(bytes) {
            if let Some(peer) = self.peers.get(&peer) {
                peer.bell.notify_one();
            }
        }
    }

    /// Hands waiting messages to consumers in turn while one has a free window and unsent room.
    fn dispatch(&mut self, id: QueueId) {
        let Self { queues, subscriptions, peers, .. } = self;
        let Some(queue) = queues.get_mut(&id) else { return };
        while !queue.waiting.is_empty() {
            let Some(sub_id) = queue.next_consumer(|id| is_ready(subscriptions, peers, id)) else { return };
            let Some(sub) = subscriptions.get_mut(&sub_id) else { return };
            let Some(peer) = peers.get_mut(&sub.peer) else { return };
            let Some(entry) = queue.waiting.pop_front() else { return };
            let mut tag = None;
            if sub.mode != AckMode::Auto {
                sub.last_tag += 1;
                tag = Some(sub.last_tag);
                sub.unacked.insert(sub.last_tag, entry.clone());
                queue.unacked += 1;
            }
            if peer.outbox.push(Outgoing { sub: sub_id, wire_id: sub.wire_id.clone(), tag, entry }) {
                peer.bell.notify_one();
            }
        }
    }

    /// Takes a connection's deliveries. Its task must have written everything it took before.
    pub(super) fn take(&mut self, id: PeerId) -> VecDeque<Outgoing> {
        let Some(peer) = self.peers.get_mut(&id) else { return VecDeque::new() };
        peer.in_flight = 0;
        if std::mem::take(&mut peer.passed_over) {
            let subs: Vec<SubId> = peer.subscriptions.values().copied().collect();
            for sub in subs {
                if let Some(queue) = self.subscriptions.get(&sub).map(|sub| sub.queue) {
                    self.dispatch(queue);
                }
            }
        }
        let Some(peer) = self.peers.get_mut(&id) else { return VecDeque::new() };
        peer.in_flight = peer.outbox.bytes();
        let taken = peer.outbox.take();
        self.counts.delivered += taken.len() as u64;
        self.counts.redelivered += taken.iter().filter(|out| out.entry.redelivered).count() as u64;
        let consumed = taken.iter().filter(|out| out.tag.is_none()).map(|out| out.entry.message.size).sum();
        self.release(consumed);
        taken
    }
}

/// Whether a consumer may have another delivery.
fn is_ready(subs: &HashMap<SubId, Subscription>, peers: &mut HashMap<PeerId, PeerState>, id: SubId) -> bool {
    let Some(sub) = subs.get(&id).filter(|sub| sub.unacked.len() < sub.prefetch) else { return false };
    let Some(peer) = peers.get_mut(&sub.peer) else { return false };
    peer.passed_over |= !peer.has_room();
    peer.has_room()
}

#[cfg(test)]
mod tests;
