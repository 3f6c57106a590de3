//! The one task that changes a host at work: it carries out what is asked through [`crate::control`], takes up files that
//! have changed, and judges candidates.
//!
//! Started by [`crate::app`]. `files` tells what has changed, `prepare` makes the next generation of a processor, `taking_up`
//! brings it onto the stage; `reload` compares configurations, `rewiring` lets units go and come; `operators` goes back and
//! pauses; `kept` is what was
//! rolled back over a restart, `problems` are the words for what is wrong. Who asked for what is under way stands in
//! `waiting`. What takes long (files, compilers, guests) happens on threads of its own and comes back here as [`Done`];
//! so a component that takes a minute to compile keeps no other processor from being rolled back.

mod events;
mod files;
pub(crate) mod kept;
mod managed;
mod operators;
pub(crate) mod prepare;
pub(crate) mod problems;
mod reload;
mod rewiring;
mod taking_up;
mod waiting;

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, thread, time::Duration};

use tokio::{
    sync::{Notify, Semaphore, mpsc, oneshot},
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};
use tracing::error;

use self::{
    files::{Changed, Files},
    kept::Kept,
    managed::{Gone, Managed},
    prepare::Outlook,
    rewiring::{Ready, Rewiring},
    waiting::{Reading, Waiting},
};
use crate::{
    audit::Audit,
    config::{Config, Loaded},
    control::{Answer, Asked, Change, ControlError, Request, What},
    sandbox::{Engine, Instance},
    stage::Act,
    status::ProcessorStatus,
    trial::Verdict,
    wiring::{Wiring, plan::Key},
};

/// How often candidates are judged beside what lanes report.
const JUDGE: Duration = Duration::from_millis(100);
/// Preparations at once: the compiler takes one at a time anyway.
const PREPARATIONS: usize = 4;

/// Where a configuration came from, so that it can be read again.
#[derive(Debug, Clone)]
pub struct Source {
    /// The file.
    pub file: PathBuf,
    /// Whether unknown and duplicate keys are errors.
    pub strict: bool,
}

/// What the manager works with.
pub(crate) struct Tools {
    pub(crate) engine: Engine,
    pub(crate) wiring: Arc<Wiring>,
    pub(crate) audit: Arc<Audit>,
    pub(crate) kept: Kept,
    /// Rung by stages.
    pub(crate) bell: Arc<Notify>,
}

/// Changes what runs.
pub(crate) struct Manager {
    engine: Engine,
    audit: Arc<Audit>,
    config: Arc<Config>,
    wiring: Arc<Wiring>,
    /// None where the configuration has no file.
    source: Option<Source>,
    asked: mpsc::Receiver<Asked>,
    /// Rung by stages.
    bell: Arc<Notify>,
    /// Rung when an operator wants the host to end.
    end: Arc<Notify>,
    processors: BTreeMap<Arc<str>, Managed>,
    files: Arc<Files>,
    under_way: JoinSet<Done>,
    permits: Arc<Semaphore>,
    kept: Arc<Kept>,
    /// Copies that nobody needs may have been kept.
    untidy: bool,
    waiting: Vec<Waiting>,
    /// A configuration that is being taken up.
    rewiring: Option<Rewiring>,
    /// The configuration is being read: one reading at a time, so that the last one is the newest.
    is_reading: bool,
    /// It is to be read once more after that.
    again: Option<Reading>,
    /// Processors that have gone, in case they come back.
    gone: BTreeMap<Arc<str>, Gone>,
}

