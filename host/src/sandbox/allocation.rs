//! Where instances live: in a pool, or made on demand where the pool is full.
//!
//! Two wasmtime engines of the same settings, which load the same artifacts: a pool is an engine's property. Made by
//! [`super::engine`], used by [`super::instance`] and [`super::describe`] through [`pooled_or_on_demand`]. It has the
//! only unsafe code of the sandbox, [`Allocation::deserialize`].

use wasmtime::{
    Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, WasmBacktraceDetails,
    component::{Component, InstancePre, Linker},
};

use super::{
    bindings::exports::stompbox::processor::{handler, lifecycle, timer},
    component::Loaded,
    host_api,
    instance::StartError,
    state::State,
    wasi,
    world::Kind,
};

/// The most memory that an instance can be allowed: the ceiling of `memory_mb`.
pub const MAX_MEMORY_BYTES: usize = 1 << 30;
/// The most elements that one table can be allowed: the ceiling of `table_elements`.
pub const MAX_TABLE_ELEMENTS: usize = 200_000;

/// The most instances of the pool: each takes more than 4 GiB of address space, of which there are 128 TiB.
pub const MAX_POOLED_INSTANCES: u32 = 16_384;

/// Places that keep what an instance touched after it is gone. A new version finds none of its own kind and takes a fresh
/// place while there are fewer: with wasmtime's default of 100 a host would grow by the memory of its lanes with each of the
/// first swaps.
const MAX_WARM: u32 = 4;

/// One of the two, and the host's functions for it.
pub(crate) struct Allocation {
    /// The engine.
    pub(crate) wasmtime: Engine,
    linker: Linker<State>,
}

/// A component linked for one of the two: what instances are made of.
pub(crate) struct Linked {
    pub(crate) pre: InstancePre<State>,
    pub(crate) lifecycle: lifecycle::GuestIndices,
    pub(crate) entry: Entry,
}

impl Linked {
    /// The engine that it is linked for.
    pub(crate) fn engine(&self) -> &wasmtime::Engine {
        self.pre.component().engine()
    }
}

/// Where messages, or ticks, enter.
pub(crate) enum Entry {
    Handler(handler::GuestIndices),
    Timer(timer::GuestIndices),
}

impl Allocation {
    /// Reserves a pool.
    pub(crate) fn pool(max_instances: u32) -> wasmtime::Result<Self> {
        Self::new(settings().allocation_strategy(pool(max_instances)))
    }

    /// Reserves nothing.
    pub(crate) fn on_demand() -> wasmtime::Result<Self> {
        Self::new(&settings())
    }

    fn new(config: &Config) -> wasmtime::Result<Self> {
        let wasmtime = Engine::new(config)?;
        let mut linker = Linker::new(&wasmtime);
        wasi::add_to_linker(&mut linker)?;
        host_api::add_to_linker(&mut linker)?;
        Ok(Self { wasmtime, linker })
    }

    /// Makes code of an artifact.
    #[expect(unsafe_code, reason = "wasmtime runs what the artifact says: see SAFETY")]
    pub(crate) fn deserialize(&self, code: &[u8]) -> wasmtime::Result<Component> {
        // SAFETY: the code comes from this program as a compiler, through a pipe that nobody else holds, or from a
        // cache file that this user wrote into a directory that nobody else can write, unchanged since
        // (`Cache::get` checks owner, mode and SHA-256), for an engine of the same compatibility hash (part of its
        // name), or from a component that was loaded from one of these.
        unsafe { Component::deserialize(&self.wasmtime, code) }
    }

    /// Links a component of this kind.
    pub(crate) fn link(&self, component: &Component, kind: Kind) -> wasmtime::Result<Linked> {
        let pre = self.linker.instantiate_pre(component)?;
        let lifecycle = lifecycle::GuestIndices::new(&pre)?;
        let entry = match kind {
            Kind::Handler => Entry::Handler(handler::GuestIndices::new(&pre)?),
            Kind::Timer => Entry::Timer(timer::GuestIndices::new(&pre)?),
        };
        Ok(Linked { pre, lifecycle, entry })
    }
}

/// Makes something of a component in the pool; where that is full, beside it, which takes longer.
pub(crate) fn pooled_or_on_demand<T>(
    loaded: &Loaded,
    make: impl Fn(&Linked) -> Result<T, StartError>,
) -> Result<T, StartError> {
    match make(&loaded.pooled) {
        Err(StartError::Full(_)) => {
            make(loaded.on_demand().map_err(|error| StartError::Full(error.root_cause().to_string()))?)
        }
        made => made,
    }
}

/// The settings that decide what code a component becomes, the same for the compiler and for both.
pub(crate) fn settings() -> Config {
    let mut config = Config::new();
    config
        .consume_fuel(true)
        .epoch_interruption(true)
        // Calls are synchronous: without it a store needs no task bookkeeping.
        .concurrency_support(false)
        // Reading a component's debug information at each trap costs tens of milliseconds that no budget of the
        // guest covers: `lines` has what is needed of it.
        .wasm_backtrace_details(WasmBacktraceDetails::Disable)
        .wasm_backtrace_max_frames(std::num::NonZeroUsize::new(20));
    config
}

/// Sizes the pool. Places reserve address space, not memory: 4 GiB and guard pages for each memory, so
/// that bounds checks cost nothing.
fn pool(max_instances: u32) -> InstanceAllocationStrategy {
    let times = |factor: u32| max_instances.saturating_mul(factor).saturating_add(16);
    let mut pool = PoolingAllocationConfig::new();
    // A Rust component has one memory, two tables and four core instances; interpreted languages have
    // more core instances and larger metadata.
    pool.total_component_instances(max_instances)
        .total_memories(times(1))
        .total_tables(times(4))
        .total_core_instances(times(8))
        // Calls are synchronous: a stack for each would only cost memory maps, of which a process has 65,530.
        .total_stacks(0)
        .max_memories_per_component(4)
        .max_tables_per_component(32)
        .max_core_instances_per_component(100)
        .max_component_instance_size(8 << 20)
        .max_core_instance_size(4 << 20)
        .max_memory_size(MAX_MEMORY_BYTES)
        .table_elements(MAX_TABLE_ELEMENTS)
        // What an instance touched stays resident for the next one of a "fresh" processor.
        .linear_memory_keep_resident(512 << 10)
        .max_unused_warm_slots(MAX_WARM)
        .table_keep_resident(16 << 10);
    InstanceAllocationStrategy::Pooling(pool)
}
