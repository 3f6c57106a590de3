//! What all components of the process share: where instances live, the compiler and its cache, the clock, CPU
//! permits, log rates.
//!
//! Made once by the application and handed to [`super::component`]. It must never run a guest itself
//! and never grow with the number of messages.

use std::{
    collections::HashMap,
    fmt,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use super::{
    allocation::{Allocation, MAX_POOLED_INSTANCES},
    cache::Cache,
    compiler::{CompileLimits, Compiler},
    component::Loaded,
    permits::Permits,
    ticker::{Running, Ticker},
};
use crate::log_rate::LogRates;

/// How the engine is set up.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// How many instances the pool has places for, at most [`MAX_POOLED_INSTANCES`]; more are made on demand.
    pub max_instances: u32,
    /// How components are compiled.
    pub compile: CompileConfig,
}

/// Who compiles components, and where the results are kept.
#[derive(Debug, Clone)]
pub struct CompileConfig {
    /// The program to start for it: this one, which has a subcommand for that.
    pub program: PathBuf,
    /// What it may use.
    pub limits: CompileLimits,
    /// Where compiled components are kept; none compiles at each start.
    pub cache_dir: Option<PathBuf>,
}

/// The engine could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// This machine, or these numbers, do not allow it.
    #[error("the sandbox engine cannot be set up for a pool of {max_instances} instances")]
    Engine {
        /// The configured number.
        max_instances: u32,
        /// What wasmtime says.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The host's functions cannot be offered to guests.
    #[error("the host interface cannot be linked")]
    Link(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The clock's thread cannot be started.
    #[error("the sandbox clock cannot be started")]
    Ticker(#[source] std::io::Error),
}

/// The engine; cheap to clone.
#[derive(Clone)]
pub struct Engine(Arc<Inner>);

struct Inner {
    pooled: Allocation,
    on_demand: Allocation,
    ticker: Ticker,
    permits: Arc<Permits>,
    log_rates: LogRates,
    compiler: Compiler,
    cache: Option<Cache>,
    /// The components that live, by digest: a thousand processors of one component share its code.
    loaded: Mutex<HashMap<String, Weak<Loaded>>>,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("cache", &self.0.cache).finish_non_exhaustive()
    }
}

impl Engine {
    /// Sets the engine up. A cache directory that cannot be trusted is not used, with a warning.
    ///
    /// # Errors
    /// When address space for `max_instances` cannot be reserved, or no thread can be started.
    pub fn new(config: EngineConfig) -> Result<Self, SandboxError> {
        let max_instances = config.max_instances;
        let failed = |source| SandboxError::Engine { max_instances, source };
        if max_instances > MAX_POOLED_INSTANCES {
            return Err(failed(format!("at most {MAX_POOLED_INSTANCES} are possible").into()));
        }
        let pooled = Allocation::pool(max_instances).map_err(|e| failed(e.into()))?;
        let on_demand = Allocation::on_demand().map_err(|e| failed(e.into()))?;
        let ticker =
            Ticker::start([pooled.wasmtime.weak(), on_demand.wasmtime.weak()]).map_err(SandboxError::Ticker)?;
        let CompileConfig { program, limits, cache_dir } = config.compile;
        let (compiler, cache) = (Compiler::new(program, limits), cache_dir.and_then(Cache::open_or_warn));
        // One more than cores: while one guest waits for memory or is being changed, another can run.
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let (permits, loaded) = (Permits::new(cores + 1), Mutex::default());
        let log_rates = LogRates::default();
        Ok(Self(Arc::new(Inner { pooled, on_demand, ticker, permits, log_rates, compiler, cache, loaded })))
    }

    /// The pool: reserved, and quick to take from.
    pub(crate) fn pooled(&self) -> &Allocation {
        &self.0.pooled
    }

    /// Where the instances live that the pool has no place for.
    pub(crate) fn on_demand(&self) -> &Allocation {
        &self.0.on_demand
    }

    /// How fast the guests of each virtual organisation may log.
    pub(crate) fn log_rates(&self) -> &LogRates {
        &self.0.log_rates
    }

    pub(crate) fn compiler(&self) -> &Compiler {
        &self.0.compiler
    }

    pub(crate) fn cache(&self) -> Option<&Cache> {
        self.0.cache.as_ref()
    }

    pub(crate) fn permits(&self) -> &Arc<Permits> {
        &self.0.permits
    }

    /// Makes all guests that run come to the epoch's callback.
    pub(crate) fn ring(&self) {
        self.0.pooled.wasmtime.increment_epoch();
        self.0.on_demand.wasmtime.increment_epoch();
    }

    /// Announces a call: the epoch advances until what this returns is dropped.
    pub(crate) fn running(&self) -> Running<'_> {
        self.0.ticker.running()
    }

    /// Returns the component with this digest if one lives.
    pub(crate) fn loaded(&self, digest: &str) -> Option<Arc<Loaded>> {
        self.lock_loaded().get(digest).and_then(Weak::upgrade)
    }

    /// Remembers a component as long as someone holds it.
    pub(crate) fn remember(&self, digest: &str, loaded: &Arc<Loaded>) {
        let mut all = self.lock_loaded();
        all.retain(|_, component| component.strong_count() > 0);
        all.insert(digest.to_owned(), Arc::downgrade(loaded));
    }

    fn lock_loaded(&self) -> MutexGuard<'_, HashMap<String, Weak<Loaded>>> {
        self.0.loaded.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
