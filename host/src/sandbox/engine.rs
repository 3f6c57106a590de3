//! The one wasmtime engine of the process: configuration, linker, clock and compile cache.
//!
//! Made once by the application and handed to [`super::component`]. It must never run a guest itself
//! and never grow with the number of messages.

use std::{
    collections::HashMap,
    fmt,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use wasmtime::{Config, InstanceAllocationStrategy, PoolingAllocationConfig, WasmBacktraceDetails, component::Linker};

use super::{
    cache::Cache,
    component::Loaded,
    host_api,
    permits::Permits,
    state::State,
    ticker::{Running, Ticker},
    wasi,
};

/// The most memory that an instance can be allowed: the ceiling of `memory_mb`.
pub const MAX_MEMORY_BYTES: usize = 1 << 30;
/// The most elements that one table can be allowed: the ceiling of `table_elements`.
pub const MAX_TABLE_ELEMENTS: usize = 200_000;

/// The most instances: each takes more than 4 GiB of address space, of which there are 128 TiB.
pub const MAX_INSTANCES: u32 = 16_384;

/// How the engine is set up.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// How many instances can live at a time, at most [`MAX_INSTANCES`].
    pub max_instances: u32,
    /// Where compiled components are kept; none compiles at each start.
    pub cache_dir: Option<PathBuf>,
}

/// The engine could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// This machine, or these numbers, do not allow it.
    #[error("the sandbox engine cannot be set up for {max_instances} instances")]
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
    wasmtime: wasmtime::Engine,
    linker: Linker<State>,
    ticker: Ticker,
    permits: Arc<Permits>,
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
        if max_instances > MAX_INSTANCES {
            return Err(failed(format!("at most {MAX_INSTANCES} are possible").into()));
        }
        let wasmtime = wasmtime::Engine::new(&wasmtime_config(max_instances)).map_err(|e| failed(e.into()))?;
        let linker = linker(&wasmtime).map_err(|e| SandboxError::Link(e.into()))?;
        let ticker = Ticker::start(wasmtime.weak()).map_err(SandboxError::Ticker)?;
        let cache = config.cache_dir.and_then(Cache::open_or_warn);
        // One more than cores: while one guest waits for memory or is being changed, another can run.
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let (permits, loaded) = (Permits::new(cores + 1), Mutex::default());
        Ok(Self(Arc::new(Inner { wasmtime, linker, ticker, permits, cache, loaded })))
    }

    pub(crate) fn wasmtime(&self) -> &wasmtime::Engine {
        &self.0.wasmtime
    }

    pub(crate) fn linker(&self) -> &Linker<State> {
        &self.0.linker
    }

    pub(crate) fn cache(&self) -> Option<&Cache> {
        self.0.cache.as_ref()
    }

    pub(crate) fn permits(&self) -> &Arc<Permits> {
        &self.0.permits
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

fn linker(engine: &wasmtime::Engine) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    wasi::add_to_linker(&mut linker)?;
    host_api::add_to_linker(&mut linker)?;
    Ok(linker)
}

fn wasmtime_config(max_instances: u32) -> Config {
    let mut config = Config::new();
    config
        .consume_fuel(true)
        .epoch_interruption(true)
        // Calls are synchronous: without it a store needs no task bookkeeping.
        .concurrency_support(false)
        // Names of functions, not files and lines: reading a component's debug information at each trap
        // costs tens of milliseconds that no budget of the guest covers. Panics tell their line anyway.
        .wasm_backtrace_details(WasmBacktraceDetails::Disable)
        .wasm_backtrace_max_frames(std::num::NonZeroUsize::new(20))
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool(max_instances)));
    config
}

/// Sizes the pool. Slots reserve address space, not memory: 4 GiB and guard pages for each memory, so
/// that bounds checks cost nothing.
fn pool(max_instances: u32) -> PoolingAllocationConfig {
    let times = |factor: u32| max_instances.saturating_mul(factor).saturating_add(16);
    let mut pool = PoolingAllocationConfig::new();
    // A Rust component has one memory, two tables and four core instances; interpreted languages have
    // more core instances and larger metadata.
    pool.total_component_instances(max_instances)
        .total_memories(times(1))
        .total_tables(times(4))
        .total_core_instances(times(8))
        .max_memories_per_component(4)
        .max_tables_per_component(32)
        .max_core_instances_per_component(100)
        .max_component_instance_size(8 << 20)
        .max_core_instance_size(4 << 20)
        .max_memory_size(MAX_MEMORY_BYTES)
        .table_elements(MAX_TABLE_ELEMENTS)
        // What an instance touched stays resident for the next one of a "fresh" processor.
        .linear_memory_keep_resident(512 << 10)
        .table_keep_resident(16 << 10);
    pool
}
