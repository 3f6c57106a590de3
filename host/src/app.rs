//! The only wiring: configuration -> generations, buffers, producers, sessions, lanes; and the drain.
//!
//! [`App::prepare`] checks everything that can be checked without a socket; [`Prepared::start`] spawns;
//! [`Running::drain`] ends in the order that loses nothing. Nothing here decides about a message.

mod problems;
mod state;
mod wiring;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use tokio::{
    sync::watch,
    task::AbortHandle,
    time::{sleep, timeout, timeout_at},
};
use tokio_util::task::TaskTracker;
use tracing::{Instrument, error, info, info_span, warn};

use crate::{
    admin::Admin,
    buffer::Buffer,
    client::{Phase, Producer, SessionState},
    config::{Config, Problem, Processor},
    generation::Generation,
    lane::Lane,
    metrics::ProcessorMetrics,
    sandbox::{CompileConfig, Engine, EngineConfig, MAX_POOLED_INSTANCES, PluginDirs, SandboxError},
    settle::Settler,
    source::{Source, Stop},
    state_dir::StateError,
    status::{Link, ProcessorStatus, QueueStatus, Status},
    telemetry::Logs,
};

use self::{
    state::State,
    wiring::{Use, Wiring},
};

/// How long connections may take to close; each bounds its own goodbye below this.
const CLOSING_LIMIT: Duration = Duration::from_secs(6);

/// How long dead letters may take after the grace is over.
const LAST_LETTERS: Duration = Duration::from_secs(3);

/// Why a configuration cannot run.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// The sandbox cannot be set up on this machine.
    #[error("the sandbox cannot be set up")]
    Sandbox(#[from] SandboxError),
    /// Components are missing or wrong, files cannot be used, or dead letters would go round.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Processors(Vec<Problem>),
}

/// Why a host cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its `state_dir` is another host's, or cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// `admin.listen` cannot be had.
    #[error(transparent)]
    Admin(std::io::Error),
    /// The system refuses a thread for a lane.
    #[error("no thread for a lane")]
    Lane(#[from] std::io::Error),
}

/// A configuration whose components are loaded and checked.
#[derive(Debug)]
pub struct Prepared {
    config: Config,
    generations: Vec<(Arc<Processor>, Generation)>,
    logs: Option<Logs>,
}

/// The host at work.
#[derive(Debug)]
pub struct Running {
    status: Arc<Status>,
    admin: Option<AbortHandle>,
    buffers: Vec<Arc<Buffer>>,
    consumers: Vec<watch::Receiver<SessionState>>,
    /// The connections for sending.
    producers: Vec<(Use, Producer)>,
    consume: watch::Sender<Phase>,
    send: watch::Sender<Phase>,
    tasks: TaskTracker,
    /// The deliveries in work of each processor.
    in_work: Vec<TaskTracker>,
    lanes: Vec<thread::JoinHandle<()>>,
    sources: Arc<Stop>,
    /// Last: it is let go when all else has ended.
    state: State,
}

/// How a drain ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drained {
    /// Everything taken was settled.
    Clean,
    /// The grace period ended first: what is left is un-acked, and the broker delivers it again.
    Forced,
}

