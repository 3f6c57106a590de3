//! A generation: what a processor runs as, immutable and numbered.
//!
//! Component, parameters, limits and grants together. [`Generation::load`] is called off the hot path: by `check`, at start,
//! and when a component or its configuration has changed. Which one runs is decided by [`crate::stage`].

use std::{borrow::Cow, path::PathBuf, sync::Arc, time::Duration};

use tracing::{error, info};

use crate::{
    config,
    retry::Pauses,
    sandbox::{Component, Counters, Engine, Found, Instance, Kind, LoadError, Misfit, Spec},
};

/// One version of a processor, as it runs.
#[derive(Debug, Clone)]
pub struct Generation {
    /// What an instance is made of: component, number, limits, parameters, queues.
    pub spec: Arc<Spec>,
    /// Where the component was found.
    pub file: PathBuf,
}

/// Why a processor cannot run, with the configuration key at fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The key below the processor's object.
    pub key: Cow<'static, str>,
    /// What is wrong and what to do.
    pub message: String,
}

impl Generation {
    /// Compiles (or loads from the cache) and checks the component of a processor. What its guest counts goes on in
    /// `counters`.
    ///
    /// # Errors
    /// The component is unusable, or does not offer what the configuration asks for.
    pub fn load(
        engine: &Engine,
        found: Found,
        processor: &config::Processor,
        number: u64,
        counters: &Arc<Counters>,
    ) -> Result<Self, Vec<Refusal>> {
        let spec = Self::spec(engine, &found, processor, number, counters).map_err(|refusal| vec![refusal])?;
        spec.check_fit().map_err(|misfits| misfits.into_iter().map(refuse_misfit).collect::<Vec<_>>())?;
        Ok(Self { spec: Arc::new(spec), file: found.file })
    }

    fn spec(
        engine: &Engine,
        found: &Found,
        processor: &config::Processor,
        number: u64,
        counters: &Arc<Counters>,
    ) -> Result<Spec, Refusal> {
        check_pin(found, processor)?;
        let component = Component::load_file(engine, found).map_err(|e| refuse("module", &e))?;
        check_kind(component.kind(), processor)?;
        component.processor(&processor.class).map_err(|error| match error {
            LoadError::UnknownProcessor { .. } => refuse("name", &error),
            other => refuse("module", &LoadError::File { path: found.file.clone(), source: Box::new(other) }),
        })?;
        Ok(Spec {
            component,
            class: processor.class.clone(),
            processor: processor.name.clone(),
            vo: processor.vo.clone().unwrap_or_default(),
            generation: number,
            limits: processor.limits.clone(),
            params: processor.params.to_string(),
            out_queues: processor.writes_to().cloned().collect(),
            default_queue: processor.out_queue.clone(),
            fresh: processor.instance == config::InstanceMode::Fresh,
            counters: counters.clone(),
        })
    }

    /// The same component, parameters and limits where this configuration puts the processor: with its queues to send to,
    /// and its VO.
    #[must_use]
    pub fn placed_as(&self, processor: &config::Processor, number: u64) -> Self {
        let spec = Spec {
            generation: number,
            vo: processor.vo.clone().unwrap_or_default(),
            out_queues: processor.writes_to().cloned().collect(),
            default_queue: processor.out_queue.clone(),
            ..(*self.spec).clone()
        };
        Self { spec: Arc::new(spec), file: self.file.clone() }
    }

    /// What tells it from others: component, parameters, limits, and how long an instance lives.
    #[must_use]
    pub fn identity(&self) -> String {
        let Spec { component, class, params, limits, fresh, .. } = &*self.spec;
        format!("{} {class} {params} {limits:?} {fresh}", component.digest())
    }

    /// The identity of what this configuration makes of the component with this digest.
    #[must_use]
    pub fn identity_of(processor: &config::Processor, digest: &str) -> String {
        let config::Processor { class, params, limits, instance, .. } = processor;
        format!("{digest} {class} {params} {limits:?} {}", *instance == config::InstanceMode::Fresh)
    }

    /// Makes an instance, trying again with back-off until it succeeds. `pause` sleeps, and returns true
    /// when the lane ends or something else is to run: then there is none.
    pub fn start(&self, pause: impl Fn(Duration) -> bool) -> Option<Instance> {
        let processor = &self.spec.processor;
        let (mut pauses, mut failed) = (Pauses::default(), false);
        loop {
            let wait;
            match Instance::start(&self.spec) {
                Ok(instance) => {
                    if failed {
                        info!(%processor, "initialize succeeds again");
                    }
                    return Some(instance);
                }
                Err(error) => {
                    failed = true;
                    wait = pauses.next_pause();
                    error!(%processor, code = error.code(), error = &error as &dyn std::error::Error,
                           "no instance: nothing is taken, next try in {} ms", wait.as_millis());
                }
            }
            if pause(wait) {
                return None;
            }
        }
    }

    /// What is left of an instance after a message or a tick: nothing where each gets a fresh one.
    pub fn keep(&self, left: Instance) -> Option<Instance> {
        if !self.spec.fresh {
            return Some(left);
        }
        left.terminate();
        None
    }
}

fn refuse(key: &'static str, error: &dyn std::error::Error) -> Refusal {
    Refusal { key: key.into(), message: config::with_sources(error) }
}

/// No instance fits into the limits of the processor.
fn refuse_misfit(misfit: Misfit) -> Refusal {
    let key = misfit.key.map_or_else(|| "limits".to_owned(), |key| format!("limits.{key}"));
    Refusal { key: key.into(), message: misfit.message }
}

/// A file that is not the one the operator pinned is not even compiled.
fn check_pin(found: &Found, processor: &config::Processor) -> Result<(), Refusal> {
    let Some(pin) = &processor.sha256 else { return Ok(()) };
    let (file, digest) = (found.file.display(), found.digest());
    if *pin == digest {
        return Ok(());
    }
    let message = format!(
        "{file} is another component: its SHA-256 is {digest}; put the right file back, or pin this one if it \
         is what you want"
    );
    Err(Refusal { key: "sha256".into(), message })
}

/// Handlers need a queue to read, and sources have none.
fn check_kind(kind: Kind, processor: &config::Processor) -> Result<(), Refusal> {
    let message = match (kind, &processor.in_queue) {
        (Kind::Handler, Some(_)) | (Kind::Timer, None) => return Ok(()),
        (Kind::Handler, None) => "the component handles messages: name the queue it reads",
        (Kind::Timer, Some(_)) => {
            "the component is of world source, which works by the clock and reads no queue: remove in_queue"
        }
    };
    Err(Refusal { key: "in_queue".into(), message: message.to_owned() })
}
