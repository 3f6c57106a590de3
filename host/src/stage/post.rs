//! One lane's place on the stage: its instance of the stable generation, and of the candidate where it runs that.
//!
//! [`crate::lane`] and [`crate::source`] hold one each. Between two messages [`Post::follow`] takes over what has
//! changed: instances are ready for it, so a lane loses no time. Those that are left say farewell elsewhere.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tracing::error;

use super::{Act, LaneReport, Stage, lanes_of};
use crate::{sandbox::Instance, trial::Went};

/// What a lane does now, for whoever asks.
#[derive(Debug, Default)]
pub struct Doing {
    what: AtomicU8,
    generation: AtomicU64,
    since_ms: AtomicU64,
}

const DOING: [&str; 6] = ["starting", "idle", "processing", "waiting", "paused", "ended"];

impl Doing {
    fn set(&self, what: &str, generation: u64) {
        let at = DOING.iter().position(|known| *known == what).unwrap_or_default();
        self.what.store(u8::try_from(at).unwrap_or_default(), Ordering::Relaxed);
        self.generation.store(generation, Ordering::Relaxed);
        self.since_ms.store(now_ms(), Ordering::Relaxed);
    }

    pub(super) fn report(&self, number: usize) -> LaneReport {
        let what = usize::from(self.what.load(Ordering::Relaxed));
        LaneReport {
            number,
            generation: self.generation.load(Ordering::Relaxed),
            doing: DOING.get(what).copied().unwrap_or_default(),
            for_ms: now_ms().saturating_sub(self.since_ms.load(Ordering::Relaxed)),
        }
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// What a lane is to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Take messages.
    Go,
    /// Take none until something changes.
    Pause,
}

/// A generation on one lane.
#[derive(Debug)]
pub struct Seat {
    /// The generation.
    pub act: Arc<Act>,
    /// Its instance, if it has one now.
    pub warm: Option<Instance>,
}

/// On which generation a message runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum On {
    /// The one on trial.
    Candidate,
    /// The stable one.
    Stable,
    /// One that the message names.
    Visitor,
}

/// One lane's place.
#[derive(Debug)]
pub struct Post {
    /// The stage.
    pub stage: Arc<Stage>,
    lane: usize,
    seen: u64,
    turn: Turn,
    /// The stable generation.
    pub stable: Seat,
    /// The candidate, where this lane runs it.
    pub candidate: Option<Seat>,
    /// An earlier generation that runs one message here.
    visitor: Option<Seat>,
    chosen: On,
}

impl Post {
    /// The place of the lane with this number.
    #[must_use]
    pub fn new(stage: Arc<Stage>, lane: usize) -> Self {
        let stable = Seat { act: stage.stable(), warm: None };
        Self { stage, lane, seen: 0, turn: Turn::Go, stable, candidate: None, visitor: None, chosen: On::Stable }
    }

