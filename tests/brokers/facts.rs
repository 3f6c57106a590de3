//! What the brokers do, by plain clients: each fact of `host/docs/brokers.md` that the host relies on.

use std::time::Duration;

use crate::harness::{
    artemis::Artemis,
    broker::{PASSCODE, USERNAME},
    client::{Client, Msg},
    target::Target,
};

/// How long anything that must come may take.
pub const LIMIT: Duration = Duration::from_secs(30);
/// How long a test watches for something that must not come.
pub const QUIET: Duration = Duration::from_millis(700);
const INDIVIDUAL: &str = "client-individual";

fn bodies(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{number:0280}")).collect()
}

/// A queue of its own with that many messages of 280 bytes.
fn filled(target: &Target, count: usize) -> String {
    let queue = Target::destination("fact");
    target.client().send_all(&queue, &bodies(count)).unwrap();
    queue
}

fn subscribed(target: &Target, queue: &str, ack: &str, headers: &[(&str, &str)]) -> Client {
    let mut client = target.client();
    client.subscribe(queue, ack, headers).unwrap();
    client
}

/// How many of 100 messages a broker sends ahead of any ACK: it must send this many, and no more.
fn sends_ahead(target: &Target, header: (&str, &str), ack: &str, count: usize) {
    let queue = filled(target, 100);
    let mut client = subscribed(target, &queue, ack, &[header]);
    assert_eq!(client.read(count, LIMIT).unwrap().len(), count, "{header:?}");
    assert_eq!(client.read(1, QUIET).unwrap(), [], "{header:?}");
}

#[test]
fn activemq_counts_its_window_in_messages() {
    sends_ahead(&Target::activemq(), ("activemq.prefetchSize", "7"), INDIVIDUAL, 7);
    sends_ahead(&Target::activemq(), ("prefetch-count", "7"), INDIVIDUAL, 100);
}

#[test]
fn rabbitmq_counts_its_window_in_messages() {
    sends_ahead(&Target::rabbitmq(), ("prefetch-count", "7"), INDIVIDUAL, 7);
    sends_ahead(&Target::rabbitmq(), ("activemq.prefetchSize", "7"), INDIVIDUAL, 100);
}

#[test]
fn artemis_counts_its_window_in_bytes() {
    let artemis = Target::artemis();
    sends_ahead(&artemis, ("consumer-window-size", "0"), INDIVIDUAL, 1);
    sends_ahead(&artemis, ("consumer-window-size", "-1"), INDIVIDUAL, 100);
    // A message takes 500 to 600 bytes. Another broker's header is read as bytes, and none means 10 KiB.
    for (header, least, most) in
        [(("consumer-window-size", "4096"), 2, 20), (("activemq.prefetchSize", "4096"), 2, 20), (("x", "x"), 5, 50)]
    {
        let mut client = subscribed(&artemis, &filled(&artemis, 100), INDIVIDUAL, &[header]);
        let first = client.read(least, LIMIT).unwrap().len();
        let all = first + client.read(100, QUIET).unwrap().len();
        assert!((least..=most).contains(&all), "{header:?}: {all}");
    }
}

#[test]
fn artemis_in_ack_mode_auto_stops_after_a_finite_window() {
    let artemis = Target::artemis();
    let queue = filled(&artemis, 300);
    let mut stalls = subscribed(&artemis, &queue, "auto", &[("consumer-window-size", "10240")]);
    let before = stalls.read(5, LIMIT).unwrap().len() + stalls.read(300, QUIET).unwrap().len();
    assert!(before < 100, "{before}");
    stalls.close().unwrap();
    let queue = filled(&artemis, 300);
    let mut flows = subscribed(&artemis, &queue, "auto", &[("consumer-window-size", "-1")]);
    assert_eq!(flows.read(300, LIMIT).unwrap().len(), 300);
}

/// Half the time to live is what CONNECTED asks for, so the acceptor as generated has 60 s, three times the
/// host's `MAX_SILENCE`.
#[test]
fn artemis_closes_silent_connections_and_a_line_end_keeps_them() {
    let artemis = Artemis::shared();
    let connect = |address| Client::connect(address, Some((USERNAME, PASSCODE))).unwrap();
    assert_eq!(connect(artemis.address()).greeting().header("heart-beat"), Some("0,30000"));
    let (mut silent, mut beats) = (connect(artemis.impatient()), connect(artemis.impatient()));
    assert_eq!(beats.greeting().header("heart-beat"), Some("0,1000"), "2 s");
    while silent.read(1, Duration::from_millis(200)).is_ok() {
        beats.write(b"\n").unwrap();
    }
    beats.send("/queue/facts.beats", &[], b"still there").unwrap();
}

