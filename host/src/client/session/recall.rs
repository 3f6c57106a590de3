//! What older connections of a session delivered, so that a message that comes again is not processed
//! twice: one that was settled is acknowledged, one still in work waits for its end.
//!
//! A plain data structure; [`super::acks`] keeps it under its lock. Bounded: of what was settled it knows
//! the last ones, and what is in work is bounded by the lanes and by what they may leave unconfirmed.

use std::{
    collections::{HashMap, VecDeque},
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use super::ledger::Remains;
use crate::{
    client::Flavour,
    delivery::{Delivery, Message},
};

/// Settled messages remembered at least, else twice the window; and all that the last connection left, which is more
/// on Artemis, where the window counts bytes.
const KEEP: usize = 2_000;

/// Which delivery: epoch and number.
pub(super) type Which = (u64, u64);

#[derive(Debug)]
pub(super) struct Recall {
    flavour: Flavour,
    known: HashMap<String, Known>,
    /// The ids of settled ones, oldest first.
    settled: VecDeque<String>,
    /// How many of them are remembered, and how many at least.
    keep: usize,
    least: usize,
    /// How many of the late ones were forgotten because they did not come again.
    unreturned: usize,
}

#[derive(Debug)]
#[cfg_attr(test, derive(Hash))]
struct Known {
    print: u64,
    standing: Standing,
}

#[derive(Debug)]
#[cfg_attr(test, derive(Hash))]
enum Standing {
    /// `late`: after its connection was gone. If it does not come again, another reader may have processed it.
    Settled {
        late: bool,
    },
    InWork {
        which: Which,
        waiting: Option<Box<Delivery>>,
    },
}

/// Whether a message was delivered before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    Unknown,
    Settled,
    InWork,
}

impl Recall {
    pub(super) fn new(window: usize) -> Self {
        let least = window.saturating_mul(2).max(KEEP);
        let (known, settled) = (HashMap::new(), VecDeque::new());
        Self { flavour: Flavour::Unknown, known, settled, keep: least, least, unreturned: 0 }
    }

    /// Which broker's ids are read from now on.
    pub(super) fn set_flavour(&mut self, flavour: Flavour) {
        self.flavour = flavour;
    }

    /// Remembers what an ended epoch left. Returns what waited there: it ended with the epoch.
    pub(super) fn remember(&mut self, epoch: u64, remains: Remains) -> Vec<Delivery> {
        let waiting = self.known.values_mut().filter_map(|known| match &mut known.standing {
            Standing::InWork { waiting, .. } => waiting.take().map(|waiting| *waiting),
            Standing::Settled { .. } => None,
        });
        let waiting = waiting.collect();
        self.keep = self.least.max(remains.settled.len() + remains.in_work.len());
        for message in remains.settled {
            self.settle(&message, false);
        }
        for (number, message) in remains.in_work {
            let Some(id) = self.flavour.stable_id(message.id()) else { continue };
            let standing = Standing::InWork { which: (epoch, number), waiting: None };
            // One that waited for an older delivery is known already.
            self.known.entry(id.to_owned()).or_insert(Known { print: print(&message), standing });
        }
        waiting
    }

    fn settle(&mut self, message: &Message, late: bool) {
        let Some(id) = self.flavour.stable_id(message.id()) else { return };
        self.forget(id);
        self.known.insert(id.to_owned(), Known { print: print(message), standing: Standing::Settled { late } });
        self.settled.push_back(id.to_owned());
        if self.settled.len() > self.keep
            && let Some(oldest) = self.settled.pop_front()
            && let Some(Known { standing: Standing::Settled { late }, .. }) = self.known.get(&oldest)
        {
            self.unreturned += usize::from(*late);
            self.known.remove(&oldest);
        }
    }

    /// Takes one out. Brokers deliver again in the order of delivery, so its place is found near the front.
    fn forget(&mut self, id: &str) -> Option<Known> {
        let known = self.known.remove(id)?;
        if let Standing::Settled { .. } = known.standing
            && let Some(place) = self.settled.iter().position(|settled| settled == id)
        {
            self.settled.remove(place);
        }
        Some(known)
    }

    /// How many have been settled after their connection was gone and have not come again, of those that are
    /// forgotten. With `all`, nobody will recognise what comes now: then all that are remembered count, too.
    pub(super) fn take_unreturned(&mut self, all: bool) -> usize {
        let settled = |known: &&Known| matches!(known.standing, Standing::Settled { .. });
        let remembered = if all { self.known.values().filter(settled).count() } else { 0 };
        std::mem::take(&mut self.unreturned) + remembered
    }

