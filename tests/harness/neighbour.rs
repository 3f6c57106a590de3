//! A hostile processor and its neighbour in one host, and how long the neighbour's messages take meanwhile.
//!
//! Used by the hostile suite and by the bench `neighbour`. The neighbour gets 200 messages a second, by the clock
//! and not by what comes back, so that a host that stalls is seen in every message that it delays.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use stompbox::app::Drained;

use super::{
    client::Client,
    host::{Host, LIMIT, One, wait_until},
    target::Target,
};

/// The neighbour's messages a second.
pub const RATE: u64 = 200;

/// A hostile processor `one` and a neighbour `two` that echoes, in one host on a broker of their own.
pub struct Pair {
    pub target: Target,
    pub bad: One,
    pub neighbour: One,
    pub host: Host,
}

impl Pair {
    /// `extra` is merged into the object of the hostile processor.
    pub fn start(class: &str, extra: Value) -> Self {
        let target = Target::embedded();
        let mut bad = One::new(&target, class, extra);
        let neighbour = One::new(&target, "Echo", json!({}));
        bad.add(&neighbour);
        let host = Host::start(&bad.config);
        Self { target, bad, neighbour, host }
    }

    /// Sends the neighbour one message and waits until it is forwarded.
    pub fn echo(&self, client: &mut Client) {
        let two = self.host.did("two");
        let before = two.forwarded.get();
        client.send(&self.neighbour.from, &[], b"neighbour").expect("the neighbour's message is sent");
        wait_until("the neighbour's message", || two.forwarded.get() > before);
    }

    /// Waits for the dead letters, drains, and returns code and detail of the first.
    pub fn end(self, letters: u64) -> (String, String) {
        let (one, two) = (self.host.did("one"), self.host.did("two"));
        wait_until("the dead letters", || one.dead_lettered.get() == letters);
        self.echo(&mut self.target.client());
        assert_eq!(self.host.drain(), Drained::Clean);
        let dead = self.target.drain(&self.bad.dead);
        assert_eq!(dead.len() as u64, letters);
        let header = |name: &str| dead[0].header(name).expect("a header of dead letters").to_owned();
        assert_eq!(self.target.drain(&self.neighbour.to).len() as u64, two.forwarded.get());
        (header("stompbox_error_code"), header("stompbox_error_detail"))
    }

    /// Drives the neighbour alone.
    pub fn alone(&self, least: Duration) -> Phase {
        let began = Instant::now();
        self.measure(|| began.elapsed() >= least)
    }

    /// Drives the neighbour while the hostile one always has a little more to do than it can: these bodies, one
    /// after the other, each at least once. `given` counts them.
    pub fn beside(&self, bodies: &[String], least: Duration, given: &mut u64) -> Phase {
        let (did, mut client, before, began) = (self.host.did("one"), self.target.client(), *given, Instant::now());
        let lanes = self.bad.config["processors"]["one"]["n_threads"].as_u64().unwrap_or(1);
        let mut next = bodies.iter().cycle();
        let phase = self.measure(|| {
            let all = *given - before >= bodies.len() as u64 && began.elapsed() >= least;
            while !all && *given <= did.ended() + lanes {
                let body = next.next().expect("a body").as_bytes();
                client.send_unconfirmed(&self.bad.from, body).expect("the hostile one gets its messages");
                *given += 1;
            }
            all && did.ended() >= *given
        });
        client.close().expect("the broker has all that was sent");
        phase
    }

    /// Drives the neighbour until `done`.
    fn measure(&self, mut done: impl FnMut() -> bool) -> Phase {
        let load = Load::start(self);
        let limit = Instant::now() + LIMIT;
        while !done() {
            assert!(Instant::now() < limit, "still under way after {LIMIT:?}: {:?}", self.host.did("one"));
            thread::sleep(Duration::from_millis(5));
        }
        load.end()
    }
}

/// What the neighbour saw.
#[derive(Debug)]
pub struct Phase {
    /// The messages it was sent.
    pub sent: u64,
    /// How long each took that came back, from its SEND to its arrival, in order of length.
    pub latencies: Vec<Duration>,
}

impl Phase {
    /// The latency below which that share of the messages is.
    pub fn quantile(&self, share: f64) -> Duration {
        let last = self.latencies.len().saturating_sub(1);
        self.latencies.get((last as f64 * share) as usize).copied().unwrap_or(LIMIT)
    }

    pub fn p99(&self) -> Duration {
        self.quantile(0.99)
    }

    /// Messages that did not come back.
    pub fn lost(&self) -> u64 {
        self.sent - self.latencies.len() as u64
    }
}

/// Two threads: one sends by the clock, one reads.
struct Load {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    /// What the reader waits for, once it is known.
    total: Arc<AtomicU64>,
    sender: JoinHandle<()>,
    reader: JoinHandle<Vec<Duration>>,
}

impl Load {
    fn start(pair: &Pair) -> Self {
        let (stop, sent, total) =
            (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default(), Arc::new(AtomicU64::new(u64::MAX)));
        let began = Instant::now();
        let mut client = pair.target.client();
        client.subscribe(&pair.neighbour.to, "auto", &[]).expect("the reader subscribes");
        let known = total.clone();
        let reader = thread::spawn(move || read(client, began, &known));
        let (client, to) = (pair.target.client(), pair.neighbour.from.clone());
        let (stopped, count) = (stop.clone(), sent.clone());
        let sender = thread::spawn(move || send(client, &to, began, &stopped, &count));
        Self { stop, sent, total, sender, reader }
    }

    fn end(self) -> Phase {
        self.stop.store(true, SeqCst);
        self.sender.join().expect("the sender ends well");
        let sent = self.sent.load(SeqCst);
        self.total.store(sent, SeqCst);
        let mut latencies = self.reader.join().expect("the reader ends well");
        latencies.sort();
        Phase { sent, latencies }
    }
}

/// Sends when it is time, each message with its time.
fn send(mut client: Client, to: &str, began: Instant, stop: &AtomicBool, sent: &AtomicU64) {
    let pause = Duration::from_secs(1) / RATE as u32;
    let mut next = Instant::now();
    while !stop.load(SeqCst) {
        thread::sleep(next.saturating_duration_since(Instant::now()));
        next += pause;
        let body = began.elapsed().as_micros().to_string();
        client.send_unconfirmed(to, body.as_bytes()).expect("the neighbour gets its messages");
        sent.fetch_add(1, SeqCst);
    }
    client.close().expect("the broker has all that was sent");
}

/// Reads until everything that was sent has come, or nothing comes any more.
fn read(mut client: Client, began: Instant, total: &AtomicU64) -> Vec<Duration> {
    const PATIENCE: Duration = Duration::from_secs(20);
    let (mut latencies, mut last) = (Vec::new(), Instant::now());
    while (latencies.len() as u64) < total.load(SeqCst) && last.elapsed() < PATIENCE {
        for message in client.read(1, Duration::from_millis(50)).expect("the reader stays connected") {
            let then = message.text().parse().map(Duration::from_micros).expect("a time");
            latencies.push(began.elapsed().saturating_sub(then));
            last = Instant::now();
        }
    }
    client.close().expect("the reader leaves in good order");
    latencies
}
