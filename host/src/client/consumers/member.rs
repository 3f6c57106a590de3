//! One session among those of a queue: where it stands, and how it is left.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

use crate::{
    client::{Phase, Reach, SessionState},
    delivery::{Delivery, Intake, Tally},
};

/// How often a session that is left is asked whether its deliveries are settled.
const LOOK: Duration = Duration::from_millis(50);

pub(super) struct Member {
    pub(super) address: SocketAddr,
    pub(super) reach: Reach,
    window: usize,
    /// The broker lets nobody else in under our client id: it is not replaced for a better window.
    keeps_window: bool,
    phase: watch::Sender<Phase>,
    state: Option<watch::Receiver<SessionState>>,
    outstanding: Arc<AtomicUsize>,
    leaving_since: Option<Instant>,
}

impl Member {
    /// A member, and what its session needs.
    pub(super) fn new(
        address: SocketAddr,
        window: usize,
        keeps_window: bool,
        reach: Reach,
        intake: Arc<dyn Intake>,
    ) -> (Self, Arc<dyn Intake>, watch::Receiver<Phase>) {
        let (phase, is_phase) = watch::channel(Phase::Run);
        let outstanding = Arc::<AtomicUsize>::default();
        let counting = Counting { intake, outstanding: outstanding.clone() };
        let member =
            Self { address, reach, window, keeps_window, phase, state: None, outstanding, leaving_since: None };
        (member, Arc::new(counting), is_phase)
    }

    pub(super) fn with(self, state: watch::Receiver<SessionState>) -> Self {
        Self { state: Some(state), ..self }
    }

    pub(super) fn state(&self) -> SessionState {
        self.state.as_ref().map_or(SessionState::Connecting, |state| *state.borrow())
    }

    pub(super) fn is_running(&self) -> bool {
        self.state.as_ref().is_some_and(|state| state.has_changed().is_ok())
    }

    pub(super) fn is_up(&self) -> bool {
        self.state() == SessionState::Subscribed
    }

    /// The last try to connect failed.
    pub(super) fn is_down(&self) -> bool {
        self.state() == SessionState::Connecting && self.reach.failed()
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.leaving_since.is_some()
    }

    /// Whether its window is near enough to the share that it should have.
    pub(super) fn fits(&self, share: usize) -> bool {
        self.keeps_window || (self.window < share.saturating_mul(2) && share < self.window.saturating_mul(2))
    }

    /// Takes nothing more from there; what was taken is settled first.
    pub(super) fn leave(&mut self, now: Instant) {
        self.leaving_since = Some(now);
        self.follow(Phase::Drain);
    }

    /// Says goodbye when everything taken is settled, or has taken too long.
    pub(super) fn finish_leaving(&self, now: Instant, limit: Duration) {
        let Some(since) = self.leaving_since else { return };
        let settled = self.state() >= SessionState::Quiet && self.outstanding.load(Ordering::Acquire) == 0;
        if settled || now.duration_since(since) >= limit {
            self.follow(Phase::Finish);
        }
    }

    pub(super) fn next_look(&self) -> Option<Instant> {
        self.leaving_since.map(|_| Instant::now() + LOOK)
    }

    /// Phases only go forward.
    pub(super) fn follow(&self, phase: Phase) {
        self.phase.send_if_modified(|now| {
            let forward = phase > *now;
            *now = phase.max(*now);
            forward
        });
    }
}

/// Counts what a session delivered and is not settled.
struct Counting {
    intake: Arc<dyn Intake>,
    outstanding: Arc<AtomicUsize>,
}

impl Intake for Counting {
    fn push(&self, deliveries: &mut Vec<Delivery>) {
        for delivery in deliveries.iter_mut() {
            delivery.outstanding = Some(Tally::new(&self.outstanding));
        }
        self.intake.push(deliveries);
    }

    fn has_room(&self) -> bool {
        self.intake.has_room()
    }

    fn room(&self) -> &Notify {
        self.intake.room()
    }

    fn wanted(&self) -> bool {
        self.intake.wanted()
    }

    fn forget_stale(&self) {
        self.intake.forget_stale();
    }

    fn may_repeat(&self, count: usize) {
        self.intake.may_repeat(count);
    }

    fn was_oversized(&self) {
        self.intake.was_oversized();
    }

    fn max_hold(&self) -> Duration {
        self.intake.max_hold()
    }

    fn give_back_overdue(&self) {
        self.intake.give_back_overdue();
    }
}
