//! A MESSAGE over a limit of frames: read past, left un-acked with its broker, and the others go on.

use std::{iter::repeat_n, time::Duration};

use stompbox::client::{AckMode, Phase, Subscription};

use super::{Consumer, PLAIN, QUIET, Sender, greeted, listen, subscribed, subscription};
use crate::harness::peer::Peer;

const ACTIVEMQ: &[(&str, &str)] = &[("version", "1.2"), ("server", "ActiveMQ/6.3.1")];
const ARTEMIS: &[(&str, &str)] = &[("version", "1.2"), ("server", "ActiveMQ-Artemis/2.44.0 Engine")];
const RABBITMQ: &[(&str, &str)] = &[("version", "1.2"), ("server", "RabbitMQ/3.10.8")];

/// A frame of this command with 10,000 header lines.
fn many_headers(command: &str, id: &str) -> Vec<u8> {
    let lines: String = (0..10_000).map(|number| format!("h{number}:value\n")).collect();
    format!("{command}\nmessage-id:{id}\nack:{id}\nreceipt-id:{id}\n{lines}\nbody\0").into_bytes()
}

/// One over each limit.
fn over_limits() -> Vec<Vec<u8>> {
    let bytes = |count| -> Vec<u8> { repeat_n(b'x', count).collect() };
    let headers = b"MESSAGE\nmessage-id:big\nack:big\n".as_slice();
    let wide = format!("a:{}\n", "x".repeat(60_000)).repeat(5);
    vec![
        many_headers("MESSAGE", "big"),
        [headers, b"long:", &bytes(65 << 10), b"\n\nbody\0"].concat(),
        [headers, wide.as_bytes(), b"\nbody\0"].concat(),
        // A byte over 100 MiB.
        [headers, b"content-length:104857601\n\n", &bytes((100 << 20) + 1), b"\0"].concat(),
        [headers, b"\n", &bytes((100 << 20) + 1), b"\0"].concat(),
    ]
}

fn small(peer: &mut Peer, id: &str) {
    peer.send("MESSAGE", &[("message-id", id), ("ack", id)], id.as_bytes()).unwrap();
}

/// The next delivery, and the next ACK, are this one's.
fn goes_on(peer: &mut Peer, consumer: &Consumer, id: &str) {
    let delivery = consumer.take();
    assert_eq!((delivery.message.id(), &*delivery.message.body), (id, id.as_bytes()));
    assert!(delivery.ack());
    assert_eq!(peer.serve("ACK").unwrap().header("id"), Some(id));
}

#[test]
fn the_others_go_on_over_the_same_connection() {
    let (listener, options) = listen();
    let consumer = Consumer::start(options, subscription());
    let mut peer = subscribed(&listener, PLAIN);
    for (number, bytes) in over_limits().into_iter().enumerate() {
        small(&mut peer, &format!("before {number}"));
        peer.send_raw(&bytes).unwrap();
        small(&mut peer, &format!("behind {number}"));
        goes_on(&mut peer, &consumer, &format!("before {number}"));
        goes_on(&mut peer, &consumer, &format!("behind {number}"));
    }
    peer.stays_quiet(QUIET).unwrap();
    assert_eq!(consumer.intake.oversized(), 5);
    // It goes back with the connection, which is left in good order.
    consumer.phase.send_replace(Phase::Finish);
    peer.serve("UNSUBSCRIBE").unwrap();
    peer.serve("DISCONNECT").unwrap();
    peer.wait_closed().unwrap();
}

