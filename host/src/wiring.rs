//! The only wiring: what of a configuration is at work, unit by unit, and how units come and go.
//!
//! [`crate::app`] starts all units and drains them; [`crate::manager`] lets some go and starts others while the host runs.
//! `plan` tells what a unit is made of, `parts` makes its parts, `unit` starts and ends one, `senders` are shared, `drain`
//! ends all. Nothing here decides about a message.

mod drain;
mod parts;
pub(crate) mod plan;
mod senders;
mod unit;

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::{
    sync::{Notify, watch},
    time::sleep,
};
use tracing::warn;

pub use self::drain::Drained;
use self::{
    plan::Key,
    senders::{Sender, Senders, Use},
    unit::Unit,
};
use crate::{
    buffer::HostBytes,
    client::SessionState,
    config::{Config, Processor},
    log_rate::LogRate,
    metrics::ProcessorMetrics,
    sandbox::Counters,
    slots::Slots,
    spool::Spool,
    stage::{Act, Stage, Wake},
    status::{Board, ProcessorStatus, Status},
    telemetry::Logs,
};

/// How long a unit that goes may take to settle what it has, beside what one message may take. After that what is not
/// acknowledged is the broker's again, and its successor starts.
const LEAVE_WITHIN: Duration = Duration::from_secs(30);
/// How often a unit that is overdue is looked at.
const LOOK: Duration = Duration::from_millis(500);

/// What all units share.
#[derive(Debug)]
pub(crate) struct Common {
    /// Bytes that wait in all buffers (`buffer_mb`).
    pub(crate) host_bytes: Arc<HostBytes>,
    /// Takes dead letters that a broker refuses (`state_dir`).
    pub(crate) spool: Option<Arc<Spool>>,
    /// What lanes work on (`state_dir`).
    pub(crate) slots: Option<Arc<Slots>>,
    /// Rung by stages, for the manager.
    pub(crate) bell: Arc<Notify>,
    /// The log of the process, where it has one.
    pub(crate) logs: Option<Logs>,
}

/// What a processor runs on a unit that starts.
#[derive(Debug, Clone)]
pub(crate) enum Cast {
    /// This generation, from the beginning. Where it ran before, what it counts goes on, and so does a pause.
    Begins(Arc<Act>, Option<Arc<ProcessorStatus>>),
    /// What it ran before, with all that is known of its generations.
    GoesOn(Arc<ProcessorStatus>),
}

/// By processor.
pub(crate) type Casts = BTreeMap<Arc<str>, Cast>;

impl Cast {
    fn act(&self) -> Arc<Act> {
        match self {
            Self::Begins(act, _) => act.clone(),
            Self::GoesOn(before) => before.stage.stable(),
        }
    }

    fn metrics(&self) -> Arc<ProcessorMetrics> {
        match self {
            Self::Begins(_, None) => Arc::default(),
            Self::Begins(_, Some(before)) | Self::GoesOn(before) => before.metrics.clone(),
        }
    }

    fn counters(&self) -> Arc<Counters> {
        self.act().generation.spec.counters.clone()
    }

    fn log_rate(&self) -> LogRate {
        self.act().generation.spec.log_rate()
    }

    /// The stage on which it runs.
    fn stage(&self, processor: &Processor, common: &Common, wake: Wake) -> Arc<Stage> {
        // A source has one thread, and no messages that could be recorded.
        let (lanes, replay) =
            if processor.in_queue.is_some() { (processor.n_threads, processor.rollout.replay) } else { (1, 0) };
        match self {
            Self::GoesOn(before) => before.stage.pass_on(lanes, replay, wake),
            Self::Begins(act, before) => {
                let stage = Stage::new(act.clone(), lanes, replay, common.bell.clone(), wake);
                if before.as_ref().is_some_and(|before| before.stage.is_paused()) {
                    stage.pause(true);
                }
                stage
            }
        }
    }
}

/// All that is at work.
#[derive(Debug)]
pub(crate) struct Wiring {
    common: Common,
    board: Arc<Board>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    units: BTreeMap<Key, Arc<Unit>>,
    /// Those that are gone but for what is not answered: their messages are the broker's again.
    overdue: Vec<Arc<Unit>>,
    senders: Senders,
    /// Processors whose unit is gone and whose next one is not there yet: they are told of as they were.
    between: BTreeMap<Arc<str>, Arc<ProcessorStatus>>,
    /// The host ends: nothing is started any more.
    ending: bool,
}

