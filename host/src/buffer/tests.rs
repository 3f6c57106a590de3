//! The buffer with lanes of threads and deliveries without a broker.

use std::{sync::atomic::Ordering::Relaxed, thread};

use super::*;
use crate::delivery::Intake;
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
fn who_has_something_else_to_do_takes_nothing() {
    let buffer = buffer(10, false);
    buffer.push(&mut vec![delivery("1")]);
    assert_eq!(buffer.take_unless(0, || true).unwrap_err(), Nothing::Interrupted);
    assert_eq!(buffer.counts().0, 1);
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

/// A delivery with a value of the header `k`.
fn valued(session: &Arc<FakeSession>, id: &str, value: &str) -> Delivery {
    let mut delivery = session.delivery(id, b"");
    let mut message = (*delivery.message).clone();
    message.headers = [("message-id", id), ("k", value)].into_iter().collect();
    delivery.message = Arc::new(message);
    delivery
}

#[test]
fn equal_values_come_one_at_a_time_and_in_order() {
    let buffer = with(BufferOptions { order_by: Some("k".into()), ..options() });
    let session = FakeSession::new();
    let of = |id: &str| valued(&session, id, &id[..1]);
    buffer.push(&mut vec![of("a1"), of("a2"), of("b1"), delivery("x"), of("a3"), of("b2"), delivery("y")]);
    let take = |reader| buffer.take(reader).unwrap().delivery;
    let (a1, b1, x) = (take(0), take(1), take(0));
    assert_eq!([&a1, &b1, &x].map(|taken| taken.message.id().to_owned()), ["a1", "b1", "x"]);
    // A retry keeps its turn.
    buffer.hold(0, a1, Instant::now()).unwrap();
    let a1 = take(0);
    assert_eq!(a1.message.id(), "a1");
    assert!(a1.ack());
    let a2 = take(1);
    assert_eq!(a2.message.id(), "a2");
    drop(b1);
    assert_eq!(["b2", "y"], [take(0), take(0)].map(|taken| taken.message.id().to_owned()));
    drop(a2);
    assert_eq!(take(1).message.id(), "a3");
    assert_eq!(buffer.lock().waiting.len(), 0);
}

#[test]
fn a_backlog_of_one_value_does_not_hide_the_others() {
    let buffer = with(BufferOptions { max_len: 10_000, order_by: Some("k".into()), ..options() });
    let session = FakeSession::new();
    let mut many: Vec<_> = (0..5_000).map(|number| valued(&session, &number.to_string(), "same")).collect();
    many.push(valued(&session, "other", "other"));
    buffer.push(&mut many);
    let first = buffer.take(0).unwrap().delivery;
    assert_eq!(ids(&buffer, 1, 1), ["other"]);
    drop(first);
    assert_eq!(ids(&buffer, 0, 4_999), (1..5_000).map(|number: usize| number.to_string()).collect::<Vec<_>>());
}

#[test]
fn a_closed_ordered_buffer_in_mode_auto_finishes_what_is_parked() {
    let buffer = with(BufferOptions { finish_all: true, order_by: Some("k".into()), ..options() });
    let session = FakeSession::new();
    buffer.push(&mut vec![valued(&session, "1", "v"), valued(&session, "2", "v")]);
    let first = buffer.take(0).unwrap().delivery;
    buffer.close();
    thread::scope(|scope| {
        let lane = scope.spawn(|| ids(&buffer, 1, 1));
        while buffer.lock().idle == 0 {
            thread::yield_now();
        }
        drop(first);
        assert_eq!(lane.join().unwrap(), ["2"]);
    });
    assert!(buffer.take(0).is_none());
}

#[test]
fn stale_deliveries_make_room_wherever_they_are() {
    let buffer = with(BufferOptions { order_by: Some("k".into()), ..options() });
    let (dead, session) = (FakeSession::new(), FakeSession::new());
    buffer.push(&mut vec![valued(&dead, "1", "v"), valued(&dead, "2", "v"), valued(&session, "3", "v")]);
    buffer.hold(0, dead.delivery("held", b""), Instant::now() + Duration::from_secs(3600)).unwrap();
    dead.alive.store(false, Relaxed);
    buffer.forget_stale();
    assert_eq!(buffer.counts(), (1, 0, 0));
    assert_eq!(ids(&buffer, 0, 1), ["3"]);
    assert!(buffer.hold(0, dead.delivery("late", b""), Instant::now()).is_err());
    assert_eq!((buffer.lock().bytes, buffer.host.used.load(Relaxed)), (0, 0));
}

#[test]
fn what_is_overdue_is_given_back_and_retries_come_before() {
    let buffer = with(BufferOptions { max_hold: Duration::from_secs(10), ..options() });
    let old = Instant::now().checked_sub(Duration::from_secs(11)).unwrap();
    let aged = |id: &str| {
        let mut delivery = delivery(id);
        delivery.received = old;
        delivery
    };
    buffer.push(&mut vec![aged("1"), delivery("2")]);
    buffer.hold(0, aged("held"), Instant::now() + Duration::from_secs(3600)).unwrap();
    assert!(buffer.is_overdue(&aged("x")) && !buffer.is_overdue(&delivery("y")));
    buffer.give_back_overdue();
    assert_eq!(ids(&buffer, 0, 1), ["2"]);
    assert_eq!(buffer.counts().1, 0);
    assert_eq!(buffer.latest_retry(&aged("x")), old + Duration::from_secs(9));
}

#[test]
fn while_all_lanes_rest_nothing_is_wanted() {
    let buffer = with(BufferOptions { max_rest: Duration::ZERO, ..options() });
    let first = buffer.rest();
    assert!(buffer.wanted(), "another lane is at work");
    let second = buffer.rest();
    assert!(!buffer.wanted());
    drop(first);
    assert!(buffer.wanted());
    drop(second);
    let patient = with(options());
    let _both = (patient.rest(), patient.rest());
    assert!(patient.wanted(), "not yet");
}

#[test]
fn at_the_end_of_mode_client_what_is_held_is_run_and_the_rest_dropped() {
    let buffer = with(BufferOptions { finish_held: true, ..options() });
    buffer.push(&mut vec![delivery("waiting")]);
    buffer.hold(0, delivery("held"), Instant::now() + Duration::from_secs(3600)).unwrap();
    buffer.close();
    assert_eq!(ids(&buffer, 0, 1), ["held"]);
    assert!(buffer.take(0).is_none());
}

/// A session that knows its deliveries already.
#[derive(Debug)]
struct Knows(Arc<FakeSession>);

impl crate::delivery::Settle for Knows {
    fn ack(&self, number: u64, message: &Arc<crate::delivery::Message>) -> bool {
        self.0.ack(number, message)
    }

    fn alive(&self) -> bool {
        true
    }

    fn claim(&self, delivery: Delivery) -> Option<Delivery> {
        let _ = delivery.ack();
        None
    }
}

#[test]
fn what_was_settled_before_is_acknowledged_also_when_the_buffer_closes() {
    let (buffer, session) = (buffer(10, false), FakeSession::new());
    let again = |id| {
        let message = (*session.delivery(id, b"").message).clone();
        Delivery::new(message, Arc::new(Knows(session.clone())))
    };
    buffer.push(&mut vec![again("1"), session.delivery("new", b"")]);
    buffer.close();
    assert_eq!(session.acks.load(Relaxed), 1, "one was known, the other is the broker's");
    buffer.push(&mut vec![again("2"), session.delivery("newer", b"")]);
    assert_eq!((session.acks.load(Relaxed), buffer.counts()), (2, (0, 0, 0)));
}

/// Also what is held after the last lane stands by: the answer to what it sent came late.
#[test]
fn what_is_held_for_a_reader_that_stands_by_goes_back() {
    let (buffer, over, session) = (buffer(10, false), std::sync::atomic::AtomicBool::new(false), FakeSession::new());
    let later = Instant::now() + Duration::from_secs(3_600);
    buffer.hold(0, session.delivery("before", b""), later).unwrap();
    buffer.hold(1, session.delivery("of another", b""), later).unwrap();
    let held = |count: usize| {
        while buffer.counts().1 != count {
            thread::yield_now();
        }
    };
    thread::scope(|scope| {
        scope.spawn(|| {
            let _rest = buffer.rest();
            buffer.stand_by(0, || over.load(Relaxed));
        });
        held(1);
        buffer.hold(0, session.delivery("late", b""), later).unwrap();
        held(1);
        over.store(true, Relaxed);
        buffer.nudge();
    });
    assert_eq!(buffer.counts().1, 1, "what another reader holds stays");
}
