//! The host's real parts, wired as [`crate::wiring`] wires them, with neither sockets nor threads.
//!
//! [`super::world`] does with it what its tasks and lanes would do.

use std::{sync::Arc, time::Duration};

use tokio_util::task::TaskTracker;

use crate::{
    buffer::{Buffer, BufferOptions, HostBytes},
    client::{AckMode, Flavour, Producer, Subscription, session::testing::Steps},
    dead_letter::Origin,
    delivery::{Intake as _, Settle},
    log_rate::LogRates,
    metrics::ProcessorMetrics,
    retry::RetryPolicy,
    settle::{Author, Job, Route, Settler},
};

/// Which of [`Host::producers`] sends outputs, dead letters, and outputs to another server.
pub(super) const OUTPUTS: usize = 0;
pub(super) const DEAD: usize = 1;
pub(super) const ELSEWHERE: usize = 2;

/// A host.
pub(super) struct Host {
    pub(super) session: Steps,
    /// While it is connected.
    pub(super) settle: Option<Arc<dyn Settle>>,
    /// It has said that it leaves, and will come back.
    pub(super) goodbye: bool,
    pub(super) draining: bool,
    pub(super) buffer: Arc<Buffer>,
    pub(super) settler: Arc<Settler>,
    pub(super) producers: [Producer; 3],
    /// What lanes work on.
    pub(super) hands: Vec<Job>,
    pub(super) in_work: TaskTracker,
    /// The generation that runs.
    pub(super) author: Arc<Author>,
}

impl Host {
    pub(super) fn new(mode: AckMode, messages: usize) -> Self {
        let buffer = Buffer::new(buffer(mode, messages), HostBytes::new(1 << 20));
        let producers = [(); 3].map(|()| Producer::unconnected());
        Self {
            session: Steps::new(subscription(mode, messages)),
            settle: None,
            goodbye: false,
            draining: false,
            settler: Arc::new(settler(mode, &buffer, &producers)),
            buffer,
            producers,
            hands: Vec::new(),
            in_work: TaskTracker::new(),
            author: Author::new(origin(), None),
        }
    }

    /// Its connection is gone: see `Session::run_epochs`.
    pub(super) fn disconnected(&mut self, confirmed: bool) {
        self.buffer.may_repeat(self.session.close(confirmed));
        self.buffer.forget_stale();
        (self.settle, self.goodbye) = (None, false);
    }

    pub(super) fn connect_sender(&self, sender: usize, flavour: Flavour) {
        self.producers[sender].connect(flavour);
    }

    /// What it has counted: possible duplicates, and messages that are settled.
    pub(super) fn counts(&self) -> (u64, u64) {
        let metrics = &self.settler.metrics;
        let settled = metrics.forwarded.get() + metrics.filtered.get() + metrics.dead_lettered.get();
        (metrics.possible_duplicates.get() + self.buffer.repeats(), settled)
    }
}

impl Drop for Host {
    /// What waits for an answer holds the settler, which holds the producers.
    fn drop(&mut self) {
        [OUTPUTS, ELSEWHERE, DEAD].into_iter().for_each(|producer| self.producers[producer].abandon());
    }
}

fn subscription(mode: AckMode, window: usize) -> Subscription {
    Subscription {
        queue: "in".into(),
        destination: "/queue/in".into(),
        ack_mode: mode,
        window,
        report_blocked: Duration::from_secs(10),
        headers: Vec::new(),
        durable: None,
        ordered: false,
    }
}

/// Everything is due at once, and overdue whenever somebody asks.
fn buffer(mode: AckMode, window: usize) -> BufferOptions {
    BufferOptions {
        max_len: window,
        max_bytes: 1 << 20,
        window,
        readers: 1,
        finish_all: mode == AckMode::Auto,
        finish_held: mode == AckMode::Client,
        lanes: 2,
        order_by: None,
        max_hold: Duration::ZERO,
        max_rest: Duration::from_secs(600),
    }
}

fn origin() -> Origin {
    Origin { processor: "p".into(), module: "m".into(), digest: "d".into(), generation: 1 }
}

fn settler(mode: AckMode, buffer: &Arc<Buffer>, producers: &[Producer; 3]) -> Settler {
    let route = |producer: usize, to: &str| Route {
        producer: producers[producer].clone(),
        destination: to.into(),
        headers: None,
        told_as: None,
    };
    let retry =
        RetryPolicy { max_attempts: 2, min_delay: Duration::ZERO, max_delay: Duration::ZERO, ..RetryPolicy::default() };
    Settler {
        buffer: buffer.clone(),
        reader: 0,
        routes: [("out".into(), route(OUTPUTS, "/queue/out")), ("far".into(), route(ELSEWHERE, "/queue/far"))].into(),
        dead_letters: route(DEAD, "/queue/dead"),
        use_transaction: true,
        spool: None,
        slots: None,
        processor: "p".into(),
        retry: if mode == AckMode::Client { retry.hurried() } else { retry },
        log_rate: LogRates::default().of(&"vo".into(), &"p".into(), 1 << 20),
        metrics: Arc::new(ProcessorMetrics::default()),
        max_unconfirmed_bytes: usize::MAX,
        max_unconfirmed: usize::MAX,
        max_kept: usize::MAX,
        unconfirmed: Arc::default(),
        kept: Arc::default(),
    }
}
