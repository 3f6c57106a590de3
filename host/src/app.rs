//! The only wiring: configuration -> generations, buffers, producers, sessions, lanes; and the drain.
//!
//! [`App::prepare`] checks everything that can be checked without a socket; [`Prepared::start`] spawns;
//! [`Running::drain`] ends in the order that loses nothing. Nothing here decides about a message.

mod wiring;

use std::{
    collections::BTreeMap,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use tokio::{
    sync::watch,
    time::{sleep, timeout, timeout_at},
};
use tokio_util::task::TaskTracker;
use tracing::{Instrument, info, info_span, warn};

use crate::{
    buffer::Buffer,
    client::{Phase, SessionState},
    config::{Config, Problem, Processor},
    generation::Generation,
    lane::Lane,
    metrics::ProcessorMetrics,
    sandbox::{Engine, EngineConfig, PluginDirs, SandboxError},
    source::{Source, Stop},
};

use self::wiring::Wiring;
pub(crate) use self::wiring::{connect_options, send_headers, unsupported_server};

/// How long connections may take to close; each bounds its own goodbye below this.
const GOODBYE_LIMIT: Duration = Duration::from_secs(6);

/// Why a configuration cannot run.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// The sandbox cannot be set up on this machine.
    #[error("the sandbox cannot be set up")]
    Sandbox(#[from] SandboxError),
    /// Components are missing or wrong, or need what this version has not.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Processors(Vec<Problem>),
}

/// A configuration whose components are loaded and checked.
#[derive(Debug)]
pub struct Prepared {
    config: Config,
    generations: Vec<(Arc<Processor>, Generation)>,
}

/// The host at work.
#[derive(Debug)]
pub struct Running {
    metrics: BTreeMap<Arc<str>, Arc<ProcessorMetrics>>,
    buffers: Vec<Arc<Buffer>>,
    sessions: Vec<watch::Receiver<SessionState>>,
    consume: watch::Sender<Phase>,
    send: watch::Sender<Phase>,
    tasks: TaskTracker,
    in_work: TaskTracker,
    lanes: Vec<thread::JoinHandle<()>>,
    sources: Arc<Stop>,
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
    pub fn new(config: Config, cache_dir: Option<std::path::PathBuf>) -> Result<Self, PrepareError> {
        let lanes: usize = config.active_processors().map(|processor| processor.n_threads).sum();
        let wanted = config.max_instances.unwrap_or(lanes as u64 * 2 + 64);
        let max_instances = u32::try_from(wanted).unwrap_or(u32::MAX);
        let engine = Engine::new(EngineConfig { max_instances, cache_dir })?;
        let mut problems = wiring::unsupported(&config);
        let mut generations = Vec::new();
        for processor in config.active_processors() {
            match load(&engine, &config, processor) {
                Ok(generation) => generations.push((processor.clone(), generation)),
                Err(problem) => problems.push(problem),
            }
        }
        if problems.is_empty() { Ok(Self { config, generations }) } else { Err(PrepareError::Processors(problems)) }
    }

    /// The generations that will run, by processor.
    #[must_use]
    pub fn generations(&self) -> &[(Arc<Processor>, Generation)] {
        &self.generations
    }

    /// Starts everything; must be called within a tokio runtime. Connections come up on their own.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub fn start(self) -> std::io::Result<Running> {
        let (consume, consuming) = watch::channel(Phase::Run);
        let (send, sending) = watch::channel(Phase::Run);
        let mut wiring = Wiring::new(&self.config, consuming, sending);
        let mut running = Running {
            metrics: BTreeMap::new(),
            buffers: Vec::new(),
            sessions: Vec::new(),
            consume,
            send,
            tasks: TaskTracker::new(),
            in_work: TaskTracker::new(),
            lanes: Vec::new(),
            sources: Arc::default(),
        };
        for (processor, generation) in &self.generations {
            if processor.in_queue.is_some() {
                running.start_lanes(&mut wiring, processor, generation)?;
            } else {
                running.start_source(wiring.source(processor, generation, &running.sources))?;
            }
        }
        for (server, task) in wiring.producer_tasks {
            running.tasks.spawn(task.run().instrument(info_span!("producer", %server)));
        }
        for (queue, session, state) in wiring.sessions {
            running.sessions.push(state);
            running.tasks.spawn(session.run().instrument(info_span!("session", %queue)));
        }
        running.buffers = wiring.buffers;
        Ok(running)
    }
}

