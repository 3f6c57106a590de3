//! Lets units go and come, where another configuration wants it.
//!
//! A part of [`super::Manager`]. All that the new units need is prepared first, on a thread: if anything is wrong,
//! everything stays as it is. Then old ones are let go, and each new one starts as soon as those are gone whose place it
//! takes, so that what takes long holds up nothing else.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    Done, Manager,
    kept::Kept,
    on_a_thread, prepare,
    problems::problems,
    reload::{Compared, is_same_kind, sends_alike},
    told,
    waiting::Reading,
};
use crate::{
    config::{Config, Processor, with_sources},
    control::{Change, What},
    sandbox::{Counters, Engine},
    stage::Act,
    wiring::{Cast, Casts, plan::Key},
};

/// A configuration that is being taken up.
pub(super) struct Rewiring {
    reading: Reading,
    compared: Compared,
    /// The configuration before.
    before: Arc<Config>,
    ready: Ready,
    /// Units that are not gone yet.
    leaving: BTreeSet<Key>,
}

/// What is prepared.
#[derive(Default)]
pub(super) struct Ready {
    /// What processors of units that start run from the beginning; the others go on with what they ran.
    acts: BTreeMap<Arc<str>, Arc<Act>>,
    /// What is to be told of it.
    told: Vec<Change>,
}

/// How a processor gets what it runs on a unit that starts.
enum Role {
    /// It is loaded like at the start of the host.
    Loaded { number: u64, counters: Arc<Counters> },
    /// What runs, with other queues to send to.
    Rewired { number: u64, stable: Arc<Act> },
    /// What runs.
    GoesOn { stable: Arc<Act> },
}

impl Manager {
    /// Prepares what the units need that are to start.
    pub(super) fn begin_rewiring(&mut self, compared: Compared, reading: Reading) {
        let (engine, config, kept) = (self.engine.clone(), compared.config.clone(), self.kept.clone());
        let starting = compared.start.keys().flat_map(|key| key.processors(&compared.config)).cloned();
        let roles: Vec<_> = starting.map(|processor| (self.role(&processor), processor)).collect();
        let (before, ready, leaving) = (self.config.clone(), Ready::default(), BTreeSet::new());
        self.rewiring = Some(Rewiring { reading, compared, before, ready, leaving });
        self.under_way.spawn(async move {
            let ready = on_a_thread("prepare", move || make_ready(&engine, &config, &kept, &roles));
            Done::Ready(ready.await.unwrap_or_else(|| Err("the preparation had no result".to_owned())))
        });
    }

    fn role(&mut self, processor: &Processor) -> Role {
        let before = self.config.processors.get(&processor.name).cloned();
        let Some(managed) = self.processors.get_mut(&processor.name) else {
            return Role::Loaded { number: 1, counters: Arc::default() };
        };
        let (number, stable) = (managed.next, managed.stage.stable());
        match before {
            Some(before) if is_same_kind(&before, processor) && sends_alike(&before, processor) => {
                Role::GoesOn { stable }
            }
            same => {
                managed.next += 1;
                let counters = managed.counters.clone();
                let same = same.is_some_and(|before| is_same_kind(&before, processor));
                if same { Role::Rewired { number, stable } } else { Role::Loaded { number, counters } }
            }
        }
    }

    /// All is prepared: units that are to go are told so.
    pub(super) fn rewire(&mut self, ready: Result<Ready, String>) {
        let Some(rewiring) = &mut self.rewiring else { return };
        match ready {
            Ok(ready) => {
                let told = ready.told.clone();
                rewiring.ready = ready;
                rewiring.leaving = rewiring.compared.leave.iter().cloned().collect();
                self.config = Arc::new(rewiring.compared.config.clone());
                for key in rewiring.leaving.clone() {
                    let wiring = self.wiring.clone();
                    self.under_way.spawn(async move {
                        wiring.leave(&key).await;
                        Done::Gone(key)
                    });
                }
                told.into_iter().for_each(|change| self.done(change));
                self.start_units();
            }
            Err(reason) => {
                if let Some(Rewiring { reading, .. }) = self.rewiring.take() {
                    self.refuse_config(&reason, reading);
                }
                self.read_again(&[]);
            }
        }
    }

    pub(super) fn unit_is_gone(&mut self, key: &Key) {
        let Some(rewiring) = &mut self.rewiring else { return };
        rewiring.leaving.remove(key);
        let gone = key.processors(&rewiring.before).map(|processor| processor.name.clone());
        let gone: Vec<_> = gone.filter(|name| !is_active(&rewiring.compared.config, name)).collect();
        for name in gone {
            let detail = format!("{key}: what it held was given back");
            self.done(told(&name, What::Removed, None, &detail));
            self.forget(&name);
        }
        self.start_units();
    }

    /// Starts the units whose predecessors are gone; with the last one all is done.
    fn start_units(&mut self) {
        let Some(rewiring) = &mut self.rewiring else { return };
        let (config, before, leaving) = (&rewiring.compared.config, &rewiring.before, &rewiring.leaving);
        let is_free = |key: &Key| {
            let places = key.processors(config).filter_map(|processor| before.processors.get(&processor.name));
            !leaving.contains(key) && !places.map(|old| Key::of(old)).any(|old| leaving.contains(&old))
        };
        let free: Vec<_> = rewiring.compared.start.extract_if(.., |key, _| is_free(key)).collect();
        let is_over = leaving.is_empty() && rewiring.compared.start.is_empty();
        for (key, places) in free {
            self.start_unit(&key, &places);
        }
        if is_over {
            self.end_rewiring();
        }
    }

