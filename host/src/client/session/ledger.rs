//! What one connection delivered and what became of it: which ACK may be written.
//!
//! A plain data structure without sockets or locks; [`super::acks`] keeps one for the living epoch. In ack
//! mode client an ACK covers everything delivered before it, so one may only name the delivery below which
//! everything is settled; what was dropped blocks it until the session ends.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use crate::delivery::Message;

#[derive(Debug, Default)]
#[cfg_attr(test, derive(Hash))]
pub(super) struct Ledger {
    /// ACKs are cumulative (ack mode client).
    cumulative: bool,
    /// Messages will be recognised when they are delivered again, so they are remembered.
    recognises: bool,
    last: u64,
    /// What is not ended, and in ack mode client what cannot be acknowledged yet.
    open: BTreeMap<u64, Entry>,
    /// Acknowledged, oldest first, but not yet confirmed to be.
    unconfirmed: VecDeque<Arc<Message>>,
    /// How many were acknowledged, and how many of these the broker has confirmed.
    acked: u64,
    confirmed: u64,
}

#[derive(Debug)]
#[cfg_attr(test, derive(Hash))]
enum Entry {
    InWork(Arc<Message>),
    Settled(Arc<Message>),
    Dropped,
}

/// What an ended epoch leaves to remember.
#[derive(Debug, Default)]
pub(super) struct Remains {
    /// Settled, but the broker may not know.
    pub(super) settled: Vec<Arc<Message>>,
    /// Not ended yet, by number.
    pub(super) in_work: Vec<(u64, Arc<Message>)>,
    /// How many were settled that the broker may not know of, where they will not be recognised.
    pub(super) unrecognised: usize,
}

impl Ledger {
    pub(super) fn new(cumulative: bool, recognises: bool) -> Self {
        Self { cumulative, recognises, ..Self::default() }
    }

    /// Takes a delivery in; returns its number.
    pub(super) fn admit(&mut self, message: &Arc<Message>) -> u64 {
        self.last += 1;
        if self.cumulative || self.recognises {
            self.open.insert(self.last, Entry::InWork(message.clone()));
        }
        self.last
    }

    /// Adds to `acks` what may be acknowledged now that this delivery is settled, in the order of delivery.
    pub(super) fn settle(&mut self, number: u64, message: &Arc<Message>, acks: &mut Vec<Arc<Message>>) {
        let before = acks.len();
        if self.cumulative {
            self.open.insert(number, Entry::Settled(message.clone()));
            while let Some(first) = self.open.first_entry() {
                let Entry::Settled(message) = first.get() else { break };
                acks.push(message.clone());
                first.remove();
            }
        } else {
            self.open.remove(&number);
            acks.push(message.clone());
        }
        let new = acks.get(before..).unwrap_or_default();
        self.acked += new.len() as u64;
        if self.recognises {
            self.unconfirmed.extend(new.iter().cloned());
        }
    }

    /// So many were acknowledged as they came, before any lane had them.
    pub(super) fn acknowledge(&mut self, count: usize) {
        self.acked += count as u64;
    }

    /// Nobody will settle this delivery.
    pub(super) fn drop(&mut self, number: u64) {
        if self.cumulative {
            self.open.insert(number, Entry::Dropped);
        } else {
            self.open.remove(&number);
        }
    }

    /// The message of a delivery was copied: the original can go.
    pub(super) fn copied(&mut self, number: u64, message: &Arc<Message>) {
        if let Some(Entry::InWork(old)) = self.open.get_mut(&number) {
            *old = message.clone();
        }
    }

    /// How many were acknowledged so far: what [`Ledger::confirm`] wants to hear of later.
    pub(super) fn acked(&self) -> u64 {
        self.acked
    }

    /// Whether the broker has confirmed all of them.
    pub(super) fn all_confirmed(&self) -> bool {
        self.confirmed == self.acked
    }

    /// The broker has confirmed that many.
    pub(super) fn confirm(&mut self, acked: u64) {
        while self.confirmed < acked {
            self.unconfirmed.pop_front();
            self.confirmed += 1;
        }
    }

