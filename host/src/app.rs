//! The only wiring: configuration -> generations, buffers, producers, sessions, lanes; and the drain.
//!
//! [`Prepared::new`] checks everything that can be checked without a socket; [`Prepared::start`] spawns;
//! [`Running::drain`] ends in the order that loses nothing. Nothing here decides about a message.

mod drain;
mod problems;
mod state;
mod wiring;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    thread,
};

use tokio::{
    sync::{Notify, watch},
    task::AbortHandle,
};
use tokio_util::task::TaskTracker;
use tracing::{Instrument, info_span};

use crate::{
    admin::Admin,
    buffer::Buffer,
    client::{Phase, Producer, SessionState},
    config::{Config, Problem, Processor},
    control::Control,
    generation::Generation,
    lane::Lane,
    log_rate::LogRate,
    manager::{Manager, Source, prepare},
    metrics::ProcessorMetrics,
    sandbox::{CompileConfig, Engine, EngineConfig, MAX_POOLED_INSTANCES, SandboxError},
    settle::Settler,
    source::Stop,
    stage::{Act, Stage},
    state_dir::StateError,
    status::{Link, ProcessorStatus, QueueStatus, Status},
    telemetry::Logs,
};

use self::{
    state::State,
    wiring::{Use, Wiring},
};

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
    source: Option<Source>,
    engine: Engine,
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
    control: Control,
    manager: Option<AbortHandle>,
    /// Rung when an operator wants the host to end.
    end: Arc<Notify>,
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
            match prepare::load(&engine, &config, processor, 1, &Arc::default()) {
                Ok(generation) => generations.push((processor.clone(), generation)),
                Err(found) => problems.extend(found),
            }
        }
        if problems.is_empty() {
            Ok(Self { config, source: None, engine, generations, logs: None })
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

    /// Takes up what changes in the file that the configuration came from.
    #[must_use]
    pub fn with_source(mut self, source: Source) -> Self {
        self.source = Some(source);
        self
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
        let admin = self.bind_admin()?;
        let (consume, consuming) = watch::channel(Phase::Run);
        let (send, sending) = watch::channel(Phase::Run);
        let mut wiring = Wiring::new(&self.config, consuming, sending, &state);
        let (control, asked) = Control::new();
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
            control,
            manager: None,
            end: Arc::default(),
            state: State::default(),
        };
        let mut status = Status { logs: self.logs, ..Status::default() };
        let mut manager = Manager::new(self.engine, (self.config.clone(), self.source), asked, state.audit.clone());
        for (processor, generation) in self.generations {
            let at_work = running.start_processor(&processor, generation, &mut wiring, &state, manager.bell())?;
            manager.add(processor, at_work.stage.clone(), at_work.guest.clone());
            status.processors.push(at_work);
        }
        running.connect(wiring, &self.config, &mut status);
        running.state = state;
        running.status = Arc::new(status);
        running.end = manager.end();
        running.manager = Some(tokio::spawn(manager.run()).abort_handle());
        let served = running.state.served(&running.status, &running.control, self.config.admin);
        running.admin = admin.map(|admin| admin.serve(served)).transpose().map_err(StartError::Admin)?;
        Ok(running)
    }

    fn bind_admin(&self) -> Result<Option<Admin>, StartError> {
        let admin = self.config.admin.as_ref().map(|admin| Admin::bind(admin.listen));
        admin.transpose().map_err(StartError::Admin)
    }

    fn lanes(&self) -> usize {
        self.generations.iter().map(|(processor, _)| processor.n_threads).sum()
    }
}

impl Running {
    fn start_processor(
        &mut self,
        processor: &Processor,
        generation: Generation,
        wiring: &mut Wiring<'_>,
        state: &State,
        bell: Arc<Notify>,
    ) -> std::io::Result<ProcessorStatus> {
        let (log_rate, act) = (generation.spec.log_rate(), Act::new(generation, &processor.module, None));
        if processor.in_queue.is_none() {
            return self.start_source(processor, act, wiring, log_rate, bell);
        }
        self.start_lanes(processor, act, wiring.settler(processor, log_rate), state, bell)
    }

    /// Starts the lanes of a processor that reads a queue.
    fn start_lanes(
        &mut self,
        processor: &Processor,
        act: Arc<Act>,
        settler: Arc<Settler>,
        state: &State,
        bell: Arc<Notify>,
    ) -> std::io::Result<ProcessorStatus> {
        let (in_work, guest, buffer) =
            (TaskTracker::new(), act.generation.spec.counters.clone(), settler.buffer.clone());
        let stage =
            Stage::new(act, processor.n_threads, processor.rollout.replay, bell, Box::new(move || buffer.nudge()));
        for number in 0..processor.n_threads {
            let lane = Lane {
                buffer: settler.buffer.clone(),
                settler: settler.clone(),
                stage: stage.clone(),
                number,
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
            guest,
            in_work,
            unconfirmed: settler.unconfirmed.clone(),
            stage,
        })
    }

    /// Starts the one thread of a processor that works by the clock.
    fn start_source(
        &mut self,
        processor: &Processor,
        act: Arc<Act>,
        wiring: &mut Wiring<'_>,
        log_rate: LogRate,
        bell: Arc<Notify>,
    ) -> std::io::Result<ProcessorStatus> {
        let (guest, stop) = (act.generation.spec.counters.clone(), self.sources.clone());
        let stage = Stage::new(act, 1, 0, bell, Box::new(move || stop.nudge()));
        let source = wiring.source(processor, &stage, log_rate, &self.sources);
        let status = ProcessorStatus {
            name: source.name.clone(),
            vo: processor.vo.clone().unwrap_or_default(),
            in_queue: processor.in_queue.clone(),
            metrics: source.metrics.clone(),
            guest,
            in_work: TaskTracker::new(),
            unconfirmed: Arc::default(),
            stage,
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

    /// The handle by which it is changed.
    #[must_use]
    pub fn control(&self) -> &Control {
        &self.control
    }

    /// Waits until an operator wants the host to end.
    pub async fn drain_asked(&self) {
        self.end.notified().await;
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
}

/// A host that is dropped without a drain takes nothing more: its lanes end with what they do.
impl Drop for Running {
    fn drop(&mut self) {
        self.manager.iter().for_each(AbortHandle::abort);
        self.sources.stop();
        self.buffers.iter().for_each(|buffer| buffer.close());
    }
}
