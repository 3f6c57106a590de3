//! Subscriptions: opening them, closing them, giving back what they held.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    super::{
        outbox::Outgoing,
        queue::{Entry, Queue, SubId},
        refusal::Refusal,
    },
    PeerId, QueueId, State, Subscription, TOPIC,
};

/// Subscriptions of one connection.
const MAX_SUBSCRIPTIONS: usize = 1_000;

/// When a delivery counts as consumed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::dev_broker) enum AckMode {
    /// When it was handed to the connection.
    Auto,
    /// By an ACK for it or for a later one of the subscription.
    Client,
    /// By an ACK for it.
    Individual,
}

/// What SUBSCRIBE asks for.
#[derive(Debug, Clone, Copy)]
pub(in crate::dev_broker) struct Wanted<'a> {
    /// The id of the subscription; 1.0 clients may give none and are then known by the destination.
    pub(in crate::dev_broker) id: Option<&'a str>,
    pub(in crate::dev_broker) destination: &'a str,
    pub(in crate::dev_broker) mode: AckMode,
    /// How many deliveries may be un-acked, at least 1.
    pub(in crate::dev_broker) prefetch: usize,
    /// The name of a durable subscription of a topic, unique in the broker.
    pub(in crate::dev_broker) durable: Option<&'a str>,
}

impl State {
    /// Opens a subscription and delivers what waits.
    pub(in crate::dev_broker) fn subscribe(&mut self, peer: PeerId, wanted: Wanted<'_>) -> Result<(), Refusal> {
        let key = wanted.id.unwrap_or(wanted.destination);
        let Some(state) = self.peers.get(&peer) else { return Ok(()) };
        if state.subscriptions.contains_key(key) {
            return Err(Refusal::Protocol(format!("subscription {key} exists already")));
        }
        if state.subscriptions.len() >= MAX_SUBSCRIPTIONS {
            return Err(Refusal::Protocol(format!("more than {MAX_SUBSCRIPTIONS} subscriptions on one connection")));
        }
        let id = SubId(self.next_id());
        let topic = wanted.destination.starts_with(TOPIC).then(|| Arc::from(wanted.destination));
        let durable = topic.is_some() && wanted.durable.is_some();
        let queue = match (&topic, wanted.durable) {
            (Some(topic), Some(name)) => self.durable_queue(topic, name),
            (Some(topic), None) => self.private_queue(topic),
            (None, _) => self.queue_named(wanted.destination),
        };
        let Wanted { mode, prefetch, .. } = wanted;
        let wire_id = wanted.id.map(Arc::from);
        let unacked = BTreeMap::new();
        let sub = Subscription { peer, wire_id, queue, topic, durable, mode, prefetch, last_tag: 0, unacked };
        self.subscriptions.insert(id, sub);
        if let Some(queue) = self.queues.get_mut(&queue) {
            queue.add_consumer(id);
        }
        if let Some(state) = self.peers.get_mut(&peer) {
            state.subscriptions.insert(key.to_owned(), id);
        }
        self.dispatch(queue);
        Ok(())
    }

    fn private_queue(&mut self, topic: &Arc<str>) -> QueueId {
        let id = QueueId(self.next_id());
        self.queues.insert(id, Queue::new(None));
        self.topics.entry(topic.clone()).or_default().push(id);
        id
    }

    /// The queue of a durable subscription: the one that it left, or a new one.
    fn durable_queue(&mut self, topic: &Arc<str>, name: &str) -> QueueId {
        let id = self.queue_named(name);
        let queues = self.topics.entry(topic.clone()).or_default();
        if !queues.contains(&id) {
            queues.push(id);
        }
        if let Some(queue) = self.queues.get_mut(&id) {
            queue.durable = true;
        }
        id
    }

    /// Closes a subscription; its deliveries go back to the queue. A durable one is deleted.
    pub(in crate::dev_broker) fn unsubscribe(&mut self, peer: PeerId, id: &str) -> Result<(), Refusal> {
        let Some(state) = self.peers.get_mut(&peer) else { return Ok(()) };
        let sub = state.subscriptions.remove(id).ok_or_else(|| Refusal::UnknownSubscription(id.to_owned()))?;
        let unsent = state.outbox.withdraw(sub);
        if let Some(sub) = self.subscriptions.get_mut(&sub) {
            sub.durable = false;
        }
        self.detach(sub, unsent);
        Ok(())
    }

    /// Removes a subscription; what its consumer had, and what was not yet sent, goes back.
    pub(super) fn detach(&mut self, id: SubId, unsent: Vec<Outgoing>) {
        let Some(sub) = self.subscriptions.remove(&id) else { return };
        let Some(queue) = self.queues.get_mut(&sub.queue) else { return };
        queue.remove_consumer(id);
        queue.unacked -= sub.unacked.len();
        // In ack mode auto what is not yet with the connection's task was not delivered.
        let unsent = unsent.into_iter().filter(|out| out.tag.is_none()).map(|out| out.entry);
        let given_back = sub.unacked.into_values().map(|entry| Entry { redelivered: true, ..entry });
        queue.give_back(given_back.chain(unsent).collect());
        match sub.topic {
            Some(topic) if !sub.durable => self.drop_private_queue(&topic, sub.queue),
            _ => self.dispatch(sub.queue),
        }
        self.drop_if_unused(sub.queue);
    }

    fn drop_private_queue(&mut self, topic: &Arc<str>, id: QueueId) {
        if let Some(queue) = self.queues.remove(&id) {
            let bytes = queue.waiting.iter().map(|entry| entry.message.size).sum();
            self.release(bytes);
            if let Some(name) = queue.name {
                self.names.remove(&name);
            }
        }
        if let Some(queues) = self.topics.get_mut(topic) {
            queues.retain(|queue| *queue != id);
            if queues.is_empty() {
                self.topics.remove(topic);
            }
        }
    }

    fn drop_if_unused(&mut self, id: QueueId) {
        if self.queues.get(&id).is_some_and(Queue::is_unused)
            && let Some(queue) = self.queues.remove(&id)
            && let Some(name) = queue.name
        {
            self.names.remove(&name);
        }
    }
}
