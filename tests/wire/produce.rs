//! The sending side on a connection that lives: SEND, receipts, refusals.

use super::{PLAIN, QUIET, Sender, greeted, listen};
use crate::harness::peer::{Peer, Received};

/// Three SENDs on one connection, none answered.
fn three(greeting: &[(&str, &str)]) -> (std::net::TcpListener, Sender, Peer, [Received; 3]) {
    let (listener, options) = listen();
    let sender = Sender::start(options);
    let mut peer = greeted(&listener, greeting);
    ["a", "b", "c"].iter().for_each(|body| sender.send(body));
    let sends = [(); 3].map(|()| peer.expect("SEND").unwrap());
    assert_eq!(sends.each_ref().map(|send| send.frame.text()), ["a", "b", "c"]);
    (listener, sender, peer, sends)
}

fn receipt(send: &Received) -> &str {
    send.header("receipt").expect("every SEND asks for a receipt")
}

fn refuse(peer: &mut Peer, send: &Received) {
    peer.send("ERROR", &[("message", "no permission"), ("receipt-id", receipt(send))], b"details").unwrap();
}

#[test]
fn a_receipt_completes_the_right_send() {
    let (_listener, sender, mut peer, sends) = three(PLAIN);
    for (index, body) in [(1, "b"), (2, "c"), (0, "a")] {
        peer.answer(&sends[index]).unwrap();
        sender.confirmed(body);
    }
    assert_eq!(sender.producer.unconfirmed(), 0);
}

#[test]
fn a_receipt_never_asked_for_is_ignored() {
    let (_listener, sender, mut peer, sends) = three(PLAIN);
    let next = (receipt(&sends[2]).parse::<u64>().unwrap() + 1).to_string();
    for id in [next.as_str(), "18446744073709551615", "18446744073709551616", "-1", "goodbye", ""] {
        peer.send("RECEIPT", &[("receipt-id", id)], b"").unwrap();
    }
    peer.send("RECEIPT", &[], b"").unwrap();
    // Twice for one SEND: the second is for nothing.
    peer.answer(&sends[1]).unwrap();
    peer.answer(&sends[1]).unwrap();
    peer.answer(&sends[0]).unwrap();
    sender.confirmed("b");
    sender.confirmed("a");
    sender.send("d");
    let last = peer.expect("SEND").unwrap();
    assert_eq!(sender.producer.unconfirmed(), 2);
    peer.answer(&sends[2]).unwrap();
    peer.answer(&last).unwrap();
    sender.confirmed("c");
    sender.confirmed("d");
}

/// ActiveMQ goes on after an ERROR that names its SEND.
#[test]
fn an_error_with_a_receipt_id_refuses_exactly_that_send() {
    let (_listener, sender, mut peer, sends) = three(&[("version", "1.2"), ("server", "ActiveMQ/6.3.1")]);
    refuse(&mut peer, &sends[1]);
    let refused = sender.refused("b");
    assert_eq!(&*refused.destination, "/queue/out");
    assert!(refused.detail.contains("no permission") && refused.detail.contains("details"), "{refused}");
    peer.answer(&sends[0]).unwrap();
    peer.answer(&sends[2]).unwrap();
    sender.confirmed("a");
    sender.confirmed("c");
}

/// Other brokers close the connection with it: the others are sent again, the refused one is not.
#[test]
fn an_error_that_ends_the_connection_refuses_only_its_send() {
    for server in ["RabbitMQ/3.10.8", "ActiveMQ-Artemis/2.44.0", "unknown"] {
        let (listener, sender, mut peer, sends) = three(&[("version", "1.2"), ("server", server)]);
        refuse(&mut peer, &sends[1]);
        assert!(!sender.refused("b").may_have_arrived, "{server} said no");
        peer.wait_closed().unwrap();
        let mut peer = greeted(&listener, PLAIN);
        for body in ["a", "c"] {
            assert_eq!(peer.serve("SEND").unwrap().frame.text(), body, "{server}");
            sender.confirmed(body);
        }
        peer.stays_quiet(QUIET).unwrap();
    }
}

