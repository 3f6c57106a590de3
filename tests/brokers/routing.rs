//! Where messages go: queues and topics on Artemis, the two names of a queue on RabbitMQ, by plain clients on
//! either side and by the host.

use std::time::Duration;

use serde_json::json;
use stompbox::app::Drained;

use crate::harness::{
    client::Client,
    host::{Host, One},
    messages::texts_in_order,
    target::Target,
};

const LIMIT: Duration = Duration::from_secs(30);
const QUIET: Duration = Duration::from_millis(700);

fn plain(target: &Target) -> Client {
    target.client().plain()
}

fn plain_reader(target: &Target, queue: &str) -> Client {
    let mut reader = plain(target);
    reader.subscribe(queue, "client-individual", &[]).unwrap();
    reader
}

#[test]
fn artemis_as_generated_takes_a_plain_queue_for_a_topic() {
    let target = Target::artemis();
    let queue = Target::destination("plain");
    plain(&target).send(&queue, &[], b"confirmed and gone").unwrap();
    let mut readers = [plain_reader(&target, &queue), plain_reader(&target, &queue)];
    plain(&target).send(&queue, &[], b"to both").unwrap();
    for reader in &mut readers {
        assert_eq!(texts_in_order(&reader.read(1, LIMIT).unwrap()), ["to both"]);
    }
}

#[test]
fn artemis_keeps_a_queue_that_was_told_to_be_one() {
    let target = Target::artemis();
    let queue = Target::destination("anycast");
    target.client().send(&queue, &[], b"one").unwrap();
    plain(&target).send(&queue, &[], b"a plain one").unwrap();
    assert_eq!(texts_in_order(&target.drain(&queue)), ["one", "a plain one"]);
}

/// The trap: whoever subscribes plainly first never sees what is sent to the queue.
#[test]
fn artemis_does_not_show_a_queue_to_a_plain_subscriber() {
    let target = Target::artemis();
    let queue = Target::destination("trap");
    let mut reader = plain_reader(&target, &queue);
    target.client().send(&queue, &[], b"waits").unwrap();
    assert_eq!(reader.read(1, QUIET).unwrap(), []);
    reader.close().unwrap();
    assert_eq!(texts_in_order(&target.drain(&queue)), ["waits"]);
}

#[test]
fn artemis_with_prefixes_gives_plain_clients_queues() {
    let target = Target::artemis_prefixed();
    let queue = Target::destination("prefixed");
    plain(&target).send(&queue, &[], b"plain").unwrap();
    target.client().send(&queue, &[], b"with type").unwrap();
    let mut reader = plain_reader(&target, &queue);
    assert_eq!(texts_in_order(&reader.read(2, LIMIT).unwrap()), ["plain", "with type"]);
    // A queue and a topic of one name would share an address.
    let topic = Target::destination("prefixed-topic").replace("/queue/", "/topic/");
    let mut readers = [plain_reader(&target, &topic), plain_reader(&target, &topic)];
    target.client().send(&topic, &[], b"to both").unwrap();
    for reader in &mut readers {
        assert_eq!(texts_in_order(&reader.read(1, LIMIT).unwrap()), ["to both"]);
    }
}

/// Plain clients on either side of the host: PanDA's sender writes to what the host reads, and on the acceptor
/// with prefixes a plain client reads what the host writes.
#[test]
fn plain_clients_and_the_host_understand_each_other_on_artemis() {
    for target in [Target::artemis(), Target::artemis_prefixed()] {
        let one = One::new(&target, "Echo", json!({}));
        let host = Host::start(&one.config);
        plain(&target).send(&one.from, &[("persistent", "true")], b"plain").unwrap();
        host.wait_ended("one", 1);
        assert_eq!(host.drain(), Drained::Clean);
        assert_eq!(texts_in_order(&target.drain(&one.to)), ["plain"]);
    }
    let target = Target::artemis_prefixed();
    let one = One::new(&target, "Echo", json!({}));
    let host = Host::start(&one.config);
    let mut reader = plain_reader(&target, &one.to);
    plain(&target).send(&one.from, &[("persistent", "true")], b"both ways").unwrap();
    assert_eq!(texts_in_order(&reader.read(1, LIMIT).unwrap()), ["both ways"]);
    host.wait_ended("one", 1);
    assert_eq!(host.drain(), Drained::Clean);
}

