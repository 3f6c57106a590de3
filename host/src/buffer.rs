//! Deliveries between the session of a queue and the lanes that read it.
//!
//! Sessions push, lanes take; retries come back here until they are due. Bounded by count and bytes:
//! when it is full the session stops reading its socket, and nothing is ever dropped to make room.
//! `order` keeps the deliveries that wait, `give_back` what leads back to the broker. Deliveries are
//! never dropped under the lock: the turn of one that ends comes back here.

mod give_back;
mod intake;
mod order;
#[cfg(test)]
pub(crate) mod testing;

use std::{
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::Notify;

pub use self::give_back::Rest;
use self::{intake::turn_away, order::Waiting};
use crate::{
    delivery::{Delivery, Turns},
    retry::Held,
};

/// The bounds of a buffer.
#[derive(Debug, Clone)]
pub struct BufferOptions {
    /// Deliveries waiting (`max_buffer_len`).
    pub max_len: usize,
    /// Bytes waiting (`max_buffer_mb`).
    pub max_bytes: usize,
    /// What the broker may have outstanding with us; half of it may be held for retry.
    pub window: usize,
    /// The processors that read the queue; each has a number below this.
    pub readers: usize,
    /// Whether what was read must be processed before the end, as in ack mode auto, where the broker
    /// has forgotten it. Otherwise a closed buffer drops it un-acked and the broker has it still.
    pub finish_all: bool,
    /// Whether what is held for retry is run at the end, as in ack mode client, where it keeps everything
    /// behind it from being acknowledged.
    pub finish_held: bool,
    /// The lanes of all readers.
    pub lanes: usize,
    /// The header whose equal values stay in order.
    pub order_by: Option<Arc<str>>,
    /// How long a delivery may stay here.
    pub max_hold: Duration,
    /// How long all lanes may rest before everything is given back.
    pub max_rest: Duration,
}

impl BufferOptions {
    /// How many deliveries one processor may hold: together at most half the window.
    #[must_use]
    pub fn quota(&self) -> usize {
        (self.window / 2 / self.readers.max(1)).max(1)
    }
}

/// Bytes waiting in all buffers of the host, with their common bound.
#[derive(Debug)]
pub struct HostBytes {
    used: AtomicUsize,
    max: usize,
}

impl HostBytes {
    /// Creates the bound (`buffer_mb`).
    #[must_use]
    pub fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { used: AtomicUsize::new(0), max })
    }
}

/// The buffer of one queue.
#[derive(Debug)]
pub struct Buffer {
    options: BufferOptions,
    host: Arc<HostBytes>,
    state: Mutex<State>,
    arrival: Condvar,
    /// Lanes that pause sleep here and not at `arrival`, where they could swallow the wake-up of one that waits.
    end: Condvar,
    room: Notify,
    stale: AtomicU64,
    repeats: AtomicU64,
    oversized: AtomicU64,
}

#[derive(Debug)]
struct State {
    waiting: Waiting,
    bytes: usize,
    held: Vec<Held>,
    idle: usize,
    closed: bool,
    /// The session was told that there is no room and waits to be told otherwise.
    full: bool,
    /// Lanes that can process nothing for now, and since when all of them cannot.
    resting: usize,
    all_rest_since: Option<Instant>,
}

/// A delivery for a lane.
#[derive(Debug)]
pub struct Taken {
    /// The delivery.
    pub delivery: Delivery,
    /// Whether more are waiting: then sending may wait for company.
    pub more: bool,
}

/// Why a lane that waits for a delivery gets none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nothing {
    /// It has something else to do.
    Interrupted,
    /// The buffer is closed, and nothing must be finished.
    Closed,
}

