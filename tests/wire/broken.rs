//! Bytes that are not STOMP, or too many of them: the connection is left, and the next one opened.

use std::iter::repeat_n;

use super::{Consumer, PLAIN, Sender, greeted, listen, subscribed, subscription};
use crate::harness::peer::Peer;

/// What no client can read on from (of MESSAGEs over a limit: `oversized.rs`); none of it is a complete frame, so waiting for more would be a hang.
fn broken() -> Vec<Vec<u8>> {
    let long: Vec<u8> = repeat_n(b'x', 65 << 10).collect();
    let many = "a:b\n".repeat(1_002);
    let wide = format!("a:{}\n", "x".repeat(60_000)).repeat(5);
    vec![
        b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
        b"message\nmessage-id:1\n\n\0".to_vec(),
        b"MESSAGE\nno colon\n\n\0".to_vec(),
        b"MESSAGE\ncontent-length:2\n\nabc\0".to_vec(),
        b"MESSAGE\ncontent-length:two\n\n".to_vec(),
        // A byte over 100 MiB.
        b"ERROR\ncontent-length:104857601\n\n".to_vec(),
        [b"ERROR\nheader:", long.as_slice()].concat(),
        [b"ERROR\n", many.as_bytes()].concat(),
        [b"ERROR\n", wide.as_bytes()].concat(),
    ]
}

fn is_left(peer: &mut Peer, bytes: &[u8]) {
    // The client may close before all is written.
    let _ = peer.send_raw(bytes);
    peer.wait_closed().unwrap();
}

#[test]
fn a_session_leaves_what_is_not_stomp() {
    let (listener, options) = listen();
    let consumer = Consumer::start(options, subscription());
    for bytes in broken() {
        is_left(&mut subscribed(&listener, PLAIN), &bytes);
    }
    let mut peer = subscribed(&listener, PLAIN);
    peer.send("MESSAGE", &[("message-id", "1"), ("ack", "1")], b"whole").unwrap();
    assert_eq!(consumer.take().message.body, b"whole".as_slice(), "nothing broken was delivered before");
}

#[test]
fn a_producer_leaves_what_is_not_stomp() {
    let (listener, options) = listen();
    let sender = Sender::start(options);
    for bytes in broken() {
        is_left(&mut greeted(&listener, PLAIN), &bytes);
    }
    let mut peer = greeted(&listener, PLAIN);
    sender.send("a");
    peer.serve("SEND").unwrap();
    sender.confirmed("a");
}

/// The part of a frame that came before a break is not taken for the beginning of the next session's first.
#[test]
fn half_a_frame_dies_with_its_connection() {
    let (listener, options) = listen();
    let consumer = Consumer::start(options, subscription());
    for half in ["MESS", "MESSAGE\nmessage-id:1\n", "MESSAGE\nmessage-id:1\ncontent-length:9\n\nhalf"] {
        subscribed(&listener, PLAIN).send_raw(half.as_bytes()).unwrap();
    }
    let mut peer = subscribed(&listener, PLAIN);
    peer.send("MESSAGE", &[("message-id", "2"), ("ack", "2")], b"whole").unwrap();
    let delivery = consumer.take();
    assert_eq!((delivery.message.id(), &*delivery.message.body), ("2", b"whole".as_slice()));
}
