//! The outbox without a socket: what would be written, and whom an answer reaches.

use std::sync::{Arc, mpsc};

use bytes::{Bytes, BytesMut};

use super::{
    outbox::Outbox,
    outgoing::{Link, Outgoing, OutputId, SendRequest},
};
use crate::{
    client::{Flavour, Rejected},
    stomp::{Decoder, Frame, FrameLimits, Version},
};

/// An outbox, and what became of its sends.
struct Fixture {
    outbox: Outbox,
    answer: mpsc::Sender<(&'static str, bool)>,
    answers: mpsc::Receiver<(&'static str, bool)>,
}

impl Fixture {
    fn connected() -> Self {
        Self::connected_to(Flavour::Unknown)
    }

    fn connected_to(flavour: Flavour) -> Self {
        let (answer, answers) = mpsc::channel();
        let fixture = Self { outbox: Outbox::default(), answer, answers };
        fixture.outbox.connected(link(flavour));
        fixture
    }

    /// Sends a group; it is answered under this name.
    fn send_group(&self, name: &'static str, bodies: &[&'static str], transaction: bool) {
        let messages = bodies.iter().map(|body| outgoing(body, "plain")).collect();
        let answer = self.answer.clone();
        let done = Box::new(move |result: Result<(), _>| answer.send((name, result.is_ok())).unwrap());
        self.outbox.send_group(messages, transaction, false, done);
    }

    fn send(&self, body: &'static str) {
        self.send_with(body, "plain");
    }

    fn send_with(&self, body: &'static str, value: &str) {
        let answer = self.answer.clone();
        let message = outgoing(body, value);
        self.outbox.send(
            message,
            false,
            Box::new(move |result: Result<(), Rejected>| answer.send((body, result.is_ok())).unwrap()),
        );
    }

    /// What would be written now.
    fn written(&self) -> Vec<Frame> {
        let (mut output, mut decoder) = (BytesMut::new(), Decoder::new(FrameLimits::default()));
        self.outbox.take_into(&mut output);
        std::iter::from_fn(|| decoder.decode(&mut output).unwrap()).collect()
    }

    fn bodies(&self) -> Vec<String> {
        self.written().iter().map(|frame| String::from_utf8_lossy(&frame.body).into_owned()).collect()
    }

    fn answered(&self) -> Vec<(&'static str, bool)> {
        self.answers.try_iter().collect()
    }

    fn reconnect(&self) {
        self.outbox.disconnected("cut", false);
        self.outbox.connected(link(Flavour::Unknown));
    }
}

fn link(flavour: Flavour) -> Link {
    Link { version: Version::V1_2, flavour }
}

fn outgoing(body: &'static str, value: &str) -> Outgoing {
    SendRequest {
        destination: Arc::from("/queue/q"),
        headers: vec![("x".to_owned(), value.to_owned())],
        body: Bytes::from_static(body.as_bytes()),
        as_bytes: false,
    }
    .into()
}

/// Command, body, transaction and receipt of each frame.
fn shape(frames: &[Frame]) -> Vec<String> {
    let or_dash = |frame: &Frame, name: &str| frame.headers.get(name).unwrap_or("-").to_owned();
    let each = frames.iter().map(|frame| {
        let body = String::from_utf8_lossy(&frame.body);
        format!("{} {body} {} {}", frame.command, or_dash(frame, "transaction"), or_dash(frame, "receipt"))
    });
    each.collect()
}

fn receipts(frames: &[Frame]) -> Vec<String> {
    frames.iter().map(|frame| frame.headers.get("receipt").unwrap().to_owned()).collect()
}

#[test]
fn answers_find_their_sends_in_any_order_and_once() {
    let fixture = Fixture::connected();
    ["a", "b", "c"].iter().for_each(|body| fixture.send(body));
    let ids = receipts(&fixture.written());
    assert!(fixture.outbox.answer(&ids[1], Err("no".into())));
    assert!(fixture.outbox.answer(&ids[2], Ok(())));
    assert!(!fixture.outbox.answer(&ids[1], Ok(())), "answered already");
    assert!(fixture.outbox.answer(&ids[0], Ok(())));
    assert!(!fixture.outbox.answer(&ids[0], Ok(())), "forgotten already");
    assert_eq!(fixture.answered(), [("b", false), ("c", true), ("a", true)]);
    assert_eq!(fixture.outbox.unconfirmed(), 0);
    // Numbers go on: an answer that comes late must find nobody.
    fixture.send("d");
    assert!(!ids.contains(&receipts(&fixture.written())[0]));
}

#[test]
fn what_cannot_be_encoded_is_refused_and_nothing_else() {
    let fixture = Fixture::connected();
    fixture.send("a");
    fixture.send_with("odd", "nul \0 inside");
    fixture.send("b");
    assert_eq!(fixture.answered(), [("odd", false)]);
    let frames = fixture.written();
    assert_eq!(frames.len(), 2);
    assert!(receipts(&frames).iter().all(|id| fixture.outbox.answer(id, Ok(()))));
    assert_eq!((fixture.answered(), fixture.outbox.unconfirmed()), (vec![("a", true), ("b", true)], 0));
}

#[test]
fn suspects_go_one_at_a_time_and_before_all_others() {
    let fixture = Fixture::connected();
    ["a", "b", "c"].iter().for_each(|body| fixture.send(body));
    let ids = receipts(&fixture.written());
    assert!(fixture.outbox.answer(&ids[1], Ok(())));
    fixture.outbox.disconnected("cut", false);
    fixture.send("d");
    fixture.send("e");
    assert_eq!(fixture.bodies(), Vec::<String>::new(), "there is no connection");
    fixture.outbox.connected(link(Flavour::Unknown));
    for body in ["a", "c"] {
        let frames = fixture.written();
        assert_eq!((frames.len(), &*frames[0].body), (1, body.as_bytes()));
        assert_eq!(frames[0].headers.get("stompbox_resent"), Some("true"));
        let last = (ids[0].parse::<u64>().unwrap() + 4).to_string();
        assert!(!fixture.outbox.answer(&last, Ok(())), "not sent on this connection");
        assert!(fixture.outbox.answer(&receipts(&frames)[0], Ok(())));
    }
    let frames = fixture.written();
    assert_eq!(frames.len(), 2, "the others go together again");
    assert!(frames.iter().all(|frame| frame.headers.get("stompbox_resent").is_none()));
    assert_eq!(fixture.answered(), [("b", true), ("a", true), ("c", true)]);
    assert_eq!(fixture.outbox.unconfirmed(), 2);
}

#[test]
fn what_the_connection_was_not_given_is_encoded_again_and_no_suspect() {
    let fixture = Fixture::connected();
    ["a", "b"].iter().for_each(|body| fixture.send(body));
    fixture.reconnect();
    assert_eq!(fixture.bodies(), ["a", "b"], "once, and together");
    assert_eq!(fixture.answered(), []);
}

/// The first cut makes a suspect, also of what was alone in flight; the second one refuses it.
#[test]
fn only_a_suspect_is_refused_at_a_cut() {
    let fixture = Fixture::connected();
    fixture.send("a");
    assert_eq!(fixture.bodies(), ["a"]);
    fixture.reconnect();
    assert_eq!((fixture.answered(), fixture.bodies()), (vec![], vec!["a".to_owned()]));
    fixture.send("b");
    fixture.reconnect();
    assert_eq!((fixture.answered(), fixture.bodies()), (vec![("a", false)], vec!["b".to_owned()]));
    assert_eq!(fixture.outbox.unconfirmed(), 1);
}

#[test]
fn a_group_is_one_transaction_where_the_broker_has_them() {
    for flavour in [Flavour::ActiveMq, Flavour::Embedded] {
        let fixture = Fixture::connected_to(flavour);
        fixture.send_group("g", &["a", "b"], true);
        fixture.send("next");
        let expected = ["BEGIN  0 -", "SEND a 0 -", "SEND b 0 -", "COMMIT  0 0", "SEND next - 1"];
        assert_eq!(shape(&fixture.written()), expected, "{flavour:?}");
        assert!(!fixture.outbox.answer("0.0", Ok(())), "a SEND has no receipt of its own");
        assert!(fixture.outbox.answer("0", Ok(())));
        assert_eq!(fixture.answered(), [("g", true)]);
    }
}

#[test]
fn elsewhere_or_unwanted_each_message_of_a_group_has_its_receipt() {
    for (flavour, wanted) in [(Flavour::RabbitMq, true), (Flavour::Unknown, true), (Flavour::ActiveMq, false)] {
        let fixture = Fixture::connected_to(flavour);
        fixture.send_group("g", &["a", "b", "c"], wanted);
        assert_eq!(shape(&fixture.written()), ["SEND a - 0.0", "SEND b - 0.1", "SEND c - 0.2"], "{flavour:?}");
        for id in ["0", "0.3", "0.1 ", "1.0"] {
            assert!(!fixture.outbox.answer(id, Ok(())), "{id} was never asked for");
        }
        assert!(fixture.outbox.answer("0.1", Ok(())) && !fixture.outbox.answer("0.1", Ok(())), "once");
        assert!(fixture.outbox.answer("0.0", Ok(())));
        assert_eq!(fixture.answered(), [], "one is missing");
        assert!(fixture.outbox.answer("0.2", Ok(())));
        assert_eq!((fixture.answered(), fixture.outbox.unconfirmed()), (vec![("g", true)], 0));
    }
}

#[test]
fn one_message_needs_no_transaction_and_none_is_confirmed_at_once() {
    let fixture = Fixture::connected_to(Flavour::ActiveMq);
    fixture.send_group("one", &["a"], true);
    fixture.send_group("none", &[], true);
    assert_eq!(shape(&fixture.written()), ["SEND a - 0"]);
    assert_eq!(fixture.answered(), [("none", true)]);
}

#[test]
fn a_group_with_a_refused_message_is_refused_when_all_are_answered() {
    let fixture = Fixture::connected();
    fixture.send_group("g", &["a", "b"], true);
    fixture.written();
    assert!(fixture.outbox.answer("0.0", Err("no".into())));
    assert_eq!(fixture.answered(), [], "an answer is awaited that must find its message");
    assert!(fixture.outbox.answer("0.1", Ok(())));
    assert_eq!(fixture.answered(), [("g", false)]);
}

/// The broker that refuses one message may close the connection: what is left of the group is not sent.
#[test]
fn a_group_with_a_refused_message_is_not_sent_again() {
    let fixture = Fixture::connected();
    fixture.send_group("g", &["a", "b"], true);
    fixture.written();
    assert!(fixture.outbox.answer("0.0", Err("no".into())));
    fixture.reconnect();
    assert_eq!((fixture.answered(), fixture.bodies()), (vec![("g", false)], vec![]));
}

#[test]
fn of_a_group_that_was_cut_only_what_is_missing_is_sent_again() {
    let fixture = Fixture::connected();
    fixture.send_group("g", &["a", "b", "c"], true);
    fixture.written();
    assert!(fixture.outbox.answer("0.1", Ok(())));
    fixture.outbox.disconnected("cut", false);
    // The next broker may be another one, with transactions.
    fixture.outbox.connected(link(Flavour::ActiveMq));
    let frames = fixture.written();
    assert_eq!(shape(&frames), ["BEGIN  0 -", "SEND a 0 -", "SEND c 0 -", "COMMIT  0 0"]);
    assert_eq!(frames[1].headers.get("stompbox_resent"), Some("true"));
    assert!(fixture.outbox.answer("0", Ok(())));
    assert_eq!(fixture.answered(), [("g", true)]);
}

#[test]
fn a_transaction_that_was_cut_goes_alone_and_whole() {
    let fixture = Fixture::connected_to(Flavour::ActiveMq);
    fixture.send_group("g", &["a", "b"], true);
    fixture.send("next");
    fixture.written();
    fixture.outbox.disconnected("cut", false);
    fixture.outbox.connected(link(Flavour::ActiveMq));
    assert_eq!(shape(&fixture.written()), ["BEGIN  0 -", "SEND a 0 -", "SEND b 0 -", "COMMIT  0 0"]);
    fixture.outbox.disconnected("cut", false);
    assert_eq!(fixture.answered(), [("g", false)], "the second time alone");
}

/// ActiveMQ refuses a SEND without receipt by an ERROR that names nothing, and its COMMIT by another.
#[test]
fn a_complaint_refuses_the_transaction_that_is_answered_next() {
    let fixture = Fixture::connected_to(Flavour::ActiveMq);
    assert!(!fixture.outbox.complain("for nobody".into()));
    fixture.send("first");
    assert!(!fixture.outbox.complain("for nobody".into()), "there is no transaction");
    fixture.send_group("bad", &["a", "b"], true);
    fixture.send_group("good", &["c", "d"], true);
    assert!(fixture.outbox.complain("no rights".into()));
    // A receipt that comes nevertheless confirms nothing.
    for id in ["0", "1", "2"] {
        assert!(fixture.outbox.answer(id, Ok(())));
    }
    assert_eq!(fixture.answered(), [("first", true), ("bad", false), ("good", true)]);
}

/// Artemis may confirm the COMMIT of a transaction before it refuses a SEND of it.
#[test]
fn on_artemis_each_send_of_a_transaction_has_a_receipt_too() {
    let fixture = Fixture::connected_to(Flavour::Artemis);
    fixture.send_group("good", &["a", "b"], true);
    fixture.send_group("bad", &["c", "d"], true);
    let good = ["BEGIN  0 -", "SEND a 0 0.0", "SEND b 0 0.1", "COMMIT  0 0"];
    assert_eq!(shape(&fixture.written())[..4], good);
    for id in ["0.0", "0", "0.1", "1.0", "1"] {
        assert_eq!(fixture.answered(), [], "{id} is missing");
        assert!(fixture.outbox.answer(id, Ok(())) && !fixture.outbox.answer(id, Ok(())), "{id}: once");
        if id == "0.1" {
            assert_eq!(fixture.answered(), [("good", true)]);
        }
    }
    assert!(fixture.outbox.answer("1.1", Err("no rights".into())));
    assert_eq!(fixture.answered(), [("bad", false)]);
}

/// What had its receipt was not committed.
#[test]
fn on_artemis_a_transaction_that_was_cut_goes_whole() {
    let fixture = Fixture::connected_to(Flavour::Artemis);
    fixture.send_group("g", &["a", "b"], true);
    fixture.written();
    assert!(fixture.outbox.answer("0.0", Ok(())));
    fixture.outbox.disconnected("cut", false);
    fixture.outbox.connected(link(Flavour::Artemis));
    assert_eq!(shape(&fixture.written()), ["BEGIN  0 -", "SEND a 0 0.0", "SEND b 0 0.1", "COMMIT  0 0"]);
}

/// The two ERRORs come in either order; the next transaction is innocent.
#[test]
fn a_complaint_that_comes_late_harms_nobody() {
    let fixture = Fixture::connected_to(Flavour::ActiveMq);
    fixture.send_group("bad", &["a", "b"], true);
    fixture.send_group("good", &["c", "d"], true);
    assert!(fixture.outbox.answer("0", Err("COMMIT FAILED".into())));
    assert!(fixture.outbox.complain("no rights".into()));
    assert!(fixture.outbox.answer("1", Ok(())));
    assert!(fixture.outbox.complain("and another of the same transaction".into()));
    assert_eq!(fixture.answered(), [("bad", false), ("good", true)]);
    fixture.reconnect();
    assert!(!fixture.outbox.complain("on a connection without transactions".into()));
}

#[test]
fn a_group_that_cannot_be_expressed_leaves_nothing_on_the_wire() {
    let fixture = Fixture::connected_to(Flavour::ActiveMq);
    let answer = fixture.answer.clone();
    let messages = vec![outgoing("a", "plain"), outgoing("b", "nul \0 inside")];
    let done = Box::new(move |result: Result<(), _>| answer.send(("g", result.is_ok())).unwrap());
    fixture.outbox.send_group(messages, true, true, done);
    fixture.send("next");
    assert_eq!((fixture.bodies(), fixture.answered()), (vec!["next".to_owned()], vec![("g", false)]));
}

#[test]
fn ids_and_common_headers_stand_before_the_guests() {
    let id = OutputId::new(0x0123_4567_89ab_cdef_0000_0000_0000_00ff);
    let common: Arc<[_]> = [("x".to_owned(), "ours".to_owned())].into();
    let message = || Outgoing { common: Some(common.clone()), id: Some(id), ..outgoing("a", "guest") };
    for (flavour, bodies, duplicate) in [
        (Flavour::Artemis, 1, Some("0123456789abcdef00000000000000ff")),
        (Flavour::Artemis, 2, None),
        (Flavour::ActiveMq, 1, None),
    ] {
        let fixture = Fixture::connected_to(flavour);
        let messages = (0..bodies).map(|_| message()).collect();
        fixture.outbox.send_group(messages, true, true, Box::new(|_| {}));
        let frames = fixture.written();
        let send = frames.iter().find(|frame| !frame.body.is_empty()).unwrap();
        assert_eq!(send.headers.get("stompbox_id"), Some("0123456789abcdef00000000000000ff"));
        assert_eq!(send.headers.get("_AMQ_DUPL_ID"), duplicate, "{flavour:?}");
        assert_eq!(send.headers.get("x"), Some("ours"));
    }
}

#[test]
fn a_queue_of_other_arguments_gets_its_messages_without_being_declared() {
    let fixture = Fixture::connected_to(Flavour::RabbitMq);
    let to = |fixture: &Fixture| {
        let frames = fixture.written();
        frames.iter().map(|frame| frame.headers.get("destination").unwrap().to_owned()).collect::<Vec<_>>()
    };
    fixture.send("a");
    fixture.written();
    fixture.reconnect();
    assert_eq!(to(&fixture), ["/queue/q"], "a suspect by now");
    fixture.outbox.take_as_existing("q");
    fixture.reconnect();
    assert_eq!((fixture.answered(), to(&fixture)), (vec![], vec!["/amq/queue/q".to_owned()]));
}

/// A broker that names queues nobody sends to must not be connected to again at once, time after time.
#[test]
fn a_queue_is_declared_otherwise_once_and_only_while_something_for_it_is_in_flight() {
    let fixture = Fixture::connected_to(Flavour::RabbitMq);
    fixture.send("a");
    assert!(!fixture.outbox.take_as_existing("q"), "the connection has not got it yet");
    assert_eq!(fixture.bodies(), ["a"]);
    assert!(!fixture.outbox.take_as_existing("other"));
    assert!(fixture.outbox.take_as_existing("q") && !fixture.outbox.take_as_existing("q"));
}