impl Buffer {
    /// Creates an empty buffer.
    #[must_use]
    pub fn new(options: BufferOptions, host: Arc<HostBytes>) -> Arc<Self> {
        Arc::new_cyclic(|queue: &std::sync::Weak<Self>| {
            let state = State {
                waiting: Waiting::new(options.order_by.clone(), queue.clone()),
                bytes: 0,
                held: (0..options.readers).map(|_| Held::new(options.quota())).collect(),
                idle: 0,
                closed: false,
                full: false,
                resting: 0,
                all_rest_since: None,
            };
            Self {
                options,
                host,
                state: Mutex::new(state),
                arrival: Condvar::new(),
                end: Condvar::new(),
                room: Notify::new(),
                stale: AtomicU64::new(0),
                repeats: AtomicU64::new(0),
                oversized: AtomicU64::new(0),
            }
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a delivery for this reader: a retry that is due, else the oldest waiting. What is not to
    /// be processed (its session is dead, or it was settled before) ends here. None once the buffer is
    /// closed and nothing must be finished.
    pub fn take(&self, reader: usize) -> Option<Taken> {
        self.take_unless(reader, || false).ok()
    }

    /// The same, until `interrupted`; who makes that true calls [`Buffer::nudge`] after it.
    ///
    /// # Errors
    /// There is none, and why.
    pub fn take_unless(&self, reader: usize, interrupted: impl Fn() -> bool) -> Result<Taken, Nothing> {
        loop {
            let (delivery, more) = self.wait_for_next(reader, &interrupted)?;
            match delivery.claim() {
                Some(delivery) => return Ok(Taken { delivery, more }),
                None => self.stale.fetch_add(1, Ordering::Relaxed),
            };
        }
    }

    fn wait_for_next(&self, reader: usize, interrupted: &impl Fn() -> bool) -> Result<(Delivery, bool), Nothing> {
        let mut state = self.lock();
        loop {
            // First: who was paused takes nothing more. The nudge that follows wakes whoever can take it.
            if interrupted() {
                return Err(Nothing::Interrupted);
            }
            if let Some(delivery) = self.next(&mut state, reader) {
                return Ok((delivery, state.waiting.is_ready()));
            }
            if state.closed && state.waiting.len() == 0 {
                return Err(Nothing::Closed);
            }
            let due = state.held.get(reader).and_then(Held::next_due);
            state.idle += 1;
            state = wait(&self.arrival, state, due.map(|due| due.saturating_duration_since(Instant::now())));
            state.idle -= 1;
        }
    }

    fn next(&self, state: &mut State, reader: usize) -> Option<Delivery> {
        let held = state.held.get_mut(reader)?;
        let retry = if state.closed { held.pop_any() } else { held.pop_due(Instant::now()) };
        let delivery = retry.or_else(|| state.waiting.pop())?;
        self.forget(state, std::slice::from_ref(&delivery));
        Some(delivery)
    }

    /// Counts off what has left the buffer.
    fn forget(&self, state: &mut State, gone: &[Delivery]) {
        let bytes = gone.iter().map(|delivery| delivery.message.byte_len()).sum();
        state.bytes -= bytes;
        self.host.used.fetch_sub(bytes, Ordering::Relaxed);
        if state.full && self.roomy(state) {
            state.full = false;
            self.room.notify_waiters();
        }
    }

    /// Holds a delivery for this reader until `due`. Given back when the buffer is closed, since nobody may
    /// be there to take it, or when its connection is gone.
    ///
    /// # Errors
    /// It is not held.
    #[expect(clippy::result_large_err, reason = "a delivery that cannot be held goes back whole, once, at the end")]
    pub fn hold(&self, reader: usize, mut delivery: Delivery, due: Instant) -> Result<(), Delivery> {
        delivery.compact();
        let bytes = delivery.message.byte_len();
        let mut state = self.lock();
        let open = !state.closed && delivery.alive();
        match state.held.get_mut(reader) {
            Some(held) if open => held.push(delivery, due),
            _ => {
                drop(state);
                return Err(delivery);
            }
        }
        state.bytes += bytes;
        self.host.used.fetch_add(bytes, Ordering::Relaxed);
        if state.idle > 0 {
            self.arrival.notify_all();
        }
        if state.resting > 0 {
            self.end.notify_all(); // A lane that stands by gives it back.
        }
        Ok(())
    }

    /// Sleeps, or returns early with true when the buffer is closed.
    pub fn pause(&self, pause: Duration) -> bool {
        self.pause_unless(pause, || false)
    }

    /// Sleeps, or returns early with true when the buffer is closed or `interrupted`; see [`Buffer::nudge`].
    pub fn pause_unless(&self, pause: Duration, interrupted: impl Fn() -> bool) -> bool {
        let until = Instant::now() + pause;
        let mut state = self.lock();
        while !state.closed && !interrupted() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            state = wait(&self.end, state, Some(left));
        }
        true
    }

    /// Lets lanes that wait look around.
    pub fn nudge(&self) {
        // Under the lock: a lane that has looked already is asleep before it is woken.
        drop(self.lock());
        self.arrival.notify_all();
        self.end.notify_all();
    }

    /// Ends the buffer: lanes get nothing more (in ack mode auto: what is left; in ack mode client: what is
    /// held), what stays is dropped un-acked, except for what was settled before: that is acknowledged still.
    pub fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        let mut gone = Vec::new();
        if !self.options.finish_all {
            state.waiting.remove_if(|_| true, &mut gone);
            if !self.options.finish_held {
                state.held.iter_mut().for_each(|held| held.remove_if(|_| true, &mut gone));
            }
        }
        self.forget(&mut state, &gone);
        drop(state);
        turn_away(&mut gone);
        self.arrival.notify_all();
        self.end.notify_all();
        self.room.notify_waiters();
    }

    /// Whether [`Buffer::close`] was called.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Deliveries waiting, held for retry, and ended because they were not to be processed.
    #[must_use]
    pub fn counts(&self) -> (usize, usize, u64) {
        let state = self.lock();
        let held = state.held.iter().map(Held::len).sum();
        (state.waiting.len(), held, self.stale.load(Ordering::Relaxed))
    }

    /// Messages of which a session says that they may be processed again unrecognised.
    #[must_use]
    pub fn repeats(&self) -> u64 {
        self.repeats.load(Ordering::Relaxed)
    }

    /// How often a message came that exceeds a limit of frames.
    #[must_use]
    pub fn oversized(&self) -> u64 {
        self.oversized.load(Ordering::Relaxed)
    }

    /// Bytes of all that waits or is held.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.lock().bytes
    }

