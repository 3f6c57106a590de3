//! Every order in which steps can follow each other: depth first, each state once.
//!
//! What the host is made of cannot be copied, so a state is reached again by its steps.

use std::{
    collections::HashSet,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
};

use super::world::{Setup, Step, World};

/// All states that were found.
#[derive(Debug, Default)]
pub(super) struct Explored {
    seen: HashSet<u64>,
    pub(super) states: usize,
    pub(super) steps: usize,
    /// States in which nothing more happens.
    pub(super) rests: usize,
    pub(super) longest: usize,
}

/// Explores everything.
pub(super) fn explore(setup: Setup) -> Explored {
    let mut explored = Explored::default();
    explored.from(setup, World::new(setup), &mut Vec::new());
    explored
}

impl Explored {
    fn from(&mut self, setup: Setup, world: World, path: &mut Vec<Step>) {
        self.states += 1;
        self.longest = self.longest.max(path.len());
        let (mut next, faults) = (world.steps(), world.faults());
        let rests = next.is_empty();
        next.extend(faults);
        if rests {
            self.rests += 1;
            told(path, || World::at_rest(reached(setup, path)));
        }
        // The world at hand makes the first step, and is rebuilt for each further one.
        let mut world = Some(world);
        for step in next {
            let mut there = world.take().unwrap_or_else(|| reached(setup, path));
            path.push(step);
            self.steps += 1;
            told(path, || there.go(step));
            if self.seen.insert(there.print()) {
                self.from(setup, there, path);
            }
            path.pop();
        }
    }
}

fn reached(setup: Setup, path: &[Step]) -> World {
    let mut world = World::new(setup);
    path.iter().for_each(|step| world.go(*step));
    world
}

/// Names the way to a broken promise.
fn told(path: &[Step], check: impl FnOnce()) {
    if let Err(broken) = catch_unwind(AssertUnwindSafe(check)) {
        eprintln!("the way there: {path:?}");
        resume_unwind(broken);
    }
}
