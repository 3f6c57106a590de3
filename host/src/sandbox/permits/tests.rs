//! Who has a permit, who is next, and who must make room.

use std::{sync::mpsc, thread};

use super::*;

/// Nobody runs beyond the permits there are.
fn strict(count: usize) -> Arc<Permits> {
    Permits::with_patience(count, Duration::from_secs(3_600))
}

fn tenants(permits: &Arc<Permits>) -> (usize, usize) {
    (permits.tenant(&"many".into()), permits.tenant(&"one".into()))
}

/// A lane that takes a permit, says so, and holds it until it is told to go on.
fn lane(
    permits: &Arc<Permits>,
    tenant: usize,
    name: &'static str,
    began: &mpsc::Sender<&'static str>,
) -> mpsc::Sender<()> {
    let (go, goes) = mpsc::channel::<()>();
    let (permits, began) = (permits.clone(), began.clone());
    thread::spawn(move || {
        let permit = permits.take(tenant, Duration::ZERO, || ());
        began.send(name).unwrap();
        let _ = goes.recv();
        drop(permit);
    });
    go
}

fn wait_for_waiting(permits: &Permits, count: usize) {
    while permits.lock().tenants.iter().map(|tenant| tenant.waiting.len()).sum::<usize>() < count {
        thread::yield_now();
    }
}

#[test]
fn no_more_run_than_there_are_permits_and_the_longest_waiting_is_next() {
    let permits = strict(1);
    let (many, _) = tenants(&permits);
    let (began, begun) = mpsc::channel();
    let first = lane(&permits, many, "first", &began);
    assert_eq!(begun.recv().unwrap(), "first");
    let _second = lane(&permits, many, "second", &began);
    wait_for_waiting(&permits, 1);
    let _third = lane(&permits, many, "third", &began);
    wait_for_waiting(&permits, 2);
    assert!(begun.try_recv().is_err());
    drop(first);
    assert_eq!(begun.recv().unwrap(), "second");
}

#[test]
fn the_tenant_that_had_least_is_next() {
    let permits = strict(1);
    let (many, one) = tenants(&permits);
    let (began, begun) = mpsc::channel();
    let mut held = permits.take(many, Duration::ZERO, || ());
    let lanes: Vec<_> = (0..3).map(|_| lane(&permits, many, "many", &began)).collect();
    wait_for_waiting(&permits, 3);
    let go = lane(&permits, one, "one", &began);
    wait_for_waiting(&permits, 4);
    hold(&mut held, Duration::from_secs(1));
    let asking = thread::spawn(move || held.offer());
    assert_eq!(begun.recv().unwrap(), "one", "before the three that came first");
    drop((go, lanes));
    assert!(asking.join().unwrap() > Duration::ZERO, "it got one again");
    assert_eq!(begun.iter().take(3).collect::<Vec<_>>(), ["many"; 3]);
}

/// Holds a permit for longer than it is kept whoever waits.
fn hold(permit: &mut Permit, time: Duration) {
    permit.since -= time;
}

#[test]
fn the_lane_that_had_least_is_next_and_a_long_call_makes_room_for_it() {
    let permits = strict(1);
    let (many, _) = tenants(&permits);
    let (began, begun) = mpsc::channel();
    let mut held = permits.take(many, Duration::ZERO, || panic!("nobody waits"));
    hold(&mut held, Duration::from_secs(1));
    let lane = |name: &'static str, used| {
        let (permits, began, (rang, rings)) = (permits.clone(), began.clone(), mpsc::channel());
        thread::spawn(move || {
            let _permit = permits.take(many, used, || rang.send(()).unwrap());
            began.send(name).unwrap();
        });
        rings.recv().unwrap();
    };
    lane("long", Duration::from_secs(9));
    assert_eq!(held.offer(), Duration::ZERO, "it had more than the one who asks");
    lane("short", Duration::ZERO);
    held.since = Instant::now() + LEAST;
    assert_eq!(held.offer(), Duration::ZERO, "not so soon");
    hold(&mut held, 2 * LEAST);
    assert!(held.offer() > Duration::ZERO);
    assert_eq!(begun.try_recv(), Ok("short"));
    drop(held);
    assert_eq!(begun.recv(), Ok("long"));
}

#[test]
fn beside_those_who_do_not_offer_the_next_lane_runs_all_the_same() {
    let permits = Permits::with_patience(1, Duration::ZERO);
    let (many, _) = tenants(&permits);
    let left = || {
        let state = permits.lock();
        (state.free, state.extra)
    };
    let deaf = permits.take(many, Duration::ZERO, || ());
    let beside = permits.take(many, Duration::ZERO, || ());
    assert_eq!(left(), (0, 1));
    // And no more than as many again.
    let (began, begun) = mpsc::channel();
    let _third = lane(&permits, many, "third", &began);
    wait_for_waiting(&permits, 1);
    drop(beside);
    assert_eq!(begun.recv(), Ok("third"));
    drop(deaf);
    assert_eq!(left(), (0, 0));
}

#[test]
fn a_lane_that_comes_begins_where_the_others_are() {
    let permits = strict(2);
    let (many, _) = tenants(&permits);
    let mut held = permits.take(many, Duration::ZERO, || ());
    hold(&mut held, Duration::from_secs(9));
    assert_eq!(held.offer(), Duration::ZERO);
    let other = permits.take(many, Duration::ZERO, || ());
    assert!(other.used >= Duration::from_secs(9));
    drop((held, other));
    assert!(permits.take(many, Duration::ZERO, || ()).used >= Duration::from_secs(9), "also after all rested");
}

#[test]
fn a_permit_is_kept_while_nobody_else_is_due() {
    let permits = strict(1);
    let (many, one) = tenants(&permits);
    let mut held = permits.take(one, Duration::ZERO, || ());
    hold(&mut held, LEAST);
    assert_eq!(held.offer(), Duration::ZERO);
    permits.lock().charge(many, Duration::ZERO, Duration::from_secs(1));
    let (began, _begun) = mpsc::channel();
    let _lane = lane(&permits, many, "many", &began);
    wait_for_waiting(&permits, 1);
    // What the other had before it rested is forgotten only upwards.
    hold(&mut held, LEAST);
    assert_eq!(held.offer(), Duration::ZERO);
}

#[test]
fn a_rest_saves_nothing_up() {
    let permits = strict(2);
    let (many, one) = tenants(&permits);
    let mut held = permits.take(many, Duration::ZERO, || ());
    hold(&mut held, Duration::from_secs(9));
    assert_eq!(held.offer(), Duration::ZERO);
    drop(permits.take(one, Duration::ZERO, || ()));
    assert!(permits.lock().tenants[one].used >= Duration::from_secs(9));
    drop(held);
    assert_eq!(permits.lock().free, 2);
}
