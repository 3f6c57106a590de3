//! One processor as the manager sees it: its stage, and what is known of its versions.

use std::sync::Arc;

use super::{of, told};
use crate::{
    config::Processor,
    control::{Change, What},
    sandbox::{Counters, Kind},
    stage::{Act, Stage},
    status::ProcessorStatus,
};

/// Versions that were rolled back, remembered until another one comes.
const MAX_AVOIDED: usize = 20;

pub(super) struct Managed {
    pub(super) processor: Arc<Processor>,
    pub(super) stage: Arc<Stage>,
    pub(super) counters: Arc<Counters>,
    /// Where it is at work.
    pub(super) at_work: Arc<ProcessorStatus>,
    /// The number of the next generation.
    pub(super) next: u64,
    /// What was rolled back, by [`crate::generation::Generation::identity`].
    pub(super) avoided: Vec<String>,
    /// What is to be kept over a restart may be another since [`Managed::take_changed`].
    changed: bool,
    /// Something of it is under way: who wanted it.
    busy: Option<&'static str>,
    /// It is to be looked at once more after that: who wants it.
    again: Option<&'static str>,
}

/// What is remembered of a processor that is gone.
pub(super) struct Gone {
    pub(super) processor: Arc<Processor>,
    pub(super) stable: Arc<Act>,
    pub(super) counters: Arc<Counters>,
    pub(super) next: u64,
    pub(super) avoided: Vec<String>,
}

impl Managed {
    /// It goes.
    pub(super) fn into_gone(self) -> Gone {
        let Self { processor, counters, next, avoided, .. } = self;
        Gone { processor, stable: self.stage.stable(), counters, next, avoided }
    }

    /// A processor that has been started, and what it avoids since before that.
    pub(super) fn new(processor: Arc<Processor>, at_work: Arc<ProcessorStatus>, mut avoided: Vec<String>) -> Self {
        let (stage, counters) = (at_work.stage.clone(), at_work.guest.clone());
        let stable = stage.stable();
        // It runs where nothing else is to be had.
        avoided.retain(|avoided| *avoided != stable.generation.identity());
        let next = stable.number() + 1;
        Self { processor, stage, counters, at_work, next, avoided, changed: true, busy: None, again: None }
    }

    /// It is at work on other lanes.
    pub(super) fn moved(&mut self, processor: Arc<Processor>, at_work: Arc<ProcessorStatus>) {
        (self.stage, self.counters) = (at_work.stage.clone(), at_work.guest.clone());
        (self.processor, self.at_work) = (processor, at_work);
        self.next = self.next.max(self.stage.stable().number() + 1);
        self.changed = true;
    }

    /// Whether something has changed that is to be kept over a restart.
    pub(super) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// What was rolled back may be tried again.
    pub(super) fn forgive(&mut self) {
        (self.avoided, self.changed) = (Vec::new(), true);
    }

    pub(super) fn is_busy(&self) -> bool {
        self.busy.is_some()
    }

    /// Something begins; false where something is under way: then it is looked at again after that.
    pub(super) fn begin(&mut self, who: &'static str) -> bool {
        if self.busy.is_some() {
            self.again = Some(who);
            return false;
        }
        self.busy = Some(who);
        true
    }

    /// What was under way has ended: who wanted it, and who wants another look.
    pub(super) fn end(&mut self) -> (&'static str, Option<&'static str>) {
        (self.busy.take().unwrap_or("file"), self.again.take())
    }

    /// It was rolled back: it is not taken up again until the file or the configuration is another one.
    pub(super) fn avoid(&mut self, act: &Act) {
        let identity = act.generation.identity();
        self.avoided.retain(|avoided| *avoided != identity);
        self.avoided.push(identity);
        self.changed = true;
        if self.avoided.len() > MAX_AVOIDED {
            self.avoided.remove(0);
        }
    }

    /// An operator wants it after all.
    pub(super) fn allow(&mut self, act: &Act) {
        let identity = act.generation.identity();
        self.avoided.retain(|avoided| *avoided != identity);
        self.changed = true;
    }

    /// Whether this can run where the processor is at work.
    pub(super) fn fits(&self, act: &Act) -> bool {
        let spec = &act.generation.spec;
        let (vo, kind) = (self.processor.vo.as_deref().unwrap_or_default(), spec.component.kind());
        self.processor.writes_to().eq(&spec.out_queues)
            && self.processor.out_queue == spec.default_queue
            && *spec.vo == *vo
            && (kind == Kind::Handler) == self.processor.in_queue.is_some()
    }

    /// A generation that is ready goes on trial.
    pub(super) fn try_out(&mut self, act: Arc<Act>) -> Vec<Change> {
        self.next = act.number() + 1;
        self.forgive();
        let (rollout, stable) = (&self.processor.rollout, self.stage.stable().number());
        let mut changes = vec![of(&act, What::Loaded, "")];
        if let Some(other) = self.stage.roll_back("another one came while it was on trial") {
            changes.push(of(&other, What::RolledBack, "another one came while it was on trial"));
        }
        self.stage.try_out(act.clone(), rollout.clone());
        let (some, all, seconds) = (self.stage.candidate_lanes(), self.stage.lanes(), rollout.time.as_secs_f64());
        let trial = format!(
            "on {some} of {all} lanes, for {} messages or {seconds} s, beside generation {stable}",
            rollout.messages
        );
        changes.push(of(&act, What::OnTrial, &trial));
        changes
    }

    /// The candidate has stood its trial, if it is still there.
    pub(super) fn keep(&mut self, act: &Arc<Act>) -> Vec<Change> {
        if self.stage.candidate().is_none_or(|candidate| !Arc::ptr_eq(&candidate, act)) {
            return Vec::new();
        }
        self.changed = true;
        let detail = format!("after {} calls on trial", act.score.calls());
        self.stage.keep().iter().map(|act| of(act, What::Stable, &detail)).collect()
    }

    /// It stays as it is.
    pub(super) fn unchanged(&self, detail: &str) -> Change {
        told(&self.processor.name, What::Unchanged, None, detail)
    }
}
