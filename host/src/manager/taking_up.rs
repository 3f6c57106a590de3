//! Brings what has changed onto the stages: components and configurations.
//!
//! A part of [`super::Manager`]: it spawns what takes long, and takes up what comes back.

use std::sync::Arc;

use tracing::warn;

use super::{
    Answered, Done, Manager, Source, Waiting, on_a_thread,
    prepare::{self, Outlook},
    reload::{self, Compared},
    told,
};
use crate::{
    config::{Config, Loaded, with_sources},
    control::{Change, ControlError, What},
};

impl Manager {
    /// Prepares the next generation of a processor, if its component or its configuration is another one.
    pub(super) fn look(&mut self, name: &Arc<str>, who: &'static str) {
        let (engine, config, permits) = (self.engine.clone(), self.config.clone(), self.permits.clone());
        let Some(managed) = self.processors.get_mut(name) else { return };
        if !managed.begin(who) {
            return;
        }
        let (wanted, stage, counters) = (managed.processor.clone(), managed.stage.clone(), managed.counters.clone());
        let (number, avoided, processor) = (managed.next, managed.avoided.clone(), name.clone());
        self.under_way.spawn(async move {
            let _permit = permits.acquire_owned().await;
            let outlook = on_a_thread("prepare", move || {
                prepare::next(&engine, &config, &wanted, number, &counters, &stage, &avoided)
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
            Outlook::Ready { act } => managed.try_out(act),
            Outlook::Whole { act } => managed.keep(&act),
        };
        changes.iter().for_each(|change| self.record(who, change));
        match again {
            // Who asked meanwhile is told of what is there now.
            Some(who) => self.look(name, who),
            None => self.tell(name, &changes),
        }
    }

    fn tell(&mut self, name: &Arc<str>, changes: &[Change]) {
        for waiting in self.waiting.iter_mut().filter(|waiting| waiting.missing.contains(name)) {
            waiting.changes.extend(changes.iter().cloned());
            waiting.missing.retain(|missing| missing != name);
        }
        self.answer_those_that_wait();
    }

    fn answer_those_that_wait(&mut self) {
        for waiting in self.waiting.extract_if(.., |waiting| waiting.missing.is_empty()) {
            let _ = waiting.answer.send(Ok(waiting.changes));
        }
    }

    /// Looks at one processor, also where it was rolled back.
    pub(super) fn reload(&mut self, who: &'static str, name: &str, answer: Answered) {
        let name = match self.find_mut(name) {
            Err(unknown) => return drop(answer.send(Err(unknown))),
            Ok(managed) => {
                managed.avoided.clear();
                managed.processor.name.clone()
            }
        };
        self.look(&name, who);
        self.waiting.push(Waiting { missing: vec![name], changes: Vec::new(), answer });
    }

    /// Reads the configuration again; whoever waits for an answer has all components looked at, too.
    pub(super) fn read_config(&mut self, who: &'static str, answer: Option<Answered>) {
        let Some(Source { file, strict }) = self.source.clone() else {
            return self.look_at_all(who, Vec::new(), answer);
        };
        self.under_way.spawn(async move {
            let loaded = on_a_thread("configuration", move || {
                let loaded = Config::load(&file, strict).map(Box::new).map_err(|error| with_sources(&error));
                loaded.inspect(|loaded| loaded.warnings.iter().for_each(|at| warn!("{}: {at}", file.display())))
            });
            let nothing = || Err("the configuration could not be read".to_owned());
            Done::Config { loaded: loaded.await.unwrap_or_else(nothing), who, answer }
        });
    }

    /// The configuration was read.
    pub(super) fn take_up_config(
        &mut self,
        loaded: Result<Box<Loaded>, String>,
        who: &'static str,
        answer: Option<Answered>,
    ) {
        let loaded = match loaded {
            Ok(loaded) => loaded,
            Err(reason) => {
                let detail = format!("{reason}; everything stays as it is");
                self.record(who, &told("", What::Refused, None, &detail));
                return answer
                    .into_iter()
                    .for_each(|answer| drop(answer.send(Err(ControlError::Refused(detail.clone())))));
            }
        };
        let Compared { config, processors, later } = reload::compare(&self.config, loaded.config);
        self.config = Arc::new(config);
        for processor in processors {
            if let Some(managed) = self.processors.get_mut(&processor.name) {
                managed.processor = processor.clone();
                self.look(&processor.name, who);
            }
        }
        self.processors.values().for_each(|managed| self.files.add(&self.config, &managed.processor));
        let mut changes = Vec::new();
        if !later.is_empty() {
            let detail = format!("a restart takes up: {}", later.join(", "));
            self.audit.record(who, &told("", What::Unchanged, None, &detail));
            changes.push(told("", What::Unchanged, None, &detail));
        }
        if answer.is_some() {
            self.look_at_all(who, changes, answer);
        }
    }

    fn look_at_all(&mut self, who: &'static str, changes: Vec<Change>, answer: Option<Answered>) {
        let missing: Vec<Arc<str>> = self.processors.keys().cloned().collect();
        missing.iter().for_each(|name| self.look(name, who));
        if let Some(answer) = answer {
            self.waiting.push(Waiting { missing, changes, answer });
            self.answer_those_that_wait();
        }
    }
}
