//! What the lanes of one processor run: the stable generation, and beside it a candidate while it is on trial.
//!
//! Lanes hold a [`Post`] each and look between two messages whether anything has changed; [`crate::manager`] changes it:
//! candidates come, are kept or rolled back, operators pause and go back. Every change is one assignment under a lock
//! that lanes take only after a change. Nothing here compiles, and no code of a guest runs under the lock.

mod post;
mod recorder;
mod report;
mod succession;

use std::{
    collections::VecDeque,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Instant, SystemTime},
};

use tokio::sync::Notify;

use crate::{
    dead_letter::Origin,
    generation::Generation,
    sandbox::{Instance, StartError},
    settle::Author,
    trial::{Rollout, Score, Verdict, Went, judge},
};

pub use self::{
    post::{Doing, On, Post, Seat, Turn},
    recorder::{Recorded, Recorder},
    report::{GenerationReport, LaneReport, StageReport},
};

/// Generations that can be gone back to, and rolled back ones that are told of.
const REMEMBERED: usize = 5;

/// A generation at work: what it is, and what it did since.
#[derive(Debug)]
pub struct Act {
    /// What runs.
    pub generation: Generation,
    /// What settlement knows of it.
    pub author: Arc<Author>,
    /// What it did.
    pub score: Score,
    /// Instances that lanes need not wait for.
    ready: Mutex<Vec<Instance>>,
}

impl Act {
    /// A generation that is about to run: on trial, where it runs beside the stable one of this number.
    #[must_use]
    pub fn new(generation: Generation, module: &str, beside: Option<u64>) -> Arc<Self> {
        let spec = &generation.spec;
        let origin = Origin {
            processor: spec.processor.clone(),
            module: module.to_owned(),
            digest: spec.component.digest().to_owned(),
            generation: spec.generation,
        };
        let (score, ready) = Default::default();
        Arc::new(Self { author: Author::new(origin, beside), generation, score, ready })
    }

    /// Its number.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.generation.spec.generation
    }

    /// Makes instances that lanes take over without waiting. Called off the hot path, on a plain thread.
    ///
    /// # Errors
    /// One could not be started.
    pub fn prepare(&self, instances: usize) -> Result<(), StartError> {
        if self.generation.spec.fresh {
            return Instance::start(&self.generation.spec).map(Instance::terminate);
        }
        // What is there already serves as well.
        let there = self.lock().len();
        for _ in there..instances.max(1) {
            let instance = Instance::start(&self.generation.spec)?;
            self.lock().push(instance);
        }
        Ok(())
    }

    /// The same generation at work once more, from the beginning.
    #[must_use]
    pub fn again(&self) -> Arc<Self> {
        let origin = self.author.origin.clone();
        let (score, ready) = Default::default();
        Arc::new(Self { generation: self.generation.clone(), author: Author::new(origin, None), score, ready })
    }

    /// It will not run: what was made for it is let go.
    pub fn prepared_in_vain(&self) {
        drop(self.take_all_ready());
    }

    /// Instances that no lane has taken.
    fn take_all_ready(&self) -> Vec<Instance> {
        std::mem::take(&mut self.lock())
    }

    fn take_ready(&self) -> Option<Instance> {
        self.lock().pop()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Instance>> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lets lanes look around that wait for a message.
pub type Wake = Box<dyn Fn() + Send + Sync>;

/// What the lanes of one processor run.
pub struct Stage {
    /// Grows with each change.
    turn: AtomicU64,
    state: Mutex<State>,
    lanes: Vec<Doing>,
    wake: Wake,
    /// Rung when a candidate may have to go, and when instances are to say farewell.
    bell: Arc<Notify>,
    recorder: Recorder,
}

struct State {
    stable: Arc<Act>,
    stable_since: SystemTime,
    candidate: Option<Candidate>,
    /// Those that were stable before, the last one first.
    earlier: VecDeque<Past>,
    /// Those that were rolled back, the last one first.
    rolled_back: VecDeque<Past>,
    /// Instances that lanes have left.
    retired: Vec<Instance>,
    /// What is not remembered any more: it is freed after the lock.
    forgotten: Vec<Past>,
    paused: bool,
}

/// A generation on trial.
#[derive(Debug, Clone)]
struct Candidate {
    act: Arc<Act>,
    rollout: Rollout,
    began: Instant,
    since: SystemTime,
}

/// A generation that runs no more.
struct Past {
    act: Arc<Act>,
    since: SystemTime,
    reason: String,
}

impl fmt::Debug for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stage").field("stable", &self.stable().number()).finish_non_exhaustive()
    }
}