    /// Ends the epoch.
    pub(super) fn close(self) -> Remains {
        let mut remains = Remains::default();
        if !self.recognises {
            let blocked = self.open.values().filter(|entry| matches!(entry, Entry::Settled(_))).count();
            remains.unrecognised = usize::try_from(self.acked - self.confirmed).unwrap_or_default() + blocked;
            return remains;
        }
        remains.settled.extend(self.unconfirmed);
        for (number, entry) in self.open {
            match entry {
                Entry::InWork(message) => remains.in_work.push((number, message)),
                Entry::Settled(message) => remains.settled.push(message),
                Entry::Dropped => {}
            }
        }
        remains
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::testing::delivery;

    /// A ledger with deliveries 1 to 5, and their messages.
    fn ledger(cumulative: bool) -> (Ledger, Vec<Arc<Message>>) {
        let mut ledger = Ledger::new(cumulative, true);
        let messages: Vec<_> = (1..=5).map(|id: u64| delivery(&id.to_string()).message.clone()).collect();
        assert_eq!(messages.iter().map(|message| ledger.admit(message)).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
        (ledger, messages)
    }

    fn settle(ledger: &mut Ledger, messages: &[Arc<Message>], number: u64) -> Vec<String> {
        let mut acks = Vec::new();
        ledger.settle(number, &messages[number as usize - 1], &mut acks);
        acks.iter().map(|message| message.id().to_owned()).collect()
    }

    #[test]
    fn each_by_itself_is_acknowledged_at_once() {
        let (mut ledger, messages) = ledger(false);
        assert_eq!(settle(&mut ledger, &messages, 4), ["4"]);
        assert_eq!(settle(&mut ledger, &messages, 1), ["1"]);
    }

    #[test]
    fn a_cumulative_ack_never_covers_what_is_not_settled() {
        let (mut ledger, messages) = ledger(true);
        assert_eq!(settle(&mut ledger, &messages, 2), [""; 0]);
        assert_eq!(settle(&mut ledger, &messages, 3), [""; 0]);
        assert_eq!(settle(&mut ledger, &messages, 1), ["1", "2", "3"]);
        ledger.drop(4);
        assert_eq!(settle(&mut ledger, &messages, 5), [""; 0], "4 will never be settled");
    }

    fn ids<'a>(messages: impl IntoIterator<Item = &'a Arc<Message>>) -> Vec<&'a str> {
        messages.into_iter().map(|message| message.id()).collect()
    }

    #[test]
    fn what_remains_is_what_the_broker_may_not_know() {
        for cumulative in [false, true] {
            let (mut ledger, messages) = ledger(cumulative);
            settle(&mut ledger, &messages, 1);
            let confirmed = ledger.acked();
            settle(&mut ledger, &messages, 2);
            ledger.confirm(confirmed);
            ledger.drop(3);
            settle(&mut ledger, &messages, 5);
            let remains = ledger.close();
            assert_eq!(ids(&remains.settled), ["2", "5"], "cumulative: {cumulative}");
            assert_eq!(ids(remains.in_work.iter().map(|(_, message)| message)), ["4"]);
            assert_eq!(remains.in_work[0].0, 4);
        }
    }

    #[test]
    fn without_stable_ids_nothing_is_kept() {
        let mut ledger = Ledger::new(false, false);
        let message = delivery("1").message.clone();
        assert_eq!((ledger.admit(&message), ledger.admit(&message)), (1, 2));
        let mut acks = Vec::new();
        ledger.settle(1, &message, &mut acks);
        assert_eq!((acks.len(), ledger.open.len(), ledger.unconfirmed.len()), (1, 0, 0));
        assert_eq!(ledger.close().unrecognised, 1);
    }

    #[test]
    fn what_will_not_be_recognised_is_counted() {
        let mut ledger = Ledger::new(true, false);
        let messages: Vec<_> = (1..=4).map(|id: u64| delivery(&id.to_string()).message.clone()).collect();
        assert_eq!(messages.iter().map(|message| ledger.admit(message)).last(), Some(4));
        settle(&mut ledger, &messages, 1);
        ledger.confirm(ledger.acked());
        settle(&mut ledger, &messages, 2);
        settle(&mut ledger, &messages, 4);
        assert_eq!(ledger.close().unrecognised, 2, "2 is not confirmed, 4 waits for 3");
    }
}