    /// The bounds of this buffer.
    #[must_use]
    pub fn options(&self) -> &BufferOptions {
        &self.options
    }

    /// How many deliveries one processor may hold.
    #[must_use]
    pub fn quota(&self) -> usize {
        self.options.quota()
    }

    /// Whether what was read must be processed before the end (ack mode auto).
    #[must_use]
    pub fn must_finish(&self) -> bool {
        self.options.finish_all
    }

    /// Whether what would be held is run again at once at the end.
    #[must_use]
    pub fn must_finish_held(&self) -> bool {
        self.options.finish_all || self.options.finish_held
    }

    fn roomy(&self, state: &State) -> bool {
        // One message larger than the bound is taken alone.
        state.waiting.len() == 0
            || (state.waiting.len() < self.options.max_len
                && state.bytes < self.options.max_bytes
                && self.host.used.load(Ordering::Relaxed) < self.host.max)
    }
}

fn wait<'a>(bell: &Condvar, state: MutexGuard<'a, State>, limit: Option<Duration>) -> MutexGuard<'a, State> {
    match limit {
        None => bell.wait(state).unwrap_or_else(PoisonError::into_inner),
        Some(limit) => bell.wait_timeout(state, limit).unwrap_or_else(PoisonError::into_inner).0,
    }
}

impl Turns for Buffer {
    fn ended(&self, value: &Arc<str>) {
        let mut state = self.lock();
        let next = state.waiting.ended(value);
        let closed = state.closed;
        drop(state);
        if closed {
            self.arrival.notify_all();
        } else if next {
            self.arrival.notify_one();
        }
    }
}

#[cfg(test)]
mod tests;