impl Stage {
    /// A stage with its first generation. `wake` lets lanes look around that wait for a message; `bell` is rung when
    /// [`Stage::judge`] or [`Stage::take_retired`] has something to do.
    #[must_use]
    pub fn new(first: Arc<Act>, lanes: usize, replay: usize, bell: Arc<Notify>, wake: Wake) -> Arc<Self> {
        let state = State {
            stable: first,
            stable_since: SystemTime::now(),
            candidate: None,
            earlier: VecDeque::new(),
            rolled_back: VecDeque::new(),
            retired: Vec::new(),
            forgotten: Vec::new(),
            paused: false,
        };
        Self::with(state, lanes, Recorder::new(replay), bell, wake)
    }

    fn with(state: State, lanes: usize, recorder: Recorder, bell: Arc<Notify>, wake: Wake) -> Arc<Self> {
        let lanes = (0..lanes).map(|_| Doing::default()).collect();
        Arc::new(Self { turn: AtomicU64::new(1), state: Mutex::new(state), lanes, wake, bell, recorder })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One change, which lanes see between two messages.
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.lock();
        let result = change(&mut state);
        self.turn.fetch_add(1, Ordering::Release);
        let (retired, forgotten) = (!state.retired.is_empty(), std::mem::take(&mut state.forgotten));
        drop(state);
        drop(forgotten);
        if retired {
            self.bell.notify_one();
        }
        (self.wake)();
        result
    }

    /// The generation that is known to be good.
    #[must_use]
    pub fn stable(&self) -> Arc<Act> {
        self.lock().stable.clone()
    }

    /// The one on trial.
    #[must_use]
    pub fn candidate(&self) -> Option<Arc<Act>> {
        self.lock().candidate.as_ref().map(|candidate| candidate.act.clone())
    }

    /// How many lanes run a candidate with this rollout.
    #[must_use]
    pub fn lanes_of(&self, rollout: &Rollout) -> usize {
        lanes_of(rollout, self.lanes.len())
    }

    /// How many lanes run the candidate that is on trial.
    #[must_use]
    pub fn candidate_lanes(&self) -> usize {
        self.lock().candidate.as_ref().map_or(0, |candidate| self.lanes_of(&candidate.rollout))
    }

    /// How many lanes there are.
    #[must_use]
    pub fn lanes(&self) -> usize {
        self.lanes.len()
    }

    /// Puts a candidate on trial; one that is on trial already goes.
    pub fn try_out(&self, act: Arc<Act>, rollout: Rollout) {
        self.change(|state| {
            let (began, since) = (Instant::now(), SystemTime::now());
            state.candidate = Some(Candidate { act, rollout, began, since });
        });
    }

    /// What is to become of the candidate.
    #[must_use]
    pub fn judge(&self) -> Verdict {
        let state = self.lock();
        let Some(Candidate { act, rollout, began, .. }) = state.candidate.clone() else { return Verdict::Wait };
        let stable = state.stable.clone();
        drop(state);
        let mut disputed = act.score.disputed();
        disputed.rejects += act.author.refused();
        // Each delivery that it runs or that waits for the broker keeps the author.
        let under_way = Arc::strong_count(&act.author) - 1;
        judge(&rollout, stable.score.recent(), act.score.all(), disputed, (began.elapsed(), under_way))
    }

    /// The candidate is good: it is the stable one from now on. Returns it.
    pub fn keep(&self) -> Option<Arc<Act>> {
        self.change(|state| {
            let act = state.candidate.take()?.act;
            act.author.keep();
            state.replace_stable(act.clone());
            Some(act)
        })
    }

    /// The candidate goes. Returns it.
    pub fn roll_back(&self, reason: &str) -> Option<Arc<Act>> {
        self.change(|state| {
            let act = state.candidate.take()?.act;
            state.note_rolled_back(act.clone(), reason);
            Some(act)
        })
    }

    /// An operator goes back to an earlier generation: it is the stable one at once.
    pub fn go_back(&self, act: Arc<Act>, reason: &str) {
        self.change(|state| {
            if let Some(candidate) = state.candidate.take() {
                state.note_rolled_back(candidate.act, reason);
            }
            let number = act.number();
            let left = std::mem::replace(&mut state.stable, act);
            state.stable_since = SystemTime::now();
            state.earlier.retain(|past| past.act.number() != number);
            state.rolled_back.retain(|past| past.act.number() != number);
            state.note_rolled_back(left, reason);
        });
    }

