//! Brokers that break the rules on purpose: the client stays within its bounds, and goes on.

use super::{Consumer, PLAIN, listen, subscribed, subscription};
use crate::harness::peer::Peer;
use stompbox::client::SessionState;

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