/// What comes back from a thread.
enum Done {
    /// The next generation of a processor.
    Next { processor: Arc<str>, outlook: Outlook },
    /// An earlier generation has its instances, or why not.
    Back { processor: Arc<str>, back: Arc<Act>, made: Result<(), String>, who: &'static str, answer: Answered },
    /// The configuration was read, or why not.
    Config { loaded: Result<Box<Loaded>, String>, reading: Reading },
    /// All that a new configuration needs is there, or why not.
    Ready(Result<Ready, String>),
    /// A unit is gone.
    Gone(Key),
}

type Answered = oneshot::Sender<Answer>;

impl Manager {
    pub(crate) fn new(
        Tools { engine, wiring, audit, kept, bell }: Tools,
        (config, source): (Arc<Config>, Option<Source>),
        asked: mpsc::Receiver<Asked>,
    ) -> Self {
        let files = Files::new(source.as_ref().map(|source| source.file.clone()));
        Self {
            engine,
            audit,
            config,
            wiring,
            source,
            asked,
            bell,
            end: Arc::default(),
            processors: BTreeMap::new(),
            files: Arc::new(files),
            under_way: JoinSet::new(),
            permits: Arc::new(Semaphore::new(PREPARATIONS)),
            kept: Arc::new(kept),
            untidy: false,
            waiting: Vec::new(),
            rewiring: None,
            is_reading: false,
            again: None,
            gone: BTreeMap::new(),
        }
    }

    /// Rung when an operator wants the host to end.
    pub(crate) fn end(&self) -> Arc<Notify> {
        self.end.clone()
    }

    /// A processor that is at work from the start of the host.
    pub(crate) fn begin_with(&mut self, at_work: Arc<ProcessorStatus>) {
        self.audit.record("start", &of(&at_work.stage.stable(), What::Loaded, ""));
        self.add(at_work);
    }

    /// A processor that has been started.
    fn add(&mut self, at_work: Arc<ProcessorStatus>) {
        let Some(processor) = self.config.processors.get(&at_work.name).cloned() else { return };
        self.files.add(&self.config, &processor);
        let Some(managed) = self.processors.get_mut(&processor.name) else {
            let avoided = self.gone.remove(&processor.name).map(|gone| gone.avoided);
            let avoided = avoided.unwrap_or_else(|| self.kept.avoided(&processor.name));
            let managed = Managed::new(processor, at_work, avoided);
            return drop(self.processors.insert(managed.processor.name.clone(), managed));
        };
        managed.moved(processor, at_work);
    }

    /// Works until it is aborted.
    pub(crate) async fn run(mut self) {
        let mut changed = files::start(&self.files);
        // What has changed between the loading of the components and here.
        self.processors.keys().cloned().collect::<Vec<_>>().iter().for_each(|name| self.look(name, "file"));
        let mut ticker = interval(JUDGE);
        ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let bell = self.bell.clone();
        loop {
            let on_trial = self.processors.values().any(|managed| managed.stage.candidate().is_some());
            tokio::select! {
                Some(asked) = self.asked.recv() => self.carry_out(asked),
                Some(changed) = changed.recv() => match changed {
                    Changed::Component(processor) => self.look(&processor, "file"),
                    Changed::Config => self.read_config(Reading::new("file", None)),
                },
                Some(Ok(done)) = self.under_way.join_next() => self.come_back(done),
                () = bell.notified() => {}
                _ = ticker.tick(), if on_trial => {}
            }
            self.judge();
            self.see_off();
            self.keep();
        }
    }

    fn carry_out(&mut self, Asked { request, who, answer }: Asked) {
        let answered = match request {
            Request::Reload { processor: None } => return self.read_config(Reading::new(who, Some(answer))),
            Request::Reload { processor: Some(name) } => return self.reload(who, &name, answer),
            Request::RollBack { processor, to } => return self.go_back(who, &processor, to, answer),
            Request::Pause { processor } => self.pause(&processor, true),
            Request::Resume { processor } => self.pause(&processor, false),
            Request::Drain => {
                self.end.notify_one();
                Ok(vec![told("", What::Draining, None, "")])
            }
        };
        self.answer((who, ""), answered, answer);
    }

