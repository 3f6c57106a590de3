//! Which ACK leaves when: cumulative ones, messages that come again, and what is given back.

use std::sync::{
    Mutex,
    atomic::{AtomicBool, Ordering},
};

use stompbox::{
    client::{AckMode, Phase, SessionState, Subscription},
    delivery::Delivery,
};

use super::{Consumer, LIMIT, PLAIN, QUIET, greeted, listen, subscribed, subscription};
use crate::harness::peer::Peer;

const ACTIVEMQ: &[(&str, &str)] = &[("version", "1.2"), ("server", "ActiveMQ/6.3.1")];
const ARTEMIS: &[(&str, &str)] = &[("version", "1.2"), ("server", "ActiveMQ-Artemis/2.44.0 Engine")];
const RABBITMQ: &[(&str, &str)] = &[("version", "1.2"), ("server", "RabbitMQ/3.10.8")];

fn in_mode(ack_mode: AckMode) -> Subscription {
    Subscription { ack_mode, ..subscription() }
}

/// A message of this id, delivered under this ack id.
fn message(peer: &mut Peer, id: &str, ack: &str, redelivered: &str) {
    let headers = [("message-id", id), ("ack", ack), ("timestamp", "17"), ("redelivered", redelivered)];
    peer.send("MESSAGE", &headers, b"body").unwrap();
}

/// Messages 1 to `count`, and their deliveries.
fn deliver(peer: &mut Peer, consumer: &Consumer, count: usize) -> Vec<Option<Delivery>> {
    (1..=count).for_each(|number| message(peer, &number.to_string(), &number.to_string(), "false"));
    (0..count).map(|_| Some(consumer.take())).collect()
}

fn ack(deliveries: &mut [Option<Delivery>], number: usize) {
    assert!(deliveries[number - 1].take().unwrap().ack());
}

fn acked(peer: &mut Peer) -> String {
    peer.serve("ACK").unwrap().header("id").unwrap().to_owned()
}

#[test]
fn a_cumulative_ack_waits_for_all_before_it() {
    let (listener, options) = listen();
    let consumer = Consumer::start(options, in_mode(AckMode::Client));
    let mut peer = subscribed(&listener, ACTIVEMQ);
    let mut deliveries = deliver(&mut peer, &consumer, 6);
    ack(&mut deliveries, 3);
    ack(&mut deliveries, 2);
    peer.stays_quiet(QUIET).unwrap();
    ack(&mut deliveries, 1);
    assert_eq!(acked(&mut peer), "3", "one ACK for three");
    drop(deliveries[3].take());
    ack(&mut deliveries, 5);
    ack(&mut deliveries, 6);
    peer.stays_quiet(QUIET).unwrap();
}

#[test]
fn artemis_is_told_of_each_delivery_in_order() {
    let (listener, options) = listen();
    let consumer = Consumer::start(options, in_mode(AckMode::Client));
    let mut peer = subscribed(&listener, ARTEMIS);
    let mut deliveries = deliver(&mut peer, &consumer, 3);
    ack(&mut deliveries, 3);
    ack(&mut deliveries, 2);
    peer.stays_quiet(QUIET).unwrap();
    ack(&mut deliveries, 1);
    assert_eq!([acked(&mut peer), acked(&mut peer), acked(&mut peer)], ["1", "2", "3"]);
}

#[test]
fn many_lanes_never_acknowledge_what_is_not_settled() {
    const COUNT: usize = 400;
    let (listener, options) = listen();
    let consumer = Consumer::start(options, Subscription { window: 1_000, ..in_mode(AckMode::Client) });
    let mut peer = subscribed(&listener, ACTIVEMQ);
    let deliveries: Vec<(usize, Delivery)> =
        deliver(&mut peer, &consumer, COUNT).into_iter().flatten().enumerate().collect();
    let settled: Vec<AtomicBool> = (0..COUNT).map(|_| AtomicBool::new(false)).collect();
    let waiting = Mutex::new(deliveries);
    std::thread::scope(|scope| {
        for lane in 0..8 {
            let (waiting, settled) = (&waiting, &settled);
            scope.spawn(move || {
                loop {
                    let mut waiting = waiting.lock().unwrap();
                    let left = waiting.len();
                    if left == 0 {
                        return;
                    }
                    let (number, delivery) = waiting.swap_remove((left * 7 + lane * 13) % left.min(40));
                    drop(waiting);
                    std::thread::yield_now();
                    settled[number].store(true, Ordering::SeqCst);
                    assert!(delivery.ack());
                }
            });
        }
        let mut last = 0;
        while last < COUNT {
            let acked: usize = acked(&mut peer).parse().unwrap();
            assert!(acked > last, "{acked} after {last}");
            assert!(
                settled[..acked].iter().all(|settled| settled.load(Ordering::SeqCst)),
                "{acked} covers an open one"
            );
            last = acked;
        }
    });
}

