//! The consuming side: SUBSCRIBE, ACK, and sessions that end.

use stompbox::{
    client::{AckMode, SessionState, Subscription},
    delivery::Delivery,
};

use super::{Consumer, LIMIT, PLAIN, greeted, listen, subscribed, subscription};
use crate::harness::peer::Peer;

fn message(peer: &mut Peer, ack: &str) {
    let headers = [("message-id", ack), ("ack", ack), ("destination", "/queue/in"), ("subscription", "stompbox")];
    peer.send("MESSAGE", &headers, ack.as_bytes()).unwrap();
}

fn greeting<'a>(version: &'a str, server: &'a str) -> Vec<(&'a str, &'a str)> {
    [("version", version), ("server", server)].into_iter().filter(|(_, value)| !value.is_empty()).collect()
}

/// Version of CONNECTED, headers of MESSAGE, headers of its ACK without the receipt; as on the wire.
const ACKS: &[(&str, &str, &[&str])] = &[
    // No escapes in 1.0: a backslash is a backslash. No version in CONNECTED means 1.0.
    ("", "message-id:ID:a\\c1", &["message-id:ID:a\\c1", "subscription:stompbox"]),
    ("1.0", "message-id:ID:a\\n1\nack:7", &["message-id:ID:a\\n1", "subscription:stompbox"]),
    ("1.1", "message-id:ID\\ca\\\\\\n1\nack:7", &["message-id:ID\\ca\\\\\\n1", "subscription:stompbox"]),
    ("1.2", "message-id:m\nack:ID\\ca\\\\\\n\\r1", &["id:ID\\ca\\\\\\n\\r1"]),
    // Against the specification, but the only id there is.
    ("1.2", "message-id:ID\\c8", &["id:ID\\c8"]),
];

#[test]
fn an_ack_names_the_message_as_the_version_says() {
    for (version, headers, ack) in ACKS {
        let (listener, options) = listen();
        let consumer = Consumer::start(options, subscription());
        let mut peer = subscribed(&listener, &greeting(version, ""));
        peer.send_raw(format!("MESSAGE\nsubscription:stompbox\n{headers}\n\nbody\0").as_bytes()).unwrap();
        assert!(consumer.take().ack());
        assert_eq!(peer.expect("ACK").unwrap().lines_but_receipt(), *ack, "version {version:?}, {headers}");
    }
}

#[test]
fn header_values_are_unescaped_as_the_version_says() {
    for (version, value) in [("1.0", "a\\cb\\n\\\\\\r"), ("1.1", "a:b\n\\\\r"), ("1.2", "a:b\n\\\r")] {
        let (listener, options) = listen();
        let consumer = Consumer::start(options, subscription());
        let mut peer = subscribed(&listener, &greeting(version, ""));
        peer.send_raw(b"MESSAGE\nmessage-id:1\nack:1\nx:a\\cb\\n\\\\\\r\n\nbody\0").unwrap();
        assert_eq!(consumer.take().message.headers.get("x"), Some(value), "version {version}");
    }
}

/// `server` of CONNECTED, ack mode, the one header that bounds what the broker sends ahead.
const WINDOWS: &[(&str, AckMode, Option<&str>)] = &[
    ("ActiveMQ/6.3.1", AckMode::ClientIndividual, Some("activemq.prefetchSize:100")),
    ("ActiveMQ/6.3.1", AckMode::Client, Some("activemq.prefetchSize:100")),
    ("ActiveMQ/6.3.1", AckMode::Auto, Some("activemq.prefetchSize:100")),
    ("ActiveMQ-Artemis/2.44.0 Engine", AckMode::ClientIndividual, Some("consumer-window-size:204800")),
    ("ActiveMQ-Artemis/2.44.0 Engine", AckMode::Auto, Some("consumer-window-size:204800")),
    ("RabbitMQ/3.10.8", AckMode::ClientIndividual, Some("prefetch-count:100")),
    ("apache-apollo/1.7", AckMode::ClientIndividual, None),
    ("", AckMode::ClientIndividual, None),
];

