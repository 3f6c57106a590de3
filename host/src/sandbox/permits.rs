//! CPU permits: how many guests run at a time, and whose turn it is when more want to.
//!
//! [`super::instance`] takes one for each call. Fair between virtual organisations by the time that their guests
//! had, and among the lanes of one by turns: [`Permit::offer`] passes a long call's permit on at each tick when
//! somebody else is due, and a guest that waits (`super::wasi`) has none meanwhile. A permit is never held by a
//! lane that waits for anything but its guest.

use std::{
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// The permits of the host.
#[derive(Debug)]
pub(crate) struct Permits(Mutex<State>);

#[derive(Debug)]
struct State {
    free: usize,
    tenants: Vec<Tenant>,
}

/// A virtual organisation, or all processors without one.
#[derive(Debug)]
struct Tenant {
    vo: Arc<str>,
    /// The time that its guests had. Raised to that of the others when it comes after a rest, so that nobody
    /// saves time up.
    used: Duration,
    running: usize,
    waiting: VecDeque<Arc<Turn>>,
}

/// A lane that waits.
#[derive(Debug, Default)]
struct Turn {
    come: Mutex<bool>,
    bell: Condvar,
}

impl Turn {
    fn wait(&self) {
        let mut come = self.come.lock().unwrap_or_else(PoisonError::into_inner);
        while !*come {
            come = self.bell.wait(come).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn call(&self) {
        *self.come.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.bell.notify_one();
    }
}

/// The right to run a guest, until it is dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    permits: Arc<Permits>,
    tenant: usize,
    since: Instant,
}

impl Permits {
    /// Creates that many, at least one.
    pub(crate) fn new(count: usize) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State { free: count.max(1), tenants: Vec::new() })))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of a virtual organisation.
    pub(crate) fn tenant(&self, vo: &Arc<str>) -> usize {
        let mut state = self.lock();
        let known = state.tenants.iter().position(|tenant| tenant.vo == *vo);
        known.unwrap_or_else(|| {
            let waiting = VecDeque::new();
            state.tenants.push(Tenant { vo: vo.clone(), used: Duration::ZERO, running: 0, waiting });
            state.tenants.len() - 1
        })
    }

    /// Waits for a permit.
    pub(crate) fn take(self: &Arc<Self>, tenant: usize) -> Permit {
        let mut state = self.lock();
        state.awake(tenant);
        if state.free > 0 {
            state.free -= 1;
            state.begin(tenant);
            drop(state);
        } else {
            let turn = state.enqueue(tenant);
            drop(state);
            turn.wait();
        }
        Permit { permits: self.clone(), tenant, since: Instant::now() }
    }
}

impl Permit {
    /// Gives the permit up while the guest waits for something.
    pub(crate) fn lend(self) -> Lent {
        Lent { permits: self.permits.clone(), tenant: self.tenant }
    }

    /// Passes the permit on if somebody else is due, and waits for the next one; returns how long that took.
    pub(crate) fn offer(&mut self) -> Duration {
        let now = Instant::now();
        let mut state = self.permits.lock();
        state.charge(self.tenant, now - self.since);
        self.since = now;
        if !state.is_another_due(self.tenant) {
            return Duration::ZERO;
        }
        let turn = state.enqueue(self.tenant);
        state.end(self.tenant);
        let next = state.next();
        drop(state);
        if let Some(next) = next {
            next.call();
        }
        turn.wait();
        self.since = Instant::now();
        self.since - now
    }
}

/// A permit that others have while its guest waits.
#[derive(Debug)]
pub(crate) struct Lent {
    permits: Arc<Permits>,
    tenant: usize,
}

impl Lent {
    /// Waits for a permit again.
    pub(crate) fn take_again(self) -> Permit {
        self.permits.take(self.tenant)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.permits.lock();
        state.charge(self.tenant, self.since.elapsed());
        state.end(self.tenant);
        let next = state.next();
        if next.is_none() {
            state.free += 1;
        }
        drop(state);
        if let Some(next) = next {
            next.call();
        }
    }
}