/// The connection goes; the next one of the session.
fn again(peer: Peer, listener: &std::net::TcpListener, greeting: &[(&str, &str)]) -> Peer {
    drop(peer);
    subscribed(listener, greeting)
}

#[test]
fn a_message_in_work_that_comes_again_is_acknowledged_when_it_is_settled() {
    for mode in [AckMode::ClientIndividual, AckMode::Client] {
        let (listener, options) = listen();
        let consumer = Consumer::start(options, in_mode(mode));
        let mut peer = subscribed(&listener, ACTIVEMQ);
        message(&mut peer, "m", "old", "false");
        let first = consumer.take().claim().unwrap();
        let mut peer = again(peer, &listener, ACTIVEMQ);
        message(&mut peer, "m", "new", "true");
        assert!(consumer.take().claim().is_none(), "it waits");
        assert!(!first.alive() && first.can_ack());
        peer.stays_quiet(QUIET).unwrap();
        assert!(first.ack(), "no duplicate is to be expected");
        assert_eq!(acked(&mut peer), "new");
    }
}

#[test]
fn a_message_whose_first_delivery_is_dropped_is_processed_when_it_comes_again() {
    let (listener, options) = listen();
    let consumer = Consumer::start(options, subscription());
    let mut peer = subscribed(&listener, ACTIVEMQ);
    message(&mut peer, "m", "old", "false");
    let first = consumer.take();
    let mut peer = again(peer, &listener, ACTIVEMQ);
    message(&mut peer, "m", "new", "true");
    assert!(consumer.take().claim().is_none(), "it waits");
    drop(first);
    let second = consumer.take().claim().expect("it is to be processed");
    assert!(second.ack());
    assert_eq!(acked(&mut peer), "new");
}

#[test]
fn a_message_settled_without_a_word_from_the_broker_is_acknowledged_when_it_comes_again() {
    let (listener, options) = listen();
    let consumer = Consumer::start(options, subscription());
    let mut peer = subscribed(&listener, ACTIVEMQ);
    message(&mut peer, "known", "1", "false");
    assert!(consumer.take().ack());
    acked(&mut peer);
    message(&mut peer, "lost", "2", "false");
    let lost = consumer.take();
    assert!(lost.ack());
    peer.expect("ACK").unwrap();
    let mut peer = again(peer, &listener, ACTIVEMQ);
    message(&mut peer, "lost", "3", "true");
    assert!(consumer.take().claim().is_none());
    assert_eq!(acked(&mut peer), "3");
    // The broker has confirmed that it knows this one: it is another message, whatever its id.
    message(&mut peer, "known", "4", "true");
    assert!(consumer.take().claim().is_some());
}

#[test]
fn where_ids_are_new_each_time_a_duplicate_is_possible() {
    for greeting in [RABBITMQ, PLAIN] {
        let (listener, options) = listen();
        let consumer = Consumer::start(options, subscription());
        let mut peer = subscribed(&listener, greeting);
        message(&mut peer, "m", "old", "false");
        let first = consumer.take().claim().unwrap();
        let mut peer = again(peer, &listener, greeting);
        message(&mut peer, "m", "new", "true");
        assert!(consumer.take().claim().is_some());
        assert!(!first.can_ack() && !first.ack());
    }
}

#[test]
fn rabbitmq_takes_back_one_message_by_nack() {
    let (listener, options) = listen();
    let consumer = Consumer::start(options, subscription());
    let mut peer = subscribed(&listener, RABBITMQ);
    let mut deliveries = deliver(&mut peer, &consumer, 2);
    deliveries[0].take().unwrap().give_back();
    assert_eq!(peer.serve("NACK").unwrap().header("id"), Some("1"));
    ack(&mut deliveries, 2);
    assert_eq!(acked(&mut peer), "2");
}

/// Never by NACK: ActiveMQ moves the message to its dead-letter queue, Artemis deletes it.
#[test]
fn other_brokers_take_back_everything_when_the_session_leaves_and_comes_again() {
    for (greeting, mode) in [
        (ACTIVEMQ, AckMode::ClientIndividual),
        (ARTEMIS, AckMode::ClientIndividual),
        (PLAIN, AckMode::ClientIndividual),
        (RABBITMQ, AckMode::Client),
    ] {
        let (listener, options) = listen();
        let consumer = Consumer::start(options, in_mode(mode));
        let mut peer = subscribed(&listener, greeting);
        let mut deliveries = deliver(&mut peer, &consumer, 2);
        deliveries[0].take().unwrap().give_back();
        let left: Vec<String> = std::iter::from_fn(|| peer.serve_one().unwrap()).collect();
        assert_eq!(left, ["UNSUBSCRIBE", "DISCONNECT"], "{greeting:?}");
        let mut peer = subscribed(&listener, greeting);
        message(&mut peer, "3", "3", "false");
        assert!(consumer.take().ack());
    }
}

