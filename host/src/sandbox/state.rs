//! What the host keeps beside a live instance: its limiter, its log, its deadline, its WASI context.
//!
//! Made by [`super::instance`] and by `describe`, reached by the host functions through the store. It
//! must never hold anything of another processor.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use wasmtime::{Store, StoreContextMut, UpdateDeadline, component::ResourceTable};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use super::{
    counters::Counters, engine::Engine, guest_log::GuestLog, limiter::Limiter, limits::Limits, permits::Permit, wasi,
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
    /// The right to run, while a call does.
    pub(super) permit: Option<Permit>,
    /// The time with a permit that the instance had, as `permits` counts.
    had: Duration,
    wasi: WasiCtx,
}

/// The budget of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Budget {
    /// Units of fuel.
    pub(crate) fuel: u64,
    /// Wall time.
    pub(crate) time: Duration,
}

impl Budget {
    /// The smaller of two, in each.
    pub(crate) fn within(self, other: Self) -> Self {
        Self { fuel: self.fuel.min(other.fuel), time: self.time.min(other.time) }
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

/// Makes the store of a new instance; nothing may run in it before [`arm`].
pub(crate) fn new_store(
    engine: &wasmtime::Engine,
    limits: &Limits,
    log: Arc<GuestLog>,
    counters: Arc<Counters>,
) -> Store<State> {
    let mut table = ResourceTable::new();
    table.set_max_capacity(MAX_RESOURCES);
    let wasi = wasi::nothing_granted(&log);
    let limiter = Limiter::new(limits.memory_bytes, limits.table_elements);
    let state =
        State { log, counters, limiter, deadline: Instant::now(), table, permit: None, had: Duration::ZERO, wasi };
    let mut store = Store::new(engine, state);
    store.limiter(|state| &mut state.limiter);
    store.epoch_deadline_callback(check_deadline);
    // One call may copy its outputs into the host, not more: lists can alias one buffer many times.
    store.set_hostcall_fuel(limits.output_bytes.saturating_add(HOSTCALL_SLACK_BYTES));
    store.set_max_component_handles(MAX_RESOURCES);
    store
}

/// Runs something of a guest, within what is left of the budget: with a CPU permit of this tenant, under the
/// ticking clock.
pub(crate) fn run<T>(
    store: &mut Store<State>,
    engine: &Engine,
    tenant: usize,
    guest: impl FnOnce(&mut Store<State>) -> wasmtime::Result<T>,
) -> wasmtime::Result<T> {
    let waiting = Instant::now();
    // Guests that run are asked at once: a short call does not wait for the next tick.
    let permit = engine.permits().take(tenant, store.data().had, || engine.ring());
    let state = store.data_mut();
    state.permit = Some(permit);
    state.deadline += waiting.elapsed();
    let running = engine.running();
    let result = guest(store);
    drop(running);
    let state = store.data_mut();
    if let Some(permit) = state.permit.take() {
        state.had = permit.end();
    }
    result
}

/// Gives the store a new budget: called before anything of a guest runs.
pub(crate) fn arm(store: &mut Store<State>, budget: Budget, log_bytes: usize) -> wasmtime::Result<()> {
    store.set_fuel(budget.fuel)?;
    // At each tick the call is asked, for its deadline and for others that wait for its permit.
    store.set_epoch_deadline(1);
    let state = store.data_mut();
    let now = Instant::now();
    // A limit beyond what the clock can say is no limit; a year is one.
    let longest = Duration::from_secs(365 * 86_400);
    state.deadline = now.checked_add(budget.time.min(longest)).unwrap_or(now);
    state.limiter.begin();
    state.log.begin(log_bytes);
    Ok(())
}

/// Asked at each tick, and when somebody waits for a permit: the clock decides, so that a deadline is never early, and
/// late by at most the tick that is under way and the next one. Time without a permit does not count.
#[expect(clippy::unnecessary_wraps, reason = "the signature of the callback")]
fn check_deadline(mut store: StoreContextMut<'_, State>) -> wasmtime::Result<UpdateDeadline> {
    let state = store.data_mut();
    if state.deadline <= Instant::now() {
        return Ok(UpdateDeadline::Interrupt);
    }
    if let Some(permit) = &mut state.permit {
        state.deadline += permit.offer();
    }
    Ok(UpdateDeadline::Continue(1))
}
