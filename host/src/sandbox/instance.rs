//! A live instance of a component, and its calls.
//!
//! Used by the lanes: one instance each, from [`Instance::start`] until it fails or its generation ends.
//! Every call has a budget of fuel, time, memory, outputs and log, set before anything of the guest runs.
//! A call consumes the instance and gives it back only if it ended well, so that a trapped one can never
//! be entered again. It must be called on a plain thread, never on one of the async runtime.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant as Clock},
};

use wasmtime::{PoolConcurrencyLimitError, Store, component::Instance as Bare};

use super::{
    bindings::exports::stompbox::processor::{handler, lifecycle, timer},
    component::{Component, Description, Entry},
    counters::Counters,
    engine::MAX_MEMORY_BYTES,
    failure::classify,
    guest_log::GuestLog,
    input,
    limits::Limits,
    load_error::LoadError,
    output::{self, Answer, Checked},
    spec::{SMALL_BUDGET, Spec},
    state::{Budget, State, arm, new_store, run},
    text::one_line,
};
use crate::{
    delivery::Message,
    outcome::{CallError, Outcome},
};

/// Why no instance could be started.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// The guest refused: its `initialize` returned an error.
    #[error("initialize failed: {0}")]
    Initialize(String),
    /// The guest failed while it was instantiated or initialized.
    #[error("the instance could not be started")]
    Failed(#[source] CallError),
    /// All instances that the engine was sized for are in use.
    #[error("no free slot for an instance: {0}")]
    Full(String),
}

/// A call that ended well.
#[derive(Debug)]
pub struct Called {
    /// The instance, ready for the next call.
    pub instance: Instance,
    /// What the guest decided.
    pub outcome: Outcome,
    /// The fuel that the call used.
    pub fuel: u64,
    /// Outputs that have nowhere to go, because the processor has no `out_queue`.
    pub unsent: u32,
}

/// A call that failed; its instance is gone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{error}")]
pub struct Failed {
    /// How it failed.
    pub error: CallError,
    /// The fuel that the call used.
    pub fuel: u64,
}

/// A live instance.
pub struct Instance(Box<Live>);

struct Live {
    spec: Arc<Spec>,
    store: Store<State>,
    lifecycle: lifecycle::Guest,
    entry: LiveEntry,
    /// How long the start took: a fresh processor pays it out of the limits of its message.
    start_time: Duration,
    /// Whose permits it runs under.
    tenant: usize,
}

enum LiveEntry {
    Handler(handler::Guest),
    Timer(timer::Guest),
}

impl fmt::Debug for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Instance").field("processor", &self.0.spec.processor).finish_non_exhaustive()
    }
}

impl Instance {
    /// Instantiates the component and initializes it, within `init_fuel` and `init_time` (of a `fresh`
    /// processor: within the limits of its one message).
    ///
    /// # Errors
    /// When the guest refuses or fails, or all slots of the engine are taken.
    pub fn start(spec: &Arc<Spec>) -> Result<Self, StartError> {
        let budget = spec.start_budget();
        let (component, counters) = (&spec.component, Arc::clone(&spec.counters));
        let log = GuestLog::new(Arc::clone(&spec.processor), Arc::clone(&spec.vo), Arc::clone(&counters));
        let engine = &component.loaded().engine;
        let mut store = new_store(engine, &spec.limits, log, counters);
        let tenant = engine.permits().tenant(&spec.vo);
        let started = start(&mut store, spec, budget, tenant);
        store.data().log.end();
        let (lifecycle, entry) = started?;
        // By the deadline, which moves while it waits for a permit.
        let left = store.data().deadline.saturating_duration_since(Clock::now());
        let (spec, start_time) = (Arc::clone(spec), budget.time.saturating_sub(left));
        Ok(Self(Box::new(Live { spec, store, lifecycle, entry, start_time, tenant })))
    }

    /// Gives the instance a message.
    ///
    /// # Errors
    /// When the guest traps, exceeds a limit or answers what it must not; the instance is gone then.
    pub fn process(self, message: &Message, attempt: u32) -> Result<Called, Failed> {
        self.call(|entry, store| match entry {
            LiveEntry::Handler(guest) => {
                let headers = input::headers(message);
                guest.call_process(store, input::message(message, &headers, attempt))
            }
            LiveEntry::Timer(_) => Err(wasmtime::Error::msg("the component does not handle messages")),
        })
    }

    /// Gives the instance its turn by the clock.
    ///
    /// # Errors
    /// As [`Instance::process`].
    pub fn tick(self) -> Result<Called, Failed> {
        self.call(|entry, store| match entry {
            LiveEntry::Timer(guest) => guest.call_tick(store),
            LiveEntry::Handler(_) => Err(wasmtime::Error::msg("the component does not work by the clock")),
        })
    }

    /// Lets the instance say farewell; it has one second, and its failure is only logged.
    pub fn terminate(mut self) {
        let Live { spec, store, lifecycle, tenant, .. } = &mut *self.0;
        let engine = &spec.component.loaded().engine;
        let ended = arm(store, SMALL_BUDGET, spec.limits.log_bytes)
            .and_then(|()| run(store, engine, *tenant, |store| lifecycle.call_terminate(store)));
        store.data().log.end();
        if let Err(error) = ended {
            let error = classify(&error, store, SMALL_BUDGET);
            tracing::warn!(processor = &*spec.processor, %error, "terminate failed");
        }
    }

