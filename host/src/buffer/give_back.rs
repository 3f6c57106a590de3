//! When deliveries go back to the broker: nobody processes them, they waited too long, or their
//! connection is gone.
//!
//! Sessions ask and call this through [`crate::delivery::Intake`]; lanes say when they rest. How a
//! delivery is given back is the session's business.

use std::time::{Duration, Instant};

use super::{Buffer, wait};
use crate::{delivery::Delivery, retry::Held};

/// Flow control of this length is ordinary.
const FLOW_CONTROL: Duration = Duration::from_secs(30);

/// A lane that can process nothing for now, until this is dropped.
#[derive(Debug)]
pub struct Rest<'a>(&'a Buffer);

impl Buffer {
    /// Says that a lane can process nothing until the answer is dropped. When all lanes rest for long,
    /// everything is given back.
    pub fn rest(&self) -> Rest<'_> {
        let mut state = self.lock();
        state.resting += 1;
        if state.resting >= self.options.lanes {
            state.all_rest_since.get_or_insert_with(Instant::now);
        }
        Rest(self)
    }

    /// Whether a delivery has been here for so long that it must be given back.
    #[must_use]
    pub fn is_overdue(&self, delivery: &Delivery) -> bool {
        delivery.age() > self.options.max_hold && self.may_give_back(delivery)
    }

    /// Whether a delivery can be given back: not where its broker has forgotten it (ack mode auto), nor where others
    /// would be processed again for it.
    #[must_use]
    pub fn may_give_back(&self, delivery: &Delivery) -> bool {
        !self.options.finish_all && delivery.may_go_back()
    }

    /// Lets the broker have an overdue delivery while the answer to what was sent for it is awaited.
    pub fn lend_back(&self, delivery: &mut Delivery) {
        delivery.lend_back(self.options.max_hold);
    }

    /// How long flow control may last before lanes count as resting: where any rest gives everything back, the
    /// ordinary kind is none.
    #[must_use]
    pub fn patience(&self) -> Duration {
        if self.options.max_rest.is_zero() { FLOW_CONTROL } else { Duration::ZERO }
    }

    /// When a delivery must have been retried at the latest, so that it does not become overdue.
    #[must_use]
    pub fn latest_retry(&self, delivery: &Delivery) -> Instant {
        delivery.received + self.options.max_hold.mul_f64(0.9)
    }

    /// Waits until `over`, or until the buffer is closed; who makes that true calls [`Buffer::nudge`] after it. Meanwhile
    /// what is held for this reader goes back: it will not run it for now, and others may.
    pub fn stand_by(&self, reader: usize, over: impl Fn() -> bool) {
        let mut state = self.lock();
        while !state.closed && !over() {
            let mut gone = Vec::new();
            if let Some(held) = state.held.get_mut(reader) {
                held.remove_if(|delivery| self.may_give_back(delivery), &mut gone);
            }
            if gone.is_empty() {
                state = wait(&self.end, state, None);
                continue;
            }
            self.forget(&mut state, &gone);
            drop(state);
            gone.into_iter().for_each(Delivery::give_back);
            state = self.lock();
        }
    }

    pub(super) fn is_wanted(&self) -> bool {
        self.lock().all_rest_since.is_none_or(|since| since.elapsed() < self.options.max_rest)
    }

    /// Takes out, and drops, what is like this.
    pub(super) fn remove(&self, wanted: impl Fn(&Delivery) -> bool) {
        drop(self.take_out(wanted));
    }

    /// Gives back what is overdue.
    pub(super) fn return_overdue(&self) {
        self.take_out(|delivery| self.is_overdue(delivery)).into_iter().for_each(Delivery::give_back);
    }

    fn take_out(&self, wanted: impl Fn(&Delivery) -> bool) -> Vec<Delivery> {
        let mut gone = Vec::new();
        let mut state = self.lock();
        if state.waiting.any(&wanted) || state.held.iter().any(|held: &Held| held.any(&wanted)) {
            state.waiting.remove_if(&wanted, &mut gone);
            state.held.iter_mut().for_each(|held| held.remove_if(&wanted, &mut gone));
            self.forget(&mut state, &gone);
        }
        gone
    }
}

impl Drop for Rest<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.resting -= 1;
        if state.all_rest_since.take().is_some() {
            self.0.room.notify_waiters();
        }
    }
}
