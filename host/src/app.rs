//! The host from its start to its end: configuration -> generations -> units at work; and the drain.
//!
//! [`Prepared::new`] checks everything that can be checked without a socket; [`Prepared::start`] has [`crate::wiring`] start
//! all units; [`Running::drain`] ends them. Nothing here decides about a message.

mod state;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{sync::Notify, task::AbortHandle};
use tracing::info;

use crate::{
    admin::{Admin, read_token},
    buffer::HostBytes,
    config::{Config, Problem, Processor},
    control::{Change, Control},
    generation::Generation,
    manager::{Manager, Source, Tools, kept::Kept, prepare, problems::problems},
    metrics::ProcessorMetrics,
    sandbox::{CompileConfig, Engine, EngineConfig, MAX_POOLED_INSTANCES, SandboxError},
    stage::Act,
    state_dir::StateError,
    status::Status,
    telemetry::Logs,
    wiring::{Cast, Common, Wiring, plan::units},
};

pub use crate::wiring::Drained;

use self::state::State;

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
    /// What was rolled back before this start, and what there is to tell of it.
    past: (Kept, Vec<Change>),
    logs: Option<Logs>,
}

/// The host at work.
#[derive(Debug)]
pub struct Running {
    wiring: Arc<Wiring>,
    admin: Option<AbortHandle>,
    control: Control,
    manager: AbortHandle,
    /// Rung when an operator wants the host to end.
    end: Arc<Notify>,
    /// Last: it is let go when all else has ended.
    _state: State,
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
        let mut problems = problems(&config);
        let token_file = config.admin.as_ref().and_then(|admin| admin.token_file.as_deref());
        let token = token_file.and_then(|file| read_token(file).err());
        problems.extend(token.map(|message| Problem { path: "admin.token_file".to_owned(), message }));
        let (mut generations, mut told) = (Vec::new(), Vec::new());
        let kept = Kept::read(config.state_dir.as_deref());
        for processor in config.active_processors() {
            let avoided = kept.avoided(&processor.name);
            match prepare::first(&engine, &config, processor, (1, &Arc::default()), (&avoided, &kept)) {
                Ok((generation, change)) => {
                    generations.push((processor.clone(), generation));
                    told.extend(change);
                }
                Err(found) => problems.extend(found),
            }
        }
        if problems.is_empty() {
            Ok(Self { config, source: None, engine, generations, past: (kept, told), logs: None })
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

    /// What begins as another version than that in its place, since that was rolled back before, or ought to.
    #[must_use]
    pub fn told(&self) -> &[Change] {
        &self.past.1
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
        let (kept, told) = self.past;
        told.iter().for_each(|change| state.audit.record("start", change));
        let (bell, (control, asked)) = (Arc::<Notify>::default(), Control::new());
        let wiring = Wiring::new(Common {
            host_bytes: HostBytes::new(self.config.buffer_bytes),
            spool: state.spool.clone(),
            slots: state.slots.clone(),
            bell: bell.clone(),
            logs: self.logs,
        });
        let casts = self.generations.into_iter().map(|(processor, generation)| {
            let act = Act::new(generation, &processor.module, None);
            (processor.name.clone(), Cast::Begins(act, None))
        });
        let (casts, config) = (casts.collect(), Arc::new(self.config));
        let tools = Tools { engine: self.engine, wiring: wiring.clone(), audit: state.audit.clone(), kept, bell };
        let mut manager = Manager::new(tools, (config.clone(), self.source), asked);
        for key in units(&config).keys() {
            wiring.start(key, &config, &casts)?.into_iter().for_each(|processor| manager.begin_with(processor));
        }
        let served = state.served(wiring.board(), &control, config.admin.clone());
        let admin = admin.map(|admin| admin.serve(served)).transpose().map_err(StartError::Admin)?;
        let end = manager.end();
        let manager = tokio::spawn(manager.run()).abort_handle();
        Ok(Running { wiring, admin, control, manager, end, _state: state })
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
    /// Ends without losing anything: no new deliveries, lanes finish, outputs are confirmed, ACKs are written, connections
    /// say goodbye.
    pub async fn drain(self, grace: Duration) -> Drained {
        info!("draining, at most {} s", grace.as_secs_f64());
        // From here on nothing changes what runs.
        self.manager.abort();
        let drained = self.wiring.drain(Instant::now() + grace).await;
        self.admin.iter().for_each(AbortHandle::abort);
        drained
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

    /// What there is to know about the host now.
    #[must_use]
    pub fn status(&self) -> Arc<Status> {
        self.wiring.board().now()
    }

    /// What the processors did so far, by key.
    #[must_use]
    pub fn metrics(&self) -> BTreeMap<Arc<str>, Arc<ProcessorMetrics>> {
        self.status().processors.iter().map(|status| (status.name.clone(), status.metrics.clone())).collect()
    }

    /// Waits until every queue is subscribed at each address that can be reached.
    pub async fn ready(&self) {
        self.wiring.ready().await;
    }
}

/// A host that is dropped without a drain takes nothing more: its lanes end with what they do.
impl Drop for Running {
    fn drop(&mut self) {
        self.manager.abort();
        self.wiring.drop_all();
    }
}