impl Prepared {
    /// Loads the components of all active processors; opens no socket.
    ///
    /// # Errors
    /// All that is wrong with any of them, at once.
    pub fn new(config: Config, compile: CompileConfig) -> Result<Self, PrepareError> {
        let lanes: usize = config.active_processors().map(|processor| processor.n_threads).sum();
        let wanted = config.max_instances.unwrap_or(lanes as u64 * 2 + 64);
        let max_instances = u32::try_from(wanted).unwrap_or(u32::MAX).min(MAX_POOLED_INSTANCES);
        let engine = Engine::new(EngineConfig { max_instances, compile })?;
        let mut problems = problems::problems(&config);
        let mut generations = Vec::new();
        for processor in config.active_processors() {
            match load(&engine, &config, processor) {
                Ok(generation) => generations.push((processor.clone(), generation)),
                Err(found) => problems.extend(found),
            }
        }
        if problems.is_empty() {
            Ok(Self { config, generations, logs: None })
        } else {
            Err(PrepareError::Processors(problems))
        }
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The generations that will run, by processor.
    #[must_use]
    pub fn generations(&self) -> &[(Arc<Processor>, Generation)] {
        &self.generations
    }

    /// Shows the log of the process in the metrics.
    #[must_use]
    pub fn with_logs(mut self, logs: Logs) -> Self {
        self.logs = Some(logs);
        self
    }

    /// Starts everything; must be called within a tokio runtime. Connections come up on their own.
    ///
    /// # Errors
    /// The `state_dir` or `admin.listen` cannot be had, or the system refuses a thread.
    pub fn start(self) -> Result<Running, StartError> {
        let state = State::open(self.config.state_dir.as_deref(), self.lanes())?;
        let admin = self.config.admin.as_ref().map(|admin| Admin::bind(admin.listen));
        let admin = admin.transpose().map_err(StartError::Admin)?;
        let (consume, consuming) = watch::channel(Phase::Run);
        let (send, sending) = watch::channel(Phase::Run);
        let mut wiring = Wiring::new(&self.config, consuming, sending, &state);
        let mut running = Running {
            status: Arc::default(),
            admin: None,
            buffers: Vec::new(),
            consumers: Vec::new(),
            producers: Vec::new(),
            consume,
            send,
            tasks: TaskTracker::new(),
            in_work: Vec::new(),
            lanes: Vec::new(),
            sources: Arc::default(),
            state: State::default(),
        };
        let mut status = Status { logs: self.logs, ..Status::default() };
        for (processor, generation) in &self.generations {
            status.processors.push(if processor.in_queue.is_some() {
                let settler = wiring.settler(processor, generation);
                running.start_lanes(processor, generation, settler, &state)?
            } else {
                running.start_source(processor, wiring.source(processor, generation, &running.sources))?
            });
        }
        running.connect(wiring, &self.config, &mut status);
        running.state = state;
        running.status = Arc::new(status);
        let served = running.state.served(&running.status, self.config.admin);
        running.admin = admin.map(|admin| admin.serve(served)).transpose().map_err(StartError::Admin)?;
        Ok(running)
    }

    fn lanes(&self) -> usize {
        self.generations.iter().map(|(processor, _)| processor.n_threads).sum()
    }
}

fn load(engine: &Engine, config: &Config, processor: &Processor) -> Result<Generation, Vec<Problem>> {
    let vo_plugins = processor.vo.as_ref().and_then(|vo| config.vos.get(vo)).map(|vo| vo.plugins.clone());
    let dirs: Vec<_> = vo_plugins.unwrap_or_default().into_iter().chain(config.plugins.iter().cloned()).collect();
    let problem = |key: &str, message| Problem { path: format!("processors.{}.{key}", processor.name), message };
    let plugins = PluginDirs::open(&dirs).map_err(|error| vec![problem("module", error.to_string())])?;
    Generation::load(engine, &plugins, processor, 1)
        .map_err(|refusals| refusals.into_iter().map(|refusal| problem(&refusal.key, refusal.message)).collect())
}

impl Running {
    /// Starts the lanes of a processor that reads a queue.
    fn start_lanes(
        &mut self,
        processor: &Processor,
        generation: &Generation,
        settler: Arc<Settler>,
        state: &State,
    ) -> std::io::Result<ProcessorStatus> {
        let in_work = TaskTracker::new();
        for number in 0..processor.n_threads {
            let lane = Lane {
                buffer: settler.buffer.clone(),
                settler: settler.clone(),
                generation: generation.clone(),
                verbose: processor.verbose,
                in_work: in_work.clone(),
                slot: state.slot(self.lanes.len()),
            };
            let name = format!("{}-{number}", processor.name);
            self.lanes.push(thread::Builder::new().name(name).spawn(move || lane.run())?);
        }
        self.in_work.push(in_work.clone());
        Ok(ProcessorStatus {
            name: processor.name.clone(),
            vo: processor.vo.clone().unwrap_or_default(),
            in_queue: processor.in_queue.clone(),
            metrics: settler.metrics.clone(),
            guest: generation.spec.counters.clone(),
            in_work,
            unconfirmed: settler.unconfirmed.clone(),
            stage: Arc::default(),
        })
    }

    /// Starts the one thread of a processor that works by the clock.
    fn start_source(&mut self, processor: &Processor, source: Source) -> std::io::Result<ProcessorStatus> {
        let status = ProcessorStatus {
            name: source.name.clone(),
            vo: processor.vo.clone().unwrap_or_default(),
            in_queue: processor.in_queue.clone(),
            metrics: source.metrics.clone(),
            guest: source.generation.spec.counters.clone(),
            in_work: TaskTracker::new(),
            unconfirmed: Arc::default(),
            stage: Arc::default(),
        };
        self.lanes.push(thread::Builder::new().name(source.name.to_string()).spawn(move || source.run())?);
        Ok(status)
    }