impl State {
    /// A tenant that comes after a rest begins where the others are.
    fn awake(&mut self, tenant: usize) {
        let floor = self.tenants.iter().filter(|other| other.is_active()).map(|other| other.used).min();
        if let (Some(tenant), Some(floor)) = (self.tenants.get_mut(tenant).filter(|tenant| !tenant.is_active()), floor)
        {
            tenant.used = tenant.used.max(floor);
        }
    }

    fn begin(&mut self, tenant: usize) {
        if let Some(tenant) = self.tenants.get_mut(tenant) {
            tenant.running += 1;
        }
    }

    fn end(&mut self, tenant: usize) {
        if let Some(tenant) = self.tenants.get_mut(tenant) {
            tenant.running -= 1;
        }
    }

    fn charge(&mut self, tenant: usize, time: Duration) {
        if let Some(tenant) = self.tenants.get_mut(tenant) {
            tenant.used += time;
        }
    }

    fn enqueue(&mut self, tenant: usize) -> Arc<Turn> {
        let turn = Arc::<Turn>::default();
        if let Some(tenant) = self.tenants.get_mut(tenant) {
            tenant.waiting.push_back(turn.clone());
        }
        turn
    }

    /// Whether a lane waits that has not had more than this tenant, of its own or of another.
    fn is_another_due(&self, tenant: usize) -> bool {
        let had = self.tenants.get(tenant).map_or(Duration::ZERO, |tenant| tenant.used);
        self.tenants.iter().any(|other| !other.waiting.is_empty() && other.used <= had)
    }

    /// The next lane: of the tenant that had least, the one that has waited longest.
    fn next(&mut self) -> Option<Arc<Turn>> {
        let waiting = self.tenants.iter_mut().filter(|tenant| !tenant.waiting.is_empty());
        let tenant = waiting.min_by_key(|tenant| tenant.used)?;
        tenant.running += 1;
        tenant.waiting.pop_front()
    }
}

impl Tenant {
    fn is_active(&self) -> bool {
        self.running > 0 || !self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, thread};

    use super::*;

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
            let permit = permits.take(tenant);
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
        let permits = Permits::new(1);
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
        let permits = Permits::new(1);
        let (many, one) = tenants(&permits);
        let (began, begun) = mpsc::channel();
        let mut held = permits.take(many);
        let lanes: Vec<_> = (0..3).map(|_| lane(&permits, many, "many", &began)).collect();
        wait_for_waiting(&permits, 3);
        let go = lane(&permits, one, "one", &began);
        wait_for_waiting(&permits, 4);
        permits.lock().charge(many, Duration::from_secs(1));
        let asking = thread::spawn(move || held.offer());
        assert_eq!(begun.recv().unwrap(), "one", "before the three that came first");
        drop((go, lanes));
        assert!(asking.join().unwrap() > Duration::ZERO, "it got one again");
        assert_eq!(begun.iter().take(3).collect::<Vec<_>>(), ["many"; 3]);
    }

    #[test]
    fn a_permit_is_kept_while_nobody_else_is_due() {
        let permits = Permits::new(1);
        let (many, one) = tenants(&permits);
        let mut held = permits.take(one);
        assert_eq!(held.offer(), Duration::ZERO);
        permits.lock().charge(many, Duration::from_secs(1));
        let (began, _begun) = mpsc::channel();
        let _lane = lane(&permits, many, "many", &began);
        wait_for_waiting(&permits, 1);
        // What the other had before it rested is forgotten only upwards.
        assert_eq!(held.offer(), Duration::ZERO);
    }

    #[test]
    fn a_rest_saves_nothing_up() {
        let permits = Permits::new(2);
        let (many, one) = tenants(&permits);
        let held = permits.take(many);
        permits.lock().charge(many, Duration::from_secs(9));
        drop(permits.take(one));
        assert!(permits.lock().tenants[one].used >= Duration::from_secs(9));
        drop(held);
        assert_eq!(permits.lock().free, 2);
    }
}
