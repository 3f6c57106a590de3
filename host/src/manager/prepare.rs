//! Prepares the generation of a processor, off the hot path: finds, compiles, checks, starts, replays.
//!
//! Called by [`crate::app`] at start and by [`super::Manager`], on a plain thread. What it returns runs nowhere yet.

use std::{path::PathBuf, sync::Arc};

use super::{kept::Kept, told};
use crate::{
    config::{Config, Problem, Processor, with_sources},
    control::{Change, What},
    generation::{Generation, Refusal},
    outcome::Outcome,
    sandbox::{Counters, Engine, FindError, Found, Instance, PluginDirs},
    stage::{Act, Recorded, Stage},
    trial::Rollout,
};

/// Loads the component that a processor begins with, and checks it against the configuration: what is in its place, or
/// where that was rolled back before, what ran instead. That is told, with what an operator can do.
pub(crate) fn first(
    engine: &Engine,
    config: &Config,
    processor: &Processor,
    (number, counters): (u64, &Arc<Counters>),
    (avoided, kept): (&[String], &Kept),
) -> Result<(Generation, Option<Change>), Vec<Problem>> {
    let found = find(config, processor).map_err(|error| vec![problem(processor, "module", with_sources(&error))])?;
    let (digest, file) = (found.digest(), found.file.display().to_string());
    let load = |found| load(engine, found, processor, number, counters);
    if !avoided.contains(&Generation::identity_of(processor, &digest)) {
        return Ok((load(found)?, None));
    }
    let told =
        |what, detail: String| Change { digest: Some(digest), ..told(&processor.name, what, Some(number), &detail) };
    let way_out = format!("put another file there, or: stompbox reload {}", processor.name);
    match kept.good(&processor.name).and_then(|good| load(good).map_err(|problems| joined(&problems))) {
        Ok(good) => {
            let detail = format!("{file} was rolled back before: {} runs instead; {way_out}", good.file.display());
            Ok((good, Some(told(What::Refused, detail))))
        }
        Err(reason) => {
            let detail = format!(
                "{file} was rolled back before, and runs all the same: what ran instead is not to be \
                                  had ({reason}); put the right file there"
            );
            Ok((load(found)?, Some(told(What::Loaded, detail))))
        }
    }
}

fn load(
    engine: &Engine,
    found: Found,
    processor: &Processor,
    number: u64,
    counters: &Arc<Counters>,
) -> Result<Generation, Vec<Problem>> {
    let refusal = |refusal: Refusal| problem(processor, &refusal.key, refusal.message);
    Generation::load(engine, found, processor, number, counters)
        .map_err(|refusals| refusals.into_iter().map(refusal).collect())
}

fn problem(processor: &Processor, key: &str, message: String) -> Problem {
    Problem { path: format!("processors.{}.{key}", processor.name), message }
}

fn joined(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// Looks for its component in the directories of its VO, then in those of the host.
fn find(config: &Config, processor: &Processor) -> Result<Found, FindError> {
    PluginDirs::open(&directories(config, processor))?.find(&processor.module)
}

pub(super) fn directories(config: &Config, processor: &Processor) -> Vec<PathBuf> {
    let vo_plugins = processor.vo.as_ref().and_then(|vo| config.vos.get(vo)).map(|vo| vo.plugins.clone());
    vo_plugins.unwrap_or_default().into_iter().chain(config.plugins.iter().cloned()).collect()
}

/// Makes a generation ready for the lanes of a stage: it is initialized for each that will run it, and processes what
/// was recorded. An error says what is wrong.
pub(super) fn rehearse(act: &Act, stage: &Stage, rollout: &Rollout) -> Result<(), String> {
    act.prepare(stage.lanes_of(rollout)).map_err(|error| with_sources(&error))?;
    replay(act, &stage.recorder().messages())
}

/// Gives recorded messages to an instance of its own; its outputs go nowhere.
fn replay(act: &Act, recorded: &[Recorded]) -> Result<(), String> {
    let (mut instance, mut outputs) = (None, 0);
    for (number, Recorded { message, attempt, .. }) in recorded.iter().enumerate() {
        let refused = |what: String| format!("replay of recorded message {} of {}: {what}", number + 1, recorded.len());
        let spec = &act.generation.spec;
        let started = instance.take().map_or_else(|| Instance::start(spec), Ok);
        let started = started.map_err(|error| refused(with_sources(&error)))?;
        let called = started.process(message, *attempt).map_err(|failed| refused(failed.to_string()))?;
        match called.outcome {
            Outcome::Ok(made) => outputs += made.len() as u64,
            other => return Err(refused(format!("it answers {}", other.name()))),
        }
        instance = act.generation.keep(called.instance);
    }
    instance.into_iter().for_each(Instance::terminate);
    let before: u64 = recorded.iter().map(|recorded| recorded.outputs).sum();
    if before > 0 && outputs == 0 {
        return Err(format!("replay of {} recorded messages: no outputs, {before} before", recorded.len()));
    }
    Ok(())
}

/// What comes of looking at a processor's component.
pub(super) enum Outlook {
    /// It is the one that runs.
    Same,
    /// It was rolled back before.
    Avoided { digest: String },
    /// It cannot run, and why.
    Refused { digest: Option<String>, reason: String },
    /// It can go on trial.
    Ready { act: Arc<Act> },
    /// It has stood its trial on some lanes, and is ready for all.
    Whole { act: Arc<Act> },
}

/// Prepares the next generation of a processor, unless its component runs already, or was rolled back.
pub(super) fn next(
    engine: &Engine,
    config: &Config,
    processor: &Processor,
    number: u64,
    counters: &Arc<Counters>,
    stage: &Stage,
    (avoided, kept): (&[String], &Kept),
) -> Outlook {
    let found = match find(config, processor) {
        Ok(found) => found,
        Err(error) => return Outlook::Refused { digest: None, reason: with_sources(&error) },
    };
    let digest = found.digest();
    let identity = Generation::identity_of(processor, &digest);
    let is_pinned = processor.sha256.as_ref().is_none_or(|pin| *pin == digest);
    if is_pinned && stage.candidate().unwrap_or_else(|| stage.stable()).generation.identity() == identity {
        kept.copy(&found, &digest);
        return Outlook::Same;
    }
    if avoided.contains(&identity) {
        return Outlook::Avoided { digest };
    }
    kept.copy(&found, &digest);
    let generation = load(engine, found, processor, number, counters).map_err(|problems| joined(&problems));
    let act = generation.map(|generation| Act::new(generation, &processor.module, Some(stage.stable().number())));
    match act.and_then(|act| rehearse(&act, stage, &processor.rollout).map(|()| act)) {
        Ok(act) => Outlook::Ready { act },
        Err(reason) => Outlook::Refused { digest: Some(digest), reason },
    }
}
