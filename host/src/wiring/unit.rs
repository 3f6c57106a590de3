//! One unit at work: a queue that is read, with the lanes of its processors; or a source.
//!
//! Made and let go by [`super::Wiring`]. It comes whole and goes in the order that loses nothing: it takes nothing more,
//! settles what it has, and its connection says goodbye. Nothing here decides about a message.

use std::{
    collections::BTreeSet,
    io,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use tokio::{
    sync::watch,
    time::{sleep, timeout_at},
};
use tokio_util::task::TaskTracker;
use tracing::{Instrument, info_span};

use super::{
    Cast, Casts, Common,
    parts::{Parts, Reading},
    plan::Key,
    senders::{Sender, Senders},
};
use crate::{
    buffer::Buffer,
    client::{Consumers, Phase, SessionState},
    config::{Config, Processor},
    lane::Lane,
    settle::Settler,
    source::Stop,
    status::{Link, ProcessorStatus, QueueStatus},
};

/// How long connections may take to close when the time for settling is over; one that has nothing to confirm bounds its
/// goodbye below this.
pub(super) const CLOSING_LIMIT: Duration = Duration::from_secs(6);

/// A unit at work.
#[derive(Debug)]
pub(super) struct Unit {
    pub(super) key: Key,
    pub(super) processors: Vec<Arc<ProcessorStatus>>,
    pub(super) queue: Option<Arc<QueueStatus>>,
    pub(super) link: Option<Arc<Link>>,
    /// Where its consumers stand.
    pub(super) subscribed: Option<watch::Receiver<SessionState>>,
    /// What it sends over.
    pub(super) senders: Vec<Arc<Sender>>,
    /// How long one message may take it.
    pub(super) longest: Duration,
    phase: watch::Sender<Phase>,
    stop: Arc<Stop>,
    lanes: Vec<thread::JoinHandle<()>>,
    tasks: TaskTracker,
}

impl Unit {
    /// Starts one; must be called within a tokio runtime. Its connections come up on their own.
    pub(super) fn start(
        key: &Key,
        config: &Config,
        common: &Common,
        senders: &mut Senders,
        casts: &Casts,
    ) -> io::Result<Self> {
        let mut parts = Parts { config, common, senders, used: Vec::new() };
        let mut unit = Self {
            key: key.clone(),
            processors: Vec::new(),
            queue: None,
            link: None,
            subscribed: None,
            senders: Vec::new(),
            longest: key.processors(config).map(|processor| processor.limits.time).max().unwrap_or_default(),
            phase: watch::Sender::new(Phase::Run),
            stop: Arc::default(),
            lanes: Vec::new(),
            tasks: TaskTracker::new(),
        };
        match key {
            Key::Queue(queue) => unit.read(queue, casts, &mut parts)?,
            Key::Source(_) => unit.tick(casts, &mut parts)?,
        }
        unit.senders = parts.used;
        Ok(unit)
    }

    /// The lanes first, so that nothing waits for them; then the connection.
    fn read(&mut self, queue: &Arc<str>, casts: &Casts, parts: &mut Parts<'_>) -> io::Result<()> {
        let Some(queue) = parts.config.queues.get(queue).cloned() else { return Ok(()) };
        let Reading { buffer, consumers, state } = parts.reading(&queue, self.phase.subscribe());
        self.subscribed = Some(state.clone());
        let readers: Vec<_> = self.key.processors(parts.config).cloned().collect();
        let vos: BTreeSet<&str> = readers.iter().filter_map(|processor| processor.vo.as_deref()).collect();
        let (name, server, vo) = (queue.name.clone(), queue.server.clone(), Vec::from_iter(vos).join(","));
        self.queue = Some(Arc::new(QueueStatus { name, server, vo, buffer: buffer.clone() }));
        for (number, processor) in readers.iter().enumerate() {
            let Some(cast) = casts.get(&processor.name) else { continue };
            let settler = parts.settler((processor, &queue), (&buffer, number), cast.metrics(), cast.log_rate());
            self.start_lanes(processor, cast, &settler, parts.common)?;
        }
        self.connect(&queue.name, &queue.server, consumers, state);
        Ok(())
    }

    /// Starts the lanes of a processor.
    fn start_lanes(
        &mut self,
        processor: &Processor,
        cast: &Cast,
        settler: &Arc<Settler>,
        common: &Common,
    ) -> io::Result<()> {
        let wakes = settler.buffer.clone();
        let stage = cast.stage(processor, common, Box::new(move || wakes.nudge()));
        let in_work = TaskTracker::new();
        self.processors.push(Arc::new(ProcessorStatus {
            name: processor.name.clone(),
            vo: processor.vo.clone().unwrap_or_default(),
            in_queue: processor.in_queue.clone(),
            metrics: settler.metrics.clone(),
            guest: cast.counters(),
            in_work: in_work.clone(),
            unconfirmed: settler.unconfirmed.clone(),
            stage: stage.clone(),
        }));
        for number in 0..processor.n_threads {
            let lane = Lane {
                buffer: settler.buffer.clone(),
                settler: settler.clone(),
                stage: stage.clone(),
                number,
                verbose: processor.verbose,
                in_work: in_work.clone(),
                slot: common.slots.as_ref().and_then(|slots| slots.take()),
            };
            let name = format!("{}-{number}", processor.name);
            self.lanes.push(thread::Builder::new().name(name).spawn(move || lane.run())?);
        }
        Ok(())
    }

    fn connect(
        &mut self,
        queue: &Arc<str>,
        server: &Arc<str>,
        consumers: Consumers,
        state: watch::Receiver<SessionState>,
    ) {
        let link = Link::new(server.clone(), Some(queue.clone()), "consume", Arc::default());
        tokio::spawn(link.clone().follow(state, |state| *state == SessionState::Subscribed));
        tokio::spawn(link.clone().follow_addresses(consumers.addresses()));
        self.link = Some(link);
        self.tasks.spawn(consumers.run().instrument(info_span!("consumers", %queue)));
    }

    /// Starts the one thread of a processor that works by the clock.
    fn tick(&mut self, casts: &Casts, parts: &mut Parts<'_>) -> io::Result<()> {
        let Some(processor) = self.key.processors(parts.config).next().cloned() else { return Ok(()) };
        let Some(cast) = casts.get(&processor.name) else { return Ok(()) };
        let wakes = self.stop.clone();
        let stage = cast.stage(&processor, parts.common, Box::new(move || wakes.nudge()));
        let source = parts.source(&processor, &stage, cast.metrics(), cast.log_rate(), &self.stop);
        self.processors.push(Arc::new(ProcessorStatus {
            name: processor.name.clone(),
            vo: processor.vo.clone().unwrap_or_default(),
            in_queue: None,
            metrics: source.metrics.clone(),
            guest: cast.counters(),
            in_work: TaskTracker::new(),
            unconfirmed: Arc::default(),
            stage,
        }));
        self.lanes.push(thread::Builder::new().name(processor.name.to_string()).spawn(move || source.run())?);
        Ok(())
    }

    pub(super) fn buffer(&self) -> Option<&Arc<Buffer>> {
        self.queue.as_ref().map(|queue| &queue.buffer)
    }

    /// Whether its broker has forgotten what it read (ack mode auto).
    pub(super) fn must_finish(&self) -> bool {
        self.buffer().is_some_and(|buffer| buffer.must_finish())
    }

    /// Takes nothing more, and settles what it has, until then at the longest; returns whether that is all. What is held
    /// for retry is given back, in ack mode client-individual.
    pub(super) async fn settle(&self, until: Instant) -> bool {
        self.stop.stop();
        self.phase.send_if_modified(|phase| std::mem::replace(phase, Phase::Drain.max(*phase)) < Phase::Drain);
        if let Some(mut state) = self.subscribed.clone() {
            let quiet = async { state.wait_for(|state| *state >= SessionState::Quiet).await.is_ok() };
            let _ = timeout_at(until.into(), quiet).await;
        }
        self.close();
        for processor in &self.processors {
            processor.in_work.close();
        }
        while !self.is_settled() {
            if Instant::now() >= until {
                return false;
            }
            sleep(Duration::from_millis(5)).await;
        }
        true
    }

    /// Whether its lanes have ended, and everything that they took is settled.
    pub(super) fn is_settled(&self) -> bool {
        let in_work = |processor: &Arc<ProcessorStatus>| !processor.in_work.is_empty();
        self.lanes.iter().all(thread::JoinHandle::is_finished) && !self.processors.iter().any(in_work)
    }

    /// Its connection says goodbye, until then at the longest or a little longer: what is not acknowledged by then is the
    /// broker's. Returns whether the broker has confirmed all.
    pub(super) async fn part(&self, until: Instant) -> bool {
        self.phase.send_replace(Phase::Finish);
        self.tasks.close();
        // Sessions bound their goodbyes themselves; what hangs longer is left behind.
        let until = until.max(Instant::now() + CLOSING_LIMIT);
        let _ = timeout_at(until.into(), self.tasks.wait()).await;
        self.subscribed.as_ref().is_none_or(|state| *state.borrow() == SessionState::Closed)
    }

    /// Lanes get nothing more.
    fn close(&self) {
        self.buffer().into_iter().for_each(|buffer| buffer.close());
    }
}

/// A unit that is dropped takes nothing more: its lanes end with what they do.
impl Drop for Unit {
    fn drop(&mut self) {
        self.stop.stop();
        self.close();
    }
}