    /// Whether an older connection delivered this message. That it was settled is told once.
    pub(super) fn seen(&mut self, message: &Message) -> Seen {
        if self.known.is_empty() {
            return Seen::Unknown;
        }
        let Some(id) = self.flavour.stable_id(message.id()) else { return Seen::Unknown };
        // A broker that began anew counts its ids anew: what is not marked must be of the same moment.
        let marked = message.redelivered() || message.headers.get("timestamp").is_some();
        match self.known.get(id).filter(|known| marked && known.print == print(message)).map(|known| &known.standing) {
            None => Seen::Unknown,
            Some(Standing::InWork { .. }) => Seen::InWork,
            Some(Standing::Settled { .. }) => {
                self.forget(id);
                Seen::Settled
            }
        }
    }

    /// Keeps a delivery until that of an older connection has ended; returns one that waited already.
    pub(super) fn wait(&mut self, delivery: Delivery) -> Option<Delivery> {
        let known = self.flavour.stable_id(delivery.message.id()).and_then(|id| self.known.get_mut(id));
        match known.map(|known| &mut known.standing) {
            Some(Standing::InWork { waiting, .. }) => waiting.replace(Box::new(delivery)).map(|older| *older),
            _ => Some(delivery),
        }
    }

    /// Whether this delivery of an older connection has kept the next one waiting for longer than this.
    pub(super) fn waits_longer(&self, which: Which, message: &Message, limit: Duration) -> bool {
        let known = self.flavour.stable_id(message.id()).and_then(|id| self.known.get(id));
        match known.map(|known| &known.standing) {
            Some(Standing::InWork { which: owner, waiting: Some(waiting) }) => *owner == which && waiting.age() > limit,
            _ => false,
        }
    }

    /// Whether this delivery of an older connection would be recognised.
    pub(super) fn knows(&self, which: Which, message: &Message) -> bool {
        let known = self.flavour.stable_id(message.id()).and_then(|id| self.known.get(id));
        matches!(known, Some(Known { standing: Standing::InWork { which: owner, .. }, .. }) if *owner == which)
    }

    /// A delivery of an older connection has ended. Returns whether it was known, and what waited for it.
    pub(super) fn end(&mut self, which: Which, message: &Message, settled: bool) -> (bool, Option<Delivery>) {
        if !self.knows(which, message) {
            return (false, None);
        }
        let known = self.flavour.stable_id(message.id()).and_then(|id| self.known.remove(id));
        let waiting = match known.map(|known| known.standing) {
            Some(Standing::InWork { waiting, .. }) => waiting.map(|waiting| *waiting),
            _ => None,
        };
        if settled && waiting.is_none() {
            self.settle(message, true);
        }
        (true, waiting)
    }
}

#[cfg(test)]
impl Hash for Recall {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let known: std::collections::BTreeMap<_, _> = self.known.iter().collect();
        (known, &self.settled, self.unreturned).hash(state);
    }
}

