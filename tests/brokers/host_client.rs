//! The host's STOMP client against a real ActiveMQ.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, mpsc},
    time::Duration,
};

use bytes::Bytes;
use stompbox::{
    client::{AckMode, ConnectOptions, Phase, Producer, Rejected, SendRequest, Session, Subscription},
    delivery::{Delivery, Intake},
};
use tokio::{
    sync::{Notify, watch},
    task::JoinHandle,
};

use crate::harness::activemq::{ActiveMq, PASSCODE, USERNAME};

const LIMIT: Duration = Duration::from_secs(60);
const WINDOW: usize = 100;

fn options(broker: &ActiveMq) -> ConnectOptions {
    ConnectOptions {
        username: Some(USERNAME.to_owned()),
        passcode: Some(PASSCODE.to_owned()),
        send_heartbeat: Duration::from_secs(5),
        recv_heartbeat: Duration::from_secs(5),
        max_backoff: Duration::from_secs(1),
        ..ConnectOptions::new("activemq", vec![broker.address().into()])
    }
}

/// A buffer of [`WINDOW`] deliveries.
#[derive(Default)]
struct Buffer {
    deliveries: Mutex<Vec<Delivery>>,
    room: Notify,
    arrived: Notify,
}

impl Intake for Buffer {
    fn push(&self, deliveries: &mut Vec<Delivery>) {
        if !deliveries.is_empty() {
            self.deliveries.lock().unwrap().append(deliveries);
            self.arrived.notify_one();
        }
    }
    fn has_room(&self) -> bool {
        self.deliveries.lock().unwrap().len() < WINDOW
    }
    fn room(&self) -> &Notify {
        &self.room
    }
}

/// A session with its task.
struct Consumer {
    buffer: Arc<Buffer>,
    phase: watch::Sender<Phase>,
    task: JoinHandle<()>,
}

impl Consumer {
    fn start(broker: &ActiveMq, destination: &str, window: usize) -> Self {
        let subscription = Subscription {
            queue: "in".into(),
            destination: destination.to_owned(),
            ack_mode: AckMode::ClientIndividual,
            window,
            report_blocked: Duration::from_secs(10),
            headers: Vec::new(),
            durable: None,
            ordered: false,
        };
        let (phase, is_phase) = watch::channel(Phase::Run);
        let buffer = Arc::new(Buffer::default());
        let (session, _) = Session::new(options(broker), subscription, buffer.clone(), is_phase);
        Self { buffer, phase, task: tokio::spawn(session.run()) }
    }

    /// What has arrived; waits for something.
    async fn take(&self) -> Vec<Delivery> {
        loop {
            let taken = std::mem::take(&mut *self.buffer.deliveries.lock().unwrap());
            self.buffer.room.notify_one();
            if !taken.is_empty() {
                return taken;
            }
            tokio::time::timeout(LIMIT, self.buffer.arrived.notified()).await.expect("no delivery came");
        }
    }

    async fn finish(self) {
        self.phase.send_replace(Phase::Finish);
        tokio::time::timeout(LIMIT, self.task).await.expect("the session does not end").unwrap();
    }
}

/// What became of a SEND, with its body.
type Answer = (String, Result<(), Rejected>);

struct Sender {
    producer: Producer,
    phase: watch::Sender<Phase>,
    task: JoinHandle<()>,
}

impl Sender {
    fn start(broker: &ActiveMq) -> Self {
        let (phase, is_phase) = watch::channel(Phase::Run);
        let (producer, task) = Producer::new(options(broker), is_phase);
        Self { producer, phase, task: tokio::spawn(task.run()) }
    }

    /// Sends all, and waits until all are confirmed.
    async fn send_all(&self, destination: &'static str, bodies: impl Iterator<Item = String>) {
        assert_eq!(send(self.producer.clone(), destination, bodies.collect()).await.unwrap(), 0, "refused");
    }

    async fn finish(self) {
        assert_eq!(self.producer.unconfirmed(), 0);
        self.phase.send_replace(Phase::Finish);
        tokio::time::timeout(LIMIT, self.task).await.expect("the producer does not end").unwrap();
    }
}

/// Sends in the background until all bodies are confirmed; the result is how many were refused before they
/// were confirmed. The host would give their inputs to the processor again.
fn send(producer: Producer, destination: &'static str, bodies: Vec<String>) -> JoinHandle<usize> {
    tokio::task::spawn_blocking(move || {
        let (answer, answers) = mpsc::channel::<Answer>();
        let send_one = |body: String| {
            let headers = vec![("persistent".to_owned(), "true".to_owned())];
            let request = SendRequest {
                destination: destination.into(),
                headers,
                body: Bytes::from(body.clone()),
                as_bytes: false,
            };
            let answer = answer.clone();
            producer.send(request, false, Box::new(move |result| drop(answer.send((body, result)))));
        };
        let (mut missing, mut refused) = (bodies.len(), 0);
        bodies.into_iter().for_each(&send_one);
        while missing > 0 {
            match answers.recv_timeout(LIMIT).expect("no answer to a SEND") {
                (_, Ok(())) => missing -= 1,
                (body, Err(_)) => {
                    refused += 1;
                    send_one(body);
                }
            }
        }
        refused
    })
}

