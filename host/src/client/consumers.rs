//! The consuming side of one queue: a [`Session`] for each address that is read from.
//!
//! [`crate::wiring`] runs one for each in queue. It decides where to read (`connect`, failover, every address
//! behind a name, DNS that changes) and tells where all its sessions stand together. It never touches a
//! frame: sessions do, and all of them fill the one buffer of the queue.

mod choice;
mod entry;
mod member;

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    sync::{Notify, watch},
    task::JoinSet,
    time::{Instant, sleep_until},
};
use tracing::{Instrument, info};

use self::{choice::Choice, entry::Entry, member::Member};
use super::{ClientError, ConnectOptions, Phase, Session, SessionState, Subscription, address};
use crate::delivery::Intake;

/// When things are looked at again.
#[derive(Debug, Clone)]
pub struct Timing {
    /// How often names are resolved again.
    pub resolve_every: Duration,
    /// How long after a failover the first choice is tried again.
    pub back_after: Duration,
    /// How long deliveries of an address that is left may take to be settled.
    pub leave_within: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            resolve_every: Duration::from_secs(60),
            back_after: Duration::from_secs(300),
            leave_within: Duration::from_secs(60),
        }
    }
}

/// Which entries of `host_port_list` are read.
#[derive(Debug, Clone, Default)]
pub struct ReadFrom {
    /// All of them; else one, and the others when it is down.
    pub all: bool,
    /// When things are looked at again.
    pub timing: Timing,
}

/// Where a queue is read from: each address, or an entry of which none is known, with whether it is subscribed.
pub type Addresses = BTreeMap<String, bool>;

/// The sessions of one queue.
pub struct Consumers {
    options: ConnectOptions,
    timing: Timing,
    subscription: Subscription,
    intake: Arc<dyn Intake>,
    phase: watch::Receiver<Phase>,
    state: watch::Sender<SessionState>,
    addresses: watch::Sender<Addresses>,
    entries: Vec<Entry>,
    choice: Choice,
    members: BTreeMap<u64, Member>,
    next_id: u64,
    sessions: JoinSet<u64>,
    lookups: JoinSet<(usize, Result<Vec<SocketAddr>, ClientError>)>,
    /// Rung when a session or its connection changes.
    bell: Arc<Notify>,
    lost: bool,
}

impl Consumers {
    /// Creates the consumers of a queue, which fill `intake` once [`Consumers::run`] is spawned. The
    /// second value tells where they stand together.
    #[must_use]
    pub fn new(
        options: ConnectOptions,
        from: ReadFrom,
        subscription: Subscription,
        intake: Arc<dyn Intake>,
        phase: watch::Receiver<Phase>,
    ) -> (Self, watch::Receiver<SessionState>) {
        let (state, watched) = watch::channel(SessionState::Connecting);
        let order = address::shuffled(&options.addresses).into_iter().cloned();
        let entries: Vec<_> = order.map(|address| Entry::new(address, options.max_backoff)).collect();
        let consumers = Self {
            choice: Choice::new(entries.len(), from.all, from.timing.back_after),
            timing: from.timing,
            options,
            subscription,
            intake,
            phase,
            state,
            addresses: watch::Sender::default(),
            entries,
            members: BTreeMap::new(),
            next_id: 0,
            sessions: JoinSet::new(),
            lookups: JoinSet::new(),
            bell: Arc::default(),
            lost: false,
        };
        (consumers, watched)
    }

    /// Tells where the queue is read from, as addresses come and go.
    #[must_use]
    pub fn addresses(&self) -> watch::Receiver<Addresses> {
        self.addresses.subscribe()
    }

    /// Consumes until the phase is over and every session has ended.
    pub async fn run(mut self) {
        while *self.phase.borrow() == Phase::Run {
            self.consume();
            let wake = self.next_wake();
            tokio::select! {
                () = self.bell.notified() => {}
                Some(ended) = self.sessions.join_next() => { self.ended(ended.ok()); }
                Some(Ok((entry, found))) = self.lookups.join_next() => self.found(entry, found),
                () = sleep_until(wake) => {}
                changed = self.phase.changed() => if changed.is_err() { break },
            }
        }
        self.leave().await;
    }

    /// Brings sessions and lookups to what is wanted now.
    fn consume(&mut self) {
        let now = Instant::now();
        for entry in &mut self.entries {
            entry.choose_family(&self.members);
        }
        let wanted = self.choice.wanted(|entry| self.entries.get(entry).map(|e| e.standing(&self.members)), now);
        self.look_up(&wanted, now);
        let targets = self.targets(&wanted);
        for member in self.members.values_mut().filter(|member| !member.is_leaving()) {
            let keep = targets.get(&member.address).is_some_and(|(_, share)| member.fits(*share));
            if !keep {
                info!(queue = %self.subscription.queue, address = %member.address, "no longer consuming from here");
                member.leave(now);
            }
        }
        for (address, (entry, share)) in targets {
            if !self.members.values().any(|member| member.address == address && !member.is_leaving()) {
                self.open(entry, address, share);
            }
        }
        for member in self.members.values_mut() {
            member.finish_leaving(now, self.timing.leave_within);
        }
        self.tell_addresses(&wanted);
        self.tell(&wanted);
    }

