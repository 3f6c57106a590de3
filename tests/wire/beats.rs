//! Heart-beats (STOMP 1.2, "Heart-beating"). Line ends serve as the clock where time must pass.

use std::time::{Duration, Instant};

use super::{Consumer, Sender, greeted, listen, subscribed, subscription};
use crate::harness::peer::Peer;

/// Beats that must come in 30 s. A client that only avoids long silence sends one in this time.
const BEATS: usize = 5;

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn beats_come(peer: &mut Peer) {
    let until = Instant::now() + Duration::from_secs(30);
    (0..BEATS).for_each(|_| peer.wait_beat(until).unwrap());
}

#[test]
fn a_session_beats_as_agreed() {
    let (listener, mut options) = listen();
    options.send_heartbeat = millis(100);
    let _consumer = Consumer::start(options, subscription());
    beats_come(&mut subscribed(&listener, &[("version", "1.2"), ("heart-beat", "0,150")]));
}

#[test]
fn a_producer_beats_as_agreed() {
    let (listener, mut options) = listen();
    options.send_heartbeat = millis(200);
    let _sender = Sender::start(options);
    beats_come(&mut greeted(&listener, &[("version", "1.1"), ("heart-beat", "0,100")]));
}

#[test]
fn a_session_leaves_a_peer_that_promised_beats_and_falls_silent() {
    let (listener, mut options) = listen();
    options.recv_heartbeat = millis(100);
    let _consumer = Consumer::start(options, subscription());
    for _ in 0..2 {
        subscribed(&listener, &[("version", "1.2"), ("heart-beat", "100,0")]).wait_closed().unwrap();
    }
}

#[test]
fn a_producer_leaves_a_peer_that_promised_beats_and_falls_silent() {
    let (listener, mut options) = listen();
    options.recv_heartbeat = millis(100);
    let _sender = Sender::start(options);
    for _ in 0..2 {
        greeted(&listener, &[("version", "1.2"), ("heart-beat", "100,0")]).wait_closed().unwrap();
    }
}

/// After twice the agreed two seconds, and one more, a silent peer would be left.
#[test]
fn a_peer_whose_beats_come_is_kept() {
    let (listener, mut options) = listen();
    (options.send_heartbeat, options.recv_heartbeat) = (millis(100), millis(100));
    let consumer = Consumer::start(options, subscription());
    let mut peer = subscribed(&listener, &[("version", "1.2"), ("heart-beat", "2000,100")]);
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(7) {
        peer.wait_beat(Instant::now() + super::LIMIT).unwrap();
        peer.send_raw(b"\n").unwrap();
    }
    works(&mut peer, &consumer);
}

/// A peer that promised nothing, or of which nothing is wanted, may be silent.
#[test]
fn a_peer_that_owes_no_beats_is_kept() {
    for (recv, theirs) in [(100, "0,100"), (0, "100,100")] {
        let (listener, mut options) = listen();
        (options.send_heartbeat, options.recv_heartbeat) = (millis(100), millis(recv));
        let consumer = Consumer::start(options, subscription());
        let mut peer = subscribed(&listener, &[("version", "1.2"), ("heart-beat", theirs)]);
        // More than twice the interval and a second, by the client's own clock.
        let until = Instant::now() + super::LIMIT;
        (0..50).for_each(|_| peer.wait_beat(until).unwrap());
        works(&mut peer, &consumer);
    }
}

#[test]
fn any_agreement_leaves_a_session_that_works() {
    let huge = "18446744073709551615,18446744073709551615";
    let odd = [None, Some("0,0"), Some("1,1"), Some(huge), Some("99999999999999999999,x"), Some(""), Some("-1")];
    for ours in [0, 1, 100] {
        for theirs in odd {
            let (listener, mut options) = listen();
            (options.send_heartbeat, options.recv_heartbeat) = (millis(ours), millis(ours));
            let consumer = Consumer::start(options, subscription());
            let greeting = [("version", Some("1.2")), ("heart-beat", theirs)];
            let greeting: Vec<_> = greeting.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
            works(&mut subscribed(&listener, &greeting), &consumer);
        }
    }
}

/// A message comes through and is acknowledged, all on this connection.
fn works(peer: &mut Peer, consumer: &Consumer) {
    peer.send("MESSAGE", &[("message-id", "1"), ("ack", "1")], b"body").unwrap();
    assert!(consumer.take().ack());
    peer.serve("ACK").unwrap();
}
