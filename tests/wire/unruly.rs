//! Brokers that break the rules on purpose: the client stays within its bounds, and goes on.

use super::{Consumer, PLAIN, QUIET, listen, subscribed, subscription};
use crate::harness::peer::Peer;
use stompbox::client::{AckMode, SessionState, Subscription};

const RABBITMQ: &[(&str, &str)] = &[("version", "1.2"), ("server", "RabbitMQ/3.10.8")];

/// In ack mode auto the session writes the ACKs of what it has read first: meanwhile it does not read on for ever.
#[test]
fn a_peer_that_never_reads_is_not_read_for_ever() {
    let (listener, options) = listen();
    let consumer = Consumer::start(options, Subscription { ack_mode: AckMode::Auto, ..subscription() });
    let mut peer = subscribed(&listener, RABBITMQ);
    let ack = "k".repeat(60_000);
    let message = format!("MESSAGE\nmessage-id:1\nack:{ack}\n\nbody\0");
    // Far more than the kernel holds of both directions.
    let all = (64 << 20) / message.len();
    let (mut whole, mut left) = (0, "".as_bytes());
    while whole < all && left.is_empty() {
        left = peer.send_unread(message.as_bytes(), QUIET).unwrap();
        whole += 1;
    }
    assert!(!left.is_empty(), "{} MiB were read, and no ACK could be written", (whole * message.len()) >> 20);
    // Nothing is lost of it, nor is the connection. No receipt: it would stand within the message.
    for number in 0..whole {
        if number + 1 == whole {
            peer.send_raw(left).unwrap();
        }
        assert_eq!(peer.expect("ACK").unwrap().header("id"), Some(ack.as_str()));
    }
    (0..whole).for_each(|_| assert_eq!(&*consumer.take().message.body, b"body"));
    peer.stays_quiet(QUIET).unwrap();
}

/// Receipts that nobody asked for change nothing, however often they come.
#[test]
fn receipts_never_asked_for_mean_nothing_to_a_session() {
    let (listener, options) = listen();
    let mut consumer = Consumer::start(options, subscription());
    let mut peer = subscribed(&listener, PLAIN);
    let send = |peer: &mut Peer, id: &str| peer.send("MESSAGE", &[("message-id", id), ("ack", id)], b"body").unwrap();
    send(&mut peer, "1");
    assert!(consumer.take().ack());
    peer.serve("ACK").unwrap();
    assert_eq!(*consumer.state.borrow_and_update(), SessionState::Subscribed);
    for id in ["goodbye", "unsubscribed", "subscribed", "subscribed"] {
        peer.send("RECEIPT", &[("receipt-id", id)], b"").unwrap();
        send(&mut peer, id);
        assert!(consumer.take().ack(), "{id}");
        assert_eq!(peer.serve("ACK").unwrap().header("id"), Some(id));
    }
    assert!(!consumer.state.has_changed().unwrap(), "it is told once a connection that it is subscribed");
}

/// A MESSAGE over a limit that begins and does not end: nothing else can come, and nothing else would end it.
#[test]
fn a_message_that_is_read_past_and_stops_coming_ends_the_connection() {
    let endless = "h:1\n".repeat(100_000);
    let begins = ["message-id:1\ncontent-length:999999999999\n\nbody", &endless];
    let waiting = begins.map(|begin| {
        let (listener, options) = listen();
        let consumer = Consumer::start(options, subscription());
        let mut peer = subscribed(&listener, PLAIN);
        peer.send_raw(format!("MESSAGE\n{begin}").as_bytes()).unwrap();
        (consumer, listener, peer)
    });
    for (_consumer, listener, mut peer) in waiting {
        peer.wait_closed().unwrap();
        subscribed(&listener, PLAIN);
    }
}