#[test]
fn subscribe_bounds_the_window_in_the_words_of_the_broker() {
    for (server, ack_mode, window) in WINDOWS {
        let (listener, options) = listen();
        let _consumer = Consumer::start(options, Subscription { ack_mode: *ack_mode, ..subscription() });
        let mut peer = greeted(&listener, &greeting("1.2", server));
        let replaced = ["ActiveMQ-Artemis/", "RabbitMQ/"].iter().any(|broker| server.starts_with(broker));
        let wire = if *ack_mode == AckMode::Auto && replaced { AckMode::ClientIndividual } else { *ack_mode };
        let mode = format!("ack:{}", wire.as_str());
        let rabbit = server.starts_with("RabbitMQ/");
        let destination = if rabbit { "destination:/amq/queue/in" } else { "destination:/queue/in" };
        let mut lines = vec![mode.as_str(), destination, "id:stompbox", "receipt:subscribed"];
        lines.extend(window);
        lines.extend(server.starts_with("ActiveMQ-Artemis/").then_some("subscription-type:ANYCAST"));
        lines.sort_unstable();
        assert_eq!(peer.expect("SUBSCRIBE").unwrap().lines(), lines, "{server:?}");
    }
}

/// The first of repeated headers wins (STOMP 1.2, "Repeated Header Entries").
#[test]
fn configured_headers_stand_before_the_window_and_behind_the_destination() {
    let (listener, options) = listen();
    let headers = [("activemq.prefetchSize", "7"), ("selector", "a:b"), ("destination", "/queue/other")];
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let _consumer = Consumer::start(options, Subscription { headers, ..subscription() });
    let mut peer = greeted(&listener, &greeting("1.2", "ActiveMQ/6.3.1"));
    let subscribe = peer.expect("SUBSCRIBE").unwrap();
    assert_eq!(subscribe.header("activemq.prefetchSize"), Some("7"));
    assert_eq!(subscribe.header("destination"), Some("/queue/in"));
    assert!(subscribe.lines().contains(&"selector:a\\cb"));
}

/// Where mode auto would lose or double messages, the session acknowledges what it reads.
#[test]
fn in_mode_auto_the_session_acknowledges_for_artemis_and_rabbitmq() {
    for server in ["ActiveMQ-Artemis/2.44.0", "RabbitMQ/3.10.8"] {
        let (listener, options) = listen();
        let consumer = Consumer::start(options, Subscription { ack_mode: AckMode::Auto, ..subscription() });
        let mut peer = subscribed(&listener, &greeting("1.2", server));
        // Before a lane can have it: as with a mode auto of the broker, a host that dies processes nothing twice.
        let gate = consumer.intake.gate.lock().unwrap();
        message(&mut peer, "7");
        assert_eq!(peer.expect("ACK").unwrap().header("id"), Some("7"), "{server}");
        drop(gate);
        assert!(consumer.take().ack() && peer.stays_quiet(super::QUIET).is_ok(), "once");
    }
}

/// The broker may have got the ACK before the connection broke.
#[test]
fn in_mode_auto_what_was_acknowledged_is_processed_also_after_a_break() {
    let (listener, options) = listen();
    let consumer = Consumer::start(options, Subscription { ack_mode: AckMode::Auto, ..subscription() });
    let mut peer = subscribed(&listener, &greeting("1.2", "RabbitMQ/3.10.8"));
    consumer.hold(|| {
        message(&mut peer, "7");
        drop(peer);
    });
    assert_eq!(consumer.take().message.headers.get("ack"), Some("7"));
}

/// RabbitMQ closes the connection of a SUBSCRIBE to a queue that is not there. What is learnt stays learnt.
#[test]
fn a_missing_queue_of_rabbitmq_is_declared_by_the_next_connection() {
    let (listener, options) = listen();
    let consumer = Consumer::start(options, subscription());
    let rabbit = greeting("1.2", "RabbitMQ/3.10.8");
    let destination = |peer: &mut Peer| peer.expect("SUBSCRIBE").unwrap().header("destination").map(str::to_owned);
    let mut peer = greeted(&listener, &rabbit);
    assert_eq!(destination(&mut peer).as_deref(), Some("/amq/queue/in"));
    peer.send("ERROR", &[("message", "not_found")], b"NOT_FOUND - no queue 'in' in vhost '/'").unwrap();
    for _ in 0..2 {
        let mut peer = greeted(&listener, &rabbit);
        assert_eq!(destination(&mut peer).as_deref(), Some("/queue/in"));
    }
    drop(consumer);
}

#[test]
fn a_session_is_subscribed_when_the_receipt_has_come() {
    let (listener, options) = listen();
    let mut consumer = Consumer::start(options, subscription());
    let mut peer = greeted(&listener, PLAIN);
    let subscribe = peer.expect("SUBSCRIBE").unwrap();
    peer.send("RECEIPT", &[("receipt-id", "of another")], b"").unwrap();
    message(&mut peer, "1");
    consumer.take();
    assert_eq!(*consumer.state.borrow(), SessionState::Connecting);
    peer.answer(&subscribe).unwrap();
    let subscribed = consumer.state.wait_for(|state| *state == SessionState::Subscribed);
    consumer.runtime.block_on(async { tokio::time::timeout(LIMIT, subscribed).await.unwrap().unwrap() });
}