impl Wiring {
    pub(crate) fn new(common: Common) -> Arc<Self> {
        let wiring = Self { common, board: Arc::default(), state: Mutex::default() };
        wiring.publish(&wiring.lock());
        Arc::new(wiring)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where it is told what is at work.
    pub(crate) fn board(&self) -> &Arc<Board> {
        &self.board
    }

    /// Starts a unit of this configuration; must be called within a tokio runtime. Its processors are told of.
    pub(crate) fn start(&self, key: &Key, config: &Config, casts: &Casts) -> io::Result<Vec<Arc<ProcessorStatus>>> {
        let mut state = self.lock();
        if state.ending {
            return Err(io::Error::other("the host ends"));
        }
        let unit = Unit::start(key, config, &self.common, &mut state.senders, casts)?;
        let processors = unit.processors.clone();
        state.between.retain(|name, _| !processors.iter().any(|processor| processor.name == *name));
        state.units.insert(key.clone(), Arc::new(unit));
        self.publish(&state);
        Ok(processors)
    }

    /// A processor does not come back.
    pub(crate) fn forget(&self, processor: &str) {
        let mut state = self.lock();
        state.between.remove(processor);
        self.publish(&state);
    }

    /// Whether this unit is at work.
    pub(crate) fn has(&self, key: &Key) -> bool {
        self.lock().units.contains_key(key)
    }

    /// Lets a unit go: it takes nothing more, and settles what it has. Returns when it has said goodbye.
    pub(crate) async fn leave(self: Arc<Self>, key: &Key) {
        let Some(unit) = self.lock().units.get(key).cloned() else { return };
        let until = Instant::now() + LEAVE_WITHIN + unit.longest;
        if !unit.settle(until).await {
            warn!(%key, "not all was settled in time: the broker delivers it again, except in ack mode auto; outputs may have arrived");
        }
        unit.part(until).await;
        let mut state = self.lock();
        state.units.remove(key);
        state.between.extend(unit.processors.iter().map(|processor| (processor.name.clone(), processor.clone())));
        if unit.is_settled() {
            drop(unit); // With it go the senders that nobody else holds.
        } else {
            state.overdue.push(unit);
            tokio::spawn(Arc::clone(&self).wait_for_overdue());
        }
        self.publish(&state);
    }

    /// Until all that was left behind is answered, or nobody waits for it any more.
    async fn wait_for_overdue(self: Arc<Self>) {
        while self.sweep() {
            sleep(LOOK).await;
        }
    }

    /// Forgets overdue units that are settled. Outputs that only such units wait for, and whose inputs their brokers have,
    /// are not waited for: whoever has the inputs now sends its own. Returns whether some are left.
    fn sweep(&self) -> bool {
        let mut state = self.lock();
        let State { units, overdue, senders, .. } = &mut *state;
        overdue.retain(|unit| !unit.is_settled());
        for sender in senders.all().iter().filter(|sender| sender.what == Use::Outputs) {
            let holds = |unit: &&Arc<Unit>| unit.senders.iter().any(|held| Arc::ptr_eq(held, sender));
            let needed =
                units.values().any(|unit| holds(&unit)) || overdue.iter().filter(holds).any(|unit| unit.must_finish());
            if !needed {
                sender.producer.abandon();
            }
        }
        let left = !overdue.is_empty();
        self.publish(&state);
        left
    }

    /// Waits until every queue is subscribed at each address that can be reached.
    pub(crate) async fn ready(&self) {
        let queues: Vec<watch::Receiver<SessionState>> =
            self.lock().units.values().filter_map(|unit| unit.subscribed.clone()).collect();
        for mut queue in queues {
            // An error means that it has ended.
            let _ = queue.wait_for(|state| *state == SessionState::Subscribed).await;
        }
    }

    /// What is at work takes nothing more.
    pub(crate) fn drop_all(&self) {
        let mut state = self.lock();
        state.ending = true;
        let gone = (std::mem::take(&mut state.units), std::mem::take(&mut state.overdue));
        drop(state);
        drop(gone);
    }

    /// All that is to end; nothing comes any more.
    fn last(&self) -> (Vec<Arc<Unit>>, Vec<Arc<Sender>>) {
        let mut state = self.lock();
        state.ending = true;
        (state.units.values().chain(&state.overdue).cloned().collect(), state.senders.all())
    }

    fn publish(&self, state: &State) {
        let units = || state.units.values();
        let mut processors: Vec<_> = units().flat_map(|unit| unit.processors.clone()).collect();
        processors.extend(state.between.values().cloned());
        processors.sort_by(|one, other| one.name.cmp(&other.name));
        let senders = state.senders.all().into_iter().map(|sender| sender.link.clone());
        self.board.post(Status {
            processors,
            queues: units().filter_map(|unit| unit.queue.clone()).collect(),
            links: senders.chain(units().filter_map(|unit| unit.link.clone())).collect(),
            logs: self.common.logs.clone(),
        });
    }
}
