//! Sends whose connection is cut before the broker answered them.

use super::{PLAIN, QUIET, Sender, greeted, listen};
use crate::harness::peer::{Peer, Received};

/// The next SEND, which must be this; not answered.
fn expect(peer: &mut Peer, body: &str) -> Received {
    let send = peer.expect("SEND").unwrap();
    assert_eq!(send.frame.text(), body);
    send
}

fn resent(send: &Received) -> bool {
    send.lines().contains(&"stompbox_resent:true")
}

#[test]
fn what_was_in_flight_at_a_cut_is_resent_one_at_a_time() {
    let (listener, options) = listen();
    let sender = Sender::start(options);
    let mut peer = greeted(&listener, PLAIN);
    sender.send("a");
    sender.send("b");
    let [a, b] = ["a", "b"].map(|body| expect(&mut peer, body));
    assert!(!resent(&a) && !resent(&b));
    drop(peer);

    let mut peer = Peer::accept(&listener).unwrap();
    let connect = peer.expect("CONNECT").unwrap();
    sender.send("c");
    peer.stays_quiet(QUIET).unwrap();
    peer.answer(&connect).unwrap();
    for body in ["a", "b"] {
        let send = expect(&mut peer, body);
        assert!(resent(&send), "{}", send.wire);
        peer.stays_quiet(QUIET).unwrap();
        if body == "a" {
            // The receipt of the connection before is not for this one: b was not sent here.
            peer.answer(&b).unwrap();
            peer.stays_quiet(QUIET).unwrap();
        }
        peer.answer(&send).unwrap();
        sender.confirmed(body);
    }
    let c = expect(&mut peer, "c");
    assert!(!resent(&c), "it was on no connection before");
    peer.answer(&c).unwrap();
    sender.confirmed("c");
}

#[test]
fn what_was_answered_before_the_cut_is_not_resent() {
    let (listener, options) = listen();
    let sender = Sender::start(options);
    let mut peer = greeted(&listener, PLAIN);
    ["a", "b", "c"].iter().for_each(|body| sender.send(body));
    let [_, b, _] = ["a", "b", "c"].map(|body| expect(&mut peer, body));
    peer.answer(&b).unwrap();
    sender.confirmed("b");
    drop(peer);
    let mut peer = greeted(&listener, PLAIN);
    for body in ["a", "c"] {
        let send = expect(&mut peer, body);
        assert!(resent(&send));
        peer.answer(&send).unwrap();
        sender.confirmed(body);
    }
    peer.stays_quiet(QUIET).unwrap();
}

/// Of two that were in flight together the first takes a second connection with it: it is poison, and the
/// other one is innocent.
#[test]
fn a_suspect_whose_connection_dies_again_is_refused_alone() {
    let (listener, options) = listen();
    let sender = Sender::start(options);
    let mut peer = greeted(&listener, PLAIN);
    sender.send("poison");
    sender.send("innocent");
    for body in ["poison", "innocent"] {
        expect(&mut peer, body);
    }
    drop(peer);
    let mut peer = greeted(&listener, PLAIN);
    assert!(resent(&expect(&mut peer, "poison")));
    drop(peer);
    assert!(sender.refused("poison").may_have_arrived, "nobody said no");
    let mut peer = greeted(&listener, PLAIN);
    let innocent = expect(&mut peer, "innocent");
    assert!(resent(&innocent));
    peer.answer(&innocent).unwrap();
    sender.confirmed("innocent");
    peer.stays_quiet(QUIET).unwrap();
}

/// One cut proves nothing against a message, also where it was alone in flight; a second one does.
#[test]
fn a_send_alone_at_a_cut_is_resent_before_it_is_refused() {
    let (listener, options) = listen();
    let sender = Sender::start(options);
    let mut peer = greeted(&listener, PLAIN);
    sender.send("a");
    assert!(!resent(&expect(&mut peer, "a")));
    drop(peer);
    let mut peer = greeted(&listener, PLAIN);
    assert!(resent(&expect(&mut peer, "a")), "the first cut makes it a suspect");
    drop(peer);
    sender.refused("a");
    sender.send("b");
    let mut peer = greeted(&listener, PLAIN);
    let b = expect(&mut peer, "b");
    assert!(!resent(&b));
    peer.answer(&b).unwrap();
    sender.confirmed("b");
}

/// A connection that dies before CONNECTED was never used: it makes nothing suspect and refuses nothing.
#[test]
fn what_was_never_written_is_no_suspect() {
    let (listener, options) = listen();
    let sender = Sender::start(options);
    sender.send("a");
    for _ in 0..2 {
        Peer::accept(&listener).unwrap().expect("CONNECT").unwrap();
    }
    let mut peer = greeted(&listener, PLAIN);
    let a = expect(&mut peer, "a");
    assert!(!resent(&a));
    peer.answer(&a).unwrap();
    sender.confirmed("a");
}