#[test]
fn a_selector_that_rabbitmq_would_ignore_is_refused() {
    let (listener, options) = listen();
    let headers = vec![("selector".to_owned(), "vo = 'atlas'".to_owned())];
    let _consumer = Consumer::start(options, Subscription { headers, ..subscription() });
    let mut peer = greeted(&listener, RABBITMQ);
    assert_eq!(peer.serve_one().unwrap(), None, "everything would come");
}

#[test]
fn a_queue_in_order_is_given_back_as_a_whole() {
    let (listener, options) = listen();
    let consumer = Consumer::start(options, Subscription { ordered: true, ..subscription() });
    let mut peer = subscribed(&listener, RABBITMQ);
    let mut deliveries = deliver(&mut peer, &consumer, 2);
    deliveries[0].take().unwrap().give_back();
    assert!(deliveries[1].take().unwrap().claim().is_none(), "it must not overtake");
    let left: Vec<String> = std::iter::from_fn(|| peer.serve_one().unwrap()).collect();
    assert_eq!(left, ["UNSUBSCRIBE", "DISCONNECT"]);
}

#[test]
fn a_session_stays_away_until_it_is_wanted() {
    let (listener, options) = listen();
    let mut consumer = Consumer::start(options, subscription());
    let mut peer = subscribed(&listener, ACTIVEMQ);
    consumer.intake.wanted.store(false, Ordering::Relaxed);
    let left: Vec<String> = std::iter::from_fn(|| peer.serve_one().unwrap()).collect();
    assert_eq!(left, ["UNSUBSCRIBE", "DISCONNECT"]);
    let mut until = |wanted: SessionState| {
        let state = consumer.state.wait_for(|state| *state == wanted);
        consumer.runtime.block_on(async { tokio::time::timeout(LIMIT, state).await.unwrap().unwrap() });
    };
    until(SessionState::Connecting);
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err(), "it does not even connect");
    listener.set_nonblocking(false).unwrap();
    consumer.intake.wanted.store(true, Ordering::Relaxed);
    consumer.intake.room.notify_waiters();
    let _peer = subscribed(&listener, ACTIVEMQ);
    until(SessionState::Subscribed);
}

#[test]
fn a_message_that_no_ack_can_name_ends_the_session() {
    let (listener, options) = listen();
    let _consumer = Consumer::start(options, subscription());
    let mut peer = subscribed(&listener, PLAIN);
    peer.send("MESSAGE", &[("destination", "/queue/in")], b"x").unwrap();
    peer.wait_closed().unwrap();
}

type Greeting = &'static [(&'static str, &'static str)];

/// Broker, and the headers by which it knows a durable subscription.
const DURABLE: &[(Greeting, &[&str])] = &[
    (ACTIVEMQ, &["activemq.subscriptionName:mine"]),
    (ARTEMIS, &["durable-subscription-name:mine"]),
    (RABBITMQ, &["auto-delete:false", "durable:true"]),
];

/// ActiveMQ is told of the end early in mode auto, where it forgets what it sends. To the others UNSUBSCRIBE without
/// the headers of the subscription says that it ends for now.
#[test]
fn a_durable_subscription_is_named_and_never_deleted() {
    for (greeting, headers) in DURABLE {
        for mode in [AckMode::Auto, AckMode::ClientIndividual] {
            let (listener, options) = listen();
            let durable = Subscription { durable: Some("mine".into()), ..in_mode(mode) };
            let consumer = Consumer::start(options, durable);
            let mut peer = greeted(&listener, greeting);
            let subscribe = peer.serve("SUBSCRIBE").unwrap();
            assert_eq!(subscribe.header("id"), Some("mine"));
            assert!(headers.iter().all(|header| subscribe.lines().contains(header)), "{subscribe:?}");
            consumer.phase.send_replace(Phase::Drain);
            if mode == AckMode::Auto && *greeting == ACTIVEMQ {
                peer.serve("DISCONNECT").unwrap();
            }
            consumer.phase.send_replace(Phase::Finish);
            if *greeting != ACTIVEMQ {
                let unsubscribe = peer.serve("UNSUBSCRIBE").unwrap();
                assert_eq!(unsubscribe.lines_but_receipt(), ["destination:/queue/in", "id:mine"]);
            }
            if *greeting != ACTIVEMQ || mode != AckMode::Auto {
                peer.serve("DISCONNECT").unwrap();
            }
            assert_eq!(peer.serve_one().unwrap(), None);
            let mut state = consumer.state.clone();
            let closed = state.wait_for(|state| *state >= SessionState::Closed);
            let end = consumer.runtime.block_on(async { *tokio::time::timeout(LIMIT, closed).await.unwrap().unwrap() });
            assert_eq!(end, SessionState::Closed);
        }
    }
}