    fn start_unit(&mut self, key: &Key, places: &[String]) {
        let Some(rewiring) = &self.rewiring else { return };
        let casts: Casts = key
            .processors(&self.config)
            .filter_map(|processor| {
                let before = self.processors.get(&processor.name).map(|managed| managed.at_work.clone());
                let cast = match (rewiring.ready.acts.get(&processor.name).cloned(), before) {
                    (Some(act), before) => Cast::Begins(act, before),
                    (None, before) => Cast::GoesOn(before?),
                };
                Some((processor.name.clone(), cast))
            })
            .collect();
        match self.wiring.start(key, &self.config, &casts) {
            Err(error) => {
                let detail = format!("{key} is not at work: {error}; a reload tries again");
                self.done(told("", What::Refused, None, &detail));
            }
            Ok(at_work) => at_work.into_iter().for_each(|processor| {
                let is_new = !self.processors.contains_key(&processor.name);
                let number = processor.stage.stable().number();
                let (what, detail) = match (is_new, places) {
                    (true, _) => (What::Started, key.to_string()),
                    (false, []) => (What::Restarted, key.to_string()),
                    (false, places) => (What::Restarted, format!("{key}, because of {}", places.join(", "))),
                };
                self.done(told(&processor.name, what, Some(number), &detail));
                self.add(processor);
            }),
        }
    }

    /// Tells, and remembers for who asked.
    fn done(&mut self, change: Change) {
        let Some(rewiring) = &mut self.rewiring else { return };
        rewiring.reading.changes.push(change.clone());
        let who = rewiring.reading.who;
        self.record(who, &change);
    }

    /// A processor is gone.
    fn forget(&mut self, name: &Arc<str>) {
        self.files.remove(name);
        if let Some(managed) = self.processors.remove(name) {
            let retired = managed.stage.take_retired();
            drop(on_a_thread("terminate", move || retired.into_iter().for_each(crate::sandbox::Instance::terminate)));
        }
        // Whoever waits for a look at it waits in vain.
        self.waiting.iter_mut().for_each(|waiting| waiting.note(name, &[], true));
        self.answer_those_that_wait();
    }

    fn end_rewiring(&mut self) {
        let Some(Rewiring { reading, compared, .. }) = self.rewiring.take() else { return };
        let changes = reading.changes.clone();
        self.end_config(compared, reading);
        self.read_again(&changes);
    }

    /// Another reading comes when what is under way is done.
    pub(super) fn read_later(&mut self, mut reading: Reading) {
        if let Some(other) = self.again.take() {
            reading.who = if reading.answers.is_empty() { other.who } else { reading.who };
            reading.answers.extend(other.answers);
        }
        self.again = Some(reading);
    }

    /// Who asked meanwhile is told of what was done for others as well.
    fn read_again(&mut self, changes: &[Change]) {
        if let Some(mut reading) = self.again.take() {
            reading.changes.extend_from_slice(changes);
            self.read_config(reading);
        }
    }
}

fn is_active(config: &Config, name: &str) -> bool {
    config.processors.get(name).is_some_and(|processor| processor.is_active(&config.queues))
}

/// Prepares what is to run; returns all that is wrong with any of it.
fn make_ready(
    engine: &Engine,
    config: &Config,
    kept: &Kept,
    roles: &[(Role, Arc<Processor>)],
) -> Result<Ready, String> {
    let mut wrong: Vec<_> = problems(config).iter().map(ToString::to_string).collect();
    let mut ready = Ready::default();
    for (role, processor) in roles {
        let made = make(engine, config, kept, role, processor).and_then(|made| {
            let Some((act, told)) = made else { return Ok(()) };
            let failed = |error| vec![format!("processors.{}: {}", processor.name, with_sources(&error))];
            act.prepare(lanes_of(processor)).map_err(failed)?;
            ready.acts.insert(processor.name.clone(), act);
            ready.told.extend(told);
            Ok(())
        });
        wrong.extend(made.err().into_iter().flatten());
    }
    if !wrong.is_empty() {
        return Err(wrong.join("; "));
    }
    // Last, since nothing can be wrong any more: lanes that find no instance make their own.
    for (role, processor) in roles {
        if let Role::GoesOn { stable } = role {
            let _ = stable.prepare(lanes_of(processor));
        }
    }
    Ok(ready)
}

type Made = Option<(Arc<Act>, Option<Change>)>;

/// What a processor is to run, and what is to be told of it; none where it goes on with what it runs.
fn make(
    engine: &Engine,
    config: &Config,
    kept: &Kept,
    role: &Role,
    processor: &Processor,
) -> Result<Made, Vec<String>> {
    match role {
        Role::GoesOn { .. } => Ok(None),
        Role::Loaded { number, counters } => {
            let first = prepare::first(engine, config, processor, (*number, counters), kept);
            let (generation, told) =
                first.map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>())?;
            Ok(Some((Act::new(generation, &processor.module, None), told)))
        }
        Role::Rewired { number, stable } => {
            let generation = stable.generation.with_queues(processor, *number);
            Ok(Some((Act::new(generation, &stable.author.origin.module, None), None)))
        }
    }
}

/// A source has one thread.
fn lanes_of(processor: &Processor) -> usize {
    if processor.in_queue.is_some() { processor.n_threads } else { 1 }
}
