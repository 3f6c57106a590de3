//! What the host keeps beside a live instance: its limiter, its log, its deadline, its WASI context.
//!
//! Made by [`super::instance`] and by `describe`, reached by the host functions through the store. It
//! must never hold anything of another processor.

use std::{sync::Arc, time::Instant};

use wasmtime::{Store, StoreContextMut, UpdateDeadline, component::ResourceTable};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use super::{
    counters::Counters,
    engine::Engine,
    guest_log::GuestLog,
    limiter::Limiter,
    limits::Limits,
    ticker::{TICK, ticks},
    wasi,
};

/// Handles of host resources (streams, pollables) that an instance can hold.
const MAX_RESOURCES: usize = 1_000;

/// What a guest may copy into the host in one call besides its outputs.
const HOSTCALL_SLACK_BYTES: usize = 1 << 20;

/// The data of a store.
pub(crate) struct State {
    /// The instance's log.
    pub(crate) log: Arc<GuestLog>,
    /// The processor's counters.
    pub(crate) counters: Arc<Counters>,
    /// Bounds memory and tables.
    pub(crate) limiter: Limiter,
    /// When the running call must have ended.
    pub(crate) deadline: Instant,
    pub(super) table: ResourceTable,
    wasi: WasiCtx,
}

/// The budget of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Budget {
    /// Units of fuel.
    pub(crate) fuel: u64,
    /// Wall time.
    pub(crate) time: std::time::Duration,
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

/// Makes the store of a new instance; nothing may run in it before [`arm`].
pub(crate) fn new_store(engine: &Engine, limits: &Limits, log: Arc<GuestLog>, counters: Arc<Counters>) -> Store<State> {
    let mut table = ResourceTable::new();
    table.set_max_capacity(MAX_RESOURCES);
    let wasi = wasi::nothing_granted(&log);
    let limiter = Limiter::new(limits.memory_bytes, limits.table_elements);
    let state = State { log, counters, limiter, deadline: Instant::now(), table, wasi };
    let mut store = Store::new(engine.wasmtime(), state);
    store.limiter(|state| &mut state.limiter);
    store.epoch_deadline_callback(check_deadline);
    // One call may copy its outputs into the host, not more: lists can alias one buffer many times.
    store.set_hostcall_fuel(limits.output_bytes.saturating_add(HOSTCALL_SLACK_BYTES));
    store.set_max_component_handles(MAX_RESOURCES);
    store
}

/// Gives the store a new budget: called before anything of a guest runs.
pub(crate) fn arm(store: &mut Store<State>, budget: Budget, log_bytes: usize) -> wasmtime::Result<()> {
    store.set_fuel(budget.fuel)?;
    store.set_epoch_deadline(ticks(budget.time));
    let state = store.data_mut();
    let now = Instant::now();
    // A limit beyond what the clock can say is no limit; a year is one.
    let longest = std::time::Duration::from_secs(365 * 86_400);
    state.deadline = now.checked_add(budget.time.min(longest)).unwrap_or(now);
    state.limiter.begin();
    state.log.begin(log_bytes);
    Ok(())
}

/// Asked when the epoch reaches the deadline in ticks: the clock decides, so that a deadline is never
/// early, and late by at most the tick that is under way and the next one.
#[expect(clippy::unnecessary_wraps, reason = "the signature of the callback")]
fn check_deadline(store: StoreContextMut<'_, State>) -> wasmtime::Result<UpdateDeadline> {
    let left = store.data().deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Ok(UpdateDeadline::Interrupt);
    }
    Ok(UpdateDeadline::Continue(ticks(left.min(TICK * 1_000))))
}
