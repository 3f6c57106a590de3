//! The broker's behaviour without sockets: one test per promise.

use bytes::Bytes;

use super::*;
use crate::stomp::Command;

const QUEUE: &str = "/queue/a";

/// A state with as many connections as asked for, and short words for what they do.
struct Broker {
    state: State,
}

impl Broker {
    fn new() -> Self {
        Self { state: State::new(1 << 20, Faults::default()) }
    }

    fn peer(&mut self) -> PeerId {
        self.state.add_peer(Arc::default(), CancellationToken::new())
    }

    /// A connection with one subscription.
    fn consumer(&mut self, destination: &str, mode: AckMode, prefetch: usize) -> PeerId {
        let peer = self.peer();
        self.subscribe(peer, "s", destination, mode, prefetch).unwrap();
        peer
    }

    fn subscribe(
        &mut self,
        peer: PeerId,
        id: &str,
        destination: &str,
        mode: AckMode,
        prefetch: usize,
    ) -> Result<(), Refusal> {
        self.state.subscribe(peer, Wanted { id: Some(id), destination, mode, prefetch, durable: None })
    }

    fn send(&mut self, destination: &str, bodies: &[&str]) {
        let peer = self.peer();
        for body in bodies {
            assert_eq!(self.state.send(peer, destination, &frame(destination, body)), Ok(Step::Done));
        }
        self.state.remove_peer(peer);
    }

    /// What a connection gets now, with a star where it is a redelivery.
    fn take(&mut self, peer: PeerId) -> Vec<String> {
        self.take_raw(peer).iter().map(shown).collect()
    }

    fn take_raw(&mut self, peer: PeerId) -> Vec<Outgoing> {
        self.state.take(peer).into()
    }

    fn settle(&mut self, out: &Outgoing, peer: PeerId, verdict: Verdict) {
        let name = format!("{}.{}", out.sub.0, out.tag.unwrap());
        let delivered = self.state.find(peer, DeliveryName::Ack(&name)).unwrap();
        self.state.settle(delivered, verdict);
    }

    fn depth(&self) -> (usize, usize) {
        let depth = self.state.depth(QUEUE);
        (depth.waiting, depth.unacked)
    }
}

fn frame(destination: &str, body: &str) -> Frame {
    Frame::new(Command::Send, [("destination", destination)], Bytes::copy_from_slice(body.as_bytes()))
}

fn shown(out: &Outgoing) -> String {
    let body = String::from_utf8_lossy(&out.entry.message.body);
    format!("{body}{}", if out.entry.redelivered { "*" } else { "" })
}

#[test]
fn messages_wait_for_a_consumer_and_keep_their_order() {
    let mut broker = Broker::new();
    broker.send(QUEUE, &["1", "2", "3"]);
    assert_eq!(broker.depth(), (3, 0));
    let consumer = broker.consumer(QUEUE, AckMode::Individual, 10);
    assert_eq!(broker.take(consumer), ["1", "2", "3"]);
    assert_eq!(broker.depth(), (0, 3));
}

#[test]
fn prefetch_bounds_what_is_unacked() {
    let mut broker = Broker::new();
    let consumer = broker.consumer(QUEUE, AckMode::Individual, 2);
    broker.send(QUEUE, &["1", "2", "3", "4"]);
    let got = broker.take_raw(consumer);
    assert_eq!((got.len(), broker.depth()), (2, (2, 2)));
    broker.settle(&got[1], consumer, Verdict::Ack);
    assert_eq!(broker.take(consumer), ["3"]);
    assert_eq!(broker.depth(), (1, 2));
}

#[test]
fn auto_counts_as_consumed_when_taken_and_is_not_windowed() {
    let mut broker = Broker::new();
    let consumer = broker.consumer(QUEUE, AckMode::Auto, 1);
    broker.send(QUEUE, &["1", "2", "3"]);
    assert_ne!(broker.state.stats().memory_bytes, 0);
    assert_eq!(broker.take(consumer), ["1", "2", "3"]);
    assert_eq!((broker.depth(), broker.state.stats().memory_bytes), ((0, 0), 0));
    broker.send(QUEUE, &["4"]);
    broker.state.remove_peer(consumer);
    let next = broker.consumer(QUEUE, AckMode::Auto, 1);
    assert_eq!(broker.take(next), ["4"], "it was never handed to the first one's task");
}

