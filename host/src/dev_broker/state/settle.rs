//! ACK and NACK: which delivery they name and what becomes of it.

use super::{
    super::{
        queue::{Entry, Message, SubId},
        refusal::Refusal,
    },
    AckMode, PeerId, State,
};

/// What a consumer says of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::dev_broker) enum Verdict {
    /// It is done.
    Ack,
    /// Another shall have it.
    Nack,
}

/// How ACK and NACK name a delivery.
#[derive(Debug, Clone, Copy)]
pub(in crate::dev_broker) enum DeliveryName<'a> {
    /// 1.2: by the value of the `ack` header.
    Ack(&'a str),
    /// 1.0 and 1.1: by `message-id`, and by the subscription where it is given.
    Message { id: &'a str, subscription: Option<&'a str> },
}

/// One un-acked delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::dev_broker) struct Delivered {
    sub: SubId,
    tag: u64,
}

impl State {
    /// Finds what an ACK or NACK names.
    pub(in crate::dev_broker) fn find(&self, peer: PeerId, name: DeliveryName<'_>) -> Result<Delivered, Refusal> {
        let (found, shown) = match name {
            DeliveryName::Ack(id) => (self.find_ack(peer, id), id),
            DeliveryName::Message { id, subscription } => (self.find_message(peer, id, subscription), id),
        };
        found.ok_or_else(|| Refusal::UnknownDelivery(shown.to_owned()))
    }

    fn find_ack(&self, peer: PeerId, id: &str) -> Option<Delivered> {
        let (sub, tag) = id.split_once('.')?;
        let (sub_id, tag) = (SubId(sub.parse().ok()?), tag.parse().ok()?);
        let sub = self.subscriptions.get(&sub_id)?;
        (sub.peer == peer && sub.unacked.contains_key(&tag)).then_some(Delivered { sub: sub_id, tag })
    }

    fn find_message(&self, peer: PeerId, id: &str, subscription: Option<&str>) -> Option<Delivered> {
        let number = Message::number_of(id)?;
        let mut subs = self.peers.get(&peer)?.subscriptions.iter();
        subs.by_ref().filter(|(key, _)| subscription.is_none_or(|wanted| wanted == *key)).find_map(|(_, sub)| {
            let unacked = &self.subscriptions.get(sub)?.unacked;
            let (tag, _) = unacked.iter().find(|(_, entry)| entry.message.number == number)?;
            Some(Delivered { sub: *sub, tag: *tag })
        })
    }

    /// Carries out an ACK or NACK. What is no longer un-acked is passed over.
    pub(in crate::dev_broker) fn settle(&mut self, delivered: Delivered, verdict: Verdict) {
        let Some(sub) = self.subscriptions.get_mut(&delivered.sub) else { return };
        let settled: Vec<Entry> = if sub.mode == AckMode::Client {
            let later = sub.unacked.split_off(&(delivered.tag + 1));
            std::mem::replace(&mut sub.unacked, later).into_values().collect()
        } else {
            sub.unacked.remove(&delivered.tag).into_iter().collect()
        };
        let id = sub.queue;
        let Some(queue) = self.queues.get_mut(&id) else { return };
        queue.unacked -= settled.len();
        match verdict {
            Verdict::Ack => {
                self.counts.acked += settled.len() as u64;
                self.release(settled.iter().map(|entry| entry.message.size).sum());
            }
            Verdict::Nack => {
                self.counts.nacked += settled.len() as u64;
                queue.give_back(settled.into_iter().map(|entry| Entry { redelivered: true, ..entry }).collect());
            }
        }
        self.dispatch(id);
    }
}