#[test]
fn activemq_moves_a_nacked_message_to_its_own_dead_letter_queue() {
    let target = Target::activemq();
    let queue = Target::destination("nacked");
    target.client().send(&queue, &[("persistent", "true")], b"nacked").unwrap();
    nack(&target, &queue);
    assert_eq!(target.drain(&queue), []);
    assert!(target.drain("/queue/ActiveMQ.DLQ").iter().any(|message| message.text() == "nacked"));
}

#[test]
fn rabbitmq_gives_a_nacked_message_again_at_once() {
    let target = Target::rabbitmq();
    let queue = filled(&target, 1);
    let again = nack(&target, &queue).read(1, LIMIT).unwrap();
    assert_eq!(again[0].header("redelivered"), Some("true"));
}

#[test]
fn artemis_deletes_a_nacked_message() {
    let target = Target::artemis();
    let queue = filled(&target, 1);
    assert_eq!(nack(&target, &queue).read(1, QUIET).unwrap(), []);
    assert_eq!(target.drain(&queue), []);
}

/// Takes a message and refuses it; the subscription stays.
fn nack(target: &Target, queue: &str) -> Client {
    let mut client = subscribed(target, queue, INDIVIDUAL, &[]);
    let message = take(&mut client);
    let answer = client.exchange("NACK", &[("id", message.header("ack").unwrap())], b"").unwrap();
    assert_eq!(answer.command, "RECEIPT");
    client
}

fn take(client: &mut Client) -> Msg {
    client.read(1, LIMIT).unwrap().pop().expect("a message")
}

/// What is left after ACK in a transaction, ABORT and a good end.
fn left_after_abort(target: &Target) -> usize {
    let queue = filled(target, 1);
    let mut client = subscribed(target, &queue, INDIVIDUAL, &[]);
    let message = take(&mut client);
    client.exchange("BEGIN", &[("transaction", "t")], b"").unwrap();
    client.exchange("ACK", &[("transaction", "t"), ("id", message.header("ack").unwrap())], b"").unwrap();
    client.exchange("ABORT", &[("transaction", "t")], b"").unwrap();
    assert_eq!(client.read(1, QUIET).unwrap(), [], "not before the connection ends");
    client.exchange("UNSUBSCRIBE", &[("id", "test"), ("destination", &queue)], b"").unwrap();
    client.close().unwrap();
    target.drain(&queue).len()
}

#[test]
fn only_artemis_ignores_the_transaction_of_an_ack() {
    assert_eq!(left_after_abort(&Target::activemq()), 1);
    assert_eq!(left_after_abort(&Target::rabbitmq()), 1);
    assert_eq!(left_after_abort(&Target::artemis()), 0, "acknowledged in spite of ABORT");
}

#[test]
fn artemis_drops_a_second_send_with_the_same_duplicate_id() {
    let target = Target::artemis();
    let (queue, id) = (Target::destination("duplicate"), Target::destination("id"));
    let mut client = target.client();
    for _ in 0..2 {
        client.send(&queue, &[("_AMQ_DUPL_ID", &id), ("persistent", "true")], b"once").unwrap();
    }
    assert_eq!(target.drain(&queue).len(), 1);
    let routed = [("destination", queue.as_str()), ("destination-type", "ANYCAST"), ("transaction", "t")];
    client.exchange("BEGIN", &[("transaction", "t")], b"").unwrap();
    client.exchange("SEND", &routed, b"innocent").unwrap();
    client.exchange("SEND", &[&routed[..], &[("_AMQ_DUPL_ID", &id)]].concat(), b"twice").unwrap();
    assert_eq!(client.exchange("COMMIT", &[("transaction", "t")], b"").unwrap().command, "ERROR");
    assert_eq!(target.drain(&queue), [], "the innocent one is gone with it");
}

/// The ids of one message on two connections.
fn ids(target: &Target) -> [String; 2] {
    let queue = filled(target, 1);
    [(); 2].map(|()| {
        let mut client = subscribed(target, &queue, INDIVIDUAL, &[]);
        let id = take(&mut client).header("message-id").unwrap().to_owned();
        client.exchange("UNSUBSCRIBE", &[("id", "test"), ("destination", &queue)], b"").unwrap();
        client.close().unwrap();
        id
    })
}

#[test]
fn message_ids_are_stable_where_the_host_takes_them_for_stable() {
    let [first, second] = ids(&Target::activemq());
    assert_eq!(first, second);
    let [first, second] = ids(&Target::rabbitmq());
    assert_ne!(first, second);
    let [first, second] = ids(&Target::artemis());
    assert_ne!(first, second);
    assert_eq!(first.split_once(',').unwrap().1, second.split_once(',').unwrap().1, "after the comma");
}

