//! How fast the log may grow by what guests say: bytes a second, for each processor and for each virtual organisation.
//!
//! The budget of one message (`log_kb`) bounds a guest that talks too much once; this bounds one that does so with
//! every message. Asked by the sandbox for each line of a guest, and by settlement for the lines that tell a guest's
//! reasons. It must never block: what is too much is dropped, counted, and told now and then.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tracing::warn;

/// How much may be saved up: so many seconds' worth.
const BURST_SECONDS: usize = 10;
/// All processors of a virtual organisation together may log so many times what one of them may.
const VO_FACTOR: usize = 8;
/// What a line costs besides its text: a flood of empty lines is a flood too.
const LINE_COST: usize = 64;
/// How often dropped text is told.
const TELL: Duration = Duration::from_secs(10);

/// The rate of one processor, and the one that it shares with its virtual organisation.
#[derive(Debug, Clone)]
pub struct LogRate {
    processor: Arc<str>,
    vo: Arc<str>,
    own: Arc<Bucket>,
    shared: Arc<Bucket>,
}

/// The rates of an engine's processors and virtual organisations.
#[derive(Debug, Default)]
pub struct LogRates(Mutex<Buckets>);

#[derive(Debug, Default)]
struct Buckets {
    processors: HashMap<Arc<str>, Arc<Bucket>>,
    vos: HashMap<Arc<str>, Arc<Bucket>>,
}

impl LogRates {
    /// The rate of a processor of this virtual organisation that may log `per_second` bytes: one for all its
    /// instances.
    #[must_use]
    pub fn of(&self, vo: &Arc<str>, processor: &Arc<str>, per_second: usize) -> LogRate {
        let shared = per_second.saturating_mul(VO_FACTOR);
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Buckets { processors, vos } = &mut *buckets;
        let own = processors.entry(Arc::clone(processor)).or_insert_with(|| Arc::new(Bucket::new(per_second)));
        let of_vo = vos.entry(Arc::clone(vo)).or_insert_with(|| Arc::new(Bucket::new(shared)));
        own.raise(per_second);
        of_vo.raise(shared);
        let (processor, vo) = (Arc::clone(processor), Arc::clone(vo));
        LogRate { processor, vo, own: Arc::clone(own), shared: Arc::clone(of_vo) }
    }
}

impl LogRate {
    /// Whether a line with so many bytes of a guest may be written; says now and then that some were not.
    #[must_use]
    pub fn allows(&self, bytes: usize) -> bool {
        self.allows_at(bytes.saturating_add(LINE_COST), Instant::now()).0
    }

    /// Counts bytes that the budget of their message did not allow, to be told with the others.
    pub fn cut(&self, bytes: usize) {
        self.tell_own(self.own.drop_bytes(bytes, Instant::now()));
    }

    /// The same at a time, and how many dropped bytes were told: of the processor, of its VO.
    fn allows_at(&self, bytes: usize, now: Instant) -> (bool, [Option<usize>; 2]) {
        let (allowed, own) = self.own.take(bytes, now);
        self.tell_own(own);
        if !allowed {
            return (false, [own, None]);
        }
        let (allowed, shared) = self.shared.take(bytes, now);
        if let Some(bytes) = shared {
            let vo = &*self.vo;
            warn!(
                vo,
                bytes, "log lines dropped: the processors of the VO together log more than {VO_FACTOR} times log_kb_s"
            );
        }
        (allowed, [own, shared])
    }

    fn tell_own(&self, dropped: Option<usize>) {
        if let Some(bytes) = dropped {
            let (processor, vo) = (&*self.processor, &*self.vo);
            warn!(
                processor,
                vo, bytes, "log lines of the processor dropped: more than its log_kb of a message, or its log_kb_s"
            );
        }
    }
}

/// Bytes that may be written now; they come back with time.
#[derive(Debug)]
struct Bucket(Mutex<Level>);

#[derive(Debug)]
struct Level {
    per_second: usize,
    bytes: usize,
    filled: Instant,
    dropped: usize,
    /// Not told since.
    told: Option<Instant>,
}

impl Bucket {
    fn new(per_second: usize) -> Self {
        let bytes = per_second.saturating_mul(BURST_SECONDS);
        Self(Mutex::new(Level { per_second, bytes, filled: Instant::now(), dropped: 0, told: None }))
    }