    /// Starts the connections.
    fn connect(&mut self, wiring: Wiring<'_>, config: &Config, status: &mut Status) {
        self.producers = wiring.by_server.into_iter().map(|((_, what, _), producer)| (what, producer)).collect();
        for (link, task) in wiring.producer_tasks {
            let span = info_span!("producer", server = %link.server);
            tokio::spawn(link.clone().follow(task.connected(), |connected| *connected));
            status.links.push(link);
            self.tasks.spawn(task.run().instrument(span));
        }
        for (queue, consumers, state) in wiring.consumers {
            let server = config.queues.get(&queue).map(|queue| queue.server.clone()).unwrap_or_default();
            let link = Link::new(server, Some(queue.clone()), "consume", Arc::default());
            tokio::spawn(link.clone().follow(state.clone(), |state| *state == SessionState::Subscribed));
            tokio::spawn(link.clone().follow_addresses(consumers.addresses()));
            status.links.push(link);
            self.consumers.push(state);
            self.tasks.spawn(consumers.run().instrument(info_span!("consumers", %queue)));
        }
        for (queue, (buffer, _)) in wiring.by_queue {
            let server = config.queues.get(&queue).map(|queue| queue.server.clone()).unwrap_or_default();
            let readers = config.active_processors().filter(|processor| processor.in_queue.as_ref() == Some(&queue));
            let vos: BTreeSet<&str> = readers.filter_map(|processor| processor.vo.as_deref()).collect();
            let vo = vos.into_iter().collect::<Vec<_>>().join(",");
            status.queues.push(QueueStatus { name: queue, server, vo, buffer: buffer.clone() });
            self.buffers.push(buffer);
        }
    }

    /// What there is to know about the host.
    #[must_use]
    pub fn status(&self) -> &Arc<Status> {
        &self.status
    }

    /// What the processors did so far, by key.
    #[must_use]
    pub fn metrics(&self) -> BTreeMap<Arc<str>, Arc<ProcessorMetrics>> {
        self.status.processors.iter().map(|status| (status.name.clone(), status.metrics.clone())).collect()
    }

    /// Waits until every queue is subscribed at each address that can be reached.
    pub async fn ready(&self) {
        for queue in &self.consumers {
            // An error means that it has ended.
            let _ = queue.clone().wait_for(|state| *state == SessionState::Subscribed).await;
        }
    }

    /// Ends without losing anything: no new deliveries, lanes finish, outputs are confirmed, ACKs are
    /// written, connections say goodbye.
    pub async fn drain(self, grace: Duration) -> Drained {
        let until = Instant::now() + grace;
        info!("draining, at most {} s", grace.as_secs_f64());
        self.sources.stop();
        self.consume.send_replace(Phase::Drain);
        self.reach(SessionState::Quiet, until).await;
        self.buffers.iter().for_each(|buffer| buffer.close());
        let settled = self.settled(until).await;
        if !settled {
            self.rescue().await;
        }
        self.consume.send_replace(Phase::Finish);
        self.send.send_replace(Phase::Finish);
        self.tasks.close();
        // Sessions and producers bound their goodbyes themselves; what hangs longer is left behind.
        let _ = timeout(CLOSING_LIMIT, self.tasks.wait()).await;
        if let Some(admin) = &self.admin {
            admin.abort();
        }
        if settled && self.consumers.iter().all(|queue| *queue.borrow() == SessionState::Closed) {
            return Drained::Clean;
        }
        let in_work: usize = self.in_work.iter().map(TaskTracker::len).sum();
        warn!(
            in_work,
            "not everything was settled in time: the broker delivers it again, except in ack mode auto; outputs may have arrived"
        );
        Drained::Forced
    }

    /// The grace is over. What its broker forgot when it sent it (ack mode auto) is ours alone: what waits for
    /// confirmations becomes a dead letter, if that is quick; of the rest the log tells.
    async fn rescue(&self) {
        let of = |what: Use| self.producers.iter().filter(move |(of, _)| *of == what).map(|(_, producer)| producer);
        of(Use::Outputs).for_each(Producer::abandon);
        let until = Instant::now() + LAST_LETTERS;
        while of(Use::DeadLetters).any(|producer| producer.unconfirmed() > 0) && Instant::now() < until {
            sleep(Duration::from_millis(5)).await;
        }
        of(Use::DeadLetters).for_each(Producer::abandon);
        for buffer in self.buffers.iter().filter(|buffer| buffer.must_finish()) {
            let (waiting, held, _) = buffer.counts();
            if waiting + held > 0 {
                error!(waiting, held, "lost: read in ack mode auto and not processed within the grace");
            }
        }
    }

    /// Waits until every queue has come so far, or until the time is up.
    async fn reach(&self, wanted: SessionState, until: Instant) {
        for queue in &self.consumers {
            let reached = async { queue.clone().wait_for(|state| *state >= wanted).await.is_ok() };
            let _ = timeout_at(until.into(), reached).await;
        }
    }

    /// Whether lanes ended and everything they took is settled before `until`.
    async fn settled(&self, until: Instant) -> bool {
        for in_work in &self.in_work {
            in_work.close();
        }
        loop {
            if self.lanes.iter().all(thread::JoinHandle::is_finished) && self.in_work.iter().all(TaskTracker::is_empty)
            {
                return true;
            }
            if Instant::now() >= until {
                return false;
            }
            sleep(Duration::from_millis(5)).await;
        }
    }
}

/// A host that is dropped without a drain takes nothing more: its lanes end with what they do.
impl Drop for Running {
    fn drop(&mut self) {
        self.sources.stop();
        self.buffers.iter().for_each(|buffer| buffer.close());
    }
}