/// Twelve times taken and not acknowledged: gone after ten where the count is raised.
fn given_back(unsubscribe: bool) -> usize {
    let target = Target::artemis();
    let queue = filled(&target, 1);
    for _ in 0..12 {
        let mut client = subscribed(&target, &queue, INDIVIDUAL, &[]);
        if client.read(1, if unsubscribe { LIMIT } else { 3 * QUIET }).unwrap().is_empty() {
            break;
        }
        if unsubscribe {
            client.exchange("UNSUBSCRIBE", &[("id", "test")], b"").unwrap();
        }
        client.close().unwrap();
    }
    target.drain(&queue).len()
}

#[test]
fn artemis_counts_deliveries_unless_unsubscribe_comes_first() {
    assert_eq!(given_back(true), 1, "not counted");
    assert_eq!(given_back(false), 0, "after ten it is in the dead letter address");
}

/// RabbitMQ loses ACKs of a connection that is closed with unread data; the host leaves like this instead. A
/// message that was on its way to the subscription is answered with an ERROR and stays in the queue.
#[test]
fn rabbitmq_keeps_acks_of_a_client_that_unsubscribes_disconnects_and_reads_on() {
    let target = Target::rabbitmq();
    let queue = filled(&target, 600);
    let mut client = subscribed(&target, &queue, INDIVIDUAL, &[("prefetch-count", "400")]);
    let taken = client.read(300, LIMIT).unwrap();
    let acks = taken.iter().map(|m| format!("ACK\nid:{}\n\n\0", m.header("ack").unwrap()));
    client.write(acks.collect::<String>().as_bytes()).unwrap();
    client.write(b"UNSUBSCRIBE\nid:test\n\n\0").unwrap();
    // Once: after its receipt the broker closes.
    let mut answer = client.exchange("DISCONNECT", &[], b"").unwrap();
    while answer.command != "RECEIPT" {
        assert_eq!(answer.header("message"), Some("Subscription not found"));
        answer = client.answer().unwrap();
    }
    assert_eq!(target.drain(&queue).len(), 300);
}

/// The bad way: a client that acknowledges a hundred messages and closes, when so much is unread that the broker
/// waits for it. Returns whether more comes again than it has not acknowledged.
fn acks_are_forgotten(target: &Target) -> bool {
    let queue = Target::destination("unread");
    target.client().send_all(&queue, &vec!["x".repeat(40 << 10); 600]).unwrap();
    let mut client = subscribed(target, &queue, INDIVIDUAL, &[("prefetch-count", "600")]);
    let taken = client.read(100, LIMIT).unwrap();
    let acks = taken.iter().map(|m| format!("ACK\nid:{}\n\n\0", m.header("ack").unwrap()));
    client.write(acks.collect::<String>().as_bytes()).unwrap();
    drop(client);
    let mut next = subscribed(target, &queue, INDIVIDUAL, &[]);
    assert_eq!(next.read(500, LIMIT).unwrap().len(), 500);
    !next.read(1, QUIET).unwrap().is_empty()
}

#[test]
fn rabbitmq_forgets_acks_of_a_connection_closed_with_unread_data() {
    let target = Target::rabbitmq();
    assert!((0..20).any(|_| acks_are_forgotten(&target)), "never");
}

/// Something that cannot be: ActiveMQ keeps the connection for what comes next, the others close it.
#[test]
fn only_activemq_keeps_a_connection_after_an_error() {
    let missing = Target::destination("missing").replace("/queue/", "/amq/queue/");
    let commit = [("transaction", "no such transaction")];
    for (target, command, headers, survives) in [
        (Target::activemq(), "ACK", &[("id", "no such id")][..], true),
        (Target::rabbitmq(), "SUBSCRIBE", &[("destination", missing.as_str()), ("id", "1")], false),
        (Target::artemis(), "COMMIT", &commit, false),
    ] {
        let mut client = target.client();
        assert_eq!(client.exchange(command, headers, b"").unwrap().command, "ERROR");
        assert_eq!(client.send(&Target::destination("after"), &[], b"").is_ok(), survives, "after {command}");
    }
}

/// How many of three messages are with the broker still when the last one was acknowledged in ack mode client.
fn left_by_a_cumulative_ack(target: &Target) -> usize {
    let queue = filled(target, 3);
    let mut client = subscribed(target, &queue, "client", &[("consumer-window-size", "-1")]);
    let taken = client.read(3, LIMIT).unwrap();
    client.ack(&taken[2]).unwrap();
    client.exchange("UNSUBSCRIBE", &[("id", "test")], b"").unwrap();
    client.close().unwrap();
    target.drain(&queue).len()
}

#[test]
fn an_ack_in_mode_client_covers_all_before_it() {
    for target in [Target::embedded(), Target::activemq(), Target::rabbitmq(), Target::artemis()] {
        assert_eq!(left_by_a_cumulative_ack(&target), 0);
    }
}
