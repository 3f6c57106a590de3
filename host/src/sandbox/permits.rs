//! CPU permits: how many guests run at a time, and whose turn it is when more want to.
//!
//! [`super::state`] takes one for each call. Fair between virtual organisations by the time that their guests had,
//! and among the lanes of one likewise: [`Permit::offer`] passes a long call's permit on when somebody else is due,
//! at each tick and when somebody comes who must wait, so that short calls do not wait for long ones. A guest that
//! waits (`super::wasi`) has none meanwhile; beside guests that do not come to offer, one more may run. A permit is
//! never held by a lane that waits for anything but its guest.

use std::{
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// How long a permit is kept at least, whoever waits: most calls are shorter, and changing guests costs more.
const LEAST: Duration = Duration::from_millis(1);

/// What [`Permits::patience`] is.
const PATIENCE: Duration = Duration::from_millis(2);

/// The permits of the host.
#[derive(Debug)]
pub(crate) struct Permits {
    state: Mutex<State>,
    /// How long the next lane waits for guests that do not come to offer theirs, because the host copies what they
    /// gave it: then it runs beside them.
    patience: Duration,
}

#[derive(Debug)]
struct State {
    free: usize,
    /// How many run beyond the permits there are; at most as many again.
    extra: usize,
    count: usize,
    tenants: Vec<Tenant>,
}

/// A virtual organisation, or all processors without one.
#[derive(Debug)]
struct Tenant {
    vo: Arc<str>,
    /// The time that its guests had. Raised to that of the others when it comes after a rest, so that nobody
    /// saves time up.
    used: Duration,
    /// What each lane had that has a permit.
    running: Vec<Duration>,
    waiting: VecDeque<Waiting>,
    /// What each lane had at least that wants to run, now or the last time that one did: where one begins that
    /// comes after a rest.
    floor: Duration,
}

/// A lane that waits, and the time that its guest had.
#[derive(Debug)]
struct Waiting {
    used: Duration,
    turn: Arc<Turn>,
}

/// Tells a lane that it may go on.
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

    /// The same, not longer than this; returns whether its turn has come.
    fn wait_for(&self, time: Duration) -> bool {
        let come = self.come.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.bell.wait_timeout_while(come, time, |come| !*come);
        *waited.unwrap_or_else(PoisonError::into_inner).0
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
    /// What the guest had until `since`, in the time of its tenant's lanes.
    used: Duration,
    since: Instant,
}

impl Permits {
    /// Creates that many, at least one.
    pub(crate) fn new(count: usize) -> Arc<Self> {
        Self::with_patience(count.max(1), PATIENCE)
    }

    fn with_patience(count: usize, patience: Duration) -> Arc<Self> {
        let state = Mutex::new(State { free: count, extra: 0, count, tenants: Vec::new() });
        Arc::new(Self { state, patience })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of a virtual organisation.
    pub(crate) fn tenant(&self, vo: &Arc<str>) -> usize {
        let mut state = self.lock();
        let known = state.tenants.iter().position(|tenant| tenant.vo == *vo);
        known.unwrap_or_else(|| {
            let waiting = VecDeque::new();
            let (used, floor) = (Duration::ZERO, Duration::ZERO);
            state.tenants.push(Tenant { vo: vo.clone(), used, running: Vec::new(), waiting, floor });
            state.tenants.len() - 1
        })
    }

    /// Waits for a permit for a lane of which the guest had so much. `ring` is called if it must wait: it makes
    /// those who have one come to [`Permit::offer`].
    pub(crate) fn take(self: &Arc<Self>, tenant: usize, used: Duration, ring: impl FnOnce()) -> Permit {
        let mut state = self.lock();
        state.awake(tenant);
        let used = used.max(state.tenants.get(tenant).map_or(used, |tenant| tenant.floor));
        if state.free > 0 {
            state.free -= 1;
            state.begin(tenant, used);
            drop(state);
        } else {
            let turn = state.enqueue(tenant, used);
            drop(state);
            ring();
            self.wait(&turn);
        }
        Permit { permits: self.clone(), tenant, used, since: Instant::now() }
    }

    fn wait(&self, turn: &Arc<Turn>) {
        let mut patience = self.patience;
        while !turn.wait_for(patience) && !self.lock().relieve(turn) {
            patience *= 2; // Others come first: not worth asking often.
        }
    }
}

impl Permit {
    /// Gives the permit up while the guest waits for something.
    pub(crate) fn lend(self) -> Lent {
        Lent { permits: self.permits.clone(), tenant: self.tenant, used: self.end() }
    }

    /// Gives the permit back; returns what the guest had, for its next call.
    pub(crate) fn end(self) -> Duration {
        self.used + self.since.elapsed()
    }

    /// Passes the permit on if somebody else is due, and waits for the next one; returns how long that took.
    pub(crate) fn offer(&mut self) -> Duration {
        let now = Instant::now();
        let had = now - self.since;
        if had < LEAST {
            return Duration::ZERO;
        }
        let mut state = self.permits.lock();
        state.charge(self.tenant, self.used, had);
        (self.used, self.since) = (self.used + had, now);
        if !state.is_another_due(self.tenant, self.used) {
            return Duration::ZERO;
        }
        let turn = state.enqueue(self.tenant, self.used);
        state.end(self.tenant, self.used);
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
    used: Duration,
}

impl Lent {
    /// Waits for a permit again, until the next tick where all are taken: it has waited already.
    pub(crate) fn take_again(self) -> Permit {
        self.permits.take(self.tenant, self.used, || ())
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.permits.lock();
        let had = self.since.elapsed();
        state.charge(self.tenant, self.used, had);
        state.end(self.tenant, self.used + had);
        let next = if state.extra > 0 { None } else { state.next() };
        if state.extra > 0 {
            state.extra -= 1;
        } else if next.is_none() {
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

    fn begin(&mut self, tenant: usize, used: Duration) {
        if let Some(tenant) = self.tenants.get_mut(tenant) {
            tenant.running.push(used);
        }
    }

    fn end(&mut self, tenant: usize, used: Duration) {
        let Some(tenant) = self.tenants.get_mut(tenant) else { return };
        if let Some(at) = tenant.running.iter().position(|lane| *lane == used) {
            tenant.running.swap_remove(at);
        }
    }

    /// Adds to what a tenant had, and to what its lane had.
    fn charge(&mut self, tenant: usize, used: Duration, time: Duration) {
        let Some(tenant) = self.tenants.get_mut(tenant) else { return };
        tenant.used += time;
        if let Some(lane) = tenant.running.iter_mut().find(|lane| **lane == used) {
            *lane += time;
        }
        let waiting = tenant.waiting.iter().map(|lane| lane.used);
        let least = tenant.running.iter().copied().chain(waiting).min();
        tenant.floor = tenant.floor.max(least.unwrap_or_default());
    }

    fn enqueue(&mut self, tenant: usize, used: Duration) -> Arc<Turn> {
        let turn = Arc::<Turn>::default();
        if let Some(tenant) = self.tenants.get_mut(tenant) {
            tenant.waiting.push_back(Waiting { used, turn: turn.clone() });
        }
        turn
    }

    /// Whether somebody waits who has not had more: a lane of this tenant than the asking one, or another tenant.
    fn is_another_due(&self, tenant: usize, used: Duration) -> bool {
        let had = self.tenants.get(tenant).map_or(Duration::ZERO, |tenant| tenant.used);
        self.tenants.iter().enumerate().any(|(number, other)| {
            if number == tenant {
                return other.waiting.iter().any(|lane| lane.used <= used);
            }
            !other.waiting.is_empty() && other.used <= had
        })
    }

    /// The next lane: of the tenant that had least, the one that had least; of several, the longest waiting.
    fn next(&mut self) -> Option<Arc<Turn>> {
        let (tenant, at) = self.find_next()?;
        let tenant = self.tenants.get_mut(tenant)?;
        let Waiting { used, turn } = tenant.waiting.remove(at)?;
        tenant.running.push(used);
        Some(turn)
    }

    /// Its tenant and its place there.
    fn find_next(&self) -> Option<(usize, usize)> {
        let tenants = self.tenants.iter().enumerate().filter(|(_, tenant)| !tenant.waiting.is_empty());
        let (number, tenant) = tenants.min_by_key(|(_, tenant)| tenant.used)?;
        let (at, _) = tenant.waiting.iter().enumerate().min_by_key(|(_, lane)| lane.used)?;
        Some((number, at))
    }

    /// Lets a lane run beyond the permits there are if it is the next one; returns whether it may.
    fn relieve(&mut self, turn: &Arc<Turn>) -> bool {
        let next = self.find_next().and_then(|(tenant, at)| self.tenants.get(tenant)?.waiting.get(at));
        let is_next = next.is_some_and(|lane| Arc::ptr_eq(&lane.turn, turn));
        let may = is_next && self.extra < self.count;
        if may {
            self.next();
            self.extra += 1;
        }
        may
    }
}

impl Tenant {
    fn is_active(&self) -> bool {
        !self.running.is_empty() || !self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests;
