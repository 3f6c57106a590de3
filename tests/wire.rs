//! The STOMP client on the wire: a scripted broker tells what it sends, when, and what it does when
//! connections break. The client runs on one thread of its own, the test is the broker.

mod beats;
mod broken;
mod connect;
mod consume;
mod oversized;
mod probe;
mod produce;
mod resend;
mod settle;
mod unruly;

use std::{
    net::TcpListener,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    time::Duration,
};

use bytes::Bytes;
use stompbox::{
    client::{AckMode, ConnectOptions, Phase, Producer, Rejected, SendRequest, Session, SessionState, Subscription},
    delivery::{Delivery, Intake},
};
use tokio::{
    runtime::Runtime,
    sync::{Notify, watch},
};

use crate::harness::peer::Peer;

/// How long anything may take before a test calls it lost.
const LIMIT: Duration = Duration::from_secs(60);
/// How long a test watches for something that must not come: a client that is wrong sends it at once.
const QUIET: Duration = Duration::from_millis(300);
/// The greeting of a broker without a name.
const PLAIN: &[(&str, &str)] = &[("version", "1.2")];

fn listen() -> (TcpListener, ConnectOptions) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let options = ConnectOptions::new("scripted", vec![listener.local_addr().unwrap().into()]);
    let options = ConnectOptions { max_backoff: Duration::ZERO, ..options };
    (listener, options)
}

fn subscription() -> Subscription {
    Subscription {
        queue: "in".into(),
        destination: "/queue/in".into(),
        ack_mode: AckMode::ClientIndividual,
        window: 100,
        report_blocked: Duration::from_secs(60),
        headers: Vec::new(),
        durable: None,
        ordered: false,
    }
}

/// Takes a connection and greets it.
fn greeted(listener: &TcpListener, greeting: &[(&str, &str)]) -> Peer {
    let mut peer = Peer::accept(listener).unwrap().greeting(greeting);
    peer.serve("CONNECT").unwrap();
    peer
}

/// Takes a consumer's connection up to the receipt of its SUBSCRIBE.
fn subscribed(listener: &TcpListener, greeting: &[(&str, &str)]) -> Peer {
    let mut peer = greeted(listener, greeting);
    peer.serve("SUBSCRIBE").unwrap();
    peer
}

/// Passes each delivery to the test.
struct Passing {
    deliveries: mpsc::Sender<Delivery>,
    room: Notify,
    wanted: AtomicBool,
    oversized: AtomicUsize,
    max_hold: Mutex<Duration>,
    /// Whoever holds it keeps deliveries from being taken, and the session standing.
    gate: Mutex<()>,
}

impl Intake for Passing {
    fn push(&self, deliveries: &mut Vec<Delivery>) {
        let _gate = (!deliveries.is_empty()).then(|| self.gate.lock().unwrap());
        deliveries.drain(..).for_each(|delivery| self.deliveries.send(delivery).unwrap_or_default());
    }
    fn has_room(&self) -> bool {
        true
    }
    fn room(&self) -> &Notify {
        &self.room
    }
    fn wanted(&self) -> bool {
        self.wanted.load(Ordering::Relaxed)
    }
    fn was_oversized(&self) {
        self.oversized.fetch_add(1, Ordering::Relaxed);
    }
    fn max_hold(&self) -> Duration {
        *self.max_hold.lock().unwrap()
    }
}

impl Passing {
    /// How many messages came that exceed a limit.
    fn oversized(&self) -> usize {
        self.oversized.load(Ordering::Relaxed)
    }

    /// Sets how long a delivery may stay un-acked.
    fn hold_for(&self, time: Duration) {
        *self.max_hold.lock().unwrap() = time;
    }
}

/// One worker: see [`Consumer::hold`].
fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// A session at work.
struct Consumer {
    runtime: Runtime,
    state: watch::Receiver<SessionState>,
    deliveries: mpsc::Receiver<Delivery>,
    intake: Arc<Passing>,
    phase: watch::Sender<Phase>,
}

impl Consumer {
    fn start(options: ConnectOptions, subscription: Subscription) -> Self {
        let (runtime, (phase, is_phase)) = (runtime(), watch::channel(Phase::Run));
        let (passed, deliveries) = mpsc::channel();
        let (room, wanted, gate) = (Notify::new(), AtomicBool::new(true), Mutex::new(()));
        let (oversized, max_hold) = (AtomicUsize::new(0), Mutex::new(Duration::MAX));
        let intake = Arc::new(Passing { deliveries: passed, room, wanted, oversized, max_hold, gate });
        let (session, state) = Session::new(options, subscription, intake.clone(), is_phase);
        runtime.spawn(session.run());
        Self { runtime, state, deliveries, intake, phase }
    }

    fn take(&self) -> Delivery {
        self.deliveries.recv_timeout(LIMIT).expect("no delivery came")
    }

    /// Does something while the session stands still: its only thread is kept busy.
    fn hold<T>(&self, act: impl FnOnce() -> T) -> T {
        let (begin, has_begun) = mpsc::channel();
        let (release, released) = mpsc::channel::<()>();
        self.runtime.spawn(async move {
            begin.send(()).unwrap();
            // The other end is dropped to say go on.
            let _ = released.recv();
        });
        has_begun.recv_timeout(LIMIT).expect("the session's thread does not come");
        let done = act();
        drop(release);
        done
    }
}

/// What became of a SEND, with its body.
type Answer = (String, Result<(), Rejected>);

/// A producer at work.
struct Sender {
    producer: Producer,
    answer: mpsc::Sender<Answer>,
    answers: mpsc::Receiver<Answer>,
    _runtime: Runtime,
    _phase: watch::Sender<Phase>,
}

impl Sender {
    fn start(options: ConnectOptions) -> Self {
        let (runtime, (phase, is_phase)) = (runtime(), watch::channel(Phase::Run));
        let (producer, task) = Producer::new(options, is_phase);
        runtime.spawn(task.run());
        let (answer, answers) = mpsc::channel();
        Self { producer, answer, answers, _runtime: runtime, _phase: phase }
    }

    fn send(&self, body: &str) {
        self.send_with(body, &[]);
    }

    fn send_with(&self, body: &str, headers: &[(&str, &str)]) {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let request = SendRequest {
            destination: "/queue/out".into(),
            headers,
            body: Bytes::from(body.as_bytes().to_vec()),
            as_bytes: false,
        };
        let (answer, body) = (self.answer.clone(), body.to_owned());
        self.producer.send(
            request,
            true,
            Box::new(move |result: Result<(), Rejected>| drop(answer.send((body, result)))),
        );
    }

    fn answer(&self) -> Answer {
        self.answers.recv_timeout(LIMIT).expect("no answer to a SEND")
    }

    /// The next answer, which must be that this was confirmed.
    fn confirmed(&self, body: &str) {
        assert_eq!(self.answer(), (body.to_owned(), Ok(())));
    }

    /// The next answer, which must be that this was refused; returns why.
    fn refused(&self, body: &str) -> Rejected {
        let (which, result) = self.answer();
        assert_eq!(which, body);
        result.expect_err("it is refused")
    }
}
