//! Deliveries between the session of a queue and the lanes that read it.
//!
//! Sessions push, lanes take; retries come back here until they are due. Bounded by count and bytes:
//! when it is full the session stops reading its socket, and nothing is ever dropped to make room.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::Notify;

use crate::{
    delivery::{Delivery, Intake},
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
}

#[derive(Debug)]
struct State {
    waiting: VecDeque<Delivery>,
    bytes: usize,
    held: Vec<Held>,
    idle: usize,
    closed: bool,
    /// The session was told that there is no room and waits to be told otherwise.
    full: bool,
    stale: u64,
}

/// A delivery for a lane.
#[derive(Debug)]
pub struct Taken {
    /// The delivery.
    pub delivery: Delivery,
    /// Whether more are waiting: then sending may wait for company.
    pub more: bool,
}

impl Buffer {
    /// Creates an empty buffer.
    #[must_use]
    pub fn new(options: BufferOptions, host: Arc<HostBytes>) -> Self {
        let held = (0..options.readers).map(|_| Held::new(options.quota())).collect();
        let state = State { waiting: VecDeque::new(), bytes: 0, held, idle: 0, closed: false, full: false, stale: 0 };
        let (arrival, end) = (Condvar::new(), Condvar::new());
        Self { options, host, state: Mutex::new(state), arrival, end, room: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a delivery for this reader: a retry that is due, else the oldest waiting. Deliveries
    /// of a dead session are dropped here: the broker gives them again. None once the buffer is closed
    /// and nothing must be finished.
    pub fn take(&self, reader: usize) -> Option<Taken> {
        let mut state = self.lock();
        loop {
            while let Some(delivery) = self.next(&mut state, reader) {
                if delivery.alive() {
                    let more = !state.waiting.is_empty();
                    return Some(Taken { delivery, more });
                }
                state.stale += 1;
            }
            if state.closed {
                return None;
            }
            let due = state.held.get(reader).and_then(Held::next_due);
            state.idle += 1;
            state = wait(&self.arrival, state, due.map(|due| due.saturating_duration_since(Instant::now())));
            state.idle -= 1;
        }
    }

    fn next(&self, state: &mut State, reader: usize) -> Option<Delivery> {
        if state.closed && !self.options.finish_all {
            return None;
        }
        let held = state.held.get_mut(reader)?;
        let retry = if state.closed { held.pop_any() } else { held.pop_due(Instant::now()) };
        let delivery = retry.or_else(|| state.waiting.pop_front())?;
        let bytes = delivery.message.byte_len();
        state.bytes -= bytes;
        self.host.used.fetch_sub(bytes, Ordering::Relaxed);
        if state.full && self.roomy(state) {
            state.full = false;
            self.room.notify_one();
        }
        Some(delivery)
    }

    /// Holds a delivery for this reader until `due`. Given back when the buffer is closed: nobody may
    /// be there to take it.
    ///
    /// # Errors
    /// The buffer is closed.
    pub fn hold(&self, reader: usize, mut delivery: Delivery, due: Instant) -> Result<(), Delivery> {
        delivery.compact();
        let bytes = delivery.message.byte_len();
        let mut state = self.lock();
        let open = !state.closed;
        match state.held.get_mut(reader) {
            Some(held) if open => held.push(delivery, due),
            _ => return Err(delivery),
        }
        state.bytes += bytes;
        self.host.used.fetch_add(bytes, Ordering::Relaxed);
        if state.idle > 0 {
            self.arrival.notify_all();
        }
        Ok(())
    }

    /// Sleeps, or returns early with true when the buffer is closed.
    pub fn pause(&self, pause: Duration) -> bool {
        let until = Instant::now() + pause;
        let mut state = self.lock();
        while !state.closed {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            state = wait(&self.end, state, Some(left));
        }
        true
    }

    /// Ends the buffer: lanes get nothing more (in ack mode auto: what is left), what stays is dropped
    /// un-acked.
    pub fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        if !self.options.finish_all {
            self.host.used.fetch_sub(state.bytes, Ordering::Relaxed);
            state.bytes = 0;
            state.waiting.clear();
            state.held.iter_mut().for_each(Held::clear);
        }
        drop(state);
        self.arrival.notify_all();
        self.end.notify_all();
        self.room.notify_one();
    }

    /// Deliveries waiting, held for retry, and dropped because their session had died.
    #[must_use]
    pub fn counts(&self) -> (usize, usize, u64) {
        let state = self.lock();
        (state.waiting.len(), state.held.iter().map(Held::len).sum(), state.stale)
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

    fn roomy(&self, state: &State) -> bool {
        // One message larger than the bound is taken alone.
        state.waiting.is_empty()
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

impl Intake for Buffer {
    fn push(&self, deliveries: &mut Vec<Delivery>) {
        if deliveries.is_empty() {
            return;
        }
        let mut state = self.lock();
        if state.closed && !self.options.finish_all {
            deliveries.clear();
            return;
        }
        let bytes: usize = deliveries.iter().map(|delivery| delivery.message.byte_len()).sum();
        state.bytes += bytes;
        self.host.used.fetch_add(bytes, Ordering::Relaxed);
        let (idle, count) = (state.idle, deliveries.len());
        state.waiting.extend(deliveries.drain(..));
        drop(state);
        for _ in 0..idle.min(count) {
            self.arrival.notify_one();
        }
    }

    fn has_room(&self) -> bool {
        let mut state = self.lock();
        state.full = !self.roomy(&state);
        !state.full
    }

    fn room(&self) -> &Notify {
        &self.room
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::atomic::Ordering::Relaxed, thread};

    use super::*;
    use crate::delivery::testing::{FakeSession, delivery};

    fn buffer(max_len: usize, finish_all: bool) -> Buffer {
        let options = BufferOptions { max_len, max_bytes: 1_000, window: 10, readers: 2, finish_all };
        Buffer::new(options, HostBytes::new(1_000_000))
    }

    fn ids(buffer: &Buffer, reader: usize, count: usize) -> Vec<String> {
        (0..count).map(|_| buffer.take(reader).unwrap().delivery.message.id().to_owned()).collect()
    }

    #[test]
    fn gives_in_order_of_arrival_and_retries_to_their_own_reader() {
        let buffer = buffer(10, false);
        buffer.push(&mut vec![delivery("1"), delivery("2"), delivery("3")]);
        buffer.hold(1, delivery("retry"), Instant::now()).unwrap();
        assert_eq!(ids(&buffer, 0, 2), ["1", "2"]);
        assert_eq!(ids(&buffer, 1, 2), ["retry", "3"]);
    }

    #[test]
    fn is_full_by_count_and_by_bytes_and_tells_when_there_is_room() {
        let buffer = buffer(2, false);
        buffer.push(&mut vec![delivery("1"), delivery("2")]);
        assert!(!buffer.has_room());
        buffer.take(0).unwrap();
        assert!(buffer.has_room());
        let big = FakeSession::new().delivery("big", &[0; 2_000]);
        buffer.push(&mut vec![big]);
        buffer.take(0).unwrap();
        assert!(!buffer.has_room(), "it fills the buffer alone");
        buffer.take(0).unwrap();
        assert!(buffer.has_room());
    }

    #[test]
    fn drops_what_a_dead_session_delivered() {
        let (buffer, dead) = (buffer(10, false), FakeSession::new());
        buffer.push(&mut vec![dead.delivery("old", b""), delivery("new")]);
        dead.alive.store(false, Relaxed);
        assert_eq!(ids(&buffer, 0, 1), ["new"]);
        assert_eq!(buffer.counts(), (0, 0, 1));
    }

    #[test]
    fn a_closed_buffer_ends_the_lanes_and_gives_held_ones_back() {
        let buffer = buffer(10, false);
        buffer.push(&mut vec![delivery("1")]);
        buffer.close();
        assert!(buffer.take(0).is_none());
        assert!(buffer.hold(0, delivery("2"), Instant::now()).is_err());
        assert!(buffer.pause(Duration::from_secs(3600)), "returns at once");
    }

    #[test]
    fn a_lane_that_pauses_does_not_swallow_the_wake_up_of_one_that_waits() {
        let buffer = buffer(10, false);
        thread::scope(|scope| {
            scope.spawn(|| buffer.pause(Duration::from_secs(3600)));
            let waiting = scope.spawn(|| ids(&buffer, 0, 1));
            while buffer.lock().idle == 0 {
                thread::yield_now();
            }
            buffer.push(&mut vec![delivery("1")]);
            assert_eq!(waiting.join().unwrap(), ["1"]);
            buffer.close();
        });
    }

    #[test]
    fn what_is_held_counts_as_bytes() {
        let buffer = buffer(10, false);
        buffer.hold(0, FakeSession::new().delivery("held", &[0; 2_000]), Instant::now()).unwrap();
        buffer.push(&mut vec![delivery("1")]);
        assert!(!buffer.has_room());
        assert_eq!(ids(&buffer, 0, 1), ["held"]);
        assert!(buffer.has_room());
    }

    #[test]
    fn ack_mode_auto_finishes_what_was_read() {
        let buffer = buffer(10, true);
        buffer.push(&mut vec![delivery("1")]);
        buffer.hold(0, delivery("held"), Instant::now() + Duration::from_secs(3600)).unwrap();
        buffer.close();
        assert_eq!(ids(&buffer, 0, 2), ["held", "1"]);
        assert!(buffer.take(0).is_none());
    }

    #[test]
    fn a_waiting_lane_is_woken_by_arrivals_and_by_due_retries() {
        let buffer = buffer(10, false);
        thread::scope(|scope| {
            let lane = scope.spawn(|| ids(&buffer, 0, 2));
            buffer.hold(0, delivery("due"), Instant::now() + Duration::from_millis(20)).unwrap();
            while buffer.counts().1 > 0 {
                thread::yield_now();
            }
            buffer.push(&mut vec![delivery("arrived")]);
            assert_eq!(lane.join().unwrap(), ["due", "arrived"]);
        });
    }
}