    /// The addresses to read from, each with its entry and its share of the window.
    fn targets(&self, wanted: &[usize]) -> BTreeMap<SocketAddr, (usize, usize)> {
        let found = wanted.iter().filter_map(|entry| Some((*entry, self.entries.get(*entry)?.targets())));
        let found: Vec<_> = found.collect();
        let all = found.iter().map(|(_, targets)| targets.len()).sum::<usize>();
        let mut targets = BTreeMap::new();
        for (entry, addresses) in found {
            let count = if self.choice.is_all() { all } else { addresses.len() };
            let share = (self.subscription.window / count.max(1)).max(1);
            for address in addresses {
                // Two names of one node are one node.
                targets.entry(address).or_insert((entry, share));
            }
        }
        targets
    }

    fn look_up(&mut self, wanted: &[usize], now: Instant) {
        for index in wanted {
            let Some(entry) = self.entries.get_mut(*index).filter(|entry| entry.is_due(now)) else { continue };
            let (address, resolver, index) = (entry.looking_up(), self.options.resolver.clone(), *index);
            self.lookups.spawn(async move { (index, resolver.resolve(&address).await) });
        }
    }

    fn found(&mut self, entry: usize, found: Result<Vec<SocketAddr>, ClientError>) {
        if let Some(entry) = self.entries.get_mut(entry) {
            entry.found(found, Instant::now(), self.timing.resolve_every);
        }
    }

    fn open(&mut self, entry: usize, address: SocketAddr, window: usize) {
        let Some(entry) = self.entries.get(entry) else { return };
        let options = ConnectOptions {
            addresses: vec![entry.address.clone()],
            pinned: Some(address),
            reach: Default::default(),
            ..self.options.clone()
        };
        let subscription = Subscription { window, ..self.subscription.clone() };
        let keeps_window = options.client_id.is_some();
        let (member, intake, phase) =
            Member::new(address, window, keeps_window, options.reach.clone(), self.intake.clone());
        let (session, state) = Session::new(options, subscription, intake, phase);
        let (id, bell) = (self.next_id, self.bell.clone());
        let (states, reached) = (state.clone(), member.reach.watch());
        let run = async move {
            tokio::select! {
                () = session.run() => {}
                () = ring(states, &bell) => {}
                () = ring(reached, &bell) => {}
            }
            id
        };
        self.sessions.spawn(run.in_current_span());
        self.members.insert(id, member.with(state));
        self.next_id += 1;
    }

    /// Forgets a session that has ended; true where it may have lost ACKs.
    fn ended(&mut self, id: Option<u64>) -> bool {
        let Some(id) = id else {
            // By a panic. Never else: one that has ended as well is still to be asked how.
            self.members.retain(|_, member| member.is_running());
            return true;
        };
        self.members.remove(&id).is_none_or(|member| member.state() == SessionState::Lost)
    }

    /// Tells where all stand: ready when each address that can be reached is subscribed.
    fn tell(&self, wanted: &[usize]) {
        let here = || self.members.values().filter(|member| !member.is_leaving());
        let any = here().any(Member::is_up);
        let looked_up = wanted.iter().filter_map(|entry| self.entries.get(*entry)).all(Entry::was_looked_up);
        let state = match any {
            true if looked_up && here().all(|member| member.is_up() || member.is_down()) => SessionState::Subscribed,
            true => return,
            false => SessionState::Connecting,
        };
        self.state.send_if_modified(|now| std::mem::replace(now, state) != state);
    }

    fn tell_addresses(&self, wanted: &[usize]) {
        let unknown = wanted.iter().filter_map(|entry| self.entries.get(*entry)).filter(|e| e.targets().is_empty());
        let unknown = unknown.map(|entry| (entry.address.to_string(), false));
        let here = self.members.values().filter(|member| !member.is_leaving());
        let here = here.map(|member| (member.address.to_string(), member.is_up()));
        let addresses: Addresses = unknown.chain(here).collect();
        self.addresses.send_if_modified(|now| {
            let changed = *now != addresses;
            *now = addresses;
            changed
        });
    }

    fn next_wake(&self) -> Instant {
        let lookups = self.entries.iter().filter_map(Entry::next_look);
        let leaving = self.members.values().filter_map(Member::next_look);
        let soonest = lookups.chain(leaving).chain(self.choice.next_look()).min();
        soonest.unwrap_or_else(|| Instant::now() + self.timing.resolve_every)
    }

    /// Passes the last phases on until every session has ended.
    async fn leave(&mut self) {
        self.lookups.abort_all();
        loop {
            let phase = if self.phase.has_changed().is_err() { Phase::Finish } else { *self.phase.borrow_and_update() };
            self.members.values().for_each(|member| member.follow(phase));
            self.tell_addresses(&[]);
            let end = if self.lost { SessionState::Lost } else { SessionState::Closed };
            let slowest = self.members.values().map(Member::state).min().unwrap_or(end);
            if slowest >= SessionState::Quiet {
                self.state.send_replace(if self.members.is_empty() { end } else { SessionState::Quiet });
            }
            if self.members.is_empty() {
                return;
            }
            tokio::select! {
                () = self.bell.notified() => {}
                Some(ended) = self.sessions.join_next() => self.lost |= self.ended(ended.ok()),
                _ = self.phase.changed(), if phase < Phase::Finish => {}
            }
        }
    }
}

/// Rings for each change, for ever.
async fn ring<T>(mut watched: watch::Receiver<T>, bell: &Notify) {
    while watched.changed().await.is_ok() {
        bell.notify_one();
    }
    std::future::pending().await
}