    /// One call: budget, guest, check of the answer.
    fn call(
        mut self,
        enter: impl FnOnce(&LiveEntry, &mut Store<State>) -> wasmtime::Result<Answer>,
    ) -> Result<Called, Failed> {
        let Live { spec, store, entry, start_time, tenant, .. } = &mut *self.0;
        let budget = spec.message_budget();
        let left = if spec.fresh { left_over(store, budget, *start_time) } else { budget };
        let engine = &spec.component.loaded().engine;
        let answer = arm(store, left, spec.limits.log_bytes)
            .and_then(|()| run(store, engine, *tenant, |store| enter(entry, store)));
        store.data().log.end();
        let fuel = budget.fuel.saturating_sub(store.get_fuel().unwrap_or_default());
        let checked = match answer {
            Ok(answer) => output::check(answer, spec.rules()),
            Err(error) => Err(classify(&error, store, budget)),
        };
        match checked {
            Ok(Checked { outcome, unsent }) => Ok(Called { instance: self, outcome, fuel, unsent }),
            Err(error) => Err(Failed { error, fuel }),
        }
    }
}

/// What a start has left of the budget of a message.
fn left_over(store: &Store<State>, budget: Budget, start_time: Duration) -> Budget {
    let fuel = store.get_fuel().unwrap_or_default();
    Budget { fuel, time: budget.time.saturating_sub(start_time) }
}

/// Instantiates and initializes.
fn start(
    store: &mut Store<State>,
    spec: &Spec,
    budget: Budget,
    tenant: usize,
) -> Result<(lifecycle::Guest, LiveEntry), StartError> {
    let bare = instantiate(store, &spec.component, budget, spec.limits.log_bytes, tenant)?;
    let guests =
        guests(store, &spec.component, &bare).map_err(|error| StartError::Failed(classify(&error, store, budget)))?;
    let queues: Vec<&str> = spec.out_queues.iter().map(|queue| &**queue).collect();
    let context = lifecycle::Context {
        processor: &spec.processor,
        name: &spec.class,
        vo: &spec.vo,
        generation: spec.generation,
        out_queues: &queues,
        params: &spec.params,
        extra: &[],
    };
    let engine = &spec.component.loaded().engine;
    match run(store, engine, tenant, |store| guests.0.call_initialize(store, context)) {
        Ok(Ok(())) => Ok(guests),
        Ok(Err(refusal)) => Err(StartError::Initialize(one_line(&refusal, 1 << 10).into_owned())),
        Err(error) => Err(StartError::Failed(classify(&error, store, budget))),
    }
}

/// Sets the budget, then makes the instance: a component's start functions run here.
fn instantiate(
    store: &mut Store<State>,
    component: &Component,
    budget: Budget,
    log_bytes: usize,
    tenant: usize,
) -> Result<Bare, StartError> {
    let loaded = component.loaded();
    let made = arm(store, budget, log_bytes)
        .and_then(|()| run(store, &loaded.engine, tenant, |store| loaded.pre.instantiate(store)));
    made.map_err(|error| match error.downcast_ref::<PoolConcurrencyLimitError>() {
        Some(full) => StartError::Full(full.to_string()),
        None => StartError::Failed(classify(&error, store, budget)),
    })
}

/// Looks the functions of the contract up in an instance.
fn guests(
    store: &mut Store<State>,
    component: &Component,
    bare: &Bare,
) -> wasmtime::Result<(lifecycle::Guest, LiveEntry)> {
    let loaded = component.loaded();
    let lifecycle = loaded.lifecycle.load(&mut *store, bare)?;
    let entry = match &loaded.entry {
        Entry::Handler(indices) => LiveEntry::Handler(indices.load(&mut *store, bare)?),
        Entry::Timer(indices) => LiveEntry::Timer(indices.load(&mut *store, bare)?),
    };
    Ok((lifecycle, entry))
}

/// Asks a component what it offers, on an instance of its own.
pub(crate) fn describe(component: &Component) -> Result<Description, LoadError> {
    let limits = Limits { memory_bytes: MAX_MEMORY_BYTES / 4, ..Limits::default() };
    describe_within(component, &limits, SMALL_BUDGET)
}

/// The same within other limits: does an instance fit into them at all?
pub(crate) fn describe_within(
    component: &Component,
    limits: &Limits,
    budget: Budget,
) -> Result<Description, LoadError> {
    let counters = Arc::new(Counters::default());
    let label = component.digest().get(..12).unwrap_or_default();
    let log = GuestLog::new(label.into(), "".into(), Arc::clone(&counters));
    let loaded = component.loaded();
    let mut store = new_store(&loaded.engine, limits, log, counters);
    let tenant = loaded.engine.permits().tenant(&"".into());
    let bare = instantiate(&mut store, component, budget, limits.log_bytes, tenant);
    let bare = bare.map_err(|error| match error {
        StartError::Failed(error) => LoadError::Describe(error),
        StartError::Initialize(text) | StartError::Full(text) => LoadError::Full(text),
    })?;
    let described = loaded
        .lifecycle
        .load(&mut store, &bare)
        .and_then(|lifecycle| run(&mut store, &loaded.engine, tenant, |store| lifecycle.call_describe(store)));
    store.data().log.end();
    described.map(Description::from).map_err(|error| LoadError::Describe(classify(&error, &store, budget)))
}