#[test]
fn a_consumer_with_too_much_unsent_is_passed_over_until_it_has_written() {
    let mut broker = Broker::new();
    broker.state.memory = Memory::new(64 << 20);
    let consumer = broker.consumer(QUEUE, AckMode::Auto, 1);
    let body = "x".repeat(300 << 10);
    broker.send(QUEUE, &[body.as_str(); 10]);
    assert_eq!(broker.take_raw(consumer).len(), 4);
    assert_eq!(broker.take_raw(consumer).len(), 4, "all that was taken is written");
    assert_eq!(broker.take_raw(consumer).len(), 2);
}

#[test]
fn client_mode_acknowledges_everything_before() {
    let mut broker = Broker::new();
    let consumer = broker.consumer(QUEUE, AckMode::Client, 10);
    broker.send(QUEUE, &["1", "2", "3", "4"]);
    let got = broker.take_raw(consumer);
    broker.settle(&got[2], consumer, Verdict::Ack);
    assert_eq!((broker.depth(), broker.state.stats().acked), ((0, 1), 3));
    let missing = broker.state.find(consumer, DeliveryName::Message { id: "ID:dev-1", subscription: Some("s") });
    assert_eq!(missing, Err(Refusal::UnknownDelivery("ID:dev-1".into())));
}

#[test]
fn older_versions_name_the_message() {
    let mut broker = Broker::new();
    let consumer = broker.consumer(QUEUE, AckMode::Individual, 10);
    broker.send(QUEUE, &["1", "2"]);
    broker.take(consumer);
    let find =
        |broker: &Broker, id, subscription| broker.state.find(consumer, DeliveryName::Message { id, subscription });
    assert!(find(&broker, "ID:dev-2", Some("other")).is_err());
    assert!(find(&broker, "ID:dev-3", None).is_err());
    let found = find(&broker, "ID:dev-2", None).unwrap();
    assert_eq!(find(&broker, "ID:dev-2", Some("s")), Ok(found));
    broker.state.settle(found, Verdict::Ack);
    assert_eq!(broker.depth(), (0, 1));
}

#[test]
fn a_foreign_ack_is_refused() {
    let mut broker = Broker::new();
    let consumer = broker.consumer(QUEUE, AckMode::Individual, 10);
    let other = broker.consumer("/queue/b", AckMode::Individual, 10);
    broker.send(QUEUE, &["1"]);
    let out = broker.take_raw(consumer).remove(0);
    let name = format!("{}.{}", out.sub.0, out.tag.unwrap());
    for name in [name.as_str(), "1", "x.y", ""] {
        assert!(broker.state.find(other, DeliveryName::Ack(name)).is_err(), "{name}");
    }
}

#[test]
fn nack_goes_to_the_next_consumer_marked() {
    let mut broker = Broker::new();
    let first = broker.consumer(QUEUE, AckMode::Individual, 1);
    let second = broker.consumer(QUEUE, AckMode::Individual, 1);
    broker.send(QUEUE, &["1"]);
    let got = broker.take_raw(first);
    broker.settle(&got[0], first, Verdict::Nack);
    assert_eq!((broker.take(first), broker.take(second)), (vec![], vec!["1*".into()]));
    let stats = broker.state.stats();
    assert_eq!((stats.nacked, stats.redelivered, stats.delivered), (1, 1, 2));
}

#[test]
fn what_an_ended_subscription_held_goes_back_in_order() {
    let mut broker = Broker::new();
    let first = broker.consumer(QUEUE, AckMode::Individual, 2);
    let second = broker.consumer(QUEUE, AckMode::Client, 2);
    broker.send(QUEUE, &["1", "2", "3", "4", "5", "6"]);
    assert_eq!((broker.take(first), broker.take(second)), (vec!["1".into(), "3".into()], vec!["2".into(), "4".into()]));
    broker.state.unsubscribe(second, "s").unwrap();
    assert_eq!(broker.depth(), (4, 2));
    broker.state.remove_peer(first);
    assert_eq!(broker.depth(), (6, 0));
    let third = broker.consumer(QUEUE, AckMode::Auto, 1);
    assert_eq!(broker.take(third), ["1*", "2*", "3*", "4*", "5", "6"]);
    assert_eq!(broker.state.unsubscribe(second, "s"), Err(Refusal::UnknownSubscription("s".into())));
}