/// RabbitMQ has the queue with other arguments than `/queue/out` declares, and says so without naming the SEND.
#[test]
fn a_refused_declaration_sends_to_the_queue_as_it_is() {
    let rabbit = [("version", "1.2"), ("server", "RabbitMQ/3.10.8")];
    let (listener, sender, peer, _) = three(&rabbit);
    drop(peer);
    // Sent again one at a time: what ends a connection again is refused, except by a declaration.
    let mut peer = greeted(&listener, &rabbit);
    peer.expect("SEND").unwrap();
    let detail = b"PRECONDITION_FAILED - inequivalent arg 'x-message-ttl' for queue 'out' in vhost '/': received none";
    peer.send("ERROR", &[("message", "precondition_failed")], detail).unwrap();
    peer.wait_closed().unwrap();
    let mut peer = greeted(&listener, &rabbit);
    for body in ["a", "b", "c"] {
        let send = peer.serve("SEND").unwrap();
        assert_eq!((send.header("destination"), send.frame.text()), (Some("/amq/queue/out"), body.to_owned()));
        sender.confirmed(body);
    }
}

#[test]
fn artemis_is_told_that_a_queue_is_one() {
    let (_listener, _sender, _peer, sends) = three(&[("version", "1.2"), ("server", "ActiveMQ-Artemis/2.44.0")]);
    assert!(sends.iter().all(|send| send.header("destination-type") == Some("ANYCAST")), "{sends:?}");
}

/// An ERROR that names no SEND of ours refuses none: a new connection, and all again.
#[test]
fn an_error_without_a_known_receipt_id_refuses_nothing() {
    for headers in [&[("message", "gone")][..], &[("message", "gone"), ("receipt-id", "77")]] {
        let (listener, sender, mut peer, _) = three(&[("version", "1.2"), ("server", "ActiveMQ/6.3.1")]);
        peer.send("ERROR", headers, b"").unwrap();
        peer.wait_closed().unwrap();
        let mut peer = greeted(&listener, PLAIN);
        for body in ["a", "b", "c"] {
            assert_eq!(peer.serve("SEND").unwrap().frame.text(), body);
            sender.confirmed(body);
        }
    }
}

/// ActiveMQ takes a SEND with content-length for a binary message.
#[test]
fn a_send_asks_for_a_receipt_and_counts_only_what_is_not_text() {
    let (listener, options) = listen();
    let sender = Sender::start(options);
    let mut peer = greeted(&listener, PLAIN);
    for (body, length) in [("text \u{e9}", None), ("nul \0 inside", Some("12"))] {
        sender.send_with(body, &[("destination", "/queue/other"), ("receipt", "other")]);
        let send = peer.serve("SEND").unwrap();
        assert_eq!((send.header("destination"), send.header("content-length")), (Some("/queue/out"), length));
        assert_eq!(send.frame.text(), body);
        sender.confirmed(body);
    }
}

#[test]
fn header_values_of_a_send_are_escaped_as_the_version_says() {
    let table = [
        ("1.0", "a:b\\c", Some("x:a:b\\c")),
        ("1.0", "a\nb", None),
        ("1.1", "a:b\\c\nd", Some("x:a\\cb\\\\c\\nd")),
        ("1.1", "a\rb", None),
        ("1.2", "a:b\\c\n\rd", Some("x:a\\cb\\\\c\\n\\rd")),
        ("1.2", "a\0b", None),
    ];
    for (version, value, line) in table {
        let (listener, options) = listen();
        let sender = Sender::start(options);
        let mut peer = greeted(&listener, &[("version", version)]);
        sender.send_with("odd", &[("x", value)]);
        sender.send("next");
        if let Some(line) = line {
            assert!(peer.serve("SEND").unwrap().lines().contains(&line), "{version} {value:?}");
            sender.confirmed("odd");
        } else {
            // It cannot be said in this version; the others go on.
            sender.refused("odd");
        }
        assert_eq!(peer.serve("SEND").unwrap().frame.text(), "next");
        sender.confirmed("next");
    }
}
