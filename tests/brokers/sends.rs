//! What the brokers do with SENDs, transactions and logins, by plain clients: see `facts`.

use std::time::Duration;

use super::facts::{LIMIT, QUIET};
use crate::harness::{
    broker::{PASSCODE, USERNAME},
    client::{Client, Msg},
    messages::texts_in_order,
    target::Target,
};

/// Sends the bodies to the destinations in one transaction, and returns what answers them and the COMMIT. With
/// `receipts` each SEND asks for one; the COMMIT always does. Behind a destination there may be further lines.
fn commit(target: &Target, sends: &[(&str, &str)], receipts: bool) -> Vec<Msg> {
    let mut client = target.client();
    let routed = if target.is_artemis() { "destination-type:ANYCAST\n" } else { "" };
    let mut frames = String::from("BEGIN\ntransaction:t\n\n\0");
    for (to, body) in sends {
        let receipt = if receipts { format!("receipt:{body}\n") } else { String::new() };
        let headers = format!("destination:{to}\n{routed}persistent:true\ntransaction:t\n{receipt}");
        frames += &format!("SEND\n{headers}\n{body}\0");
    }
    frames += "COMMIT\ntransaction:t\nreceipt:commit\n\n\0";
    let _greeting = client.any_frame(LIMIT).unwrap();
    client.write(frames.as_bytes()).unwrap();
    // The connection may end behind an ERROR.
    std::iter::from_fn(|| client.any_frame(QUIET).ok().flatten()).collect()
}

/// The ids of the receipts, and ERROR for each error.
fn answers(frames: &[Msg]) -> Vec<&str> {
    frames
        .iter()
        .map(|frame| frame.header("receipt-id").filter(|_| frame.command != "ERROR").unwrap_or("ERROR"))
        .collect()
}

#[test]
fn only_rabbitmq_confirms_a_commit_before_its_sends() {
    for target in [Target::activemq(), Target::rabbitmq(), Target::artemis()] {
        let queue = Target::destination("commit");
        let frames = commit(&target, &[(&queue, "1"), (&queue, "2")], true);
        let expected = if target.is_rabbitmq() { ["commit", "1", "2"] } else { ["1", "2", "commit"] };
        assert_eq!(answers(&frames), expected);
    }
}

#[test]
fn rabbitmq_confirms_a_commit_although_a_send_in_it_fails() {
    let (target, queue) = (Target::rabbitmq(), Target::destination("failing"));
    let sends = [(queue.as_str(), "good"), ("/exchange/no-such-exchange/x", "bad"), (&queue, "behind")];
    assert_eq!(answers(&commit(&target, &sends, false)), ["commit", "ERROR"]);
    assert_eq!(texts_in_order(&target.drain(&queue)), ["good"], "nor are the others with it");
}

/// Half a group is delivered and the COMMIT confirmed, where the SENDs have receipts or where a SEND is wrong in itself.
#[test]
fn activemq_confirms_a_commit_although_a_send_in_it_was_wrong() {
    let target = Target::activemq();
    let confirmed = |bad: &str, receipts: bool| {
        let queue = Target::destination("wrong");
        let frames = commit(&target, &[(&queue, "good"), (bad, "bad"), (&queue, "behind")], receipts);
        (answers(&frames).join(" "), texts_in_order(&target.drain(&queue)).join(" "))
    };
    let nowhere = Target::REFUSED_BY_ACTIVEMQ;
    let no_map = format!("{}\namq-msg-type:map", Target::destination("map"));
    assert_eq!(confirmed(nowhere, true), ("good ERROR behind commit".into(), "good behind".into()));
    assert_eq!(confirmed(&no_map, false), ("ERROR commit".into(), "good behind".into()));
    assert_eq!(confirmed(nowhere, false), ("ERROR ERROR".into(), String::new()), "all or none");
}

/// With or without the other messages; but the refused one has no receipt, and an ERROR that names it.
#[test]
fn artemis_may_confirm_a_commit_although_a_send_in_it_was_refused() {
    let target = Target::artemis();
    let confirmed = |_| {
        let queue = Target::destination("refused");
        let refused = queue.replace("/queue/", "/queue/refused.");
        let frames = commit(&target, &[(&queue, "good"), (&refused, "bad")], true);
        let bad: Vec<_> = frames.iter().filter(|frame| frame.header("receipt-id") == Some("bad")).collect();
        assert_eq!(bad.iter().map(|frame| &*frame.command).collect::<Vec<_>>(), ["ERROR"]);
        answers(&frames).contains(&"commit") || texts_in_order(&target.drain(&queue)) == ["good"]
    };
    assert!((0..30).any(confirmed));
}