/// An ACK for what follows would cover it: what came before is settled, then the session comes again and
/// acknowledges each by itself.
#[test]
fn in_ack_mode_client_each_gets_its_own_ack_from_then_on() {
    let (listener, options) = listen();
    let consumer = Consumer::start(options, Subscription { ack_mode: AckMode::Client, ..subscription() });
    let mut peer = greeted(&listener, ACTIVEMQ);
    assert_eq!(peer.serve("SUBSCRIBE").unwrap().header("ack"), Some("client"));
    small(&mut peer, "before");
    peer.send_raw(&many_headers("MESSAGE", "big")).unwrap();
    small(&mut peer, "behind");
    let before = consumer.take();
    peer.stays_quiet(QUIET).unwrap();
    assert!(before.ack());
    assert_eq!(peer.serve("ACK").unwrap().header("id"), Some("before"));
    peer.serve("UNSUBSCRIBE").unwrap();
    peer.serve("DISCONNECT").unwrap();
    peer.wait_closed().unwrap();
    let mut peer = greeted(&listener, ACTIVEMQ);
    assert_eq!(peer.serve("SUBSCRIBE").unwrap().header("ack"), Some("client-individual"));
    peer.send_raw(&many_headers("MESSAGE", "big")).unwrap();
    small(&mut peer, "behind");
    goes_on(&mut peer, &consumer, "behind");
    peer.stays_quiet(QUIET).unwrap();
}

/// Artemis counts bytes, and sends nothing more while what is un-acked exceeds the window.
#[test]
fn on_artemis_it_has_a_window_of_its_own() {
    let window = |peer: &mut Peer| -> usize {
        let subscribe = peer.serve("SUBSCRIBE").unwrap();
        subscribe.header("consumer-window-size").unwrap().parse().unwrap()
    };
    for mode in [AckMode::ClientIndividual, AckMode::Client, AckMode::Auto] {
        let (listener, options) = listen();
        let _consumer = Consumer::start(options, Subscription { ack_mode: mode, window: 10, ..subscription() });
        let mut peer = greeted(&listener, ARTEMIS);
        assert_eq!(window(&mut peer), 10 * 2_048);
        let big = many_headers("MESSAGE", "1,7");
        peer.send_raw(&big).unwrap();
        peer.serve("UNSUBSCRIBE").unwrap();
        peer.serve("DISCONNECT").unwrap();
        peer.wait_closed().unwrap();
        let mut peer = greeted(&listener, ARTEMIS);
        assert!(window(&mut peer) > 4 * big.len(), "room for it, and for others");
        peer.send_raw(&big).unwrap();
        peer.stays_quiet(QUIET).unwrap();
    }
}

/// RabbitMQ closes a channel of which a delivery is un-acked for half an hour, and ends all others with it.
#[test]
fn rabbitmq_gets_it_back_before_it_closes_the_channel() {
    let (listener, options) = listen();
    for mode in [AckMode::ClientIndividual, AckMode::Auto] {
        let consumer = Consumer::start(options.clone(), Subscription { ack_mode: mode, ..subscription() });
        let mut peer = subscribed(&listener, RABBITMQ);
        peer.send_raw(&many_headers("MESSAGE", "big")).unwrap();
        small(&mut peer, "behind");
        goes_on_in(mode, &mut peer, &consumer);
        peer.stays_quiet(QUIET).unwrap();
        consumer.intake.hold_for(Duration::ZERO);
        assert_eq!(peer.serve("NACK").unwrap().header("id"), Some("big"));
        peer.stays_quiet(2 * Duration::from_secs(1)).unwrap();
    }
}

/// In ack mode auto the session has acknowledged it when the delivery comes.
fn goes_on_in(mode: AckMode, peer: &mut Peer, consumer: &Consumer) {
    if mode != AckMode::Auto {
        return goes_on(peer, consumer, "behind");
    }
    assert_eq!(peer.serve("ACK").unwrap().header("id"), Some("behind"));
    assert!(consumer.take().ack());
}

/// Nothing else is left to a connection of which a RECEIPT or an ERROR cannot be read.
#[test]
fn other_frames_over_a_limit_break_the_connection() {
    let (listener, options) = listen();
    let _consumer = Consumer::start(options, subscription());
    for command in ["RECEIPT", "ERROR"] {
        let mut peer = subscribed(&listener, PLAIN);
        let _ = peer.send_raw(&many_headers(command, "big"));
        peer.wait_closed().unwrap();
    }
    let (listener, options) = listen();
    let sender = Sender::start(options);
    let mut peer = greeted(&listener, PLAIN);
    let _ = peer.send_raw(&many_headers("MESSAGE", "big"));
    peer.wait_closed().unwrap();
    let mut peer = greeted(&listener, PLAIN);
    sender.send("a");
    peer.serve("SEND").unwrap();
    sender.confirmed("a");
}