    /// The generation of this number that ran before; without a number, the last one that was stable.
    #[must_use]
    pub fn earlier(&self, number: Option<u64>) -> Option<Arc<Act>> {
        let state = self.lock();
        let Some(number) = number else { return state.earlier.front().map(|past| past.act.clone()) };
        let mut all = state.earlier.iter().chain(&state.rolled_back).map(|past| &past.act);
        all.find(|act| act.number() == number).cloned()
    }

    /// Whether the generation of this number runs, or can be gone back to.
    #[must_use]
    pub fn has(&self, number: u64) -> bool {
        self.lock().acts().any(|act| act.number() == number)
    }

    /// The numbers that [`Stage::earlier`] knows.
    #[must_use]
    pub fn earlier_numbers(&self) -> Vec<u64> {
        let state = self.lock();
        state.earlier.iter().chain(&state.rolled_back).map(|past| past.act.number()).collect()
    }

    /// The digests of what runs, and of what can be gone back to.
    pub(crate) fn digests(&self) -> Vec<String> {
        self.lock().acts().map(|act| act.author.origin.digest.clone()).collect()
    }

    /// Lets lanes take nothing more, or take again; false where that is so already.
    pub fn pause(&self, paused: bool) -> bool {
        self.change(|state| std::mem::replace(&mut state.paused, paused) != paused)
    }

    /// Instances that lanes have left, which are to say farewell: on a plain thread, off the hot path.
    #[must_use]
    pub fn take_retired(&self) -> Vec<Instance> {
        std::mem::take(&mut self.lock().retired)
    }

    /// Instances that a lane has left.
    fn retire(&self, instances: Vec<Instance>) {
        self.lock().retired.extend(instances);
        self.bell.notify_one();
    }

    /// A candidate did worse than the stable one.
    pub fn dispute(&self, act: &Act, went: Went) {
        act.score.dispute(went);
        self.bell.notify_one();
    }

    /// The last messages that the stable generation processed, for candidates to show what they do with them.
    #[must_use]
    pub fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    /// What there is to tell of it.
    #[must_use]
    pub fn report(&self) -> StageReport {
        let state = self.lock();
        let mut generations: Vec<_> = state.candidate.iter().map(report::of_candidate).collect();
        generations.push(report::of(&state.stable, "stable", state.stable_since, ""));
        let past = |pasts: &VecDeque<Past>, standing| -> Vec<_> {
            pasts.iter().map(|past| report::of(&past.act, standing, past.since, &past.reason)).collect()
        };
        generations.extend(past(&state.earlier, "earlier"));
        generations.extend(past(&state.rolled_back, "rolled-back"));
        generations.sort_by_key(|generation| std::cmp::Reverse(generation.number));
        let lanes = self.lanes.iter().enumerate().map(|(number, lane)| lane.report(number)).collect();
        StageReport { paused: state.paused, generations, lanes }
    }
}

impl State {
    /// What runs, and what can be gone back to.
    fn acts(&self) -> impl Iterator<Item = &Arc<Act>> {
        let candidate = self.candidate.iter().map(|candidate| &candidate.act);
        candidate.chain([&self.stable]).chain(self.earlier.iter().chain(&self.rolled_back).map(|past| &past.act))
    }

    fn replace_stable(&mut self, act: Arc<Act>) {
        let left = std::mem::replace(&mut self.stable, act);
        let since = std::mem::replace(&mut self.stable_since, SystemTime::now());
        self.retired.extend(left.take_all_ready());
        self.earlier.push_front(Past { act: left, since, reason: String::new() });
        self.forgotten.extend(self.earlier.drain(self.earlier.len().min(REMEMBERED)..));
    }

    fn note_rolled_back(&mut self, act: Arc<Act>, reason: &str) {
        self.retired.extend(act.take_all_ready());
        self.rolled_back.push_front(Past { act, since: SystemTime::now(), reason: reason.to_owned() });
        self.forgotten.extend(self.rolled_back.drain(self.rolled_back.len().min(REMEMBERED)..));
    }
}

/// At least one; all but for a rounding error are all.
fn lanes_of(rollout: &Rollout, lanes: usize) -> usize {
    let share = (lanes as f64 * rollout.share.clamp(0.0, 1.0) - 1e-9).ceil();
    (share as usize).clamp(1, lanes.max(1))
}