    /// Whether something has changed that [`Post::follow`] has not seen.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        self.stage.turn.load(Ordering::Acquire) != self.seen
    }

    /// Takes over what has changed, and tells what to do.
    pub fn follow(&mut self) -> Turn {
        if !self.is_behind() {
            return self.turn;
        }
        let stage = self.stage.clone();
        let mut state = stage.lock();
        self.seen = stage.turn.load(Ordering::Acquire);
        self.turn = if state.paused { Turn::Pause } else { Turn::Go };
        let candidate = state.candidate.as_ref();
        let candidate = candidate.filter(|candidate| self.lane < lanes_of(&candidate.rollout, stage.lanes.len()));
        let candidate = candidate.map(|candidate| candidate.act.clone());
        let stable = state.stable.clone();
        let mut left = vec![self.candidate.take(), Some(std::mem::replace(&mut self.stable, Seat::empty(&stable)))];
        self.stable = seat(stable, &mut left);
        self.candidate = candidate.map(|act| seat(act, &mut left));
        let left: Vec<_> = left.into_iter().flatten().filter_map(|seat| seat.warm).collect();
        if !left.is_empty() {
            state.retired.extend(left);
            stage.bell.notify_one();
        }
        self.turn
    }

    /// The place of a generation that was manned.
    pub fn seat(&mut self, on: On) -> &mut Seat {
        match (on, &mut self.candidate, &mut self.visitor) {
            (On::Candidate, Some(candidate), _) => candidate,
            (On::Visitor, _, Some(visitor)) => visitor,
            _ => &mut self.stable,
        }
    }

    /// Chooses what the next message runs on: the generation of this number, as long as there is one; without a number
    /// the candidate, else the stable one.
    pub fn choose(&mut self, number: Option<u64>) {
        let here = |seat: &Seat| number == Some(seat.act.number());
        self.chosen = match (&self.candidate, number) {
            (Some(_), None) => On::Candidate,
            (Some(candidate), _) if here(candidate) => On::Candidate,
            (_, Some(_)) if !here(&self.stable) => {
                if !self.visitor.as_ref().is_some_and(here) {
                    self.see_off();
                    self.visitor = self.stage.earlier(number).map(|act| Seat { act, warm: None });
                }
                if self.visitor.is_some() { On::Visitor } else { On::Stable }
            }
            _ => On::Stable,
        };
    }

    /// Whether there is an instance that [`Post::man`] would take.
    #[must_use]
    pub fn is_manned(&mut self) -> bool {
        self.seat(self.chosen).warm.is_some()
    }

    /// A visitor leaves.
    pub fn see_off(&mut self) {
        if let Some(instance) = self.visitor.take().and_then(|seat| seat.warm) {
            self.stage.retire(vec![instance]);
        }
    }

    /// Sees to an instance of what was chosen; where that does not start, of the stable generation, tried again with
    /// back-off. `pause` sleeps until something has changed, and returns true when that is so or the host ends: then there
    /// may be no instance. `failed` is told of each failed start.
    pub fn man(&mut self, failed: impl Fn(), pause: impl Fn(Duration, &dyn Fn() -> bool) -> bool) -> Option<On> {
        let (chosen, stage) = (self.chosen, self.stage.clone());
        if chosen != On::Stable {
            let seat = self.seat(chosen);
            if seat.warm.is_some() || seat.start(&stage, &failed) {
                return Some(chosen);
            }
            self.chosen = On::Stable;
        }
        if self.stable.warm.is_none() {
            self.doing("starting");
            self.stable.warm = self.stable.act.take_ready();
        }
        if self.stable.warm.is_none() {
            self.stable.warm = self.stable.act.generation.start(|wait| {
                failed();
                pause(wait, &|| self.is_behind())
            });
        }
        self.stable.warm.is_some().then_some(On::Stable)
    }

    /// Says what the lane does now.
    pub fn doing(&self, what: &'static str) {
        let runs = self.candidate.as_ref().unwrap_or(&self.stable);
        if let Some(doing) = self.stage.lanes.get(self.lane) {
            doing.set(what, runs.act.number());
        }
    }

    /// The lane ends: what it has says farewell.
    pub fn leave(self) {
        self.doing("ended");
        self.stable.warm.into_iter().chain(self.candidate.and_then(|seat| seat.warm)).for_each(Instance::terminate);
    }
}

impl Seat {
    fn empty(act: &Arc<Act>) -> Self {
        Self { act: act.clone(), warm: None }
    }

    /// One try: a candidate that does not start is not waited for.
    fn start(&mut self, stage: &Stage, failed: impl Fn()) -> bool {
        match Instance::start(&self.act.generation.spec) {
            Ok(instance) => self.warm = Some(instance),
            Err(error) => {
                error!(processor = %self.act.generation.spec.processor, generation = self.act.number(),
                       code = error.code(), error = &error as &dyn std::error::Error,
                       "no instance: the stable generation goes on");
                failed();
                stage.dispute(&self.act, Went::Trap);
            }
        }
        self.warm.is_some()
    }
}

/// The seat of this generation: the one that the lane has, else one with an instance that is ready.
fn seat(act: Arc<Act>, left: &mut [Option<Seat>]) -> Seat {
    let had = left.iter_mut().find_map(|seat| seat.take_if(|seat| Arc::ptr_eq(&seat.act, &act)));
    had.unwrap_or_else(|| {
        let warm = act.take_ready();
        Seat { act, warm }
    })
}
