//! What operators ask for beside a reload: going back, pausing, resuming.
//!
//! A part of [`super::Manager`].

use std::sync::Arc;

use super::{Answered, Done, Manager, managed::Managed, of, on_a_thread, told};
use crate::{
    config::{hint, with_sources},
    control::{Answer, Change, ControlError, What},
    stage::Act,
};

impl Manager {
    /// Ends a trial at once, or goes back to an earlier generation as soon as it has its instances.
    pub(super) fn go_back(&mut self, who: &'static str, name: &str, to: Option<u64>, answer: Answered) {
        match self.wanted(name, to) {
            Err(error) => drop(answer.send(Err(error))),
            Ok(None) => {
                let ended = self.find_mut(name).map(|managed| managed.end_trial("by an operator"));
                self.answer((who, name), ended, answer);
            }
            Ok(Some((processor, back, lanes))) => {
                let made = back.clone();
                self.under_way.spawn(async move {
                    let made = on_a_thread("prepare", move || made.prepare(lanes)).await;
                    let made = made.unwrap_or(Ok(())).map_err(|error| with_sources(&error));
                    Done::Back { processor, back, made, who, answer }
                });
            }
        }
    }

    /// The generation to go back to; none where that is the stable one, beside one on trial.
    #[expect(clippy::type_complexity, reason = "used once, right above")]
    fn wanted(&self, name: &str, to: Option<u64>) -> Result<Option<(Arc<str>, Arc<Act>, usize)>, ControlError> {
        let managed = self.find(name)?;
        let (stage, stable) = (&managed.stage, managed.stage.stable().number());
        if stage.candidate().is_some() && to.is_none_or(|to| to == stable) {
            return Ok(None);
        }
        let Some(back) = stage.earlier(to) else {
            let known: Vec<_> = stage.earlier_numbers().iter().map(ToString::to_string).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            return Err(ControlError::Unknown(format!(
                "{name}: no such generation to go back to; generation {stable} runs, and there are: {known}"
            )));
        };
        Ok(Some((managed.processor.name.clone(), back.again(), stage.lanes())))
    }

    /// An earlier generation is ready.
    pub(super) fn go_on_with(&mut self, name: &str, back: &Arc<Act>) -> Result<Vec<Change>, ControlError> {
        let managed = self.find_mut(name)?;
        if !managed.fits(back) {
            let text = "the processor sends to other queues meanwhile: earlier generations are gone";
            return Err(ControlError::Refused(text.to_owned()));
        }
        let detail = format!("by an operator, to generation {}", back.number());
        let mut changes = managed.end_trial(&detail);
        let left = managed.stage.stable();
        managed.stage.go_back(back.clone(), &detail);
        managed.avoid(&left);
        managed.allow(back);
        changes.extend([of(&left, What::RolledBack, &detail), of(back, What::Stable, "by an operator")]);
        Ok(changes)
    }

    pub(super) fn pause(&mut self, name: &str, paused: bool) -> Answer {
        let managed = self.find(name)?;
        let what = match (managed.stage.pause(paused), paused) {
            (false, _) => What::Unchanged,
            (true, true) => What::Paused,
            (true, false) => What::Resumed,
        };
        Ok(vec![told(name, what, None, "")])
    }

    fn find(&self, name: &str) -> Result<&Managed, ControlError> {
        self.processors.get(name).ok_or_else(|| self.unknown(name))
    }

    pub(super) fn find_mut(&mut self, name: &str) -> Result<&mut Managed, ControlError> {
        let unknown = self.unknown(name);
        self.processors.get_mut(name).ok_or(unknown)
    }

    fn unknown(&self, name: &str) -> ControlError {
        let hint = hint(name, self.processors.keys().map(AsRef::as_ref));
        ControlError::Unknown(format!("no processor {name:?} runs here{hint}"))
    }
}

impl Managed {
    /// What is on trial goes.
    fn end_trial(&mut self, why: &str) -> Vec<Change> {
        let Some(act) = self.stage.roll_back(why) else { return Vec::new() };
        self.avoid(&act);
        let detail = format!("{why}; generation {} runs on", self.stage.stable().number());
        vec![of(&act, What::RolledBack, &detail)]
    }
}
