//! The buffer with lanes of threads and deliveries without a broker.

use std::{sync::atomic::Ordering::Relaxed, thread};

use super::*;
use crate::delivery::testing::{FakeSession, delivery};

fn options() -> BufferOptions {
    BufferOptions {
        max_len: 10,
        max_bytes: 1_000,
        window: 10,
        readers: 2,
        finish_all: false,
        finish_held: false,
        lanes: 2,
        order_by: None,
        max_hold: Duration::from_secs(600),
        max_rest: Duration::from_secs(600),
    }
}

fn with(options: BufferOptions) -> Arc<Buffer> {
    Buffer::new(options, HostBytes::new(1_000_000))
}

fn buffer(max_len: usize, finish_all: bool) -> Arc<Buffer> {
    with(BufferOptions { max_len, finish_all, ..options() })
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
