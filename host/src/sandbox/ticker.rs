//! The clock of the sandbox: a thread that advances the engines' epochs while guests run.
//!
//! Started by [`super::engine`]; [`super::instance`] announces each call with [`Ticker::running`]. The
//! thread sleeps for good when no call runs, so a host full of idle processors costs nothing. It must
//! never keep the engine alive and never stop a guest itself: that is the epoch callback's work.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

use wasmtime::EngineWeak;

/// How often the epoch advances while a call runs.
pub(crate) const TICK: Duration = Duration::from_millis(5);

/// Ticks without a call after which the thread parks: a processor that gets a message now and then
/// must not pay for waking it with each one.
const IDLE_TICKS: u32 = 20;

/// What callers and the thread share.
#[derive(Debug, Default)]
struct Shared {
    running: AtomicU32,
    parked: AtomicBool,
    closed: AtomicBool,
}

/// The handle of the thread; the thread ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Ticker {
    shared: Arc<Shared>,
    thread: thread::Thread,
}

/// A call that runs: the epoch advances as long as one of these exists.
#[derive(Debug)]
pub(crate) struct Running<'a>(&'a Shared);

impl Ticker {
    /// Starts the thread.
    pub(crate) fn start(engines: [EngineWeak; 2]) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let handle = thread::Builder::new().name("sandbox-ticker".to_owned()).spawn(move || tick(&theirs, &engines))?;
        Ok(Self { shared, thread: handle.thread().clone() })
    }

    /// Announces a call; its end is the drop of what this returns.
    pub(crate) fn running(&self) -> Running<'_> {
        self.shared.running.fetch_add(1, SeqCst);
        // Either this load sees `parked`, or the thread's load of `running` sees the call: all four
        // accesses are sequentially consistent.
        if self.shared.parked.load(SeqCst) {
            self.thread.unpark();
        }
        Running(&self.shared)
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.closed.store(true, SeqCst);
        self.thread.unpark();
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, SeqCst);
    }
}

/// The thread: ticks on an absolute schedule, so that late wake-ups do not add up.
fn tick(shared: &Shared, engines: &[EngineWeak]) {
    let mut next = Instant::now() + TICK;
    let mut idle = 0;
    while !shared.closed.load(SeqCst) {
        if idle >= IDLE_TICKS {
            park(shared);
            next = Instant::now() + TICK;
            idle = 0;
        }
        thread::sleep(next.saturating_duration_since(Instant::now()));
        while next <= Instant::now() {
            for engine in engines {
                let Some(engine) = engine.upgrade() else { return };
                engine.increment_epoch();
            }
            next += TICK;
        }
        idle = if shared.running.load(SeqCst) == 0 { idle + 1 } else { 0 };
    }
}

/// Sleeps until a call runs or the engine is gone.
fn park(shared: &Shared) {
    shared.parked.store(true, SeqCst);
    while shared.running.load(SeqCst) == 0 && !shared.closed.load(SeqCst) {
        thread::park();
    }
    shared.parked.store(false, SeqCst);
}
