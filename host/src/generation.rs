//! A generation: what a processor runs as, immutable and numbered.
//!
//! Component, parameters and limits together. [`Generation::load`] is called off the hot path, by
//! `check` and at start; lanes and sources hold the one they were given and make their instances of it.
//! The place where the next generation will be swapped in between two messages.

use std::{borrow::Cow, sync::Arc, time::Duration};

use tracing::{error, info};

use crate::{
    config,
    retry::Pauses,
    sandbox::{Component, Counters, Engine, Found, Instance, Kind, LoadError, Misfit, PluginDirs, Spec},
};

/// One version of a processor, as it runs.
#[derive(Debug, Clone)]
pub struct Generation {
    /// What an instance is made of: component, number, limits, parameters, queues.
    pub spec: Arc<Spec>,
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
    /// Finds, compiles (or loads from the cache) and checks the component of a processor.
    ///
    /// # Errors
    /// The component is missing, unusable, or does not offer what the configuration asks for.
    pub fn load(
        engine: &Engine,
        plugins: &PluginDirs,
        processor: &config::Processor,
        number: u64,
    ) -> Result<Self, Vec<Refusal>> {
        let spec = Self::spec(engine, plugins, processor, number).map_err(|refusal| vec![refusal])?;
        spec.check_fit().map_err(|misfits| misfits.into_iter().map(refuse_misfit).collect::<Vec<_>>())?;
        Ok(Self { spec: Arc::new(spec) })
    }

    fn spec(
        engine: &Engine,
        plugins: &PluginDirs,
        processor: &config::Processor,
        number: u64,
    ) -> Result<Spec, Refusal> {
        let refuse = |key: &'static str, error: &dyn std::error::Error| Refusal {
            key: key.into(),
            message: config::with_sources(error),
        };
        let found = plugins.find(&processor.module).map_err(|e| refuse("module", &e))?;
        check_pin(&found, processor)?;
        let component = Component::load_file(engine, &found).map_err(|e| refuse("module", &e))?;
        component.processor(&processor.class).map_err(|error| match error {
            LoadError::UnknownProcessor { .. } => refuse("name", &error),
            other => refuse("module", &LoadError::File { path: found.file.clone(), source: Box::new(other) }),
        })?;
        check_kind(component.kind(), processor)?;
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
            counters: Arc::new(Counters::default()),
        })
    }

    /// Makes an instance, trying again with back-off until it succeeds. `pause` sleeps, and returns true
    /// when the host ends: then there is none.
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
    pub fn keep(&self, left: Option<Instance>) -> Option<Instance> {
        if !self.spec.fresh {
            return left;
        }
        left.into_iter().for_each(Instance::terminate);
        None
    }
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
