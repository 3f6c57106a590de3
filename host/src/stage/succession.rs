//! A processor whose lanes are others from now on: what is known of its generations goes on with them.
//!
//! Called by [`crate::wiring`], when the lanes of the old stage have ended.

use std::{mem, sync::Arc};

use super::{Recorder, Stage, State, Wake};

impl Stage {
    /// The stage for that many new lanes. What runs, ran and is on trial is taken along, and so is a pause; this one is
    /// left with what is stable.
    #[must_use]
    pub fn pass_on(&self, lanes: usize, replay: usize, wake: Wake) -> Arc<Self> {
        let state = self.change(|state| State {
            stable: state.stable.clone(),
            stable_since: state.stable_since,
            candidate: state.candidate.take(),
            earlier: mem::take(&mut state.earlier),
            rolled_back: mem::take(&mut state.rolled_back),
            retired: mem::take(&mut state.retired),
            forgotten: Vec::new(),
            paused: state.paused,
        });
        let recorder = Recorder::new(replay);
        recorder.take_over(&self.recorder);
        let stage = Self::with(state, lanes, recorder, self.bell.clone(), wake);
        stage.bell.notify_one();
        stage
    }

    /// Whether an operator has paused it.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.lock().paused
    }
}
