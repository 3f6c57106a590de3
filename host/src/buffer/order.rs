//! Deliveries that wait, in order of arrival; with `order_by` those of equal value one at a time.
//!
//! A plain data structure under the buffer's lock. The first delivery of a value has its turn, waiting, in
//! work or held for retry, until it is dropped; the others of the value are parked behind it. Every step
//! is a few operations, however many are parked.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Weak},
};

use crate::delivery::{Delivery, Turn, Turns};

#[derive(Debug)]
pub(super) struct Waiting {
    ready: VecDeque<Delivery>,
    order_by: Option<Arc<str>>,
    /// By value: those behind the one that has its turn.
    parked: HashMap<Arc<str>, VecDeque<Delivery>>,
    /// All that wait, parked ones included.
    count: usize,
    queue: Weak<dyn Turns>,
}

impl Waiting {
    /// Turns that end are reported to `queue`.
    pub(super) fn new(order_by: Option<Arc<str>>, queue: Weak<dyn Turns>) -> Self {
        Self { ready: VecDeque::new(), order_by, parked: HashMap::new(), count: 0, queue }
    }

    pub(super) fn push(&mut self, mut delivery: Delivery) {
        self.count += 1;
        let value = self.order_by.as_ref().and_then(|name| delivery.message.headers.get(name));
        if let Some(value) = value {
            if let Some(parked) = self.parked.get_mut(value) {
                return parked.push_back(delivery);
            }
            let value: Arc<str> = value.into();
            self.parked.insert(value.clone(), VecDeque::new());
            delivery.turn = Some(Turn { value, queue: self.queue.clone() });
        }
        self.ready.push_back(delivery);
    }

    /// The first delivery that may be worked on.
    pub(super) fn pop(&mut self) -> Option<Delivery> {
        let delivery = self.ready.pop_front()?;
        self.count -= 1;
        Some(delivery)
    }

    /// All that wait, parked ones included.
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// Whether [`Waiting::pop`] would give one.
    pub(super) fn is_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// The delivery with this value has ended; returns whether the next one is ready now.
    pub(super) fn ended(&mut self, value: &Arc<str>) -> bool {
        let Some(parked) = self.parked.get_mut(value) else { return false };
        let Some(mut next) = parked.pop_front() else {
            self.parked.remove(value);
            return false;
        };
        next.turn = Some(Turn { value: value.clone(), queue: self.queue.clone() });
        // It is older than most.
        self.ready.push_front(next);
        true
    }

    /// Whether one of them is like this.
    pub(super) fn any(&self, wanted: impl FnMut(&Delivery) -> bool) -> bool {
        self.ready.iter().chain(self.parked.values().flatten()).any(wanted)
    }

    /// Moves to `removed` those that are like this.
    pub(super) fn remove_if(&mut self, mut wanted: impl FnMut(&Delivery) -> bool, removed: &mut Vec<Delivery>) {
        let before = removed.len();
        for line in std::iter::once(&mut self.ready).chain(self.parked.values_mut()) {
            if line.iter().any(&mut wanted) {
                let (gone, stay): (Vec<_>, Vec<_>) = std::mem::take(line).into_iter().partition(&mut wanted);
                removed.extend(gone);
                line.extend(stay);
            }
        }
        self.count -= removed.len() - before;
    }
}
