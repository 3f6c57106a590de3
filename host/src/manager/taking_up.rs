//! Brings what has changed onto the stages: components and configurations.
//!
//! A part of [`super::Manager`]: it spawns what takes long, and takes up what comes back.

use std::sync::Arc;

use tracing::warn;

use super::{
    Answered, Done, Manager, Source, on_a_thread,
    prepare::{self, Outlook},
    reload::{self, Compared},
    told,
    waiting::{Reading, Waiting},
};
use crate::{
    config::{Config, Loaded, with_sources},
    control::{Change, ControlError, What},
};

impl Manager {
    /// Prepares the next generation of a processor, if its component or its configuration is another one.
    pub(super) fn look(&mut self, name: &Arc<str>, who: &'static str) {
        let (engine, config, permits) = (self.engine.clone(), self.config.clone(), self.permits.clone());
        let kept = self.kept.clone();
        let Some(managed) = self.processors.get_mut(name) else { return };
        if !managed.begin(who) {
            return;
        }
        let (wanted, stage, counters) = (managed.processor.clone(), managed.stage.clone(), managed.counters.clone());
        let (number, avoided, processor) = (managed.next, managed.avoided.clone(), name.clone());
        self.under_way.spawn(async move {
            let _permit = permits.acquire_owned().await;
            let outlook = on_a_thread("prepare", move || {
                prepare::next(&engine, &config, &wanted, number, &counters, &stage, (&avoided, &kept))
            });
            let nothing = || Outlook::Refused { digest: None, reason: "the preparation had no result".to_owned() };
            Done::Next { processor, outlook: outlook.await.unwrap_or_else(nothing) }
        });
    }

    /// A preparation has ended.
    pub(super) fn take_up(&mut self, name: &Arc<str>, outlook: Outlook) {
        let Some(managed) = self.processors.get_mut(name) else { return };
        let (who, again) = managed.end();
        let changes = match outlook {
            Outlook::Same => vec![managed.unchanged("it is the version that runs")],
            Outlook::Avoided { digest } => {
                let detail = "this version was rolled back: put another file there, or reload this processor by name";
                vec![Change { digest: Some(digest), ..managed.unchanged(detail) }]
            }
            Outlook::Refused { digest, reason } => {
                let detail = format!("{reason}; generation {} runs on", managed.stage.stable().number());
                vec![Change { digest, ..told(name, What::Refused, None, &detail) }]
            }
            // Rolled back while its like was prepared.
            Outlook::Ready { act } if managed.avoided.contains(&act.generation.identity()) => {
                act.prepared_in_vain();
                vec![managed.unchanged("this version was rolled back meanwhile")]
            }
            // It may send to other queues meanwhile.
            Outlook::Ready { act } if !managed.fits(&act) => {
                act.prepared_in_vain();
                return self.look(name, again.unwrap_or(who));
            }
            Outlook::Ready { act } => managed.try_out(act),
            Outlook::Whole { act } => managed.keep(&act),
        };
        changes.iter().for_each(|change| self.record(who, change));
        // Who asked meanwhile is told of this, and of what is there now.
        self.waiting.iter_mut().for_each(|waiting| waiting.note(name, &changes, again.is_none()));
        match again {
            Some(who) => self.look(name, who),
            None => self.answer_those_that_wait(),
        }
    }

    pub(super) fn answer_those_that_wait(&mut self) {
        self.waiting.extract_if(.., |waiting| waiting.is_complete()).for_each(Waiting::tell);
    }

    /// Looks at one processor, also where it was rolled back.
    pub(super) fn reload(&mut self, who: &'static str, name: &str, answer: Answered) {
        let name = match self.find_mut(name) {
            Err(unknown) => return drop(answer.send(Err(unknown))),
            Ok(managed) => {
                managed.forgive();
                managed.processor.name.clone()
            }
        };
        self.look(&name, who);
        self.waiting.push(Waiting::new(vec![name], Vec::new(), vec![answer]));
    }

    /// Reads the configuration again; whoever waits for an answer has all components looked at, too.
    pub(super) fn read_config(&mut self, reading: Reading) {
        if self.rewiring.is_some() || self.is_reading {
            return self.read_later(reading);
        }
        let Some(Source { file, strict }) = self.source.clone() else { return self.look_at_all(reading) };
        self.is_reading = true;
        self.under_way.spawn(async move {
            let loaded = on_a_thread("configuration", move || {
                let loaded = Config::load(&file, strict).map(Box::new).map_err(|error| with_sources(&error));
                loaded.inspect(|loaded| loaded.warnings.iter().for_each(|at| warn!("{}: {at}", file.display())))
            });
            let nothing = || Err("the configuration could not be read".to_owned());
            Done::Config { loaded: loaded.await.unwrap_or_else(nothing), reading }
        });
    }

    /// The configuration was read.
    pub(super) fn take_up_config(&mut self, loaded: Result<Box<Loaded>, String>, reading: Reading) {
        self.is_reading = false;
        match loaded {
            Err(reason) => self.refuse_config(&reason, reading),
            Ok(loaded) => {
                let compared = reload::compare(&self.config, loaded.config, |key| self.wiring.has(key));
                if !compared.leave.is_empty() || !compared.start.is_empty() {
                    return self.begin_rewiring(compared, reading);
                }
                self.config = Arc::new(compared.config.clone());
                self.end_config(compared, reading);
            }
        }
        self.read_again(&[]);
    }

    /// All units are those of the new configuration; now for what processors run as.
    pub(super) fn end_config(&mut self, compared: Compared, mut reading: Reading) {
        for (name, managed) in &mut self.processors {
            let processor = self.config.processors.get(name);
            processor.into_iter().for_each(|processor| managed.processor = processor.clone());
            self.files.add(&self.config, &managed.processor);
        }
        compared.processors.iter().for_each(|name| self.look(name, reading.who));
        if !compared.later.is_empty() {
            let later = told("", What::Unchanged, None, &format!("a restart takes up: {}", compared.later.join(", ")));
            self.audit.record(reading.who, &later);
            reading.changes.push(later);
        }
        if !reading.answers.is_empty() {
            self.look_at_all(reading);
        }
    }

    pub(super) fn refuse_config(&self, reason: &str, reading: Reading) {
        let detail = format!("{reason}; everything stays as it is");
        self.record(reading.who, &told("", What::Refused, None, &detail));
        // Who asked may be gone, and a file that changes asks nothing.
        let refused = |answer: Answered| drop(answer.send(Err(ControlError::Refused(detail.clone()))));
        reading.answers.into_iter().for_each(refused);
    }

    fn look_at_all(&mut self, Reading { who, answers, changes }: Reading) {
        let missing: Vec<Arc<str>> = self.processors.keys().cloned().collect();
        missing.iter().for_each(|name| self.look(name, who));
        self.waiting.push(Waiting::new(missing, changes, answers));
        self.answer_those_that_wait();
    }
}
