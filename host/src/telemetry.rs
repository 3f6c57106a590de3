//! Log lines on standard error, in text or JSON, written by a thread of their own.
//!
//! Lanes, sessions and the drain log; none of them may ever wait for whoever reads the log. Lines go
//! through a bounded queue, and where the reader stalls the newest are dropped and counted.

use std::{
    io::{self, IsTerminal, Write, stderr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder};
use tracing_subscriber::{EnvFilter, fmt};

use crate::{cli::LogFormat, console::complain};

/// Lines that may wait for their reader.
const MAX_LINES: usize = 16_384;
/// How long the end of the program waits for the reader.
const FLUSH_LIMIT: Duration = Duration::from_secs(1);

/// What became of the log lines.
#[derive(Debug, Clone)]
pub struct Logs {
    offered: Arc<AtomicU64>,
    written: Arc<Written>,
    dropped: ErrorCounter,
}

#[derive(Debug, Default)]
struct Written {
    lines: AtomicU64,
    failed: AtomicU64,
}

/// Starts logging for the process; called once, by main.
///
/// # Errors
/// The filter cannot be read, or logging was started before.
pub fn init(filter: &str, format: LogFormat) -> Result<Logs, String> {
    let filter = EnvFilter::try_new(filter).map_err(|error| format!("--log {filter:?}: {error}"))?;
    let written = Arc::new(Written::default());
    let builder = NonBlockingBuilder::default().lossy(true).buffered_lines_limit(MAX_LINES).thread_name("log");
    let (queue, guard) = builder.finish(Writer(written.clone()));
    // Its drop would wait for a reader that stalls, and complain on standard output: `Logs::flush` does not.
    std::mem::forget(guard);
    let logs = Logs { offered: Arc::default(), written, dropped: queue.error_counter() };
    let offered = logs.offered.clone();
    let make = move || Line { queue: queue.clone(), offered: offered.clone() };
    let lines = fmt().with_env_filter(filter).with_writer(make).with_ansi(stderr().is_terminal());
    // A reader that has gone away costs log lines, not the host.
    let lines = lines.log_internal_errors(false);
    let started = match format {
        LogFormat::Text => lines.try_init(),
        LogFormat::Json => lines.json().flatten_event(true).with_span_list(false).with_ansi(false).try_init(),
    };
    started.map_err(|error| error.to_string()).map(|()| logs)
}

impl Logs {
    /// Lines that nobody will read: the reader stalled or went away.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.dropped_lines() as u64 + self.written.failed.load(Relaxed)
    }

    /// Waits until all lines are written; not long, where their reader stalls.
    pub fn flush(&self) {
        let until = Instant::now() + FLUSH_LIMIT;
        let done = || self.written.lines.load(Relaxed) + self.dropped.dropped_lines() as u64;
        while done() < self.offered.load(Relaxed) && Instant::now() < until {
            // The writer has no way to tell when it is idle, and this happens once.
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Says something on standard error behind all log lines, without ever waiting long for a reader.
    pub fn last_words(&self, text: String) {
        self.flush();
        let (said, heard) = mpsc::channel();
        thread::spawn(move || {
            complain(text);
            let _ = said.send(());
        });
        let _ = heard.recv_timeout(FLUSH_LIMIT);
    }
}

/// Where one line is written: one call, one line.
struct Line {
    queue: NonBlocking,
    offered: Arc<AtomicU64>,
}

impl Write for Line {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.offered.fetch_add(1, Relaxed);
        self.queue.write(line)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Standard error, at the end of the queue.
struct Writer(Arc<Written>);

impl Write for Writer {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if stderr().write_all(line).is_err() {
            self.0.failed.fetch_add(1, Relaxed);
        }
        self.0.lines.fetch_add(1, Relaxed);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