#[test]
fn headers_of_the_configuration_overrule_the_routing_type() {
    let target = Target::artemis();
    let mut one = One::new(&target, "Echo", json!({}));
    one.config["queues"]["in"]["headers"] = json!({"subscription-type": "MULTICAST"});
    one.config["queues"]["out"]["send_headers"] = json!({"destination-type": "MULTICAST"});
    let host = Host::start(&one.config);
    let mut readers = [plain_reader(&target, &one.to), plain_reader(&target, &one.to)];
    plain(&target).send(&one.from, &[], b"a topic each").unwrap();
    for reader in &mut readers {
        assert_eq!(texts_in_order(&reader.read(1, LIMIT).unwrap()), ["a topic each"]);
    }
    host.wait_ended("one", 1);
    assert_eq!(host.drain(), Drained::Clean);
}

#[test]
fn rabbitmq_confirms_a_send_to_a_missing_queue_and_forgets_it() {
    let target = Target::rabbitmq();
    let queue = Target::destination("missing");
    let existing = queue.replace("/queue/", "/amq/queue/");
    target.client().send(&existing, &[], b"confirmed and gone").unwrap();
    let answer = target.client().exchange("SUBSCRIBE", &[("destination", &existing), ("id", "1")], b"").unwrap();
    assert_eq!((answer.command.as_str(), answer.header("message")), ("ERROR", Some("not_found")));
    assert_eq!(target.drain(&queue), []);
}

/// A queue that somebody declared with arguments of their own.
fn odd_queue(target: &Target, queue: &str) {
    let mut other = target.client();
    other.subscribe(queue, "client-individual", &[("x-message-ttl", "600000")]).unwrap();
    other.close().unwrap();
}

/// The queues of an administrator: the host declares neither of them, and nothing is lost by finding that out.
#[test]
fn rabbitmq_queues_of_other_arguments_are_read_and_written_as_they_are() {
    let target = Target::rabbitmq();
    let one = One::new(&target, "Echo", json!({}));
    odd_queue(&target, &one.from);
    odd_queue(&target, &one.to);
    let refused = target.client().send(&one.to, &[("persistent", "true")], b"").unwrap_err().to_string();
    assert!(refused.contains("PRECONDITION_FAILED"), "{refused}");
    let bodies: Vec<String> = (0..300).map(|number| format!("message {number:03}")).collect();
    target.client().send_all(&one.from.replace("/queue/", "/amq/queue/"), &bodies).unwrap();
    let host = Host::start(&one.config);
    host.wait_ended("one", 300);
    let did = host.did("one");
    assert_eq!(host.drain(), Drained::Clean);
    assert_eq!((did.forwarded.get(), did.retried.get()), (300, 0), "no output counts as refused");
    let mut reader = target.client();
    reader.subscribe(&one.to.replace("/queue/", "/amq/queue/"), "client-individual", &[]).unwrap();
    let mut sent = texts_in_order(&reader.read(300, LIMIT).unwrap());
    sent.sort();
    assert_eq!(sent, bodies);
}

/// Why outputs are persistent, and why a guest must not say otherwise.
#[test]
fn rabbitmq_locks_a_queue_that_a_message_declared_which_is_not_persistent() {
    let target = Target::rabbitmq();
    let queue = Target::destination("locked");
    let mut first = target.client();
    first.send(&queue, &[("persistent", "false")], b"").unwrap();
    let refused = target.client().send(&queue, &[("persistent", "true")], b"").unwrap_err().to_string();
    assert!(refused.contains("RESOURCE_LOCKED"), "{refused}");
    // The first of repeated headers counts: the host's own stands before a guest's.
    let queue = Target::destination("open");
    first.send(&queue, &[("persistent", "true"), ("persistent", "false")], b"").unwrap();
    target.client().send(&queue, &[("persistent", "true")], b"").unwrap();
}

/// Why guests must not name temporary queues in `reply-to`.
#[test]
fn rabbitmq_subscribes_the_sender_to_its_temporary_reply_queue() {
    let target = Target::rabbitmq();
    let (queue, mut sender) = (Target::destination("asked"), target.client());
    sender.send(&queue, &[("reply-to", "/temp-queue/answers"), ("persistent", "true")], b"question").unwrap();
    let question = target.drain(&queue).pop().unwrap();
    target.client().send(question.header("reply-to").unwrap(), &[], b"answer").unwrap();
    assert_eq!(texts_in_order(&sender.read(1, LIMIT).unwrap()), ["answer"]);
}

/// Why they are stripped from what a processor sees.
#[test]
fn rabbitmq_and_artemis_hand_on_headers_of_the_send() {
    for (target, header) in [(Target::rabbitmq(), "receipt"), (Target::artemis(), "destination-type")] {
        let queue = Target::destination("handed-on");
        target.client().send(&queue, &[("persistent", "true")], b"").unwrap();
        assert!(target.drain(&queue)[0].header(header).is_some(), "{header}");
    }
}