    fn come_back(&mut self, done: Done) {
        match done {
            Done::Next { processor, outlook } => self.take_up(&processor, outlook),
            Done::Back { processor, back, made, who, answer } => {
                let refused = |reason| ControlError::Refused(format!("{reason}; what runs, runs on"));
                let answered = made.map_err(refused).and_then(|()| self.go_on_with(&processor, &back));
                self.answer((who, &processor), answered, answer);
            }
            Done::Config { loaded, reading } => self.take_up_config(loaded, reading),
            Done::Ready(ready) => self.rewire(ready),
            Done::Gone(key) => self.unit_is_gone(&key),
        }
    }

    /// Records what was done, and tells who asked.
    fn answer(&self, (who, name): (&'static str, &str), answered: Answer, answer: Answered) {
        answered.iter().flatten().for_each(|change| self.record(who, change));
        if let Err(ControlError::Refused(reason)) = &answered {
            self.record(who, &told(name, What::Refused, None, reason));
        }
        // Who asked may be gone.
        let _ = answer.send(answered);
    }

    fn record(&self, who: &'static str, change: &Change) {
        if change.what != What::Unchanged {
            self.audit.record(who, change);
        }
    }

    /// Keeps candidates that are good, and rolls others back.
    fn judge(&mut self) {
        for (name, managed) in &mut self.processors {
            match managed.stage.judge() {
                Verdict::Wait => {}
                Verdict::Keep => {
                    let (Some(act), some) = (managed.stage.candidate(), managed.stage.candidate_lanes()) else {
                        continue;
                    };
                    if some == managed.stage.lanes() {
                        managed.keep(&act).iter().for_each(|change| self.audit.record("trial", change));
                        continue;
                    }
                    if managed.is_busy() {
                        continue;
                    }
                    managed.begin("trial");
                    let (processor, others) = (name.clone(), managed.stage.lanes() - some);
                    self.under_way.spawn(async move {
                        let made = act.clone();
                        // One that cannot be made now is made by its lane.
                        let _ = on_a_thread("prepare", move || made.prepare(others)).await;
                        Done::Next { processor, outlook: Outlook::Whole { act } }
                    });
                }
                Verdict::RollBack(reason) => {
                    if let Some(act) = managed.stage.roll_back(&reason) {
                        managed.avoid(&act);
                        self.audit.record("trial", &of(&act, What::RolledBack, &reason));
                    }
                }
            }
        }
    }

    /// Writes down what is to be known after a restart: seldom, and little, so it waits for the disk.
    fn keep(&mut self) {
        for managed in self.processors.values_mut().filter_map(|managed| managed.take_changed().then_some(managed)) {
            let stable = managed.stage.stable();
            self.kept.note(&managed.processor.name, &managed.avoided, &stable.author.origin.digest);
            self.untidy = true;
        }
        // What is being prepared has its copy already, and no place on the stage.
        if self.untidy && self.under_way.is_empty() {
            let needed = self.processors.values().flat_map(|managed| managed.stage.digests()).collect();
            self.kept.retain(&needed, |name| self.config.processors.contains_key(name));
            self.untidy = false;
        }
    }

    /// Instances that lanes have left say farewell, on a thread of their own.
    fn see_off(&self) {
        let retired: Vec<_> = self.processors.values().flat_map(|managed| managed.stage.take_retired()).collect();
        if !retired.is_empty() {
            drop(on_a_thread("terminate", move || retired.into_iter().for_each(Instance::terminate)));
        }
    }
}

fn told(name: &str, what: What, generation: Option<u64>, detail: &str) -> Change {
    Change { name: name.to_owned(), what, generation, digest: None, detail: detail.to_owned() }
}

fn of(act: &Act, what: What, detail: &str) -> Change {
    let origin = &act.author.origin;
    Change { digest: Some(origin.digest.clone()), ..told(&origin.processor, what, Some(act.number()), detail) }
}

/// Runs it on a thread of its own: the end of the host does not wait for it.
fn on_a_thread<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> impl Future<Output = Option<T>> {
    let (done, result) = oneshot::channel();
    let started = thread::Builder::new().name(name.to_owned()).spawn(move || {
        let _ = done.send(work());
    });
    if let Err(error) = started {
        error!(%error, "no thread to {name}");
    }
    async { result.await.ok() }
}