fn body(delivery: &Delivery) -> String {
    String::from_utf8(delivery.message.body.to_vec()).unwrap()
}

fn numbers(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(|number| format!("{{\"number\":{number}}}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn sends_are_confirmed_and_acknowledged_messages_stay_away() {
    acknowledged_messages_stay_away("/queue/e2e.client", WINDOW).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_of_one_works() {
    acknowledged_messages_stay_away("/queue/e2e.client-window-1", 1).await;
}

async fn acknowledged_messages_stay_away(destination: &'static str, window: usize) {
    let broker = ActiveMq::shared();
    let sender = Sender::start(broker);
    sender.send_all(destination, numbers(1_000)).await;

    let consumer = Consumer::start(broker, destination, window);
    let mut seen = Vec::new();
    while seen.len() < 1_000 {
        for delivery in consumer.take().await {
            assert!(!delivery.message.redelivered());
            seen.push(body(&delivery));
            assert!(delivery.ack(), "the session went away");
        }
    }
    assert_eq!(seen, numbers(1_000).collect::<Vec<_>>(), "in order, each once");
    consumer.finish().await;

    // A new session sees what is sent now, and nothing of before.
    sender.send_all(destination, std::iter::once("last".to_owned())).await;
    let consumer = Consumer::start(broker, destination, window);
    let rest = consumer.take().await;
    assert_eq!(rest.iter().map(body).collect::<Vec<_>>(), ["last"]);
    assert!(rest.into_iter().all(Delivery::ack));
    consumer.finish().await;
    sender.finish().await;
    assert_eq!(broker.connect().unwrap().drain_queue(destination).unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_acknowledged_comes_again() {
    some_are_acknowledged("/queue/e2e.client-again", false).await;
}

/// What lanes finish while the host drains is acknowledged too. The session once unsubscribed first: ActiveMQ
/// then delivered all of it again.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_acknowledged_in_the_drain_stays_away() {
    some_are_acknowledged("/queue/e2e.client-drain", true).await;
}

async fn some_are_acknowledged(destination: &'static str, drain: bool) {
    let broker = ActiveMq::shared();
    broker.connect().unwrap().send_all(destination, &numbers(50).collect::<Vec<_>>()).unwrap();
    let consumer = Consumer::start(broker, destination, WINDOW);
    let mut held = Vec::new();
    while held.len() < 50 {
        held.extend(consumer.take().await);
    }
    if drain {
        consumer.phase.send_replace(Phase::Drain);
        // The session still has room for this, and must leave it to the broker.
        broker.connect().unwrap().send(destination, &[("persistent", "true")], b"later").unwrap();
    }
    let kept: Vec<String> = held.iter().skip(20).map(body).chain(drain.then(|| "later".to_owned())).collect();
    assert!(held.drain(..20).all(Delivery::ack));
    consumer.finish().await;
    assert!(held.iter().all(|delivery| !delivery.alive()));
    assert!(!held.remove(0).ack(), "an ack id belongs to one session");
    let left = broker.connect().unwrap().drain_queue(destination).unwrap();
    assert_eq!(left.iter().map(crate::harness::client::Msg::text).collect::<Vec<_>>(), kept);
}

/// The broker is killed and started again twice while messages are sent, consumed and acknowledged.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_when_the_broker_is_killed() {
    const COUNT: usize = 4_000;
    let mut broker = ActiveMq::own().unwrap();
    let destination = "/queue/e2e.client-kill";
    let sender = Sender::start(&broker);
    let consumer = Consumer::start(&broker, destination, WINDOW);
    let sending = send(sender.producer.clone(), destination, numbers(COUNT).collect());
    let (mut seen, mut kills) = (BTreeMap::<String, usize>::new(), 0);
    while seen.len() < COUNT {
        for delivery in consumer.take().await {
            *seen.entry(body(&delivery)).or_default() += 1;
            let _ = delivery.ack();
        }
        if kills < 2 && seen.len() > (kills + 1) * COUNT / 4 {
            kills += 1;
            tokio::task::block_in_place(|| broker.kill().and_then(|()| broker.start())).unwrap();
        }
    }
    // What was alone in flight when the broker died counts as refused.
    let refused = sending.await.unwrap();
    assert!(refused <= kills, "{refused} refused by {kills} kills");
    assert_eq!(seen.keys().cloned().collect::<BTreeSet<_>>(), numbers(COUNT).collect());
    // What arrives again was sent again, or was not acknowledged when the broker died.
    let again = seen.values().map(|times| times - 1).sum::<usize>();
    println!("{again} messages of {COUNT} came again after {kills} kills");
    sender.finish().await;
    consumer.finish().await;
}
