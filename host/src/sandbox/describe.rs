//! What a component says of itself, and what an instance of it needs at least.
//!
//! Asked by [`super::component`] when a component is loaded and by [`super::fit`] for the limits of a processor. It
//! runs `describe` alone, on an instance of its own, within a small budget.

use std::sync::Arc;

use super::{
    allocation::{Linked, MAX_MEMORY_BYTES, MAX_TABLE_ELEMENTS, pooled_or_on_demand},
    component::{Component, Description},
    counters::Counters,
    failure::classify,
    guest_log::GuestLog,
    instance::{StartError, instantiate},
    limits::Limits,
    load_error::LoadError,
    spec::SMALL_BUDGET,
    state::{Budget, new_store, run},
};

/// What an instance needs at least: to be made, and to describe itself. What `initialize` and the messages need
/// beyond that, only they show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Needs {
    /// Linear memory, in bytes.
    pub memory_bytes: usize,
    /// Elements of all tables.
    pub table_elements: usize,
    /// Units of fuel.
    pub fuel: u64,
}

/// Asks a component what it offers, on an instance of its own, and sees what that takes.
pub(crate) fn describe(component: &Component) -> Result<(Description, Needs), LoadError> {
    let limits = Limits { memory_bytes: MAX_MEMORY_BYTES, table_elements: MAX_TABLE_ELEMENTS, ..Limits::default() };
    describe_within(component, &limits, SMALL_BUDGET)
}

/// The same within other limits: does an instance fit into them at all?
pub(crate) fn describe_within(
    component: &Component,
    limits: &Limits,
    budget: Budget,
) -> Result<(Description, Needs), LoadError> {
    let described = pooled_or_on_demand(component.loaded(), |linked| describe_in(component, linked, limits, budget));
    described.map_err(|error| match error {
        StartError::Failed(error) => LoadError::Describe(error),
        StartError::Initialize(text) | StartError::Full(text) => LoadError::Full(text),
    })
}

fn describe_in(
    component: &Component,
    linked: &Linked,
    limits: &Limits,
    budget: Budget,
) -> Result<(Description, Needs), StartError> {
    let (loaded, counters) = (component.loaded(), Arc::new(Counters::default()));
    let label = Arc::from(component.digest().get(..12).unwrap_or_default());
    // One rate for all: components come and go.
    let rate = loaded.engine.log_rates().of(&"".into(), &"(describe)".into(), limits.log_bytes_per_second);
    let log = GuestLog::new(label, "".into(), Arc::clone(&counters), rate);
    let mut store = new_store(linked.engine(), limits, log, counters);
    let tenant = loaded.engine.permits().tenant(&"".into());
    let bare = instantiate(&mut store, linked, loaded, budget, limits.log_bytes, tenant)?;
    let described = linked
        .lifecycle
        .load(&mut store, &bare)
        .and_then(|lifecycle| run(&mut store, &loaded.engine, tenant, |store| lifecycle.call_describe(store)));
    store.data().log.end();
    let fuel = budget.fuel.saturating_sub(store.get_fuel().unwrap_or_default());
    let (memory_bytes, table_elements) = store.data().limiter.used();
    let description = described
        .map(Description::from)
        .map_err(|error| StartError::Failed(classify(&error, &store, budget, &loaded.lines)))?;
    Ok((description, Needs { memory_bytes, table_elements, fuel }))
}