#[test]
fn an_unsubscribed_queue_feeds_the_other_subscription_of_the_same_connection() {
    let mut broker = Broker::new();
    let peer = broker.consumer(QUEUE, AckMode::Individual, 1);
    broker.subscribe(peer, "t", QUEUE, AckMode::Individual, 5).unwrap();
    broker.send(QUEUE, &["1", "2"]);
    broker.state.unsubscribe(peer, "s").unwrap();
    assert_eq!(broker.take(peer), ["2", "1*"]);
    assert!(broker.subscribe(peer, "t", QUEUE, AckMode::Auto, 1).is_err());
}

#[test]
fn cutting_all_connections_marks_only_what_was_delivered() {
    let mut broker = Broker::new();
    let consumers = [(); 3].map(|()| broker.consumer(QUEUE, AckMode::Individual, 1));
    broker.send(QUEUE, &["1", "2", "3", "4"]);
    broker.state.remove_all_peers();
    assert!(consumers.iter().all(|peer| !broker.state.has_peer(*peer)));
    let next = broker.consumer(QUEUE, AckMode::Auto, 1);
    assert_eq!(broker.take(next), ["1*", "2*", "3*", "4"]);
}

#[test]
fn consumers_compete_in_turn_by_free_window() {
    let mut broker = Broker::new();
    let wide = broker.consumer(QUEUE, AckMode::Individual, 10);
    let narrow = broker.consumer(QUEUE, AckMode::Individual, 1);
    broker.send(QUEUE, &["1", "2", "3", "4", "5"]);
    assert_eq!(broker.take(wide), ["1", "3", "4", "5"]);
    assert_eq!(broker.take(narrow), ["2"]);
}

#[test]
fn a_topic_reaches_every_current_subscriber_and_nobody_later() {
    let mut broker = Broker::new();
    broker.send("/topic/t", &["before"]);
    let first = broker.consumer("/topic/t", AckMode::Individual, 1);
    let second = broker.consumer("/topic/t", AckMode::Auto, 10);
    broker.send("/topic/t", &["1", "2"]);
    let got = broker.take_raw(first);
    assert_eq!((got.len(), broker.take(second)), (1, vec!["1".into(), "2".into()]));
    broker.settle(&got[0], first, Verdict::Nack);
    assert_eq!(broker.take(first), ["1*"]);
    broker.state.remove_peer(first);
    broker.state.remove_peer(second);
    assert_eq!(broker.state.stats().memory_bytes, 0);
    assert!(broker.state.queues.is_empty() && broker.state.topics.is_empty());
}

#[test]
fn a_transaction_happens_at_commit() {
    let mut broker = Broker::new();
    let peer = broker.consumer(QUEUE, AckMode::Individual, 10);
    broker.send(QUEUE, &["in"]);
    let out = broker.take_raw(peer).remove(0);
    let name = format!("{}.{}", out.sub.0, out.tag.unwrap());
    let delivered = broker.state.find(peer, DeliveryName::Ack(&name)).unwrap();
    broker.state.begin(peer, "t").unwrap();
    broker.state.stage_send(peer, "t", "/queue/b", &frame("/queue/b", "out")).unwrap();
    broker.state.stage_settle(peer, "t", delivered, Verdict::Ack).unwrap();
    assert_eq!((broker.depth(), broker.state.depth("/queue/b").waiting), ((0, 1), 0));
    assert_eq!(broker.state.commit(peer, "t"), Ok(Step::Done));
    assert_eq!((broker.depth(), broker.state.depth("/queue/b").waiting), ((0, 0), 1));
    assert_eq!(broker.state.commit(peer, "t"), Err(Refusal::UnknownTransaction("t".into())));
}