/// Tells messages apart whose ids are equal by chance.
fn print(message: &Message) -> u64 {
    let mut hasher = DefaultHasher::new();
    message.headers.get("timestamp").hash(&mut hasher);
    message.body.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::*;
    use crate::delivery::testing::FakeSession;

    fn delivery(id: &str, body: &'static str, redelivered: &str) -> Delivery {
        let mut delivery = FakeSession::new().delivery("", b"");
        let mut message = (*delivery.message).clone();
        message.headers = [("message-id", id), ("redelivered", redelivered)].into_iter().collect();
        message.body = Bytes::from_static(body.as_bytes());
        delivery.message = Arc::new(message);
        delivery
    }

    fn message(id: &str) -> Arc<Message> {
        delivery(id, "body", "false").message.clone()
    }

    fn recall() -> Recall {
        let mut recall = Recall::new(10);
        recall.set_flavour(Flavour::ActiveMq);
        let remains = Remains { settled: vec![message("done")], in_work: vec![(7, message("busy"))], unrecognised: 0 };
        assert!(recall.remember(1, remains).is_empty());
        recall
    }

    #[test]
    fn what_was_settled_is_told_once_and_the_rest_is_unknown() {
        let mut recall = recall();
        let again = delivery("done", "body", "true").message.clone();
        assert_eq!(recall.seen(&delivery("new", "body", "true").message), Seen::Unknown);
        assert_eq!(recall.seen(&again), Seen::Settled);
        assert_eq!(recall.seen(&again), Seen::Unknown);
    }

    #[test]
    fn a_broker_that_began_anew_may_use_an_id_again() {
        let mut recall = recall();
        assert_eq!(recall.seen(&delivery("done", "another body", "true").message), Seen::Unknown);
        assert_eq!(recall.seen(&delivery("done", "body", "false").message), Seen::Unknown);
    }

    #[test]
    fn one_in_work_is_waited_for() {
        for settled in [true, false] {
            let mut recall = recall();
            let again = delivery("busy", "body", "true");
            let first = message("busy");
            assert_eq!(recall.seen(&again.message), Seen::InWork);
            assert!(recall.wait(again).is_none());
            assert!(!recall.end((2, 7), &first, settled).0, "another delivery of the same message");
            let (known, waiting) = recall.end((1, 7), &first, settled);
            assert_eq!((known, waiting.unwrap().message.id()), (true, "busy"));
        }
    }

    #[test]
    fn what_ends_before_it_comes_again_is_settled_or_forgotten() {
        for (settled, seen) in [(true, Seen::Settled), (false, Seen::Unknown)] {
            let mut recall = recall();
            assert!(recall.end((1, 7), &message("busy"), settled).1.is_none());
            assert_eq!(recall.seen(&delivery("busy", "body", "true").message), seen);
        }
    }

    #[test]
    fn one_that_waited_ends_with_its_epoch_and_the_first_is_still_in_work() {
        let mut recall = recall();
        assert!(recall.wait(delivery("busy", "body", "true")).is_none());
        let remains = Remains { settled: vec![], in_work: vec![(3, message("busy"))], unrecognised: 0 };
        assert_eq!(recall.remember(2, remains).len(), 1);
        assert!(recall.knows((1, 7), &message("busy")) && !recall.knows((2, 3), &message("busy")));
    }

    #[test]
    fn what_was_settled_late_and_never_came_again_is_counted() {
        let (mut there, mut gone) = (recall(), recall());
        for recall in [&mut there, &mut gone] {
            recall.end((1, 7), &message("busy"), true);
        }
        there.seen(&delivery("busy", "body", "true").message);
        assert_eq!((there.take_unreturned(false), gone.take_unreturned(false)), (0, 0), "they may come yet");
        let done = 1; // Settled in time, but the broker may not know.
        assert_eq!((there.take_unreturned(true), gone.take_unreturned(true)), (done, done + 1));
        for number in 0..=KEEP {
            gone.remember(2, Remains { settled: vec![message(&number.to_string())], ..Remains::default() });
        }
        assert_eq!(gone.take_unreturned(false), 1);
    }

    #[test]
    fn it_is_bounded() {
        let mut recall = recall();
        for number in 0..KEEP * 3 {
            recall
                .remember(2, Remains { settled: vec![message(&number.to_string())], in_work: vec![], unrecognised: 0 });
        }
        assert_eq!((recall.known.len(), recall.settled.len()), (KEEP + 1, KEEP));
    }

    /// A broker that takes no ACK delivers the same again on each connection.
    #[test]
    fn what_comes_again_and_again_is_recognised_each_time() {
        let mut recall = recall();
        let ids: Vec<String> = (0..KEEP * 2 / 3).map(|number| number.to_string()).collect();
        for connection in 1..10 {
            let settled = ids.iter().map(|id| message(id)).collect();
            recall.remember(connection, Remains { settled, ..Remains::default() });
            for id in &ids {
                let again = delivery(id, "body", "true").message.clone();
                assert_eq!(recall.seen(&again), Seen::Settled, "{id} on connection {connection}");
            }
        }
        assert_eq!(recall.settled, ["done"]);
    }

    /// A broker may have more outstanding than the window says, and none of its receipts may have come.
    #[test]
    fn all_that_one_connection_left_is_remembered() {
        let mut recall = recall();
        let settled: Vec<_> = (0..KEEP * 3).map(|number| message(&number.to_string())).collect();
        recall.remember(2, Remains { settled, ..Remains::default() });
        let again = delivery("0", "body", "true").message.clone();
        assert_eq!(recall.seen(&again), Seen::Settled, "the oldest");
    }

    #[test]
    fn a_broker_without_stable_ids_is_never_believed() {
        let mut recall = Recall::new(10);
        recall.set_flavour(Flavour::RabbitMq);
        recall.remember(
            1,
            Remains { settled: vec![message("done")], in_work: vec![(7, message("busy"))], unrecognised: 0 },
        );
        assert!(recall.known.is_empty());
    }
}
