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
    of, on_a_thread, prepare,
    problems::problems,
    reload::{Compared, is_same_kind, is_same_place},
    told,
    waiting::Reading,
};
use crate::{
    config::{AckMode, Config, Processor, with_sources},
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
    /// For each unit that starts those of them that must be gone before.
    needs: BTreeMap<Key, BTreeSet<Key>>,
}

/// What is prepared.
#[derive(Default)]
pub(super) struct Ready {
    /// What processors of units that start run from the beginning; the others go on with what they ran.
    acts: BTreeMap<Arc<str>, Begins>,
    /// What is to be told of it.
    told: Vec<Change>,
}

/// What a processor is to run from the beginning, and of what it was made, if of what ran.
type Begins = (Arc<Act>, Option<Arc<Act>>);

/// How a processor gets what it runs on a unit that starts.
enum Role {
    /// It is loaded like at the start of the host.
    Loaded { number: u64, counters: Arc<Counters>, avoided: Vec<String> },
    /// What runs or ran, with other queues to send to, or for another VO.
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
        let (before, ready) = (self.config.clone(), Ready::default());
        let (leaving, needs) = Default::default();
        self.rewiring = Some(Rewiring { reading, compared, before, ready, leaving, needs });
        self.under_way.spawn(async move {
            let ready = on_a_thread("prepare", move || make_ready(&engine, &config, &kept, &roles));
            Done::Ready(ready.await.unwrap_or_else(|| Err("the preparation had no result".to_owned())))
        });
    }

    fn role(&mut self, processor: &Processor) -> Role {
        let name = &processor.name;
        if let Some(managed) = self.processors.get_mut(name) {
            let (before, stable) = (&managed.processor, managed.stage.stable());
            if is_same_kind(before, processor) && is_same_place(before, processor) {
                return Role::GoesOn { stable };
            }
            let number = managed.next;
            managed.next += 1;
            return match is_same_kind(before, processor) {
                true => Role::Rewired { number, stable },
                false => Role::Loaded { number, counters: managed.counters.clone(), avoided: managed.avoided.clone() },
            };
        }
        let Some(gone) = self.gone.get_mut(name) else {
            let avoided = self.kept.avoided(name);
            return Role::Loaded { number: 1, counters: Arc::default(), avoided };
        };
        let number = gone.next;
        gone.next += 1;
        match runs_as(&gone.processor, processor) {
            true => Role::Rewired { number, stable: gone.stable.clone() },
            false => Role::Loaded { number, counters: gone.counters.clone(), avoided: gone.avoided.clone() },
        }
    }

    /// All is prepared: units that are to go are told so.
    pub(super) fn rewire(&mut self, ready: Result<Ready, String>) {
        let Some(rewiring) = &mut self.rewiring else { return };
        match ready {
            Ok(ready) => {
                let told = ready.told.clone();
                rewiring.ready = ready;
                rewiring.needs = needs(&rewiring.before, &rewiring.compared);
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
        for needs in rewiring.needs.values_mut() {
            needs.remove(key);
        }
        let gone = key.processors(&rewiring.before).filter(|processor| !is_active(&self.config, &processor.name));
        let gone: Vec<_> = gone.map(|processor| processor.name.clone()).collect();
        let detail = format!("{key}{}", what_was_held(key, &rewiring.before));
        gone.iter().for_each(|name| self.remove(name, &detail));
        self.start_units();
    }

    /// Starts the units whose predecessors are gone; with the last one all is done.
    fn start_units(&mut self) {
        let Some(Rewiring { compared, leaving, needs, .. }) = &mut self.rewiring else { return };
        let is_free = |key: &Key| needs.get(key).is_none_or(BTreeSet::is_empty);
        let free: Vec<_> = compared.start.extract_if(.., |key, _| is_free(key)).collect();
        let is_over = leaving.is_empty() && compared.start.is_empty();
        for (key, places) in free {
            self.start_unit(&key, &places);
        }
        if is_over {
            self.end_rewiring();
        }
    }

    fn start_unit(&mut self, key: &Key, places: &[String]) {
        let casts: Casts = key
            .processors(&self.config)
            .filter_map(|processor| Some((processor.name.clone(), self.cast(processor)?)))
            .collect();
        let dropped = casts.values().filter_map(|cast| match cast {
            Cast::Begins(_, Some(before)) => before.stage.roll_back("its processor begins anew"),
            _ => None,
        });
        for act in dropped.collect::<Vec<_>>() {
            self.done(of(&act, What::RolledBack, "its processor begins anew"));
        }
        match self.wiring.start(key, &self.config, &casts) {
            Err(error) => {
                let detail = format!("{key} is not at work: {error}; a reload tries again");
                self.done(told("", What::Refused, None, &detail));
            }
            Ok(at_work) => at_work.into_iter().for_each(|processor| {
                let (what, because) = match (self.processors.contains_key(&processor.name), places) {
                    (false, _) => (What::Started, String::new()),
                    (true, []) => (What::Restarted, String::new()),
                    (true, places) => (What::Restarted, format!(", because of {}", places.join(", "))),
                };
                self.done(of(&processor.stage.stable(), what, &format!("{key}{because}")));
                self.add(processor);
            }),
        }
    }

    /// What a processor runs on its next unit.
    fn cast(&self, processor: &Processor) -> Option<Cast> {
        let before = self.processors.get(&processor.name).map(|managed| managed.at_work.clone());
        let Some((act, made_of)) = self.rewiring.as_ref()?.ready.acts.get(&processor.name).cloned() else {
            return before.map(Cast::GoesOn);
        };
        let stable = before.as_ref().map(|before| before.stage.stable());
        let act = match (made_of, stable) {
            // An operator has gone back meanwhile: that is what begins.
            (Some(made_of), Some(stable)) if !Arc::ptr_eq(&made_of, &stable) => {
                Act::new(stable.generation.placed_as(processor, act.number()), &stable.author.origin.module, None)
            }
            _ => act,
        };
        Some(Cast::Begins(act, before))
    }

    /// Tells, and remembers for who asked.
    fn done(&mut self, change: Change) {
        let Some(rewiring) = &mut self.rewiring else { return };
        rewiring.reading.changes.push(change.clone());
        let who = rewiring.reading.who;
        self.record(who, &change);
    }

    /// A processor is gone.
    fn remove(&mut self, name: &Arc<str>, detail: &str) {
        self.done(told(name, What::Removed, None, detail));
        self.files.remove(name);
        self.wiring.forget(name);
        if let Some(managed) = self.processors.remove(name) {
            let retired = managed.stage.take_retired();
            drop(on_a_thread("terminate", move || retired.into_iter().for_each(crate::sandbox::Instance::terminate)));
            self.gone.insert(name.clone(), managed.into_gone());
        }
        // Whoever waits for a look at it waits in vain.
        self.waiting.iter_mut().for_each(|waiting| waiting.note(name, &[], true));
        self.answer_those_that_wait();
    }

    fn end_rewiring(&mut self) {
        // Those whose unit could not be started before have none that goes.
        let left: Vec<_> = self.processors.keys().filter(|name| !is_active(&self.config, name)).cloned().collect();
        left.iter().for_each(|name| self.remove(name, "it was not at work"));
        let Some(Rewiring { reading, mut compared, ready, .. }) = self.rewiring.take() else { return };
        let changes = reading.changes.clone();
        // What began with what ran before may have to run as something else.
        compared.processors.extend(ready.acts.into_keys());
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
    pub(super) fn read_again(&mut self, changes: &[Change]) {
        if let Some(mut reading) = self.again.take() {
            reading.changes.extend_from_slice(changes);
            self.read_config(reading);
        }
    }
}

/// For each unit that starts the ones that go first: that of its own place, and those where its processors are.
fn needs(before: &Config, compared: &Compared) -> BTreeMap<Key, BTreeSet<Key>> {
    let leaving: BTreeSet<&Key> = compared.leave.iter().collect();
    let own = compared.start.keys().map(|key| (key.clone(), key.clone()));
    let places = compared.config.active_processors().filter_map(|processor| {
        let old = before.processors.get(&processor.name)?;
        Some((Key::of(processor), Key::of(old)))
    });
    let mut needs: BTreeMap<Key, BTreeSet<Key>> = BTreeMap::new();
    for (key, other) in own.chain(places).filter(|(_, other)| leaving.contains(other)) {
        needs.entry(key).or_default().insert(other);
    }
    needs
}

/// What became of the retries that a queue held when it went.
fn what_was_held(key: &Key, config: &Config) -> &'static str {
    let Key::Queue(queue) = key else { return "" };
    match config.queues.get(queue).map(|queue| queue.ack_mode_in_effect()) {
        Some(AckMode::ClientIndividual) => ": what it held was given back",
        _ => ": what it held was tried again at once",
    }
}

/// Whether two configurations of a processor make the same of a component.
fn runs_as(old: &Processor, new: &Processor) -> bool {
    is_same_kind(old, new)
        && (&old.module, &old.class, &old.params) == (&new.module, &new.class, &new.params)
        && (&old.limits, old.instance, &old.sha256) == (&new.limits, new.instance, &new.sha256)
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
            let Some(((act, made_of), told)) = made else { return Ok(()) };
            let failed = |error| vec![format!("processors.{}: {}", processor.name, with_sources(&error))];
            act.prepare(lanes_of(processor)).map_err(failed)?;
            ready.acts.insert(processor.name.clone(), (act, made_of));
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

type Made = Option<(Begins, Option<Change>)>;

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
        Role::Loaded { number, counters, avoided } => {
            let first = prepare::first(engine, config, processor, (*number, counters), (avoided, kept));
            let (generation, told) =
                first.map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>())?;
            Ok(Some(((Act::new(generation, &processor.module, None), None), told)))
        }
        Role::Rewired { number, stable } => {
            let generation = stable.generation.placed_as(processor, *number);
            let act = Act::new(generation, &stable.author.origin.module, None);
            Ok(Some(((act, Some(stable.clone())), None)))
        }
    }
}

/// A source has one thread.
fn lanes_of(processor: &Processor) -> usize {
    if processor.in_queue.is_some() { processor.n_threads } else { 1 }
}