#[test]
fn an_aborted_transaction_leaves_nothing_and_redelivers_nothing() {
    let mut broker = Broker::new();
    let peer = broker.consumer(QUEUE, AckMode::Client, 10);
    broker.send(QUEUE, &["in"]);
    broker.take(peer);
    let name = DeliveryName::Message { id: "ID:dev-1", subscription: None };
    let delivered = broker.state.find(peer, name).unwrap();
    broker.state.begin(peer, "t").unwrap();
    assert!(broker.state.begin(peer, "t").is_err());
    broker.state.stage_send(peer, "t", "/queue/b", &frame("/queue/b", "out")).unwrap();
    broker.state.stage_settle(peer, "t", delivered, Verdict::Ack).unwrap();
    broker.state.abort(peer, "t").unwrap();
    assert_eq!((broker.depth(), broker.take(peer).len(), broker.state.depth("/queue/b").waiting), ((0, 1), 0, 0));
    assert_eq!(broker.state.find(peer, name), Ok(delivered));
}

#[test]
fn a_transaction_with_a_refused_send_fails_as_a_whole() {
    let mut broker = Broker::new();
    let peer = broker.peer();
    broker.state.begin(peer, "t").unwrap();
    broker.state.stage_send(peer, "t", QUEUE, &frame(QUEUE, "good")).unwrap();
    broker.state.fail_transaction(peer, "t");
    assert_eq!(broker.state.commit(peer, "t"), Err(Refusal::TransactionFailed("t".into())));
    assert_eq!(broker.depth(), (0, 0));
}

#[test]
fn at_the_cap_senders_are_held_until_there_is_room() {
    let mut broker = Broker::new();
    let message = frame(QUEUE, "0123456789");
    broker.state.memory = Memory::new(Message::size_of(&message) * 2);
    let sender = broker.peer();
    broker.send(QUEUE, &["0123456789", "0123456789"]);
    broker.state.begin(sender, "t").unwrap();
    broker.state.stage_send(sender, "t", QUEUE, &message).unwrap();
    assert_eq!(broker.state.send(sender, QUEUE, &message), Ok(Step::Held));
    assert_eq!(broker.state.commit(sender, "t"), Ok(Step::Held));
    assert_eq!(broker.state.stats().held, 1);
    let consumer = broker.consumer(QUEUE, AckMode::Individual, 10);
    let got = broker.take_raw(consumer);
    assert_eq!(broker.state.send(sender, QUEUE, &message), Ok(Step::Held), "un-acked messages count");
    broker.settle(&got[0], consumer, Verdict::Ack);
    assert_eq!(broker.state.stats().held, 0);
    assert_eq!(broker.state.commit(sender, "t"), Ok(Step::Done));
    let large = frame(QUEUE, &"x".repeat(1_000));
    assert!(matches!(broker.state.send(sender, QUEUE, &large), Err(Refusal::TooLarge { .. })));
}

#[test]
fn open_transactions_are_bounded_and_forgotten_with_their_connection() {
    let mut broker = Broker::new();
    let message = frame(QUEUE, "x");
    broker.state.memory = Memory::new(Message::size_of(&message));
    let peer = broker.peer();
    broker.state.begin(peer, "t").unwrap();
    broker.state.stage_send(peer, "t", QUEUE, &message).unwrap();
    assert!(broker.state.stage_send(peer, "t", QUEUE, &message).is_err());
    broker.state.remove_peer(peer);
    let peer = broker.peer();
    broker.state.begin(peer, "t").unwrap();
    broker.state.stage_send(peer, "t", QUEUE, &message).unwrap();
}

#[test]
fn a_durable_subscription_keeps_what_is_sent_until_it_is_deleted() {
    let mut broker = Broker::new();
    let wanted =
        Wanted { id: Some("s"), destination: "/topic/t", mode: AckMode::Auto, prefetch: 10, durable: Some("d") };
    let mut peer = broker.peer();
    for sent in ["1", "2"] {
        broker.state.subscribe(peer, wanted).unwrap();
        broker.state.remove_peer(peer);
        broker.send("/topic/t", &[sent]);
        peer = broker.peer();
        broker.state.subscribe(peer, wanted).unwrap();
        assert_eq!(broker.take(peer), [sent]);
        broker.state.remove_peer(peer);
        peer = broker.peer();
    }
    broker.state.subscribe(peer, wanted).unwrap();
    broker.state.unsubscribe(peer, "s").unwrap();
    assert!(broker.state.queues.is_empty() && broker.state.topics.is_empty() && broker.state.names.is_empty());
}
