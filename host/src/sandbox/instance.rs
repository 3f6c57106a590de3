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
    allocation::{Entry, Linked, pooled_or_on_demand},
    bindings::exports::stompbox::processor::{handler, lifecycle, timer},
    component::Loaded,
    failure::{MAX_DETAIL_BYTES, classify},
    guest_log::GuestLog,
    input,
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
    /// The pool is full, and the machine has no room beside it.
    #[error("the machine has no memory for another instance: {0}")]
    Full(String),
}

impl StartError {
    /// The code under which logs know this failure.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Initialize(_) => "initialize",
            Self::Failed(error) => error.code(),
            Self::Full(_) => "no-memory",
        }
    }
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
    /// When the guest refuses or fails, or the machine has no room for another instance.
    pub fn start(spec: &Arc<Spec>) -> Result<Self, StartError> {
        pooled_or_on_demand(spec.component.loaded(), |linked| Self::start_in(spec, linked))
    }

    fn start_in(spec: &Arc<Spec>, linked: &Linked) -> Result<Self, StartError> {
        let budget = spec.start_budget();
        let counters = Arc::clone(&spec.counters);
        let engine = &spec.component.loaded().engine;
        let (processor, vo) = (Arc::clone(&spec.processor), Arc::clone(&spec.vo));
        let log = GuestLog::new(processor, vo, Arc::clone(&counters), spec.log_rate());
        let mut store = new_store(linked.engine(), &spec.limits, log, counters);
        let tenant = engine.permits().tenant(&spec.vo);
        let started = start(&mut store, linked, spec, budget, tenant);
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
            let error = classify(&error, store, SMALL_BUDGET, &spec.component.loaded().lines);
            spec.counters.terminate_failed();
            if spec.log_rate().allows(MAX_DETAIL_BYTES) {
                tracing::warn!(processor = &*spec.processor, code = error.code(), %error, "terminate failed");
            }
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
            Err(error) => Err(classify(&error, store, budget, &spec.component.loaded().lines)),
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
    linked: &Linked,
    spec: &Spec,
    budget: Budget,
    tenant: usize,
) -> Result<(lifecycle::Guest, LiveEntry), StartError> {
    let loaded = spec.component.loaded();
    let failed = |store: &Store<State>, error| StartError::Failed(classify(&error, store, budget, &loaded.lines));
    let bare = instantiate(store, linked, loaded, budget, spec.limits.log_bytes, tenant)?;
    let guests = guests(store, linked, &bare).map_err(|error| failed(store, error))?;
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
    match run(store, &loaded.engine, tenant, |store| guests.0.call_initialize(store, context)) {
        Ok(Ok(())) => Ok(guests),
        Ok(Err(refusal)) => Err(StartError::Initialize(one_line(&refusal, 1 << 10).into_owned())),
        Err(error) => Err(failed(store, error)),
    }
}

/// Sets the budget, then makes the instance: a component's start functions run here.
pub(crate) fn instantiate(
    store: &mut Store<State>,
    linked: &Linked,
    loaded: &Loaded,
    budget: Budget,
    log_bytes: usize,
    tenant: usize,
) -> Result<Bare, StartError> {
    let made = arm(store, budget, log_bytes)
        .and_then(|()| run(store, &loaded.engine, tenant, |store| linked.pre.instantiate(store)));
    made.map_err(|error| {
        if no_place(&error) {
            return StartError::Full(error.root_cause().to_string());
        }
        StartError::Failed(classify(&error, store, budget, &loaded.lines))
    })
}

/// Whether the pool or the machine, and not the guest, is why there is no instance.
fn no_place(error: &wasmtime::Error) -> bool {
    let cause = error.root_cause();
    error.is::<PoolConcurrencyLimitError>() || cause.is::<std::io::Error>() || cause.is::<rustix::io::Errno>()
}

/// Looks the functions of the contract up in an instance.
fn guests(store: &mut Store<State>, linked: &Linked, bare: &Bare) -> wasmtime::Result<(lifecycle::Guest, LiveEntry)> {
    let lifecycle = linked.lifecycle.load(&mut *store, bare)?;
    let entry = match &linked.entry {
        Entry::Handler(indices) => LiveEntry::Handler(indices.load(&mut *store, bare)?),
        Entry::Timer(indices) => LiveEntry::Timer(indices.load(&mut *store, bare)?),
    };
    Ok((lifecycle, entry))
}