fn load(engine: &Engine, config: &Config, processor: &Processor) -> Result<Generation, Problem> {
    let vo_plugins = processor.vo.as_ref().and_then(|vo| config.vos.get(vo)).map(|vo| vo.plugins.clone());
    let dirs: Vec<_> = vo_plugins.unwrap_or_default().into_iter().chain(config.plugins.iter().cloned()).collect();
    let problem = |key: &str, message| Problem { path: format!("processors.{}.{key}", processor.name), message };
    let plugins = PluginDirs::open(&dirs).map_err(|error| problem("module", error.to_string()))?;
    Generation::load(engine, &plugins, processor, 1).map_err(|refusal| problem(refusal.key, refusal.message))
}

impl Running {
    /// The lanes of a processor that reads a queue.
    fn start_lanes(
        &mut self,
        wiring: &mut Wiring<'_>,
        processor: &Processor,
        generation: &Generation,
    ) -> std::io::Result<()> {
        let settler = wiring.settler(processor, generation);
        self.metrics.insert(processor.name.clone(), settler.metrics.clone());
        for number in 0..processor.n_threads {
            let lane = Lane {
                buffer: settler.buffer.clone(),
                settler: settler.clone(),
                generation: generation.clone(),
                verbose: processor.verbose,
                in_work: self.in_work.clone(),
            };
            let name = format!("{}-{number}", processor.name);
            self.lanes.push(thread::Builder::new().name(name).spawn(move || lane.run())?);
        }
        Ok(())
    }

    /// The one thread of a processor that works by the clock.
    fn start_source(&mut self, source: Source) -> std::io::Result<()> {
        self.metrics.insert(source.name.clone(), source.metrics.clone());
        self.lanes.push(thread::Builder::new().name(source.name.to_string()).spawn(move || source.run())?);
        Ok(())
    }

    /// What the processors did so far, by key.
    #[must_use]
    pub fn metrics(&self) -> &BTreeMap<Arc<str>, Arc<ProcessorMetrics>> {
        &self.metrics
    }

    /// Waits until every session is subscribed.
    pub async fn ready(&self) {
        for session in &self.sessions {
            // An error means that the session has ended.
            let _ = session.clone().wait_for(|state| *state == SessionState::Subscribed).await;
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
        self.consume.send_replace(Phase::Finish);
        self.send.send_replace(Phase::Finish);
        self.tasks.close();
        // Sessions and producers bound their goodbyes themselves; what hangs longer is left behind.
        let _ = timeout(GOODBYE_LIMIT, self.tasks.wait()).await;
        if settled && self.sessions.iter().all(|session| *session.borrow() == SessionState::Closed) {
            return Drained::Clean;
        }
        warn!(in_work = self.in_work.len(), "not everything was settled in time: the broker delivers it again");
        Drained::Forced
    }

    /// Waits until every session has come so far, or until the time is up.
    async fn reach(&self, wanted: SessionState, until: Instant) {
        for session in &self.sessions {
            let reached = async { session.clone().wait_for(|state| *state >= wanted).await.is_ok() };
            let _ = timeout_at(until.into(), reached).await;
        }
    }

    /// Whether lanes ended and everything they took is settled before `until`.
    async fn settled(&self, until: Instant) -> bool {
        self.in_work.close();
        loop {
            if self.lanes.iter().all(thread::JoinHandle::is_finished) && self.in_work.is_empty() {
                return true;
            }
            if Instant::now() >= until {
                return false;
            }
            sleep(Duration::from_millis(5)).await;
        }
    }
}