/// What a subscriber sees of `content-length`, of one SEND with it and one without.
#[test]
fn content_length_makes_bytes_of_text_on_activemq() {
    for (target, seen) in [
        (Target::activemq(), [Some("4"), None]),
        (Target::rabbitmq(), [Some("4"), Some("4")]),
        (Target::artemis(), [Some("4"), Some("4")]),
    ] {
        let queue = Target::destination("length");
        for headers in [&[("content-length", "4"), ("persistent", "true")][..], &[("persistent", "true")]] {
            target.client().send(&queue, headers, b"text").unwrap();
        }
        let got = target.drain(&queue);
        assert_eq!(got.iter().map(|message| message.header("content-length")).collect::<Vec<_>>(), seen);
    }
}

/// What answers a SEND with a priority that is no number; none where the broker just closes.
fn answer_to_a_wrong_priority(target: &Target) -> Option<String> {
    let queue = Target::destination("priority");
    let headers = [("destination", queue.as_str()), ("priority", "high"), ("destination-type", "ANYCAST")];
    let answer = target.client().exchange("SEND", &headers, b"x").ok().map(|frame| frame.command);
    assert_eq!(target.drain(&queue), [], "nowhere is it taken");
    answer
}

#[test]
fn a_priority_that_is_no_number_is_an_error_and_on_activemq_the_end_without_one() {
    assert_eq!(answer_to_a_wrong_priority(&Target::activemq()), None);
    for target in [Target::rabbitmq(), Target::artemis()] {
        assert_eq!(answer_to_a_wrong_priority(&target).as_deref(), Some("ERROR"));
    }
}

/// So a dead letter with the `expires` of its original would be confirmed and gone.
#[test]
fn activemq_and_artemis_confirm_what_has_expired_and_forget_it() {
    for (target, left) in [(Target::activemq(), 0), (Target::artemis(), 0), (Target::rabbitmq(), 1)] {
        let queue = Target::destination("expired");
        target.client().send(&queue, &[("expires", "1000"), ("persistent", "true")], b"x").unwrap();
        assert_eq!(target.drain(&queue).len(), left);
    }
}

#[test]
fn artemis_does_not_say_what_it_is_in_a_session_of_version_1_0() {
    for (target, name) in
        [(Target::activemq(), Some("ActiveMQ")), (Target::rabbitmq(), Some("RabbitMQ")), (Target::artemis(), None)]
    {
        let version = [("accept-version", "1.0")];
        let client = Client::connect_with(target.address, Some((USERNAME, PASSCODE)), &version).unwrap();
        let server = client.greeting().header("server");
        assert_eq!(server.and_then(|server| server.split('/').next()), name);
    }
}

#[test]
fn only_rabbitmq_ignores_selectors() {
    for (target, expected) in [(Target::activemq(), 1), (Target::artemis(), 1), (Target::rabbitmq(), 2)] {
        let queue = Target::destination("selector");
        for vo in ["cms", "atlas"] {
            target.client().send(&queue, &[("vo", vo), ("persistent", "true")], vo.as_bytes()).unwrap();
        }
        let mut client = target.client();
        client.subscribe(&queue, "client-individual", &[("selector", "vo = 'atlas'")]).unwrap();
        let got =
            client.read(expected, LIMIT).unwrap().len() + client.read(1, Duration::from_millis(300)).unwrap().len();
        assert_eq!(got, expected);
    }
}

/// Of two SENDs with receipts the first is refused.
#[test]
fn only_artemis_names_the_receipt_of_a_refused_send() {
    let refused = Target::forbidden("x");
    for (target, names) in [(Target::artemis(), true), (Target::rabbitmq(), false)] {
        let routed = [("destination", refused.as_str()), ("destination-type", "ANYCAST")];
        let answer = target.client().exchange("SEND", &routed, b"x").unwrap();
        assert_eq!((answer.command.as_str(), answer.header("receipt-id").is_some()), ("ERROR", names), "{answer:?}");
    }
}

/// How many messages come before the RECEIPT of a SEND on the connection of a client that reads a queue.
fn messages_before_a_receipt(target: &Target) -> usize {
    let (queue, other) = (Target::destination("many"), Target::destination("other"));
    target.client().send_all(&queue, &vec!["x".repeat(100 << 10); 200]).unwrap();
    let mut client = target.client();
    let window = if target.is_artemis() { "consumer-window-size:-1\nsubscription-type:ANYCAST\n" } else { "" };
    client.write(format!("SUBSCRIBE\nid:1\nack:client\ndestination:{queue}\n{window}\n\0").as_bytes()).unwrap();
    assert_eq!(client.read(1, LIMIT).unwrap().len(), 1);
    let answer = client.exchange("SEND", &[("destination", &other), ("persistent", "true")], b"x").unwrap();
    assert_eq!(answer.command, "RECEIPT");
    client.read(200, Duration::ZERO).unwrap().len()
}

/// So a client that sends on it and stops reading gets no RECEIPT.
#[test]
fn a_receipt_may_stand_behind_messages_of_the_same_connection() {
    for target in [Target::activemq(), Target::rabbitmq(), Target::artemis()] {
        assert!((0..10).any(|_| messages_before_a_receipt(&target) > 1));
    }
}