    /// The largest rate that was given decides.
    fn raise(&self, per_second: usize) {
        let mut level = self.lock();
        level.per_second = level.per_second.max(per_second);
    }

    /// Takes the room for so many bytes, if there is; also returns what is to be told of what was dropped.
    fn take(&self, bytes: usize, now: Instant) -> (bool, Option<usize>) {
        let mut level = self.lock();
        level.fill(now);
        let left = level.bytes.checked_sub(bytes);
        match left {
            Some(left) => level.bytes = left,
            None => level.dropped = level.dropped.saturating_add(bytes),
        }
        (left.is_some(), level.due(now))
    }

    fn drop_bytes(&self, bytes: usize, now: Instant) -> Option<usize> {
        let mut level = self.lock();
        level.dropped = level.dropped.saturating_add(bytes);
        level.due(now)
    }

    fn lock(&self) -> MutexGuard<'_, Level> {
        // Numbers only: each is whole whoever panicked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Level {
    /// What was dropped since it was told last, if that is some time ago.
    fn due(&mut self, now: Instant) -> Option<usize> {
        let due = self.told.is_none_or(|told| now.saturating_duration_since(told) >= TELL);
        if self.dropped == 0 || !due {
            return None;
        }
        self.told = Some(now);
        Some(std::mem::take(&mut self.dropped))
    }

    fn fill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.filled);
        let full = self.per_second.saturating_mul(BURST_SECONDS);
        let micros = usize::try_from(passed.as_micros()).unwrap_or(usize::MAX);
        let more = self.per_second.saturating_mul(micros) / 1_000_000;
        if more > 0 {
            // What is less than a byte stays in the clock.
            self.bytes = self.bytes.saturating_add(more).min(full);
            self.filled = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::Arc,
        time::{Duration, Instant},
    };

    use super::LogRates;

    const YES: (bool, [Option<usize>; 2]) = (true, [None, None]);
    const NO: (bool, [Option<usize>; 2]) = (false, [None, None]);

    #[test]
    fn a_processor_saves_up_ten_seconds_and_no_more() {
        let rate = LogRates::default().of(&"vo".into(), &"p".into(), 100);
        let start = Instant::now();
        assert_eq!(rate.allows_at(1_000, start), YES);
        assert_eq!(rate.allows_at(1, start), (false, [Some(1), None]));
        assert_eq!(rate.allows_at(7, start), NO);
        let later = start + Duration::from_secs(2);
        assert_eq!(rate.allows_at(150, later), YES);
        assert_eq!(rate.allows_at(100, later), NO, "50 are left");
        assert_eq!(rate.allows_at(50, later), YES);
        let much_later = start + Duration::from_secs(1_000);
        assert_eq!(rate.allows_at(1, much_later), (true, [Some(107), None]), "the rest of the flood, when it is over");
        assert_eq!(rate.allows_at(1_000, much_later), NO);
        assert_eq!(rate.allows_at(999, much_later), YES);
    }

    #[test]
    fn the_processors_of_a_vo_share_eight_times_as_much() {
        let rates = LogRates::default();
        let (one, other) = (Arc::from("one"), Arc::from("other"));
        let start = Instant::now();
        let allows = |vo, number: u32, bytes| rates.of(vo, &Arc::from(number.to_string()), 100).allows_at(bytes, start);
        let passed = (0..20).filter(|number| allows(&one, *number, 1_000).0).count();
        assert_eq!(passed, 8, "of twenty processors that each log all they may");
        assert_eq!(allows(&one, 20, 5), NO, "it was told once");
        assert_eq!(allows(&other, 21, 1_000), YES, "another one is not touched");
        assert_eq!(allows(&other, 21, 1), (false, [Some(1), None]), "all instances of a processor share its rate");
    }

    #[test]
    fn small_steps_of_time_add_up() {
        let rate = LogRates::default().of(&"vo".into(), &"p".into(), 10);
        let start = Instant::now();
        assert_eq!(rate.allows_at(100, start), YES);
        let steps = (1..=2_000).map(|step| start + Duration::from_millis(step));
        assert_eq!(steps.filter(|now| rate.allows_at(1, *now).0).count(), 20);
    }
}