#[test]
fn the_last_ack_of_a_burst_asks_for_a_receipt() {
    let (listener, options) = listen();
    let consumer = Consumer::start(options, subscription());
    let mut peer = subscribed(&listener, PLAIN);
    let mut burst = |consumer: &Consumer, ids: &[&str]| {
        ids.iter().for_each(|id| message(&mut peer, id));
        let deliveries: Vec<_> = ids.iter().map(|_| consumer.take()).collect();
        assert!(consumer.hold(|| deliveries.into_iter().all(Delivery::ack)));
        let acks: Vec<_> = ids.iter().map(|_| peer.expect("ACK").unwrap()).collect();
        assert!(acks.iter().map(|ack| ack.header("id")).eq(ids.iter().map(|id| Some(*id))), "{acks:?}");
        let receipts: Vec<_> = acks.iter().map(|ack| ack.header("receipt").map(str::to_owned)).collect();
        (receipts, acks)
    };
    let (first, acks) = burst(&consumer, &["1", "2", "3", "4", "5"]);
    assert!(first[..4].iter().all(Option::is_none) && first[4].is_some(), "{first:?}");
    let (while_awaited, _) = burst(&consumer, &["6", "7"]);
    assert_eq!(while_awaited, [None, None], "one receipt at a time");
    // It is handled before the messages that follow it.
    peer.answer(&acks[4]).unwrap();
    let mut last = Vec::new();
    for id in ["8", "9"] {
        message(&mut peer, id);
        last.push(consumer.take());
    }
    assert!(consumer.hold(|| last.into_iter().all(Delivery::ack)));
    assert_eq!(peer.expect("ACK").unwrap().header("receipt"), None);
    let receipt = peer.expect("ACK").unwrap().header("receipt").map(str::to_owned);
    assert!(receipt.is_some() && receipt != first[4], "{receipt:?}");
}

#[test]
fn nothing_is_acknowledged_in_mode_auto() {
    let (listener, options) = listen();
    let consumer = Consumer::start(options, Subscription { ack_mode: AckMode::Auto, ..subscription() });
    let mut peer = subscribed(&listener, PLAIN);
    message(&mut peer, "1");
    assert!(consumer.take().ack());
    peer.stays_quiet(super::QUIET).unwrap();
}

#[test]
fn an_error_ends_the_session_and_its_acks_stay_out_of_the_next() {
    let (listener, options) = listen();
    let consumer = Consumer::start(options, subscription());
    let mut peer = subscribed(&listener, PLAIN);
    message(&mut peer, "1");
    message(&mut peer, "2");
    let (acked, held) = (consumer.take(), consumer.take());
    assert!(acked.ack());
    peer.serve("ACK").unwrap();
    peer.send("ERROR", &[("message", "out of memory")], b"").unwrap();
    peer.wait_closed().unwrap();
    let mut peer = subscribed(&listener, PLAIN);
    // Brokers count ack ids anew: the same id names another message now.
    message(&mut peer, "2");
    message(&mut peer, "3");
    let (other, last) = (consumer.take(), consumer.take());
    assert!(!held.alive() && other.alive());
    assert!(!held.ack(), "an ack id belongs to one session");
    assert!(last.ack());
    assert_eq!(peer.serve("ACK").unwrap().header("id"), Some("3"));
    peer.stays_quiet(super::QUIET).unwrap();
}

/// An ACK that waits for company when the ERROR comes is not written on the next connection. It may still leave
/// on the old one, which is chance on a busy machine, so there are some rounds.
#[test]
fn a_staged_ack_is_lost_with_its_session() {
    let (listener, options) = listen();
    let consumer = Consumer::start(options, subscription());
    for round in 0..4 {
        let mut peer = subscribed(&listener, PLAIN);
        let id = round.to_string();
        message(&mut peer, &id);
        assert!(consumer.take().ack());
        assert_eq!(peer.expect("ACK").unwrap().header("id"), Some(id.as_str()), "nothing of the session before");
        // While another delivery is outstanding an ACK is not urgent.
        message(&mut peer, "lost");
        message(&mut peer, "held");
        let (lost, _held) = (consumer.take(), consumer.take());
        consumer.hold(|| {
            peer.send("ERROR", &[("message", "gone")], b"").unwrap();
            assert!(lost.ack());
        });
        while let Some(left) = peer.receive().unwrap() {
            assert_eq!(left.header("id"), Some("lost"));
        }
    }
}
