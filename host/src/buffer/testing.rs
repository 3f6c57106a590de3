//! A buffer without the threads of its lanes, for the model.

use std::hash::{DefaultHasher, Hash, Hasher};

use super::{Buffer, Ordering, Taken};
use crate::delivery::Delivery;

impl Buffer {
    /// [`Buffer::take`], where there is nothing to wait for.
    pub(crate) fn try_take(&self, reader: usize) -> Option<Taken> {
        loop {
            let mut state = self.lock();
            let delivery = self.next(&mut state, reader)?;
            let more = state.waiting.is_ready();
            drop(state);
            match delivery.claim() {
                Some(delivery) => return Some(Taken { delivery, more }),
                None => self.stale.fetch_add(1, Ordering::Relaxed),
            };
        }
    }

    /// Feeds what waits, in order, and what is held.
    pub(crate) fn hash(&self, hasher: &mut impl Hasher) {
        let state = self.lock();
        let (mut waiting, mut held) = (Vec::new(), Vec::new());
        state.waiting.any(|delivery| note(delivery, &mut waiting));
        for of_reader in &state.held {
            of_reader.any(|delivery| note(delivery, &mut held));
        }
        held.sort_unstable();
        (waiting, held, state.closed).hash(hasher);
    }
}

fn note(delivery: &Delivery, seen: &mut Vec<u64>) -> bool {
    let mut hasher = DefaultHasher::new();
    delivery.hash(&mut hasher);
    seen.push(hasher.finish());
    false
}
