//! What a guest says: `host.log`, its standard output and its standard error, as lines of the host's log.
//!
//! Made by [`super::instance`] for each instance, written to by [`super::host_api`] and by the guest's
//! streams. Every line is bounded and escaped, and all lines of one message share one budget. It must
//! never block and never grow with what the guest writes. What is left of a message is under the rate of its
//! processor and its virtual organisation ([`LogRate`]) in [`GuestLog::write`], where lines leave.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use bytes::Bytes;
use wasmtime_wasi::{
    async_trait,
    cli::{IsTerminal, StdoutStream},
    p2::{OutputStream, Pollable, StreamError, StreamResult},
};

use super::{
    bindings::stompbox::processor::host::Level,
    counters::Counters,
    text::{clamp, one_line},
};
use crate::log_rate::LogRate;

/// The longest line; longer ones are split.
const MAX_LINE_BYTES: usize = 4 << 10;

/// What a line costs of the budget besides its text: a flood of empty lines is a flood too.
const LINE_COST: usize = 64;

/// How much a guest may write to a stream in one call.
const MAX_WRITE_BYTES: usize = 64 << 10;

/// How much of standard error is kept to explain a trap.
const MAX_LAST_WORDS_BYTES: usize = 512;

/// The log of one instance.
#[derive(Debug)]
pub(crate) struct GuestLog {
    processor: Arc<str>,
    vo: Arc<str>,
    /// Bytes left for the message that is being processed.
    remaining: AtomicUsize,
    /// Bytes that the budget of the message did not allow.
    cut: AtomicUsize,
    counters: Arc<Counters>,
    rate: LogRate,
    stdout: Mutex<Vec<u8>>,
    stderr: Mutex<Vec<u8>>,
    /// The end of what the guest wrote to standard error during this call, one line.
    last_words: Mutex<String>,
}

impl GuestLog {
    /// Creates the log of an instance of this processor.
    pub(crate) fn new(processor: Arc<str>, vo: Arc<str>, counters: Arc<Counters>, rate: LogRate) -> Arc<Self> {
        Arc::new(Self {
            processor,
            vo,
            counters,
            rate,
            remaining: AtomicUsize::new(0),
            cut: AtomicUsize::new(0),
            stdout: Mutex::default(),
            stderr: Mutex::default(),
            last_words: Mutex::default(),
        })
    }

    /// Begins a call, which may log this many bytes.
    pub(crate) fn begin(&self, log_bytes: usize) {
        self.remaining.store(log_bytes, Relaxed);
        lock(&self.last_words).clear();
    }

    /// Ends a call: unfinished lines are written.
    pub(crate) fn end(&self) {
        for (level, buffer) in [(Level::Info, &self.stdout), (Level::Warn, &self.stderr)] {
            let line = std::mem::take(&mut *lock(buffer));
            self.line(level, &line);
        }
        let cut = self.cut.swap(0, Relaxed);
        if cut > 0 {
            self.counters.log_dropped(cut);
            self.rate.cut(cut);
        }
    }

    /// Counts text that the budget of the message does not allow.
    fn cut(&self, bytes: usize) {
        self.cut.fetch_add(bytes, Relaxed);
    }

    /// Returns what the guest wrote last to standard error during this call: a panic message, mostly.
    pub(crate) fn last_words(&self) -> String {
        lock(&self.last_words).clone()
    }

    /// Writes one line with its fields, as far as the budget of the message allows.
    pub(crate) fn emit(&self, level: Level, text: &str, fields: &[(String, String)]) {
        let wanted = fields.iter().fold(text.len(), |sum, (name, value)| {
            sum.saturating_add(name.len()).saturating_add(value.len()).saturating_add(2)
        });
        let left = self.remaining.load(Relaxed);
        let Some(room) = left.checked_sub(LINE_COST) else {
            return self.cut(wanted);
        };
        let room = room.min(MAX_LINE_BYTES);
        let mut line = one_line(text, room);
        for (name, value) in fields {
            let line = line.to_mut();
            line.push(' ');
            line.push_str(&one_line(name, room));
            line.push('=');
            line.push_str(&one_line(value, room));
            if line.len() > room {
                break;
            }
        }
        let line = clamp(&line, room);
        self.remaining.store(left.saturating_sub(LINE_COST).saturating_sub(line.len()), Relaxed);
        self.cut(wanted.saturating_sub(line.len()));
        self.write(level, line);
    }

    /// Writes a line that somebody reads, as far as the rates allow.
    fn write(&self, level: Level, text: &str) {
        if !is_read(level) {
            return;
        }
        let (processor, vo) = (&*self.processor, &*self.vo);
        if !self.rate.allows(text.len()) {
            return self.counters.log_dropped(text.len());
        }
        match level {
            Level::Trace => tracing::trace!(target: "guest", processor, vo, "{text}"),
            Level::Debug => tracing::debug!(target: "guest", processor, vo, "{text}"),
            Level::Info => tracing::info!(target: "guest", processor, vo, "{text}"),
            Level::Warn => tracing::warn!(target: "guest", processor, vo, "{text}"),
            Level::Error => tracing::error!(target: "guest", processor, vo, "{text}"),
        }
    }

    /// Takes bytes of a stream and writes the lines that they complete.
    fn feed(&self, stream: Stream, bytes: &[u8]) {
        let (level, buffer) = match stream {
            Stream::Stdout => (Level::Info, &self.stdout),
            Stream::Stderr => (Level::Warn, &self.stderr),
        };
        let mut buffer = lock(buffer);
        let mut bytes = bytes;
        if self.remaining.load(Relaxed) < LINE_COST {
            // Nothing of it will be seen but the last words: a flood must not cost the host more than the guest.
            let kept = if matches!(stream, Stream::Stderr) { bytes.len().min(MAX_LINE_BYTES) } else { 0 };
            self.cut(bytes.len() - kept);
            bytes = bytes.get(bytes.len() - kept..).unwrap_or_default();
        }
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            for piece in part.chunks(MAX_LINE_BYTES) {
                buffer.extend_from_slice(piece);
                if piece.ends_with(b"\n") || buffer.len() >= MAX_LINE_BYTES {
                    let line = std::mem::take(&mut *buffer);
                    if matches!(stream, Stream::Stderr) {
                        self.remember(&line);
                    }
                    self.line(level, &line);
                }
            }
        }
    }

    fn line(&self, level: Level, line: &[u8]) {
        let text = String::from_utf8_lossy(line);
        let text = text.trim_end();
        if !text.is_empty() {
            self.emit(level, text, &[]);
        }
    }

    /// Keeps a line of standard error as last words; the runtime's advice is no explanation.
    fn remember(&self, line: &[u8]) {
        let line = String::from_utf8_lossy(line);
        let line = line.trim();
        if line.is_empty() || line.starts_with("note: ") {
            return;
        }
        let mut words = lock(&self.last_words);
        if words.len().saturating_add(line.len()) > MAX_LAST_WORDS_BYTES {
            words.clear();
        }
        if !words.is_empty() {
            words.push(' ');
        }
        words.push_str(&one_line(line, MAX_LAST_WORDS_BYTES));
    }
}

/// Whether the host's log takes lines of this level from guests.
fn is_read(level: Level) -> bool {
    match level {
        Level::Trace => tracing::enabled!(target: "guest", tracing::Level::TRACE),
        Level::Debug => tracing::enabled!(target: "guest", tracing::Level::DEBUG),
        Level::Info => tracing::enabled!(target: "guest", tracing::Level::INFO),
        Level::Warn => tracing::enabled!(target: "guest", tracing::Level::WARN),
        Level::Error => tracing::enabled!(target: "guest", tracing::Level::ERROR),
    }
}

/// Locks, whatever happened to the thread that held the lock before: a buffer of text has no invariant.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Which of the guest's two streams.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Stream {
    /// Standard output: level info.
    Stdout,
    /// Standard error: level warn.
    Stderr,
}

/// One of the guest's streams, as WASI wants it: always ready, never full.
#[derive(Debug, Clone)]
pub(crate) struct GuestStream {
    /// Where its lines go.
    pub(crate) log: Arc<GuestLog>,
    /// Which stream it is.
    pub(crate) stream: Stream,
}

impl IsTerminal for GuestStream {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for GuestStream {
    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }

    fn async_stream(&self) -> Box<dyn tokio::io::AsyncWrite + Send + Sync> {
        // Only WASI 0.3 asks for it, which is not linked.
        Box::new(tokio::io::sink())
    }
}

#[async_trait]
impl Pollable for GuestStream {
    async fn ready(&mut self) {}
}

#[async_trait]
impl OutputStream for GuestStream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        if bytes.len() > MAX_WRITE_BYTES {
            // More than it was told that it may: one call must not last longer than a tick.
            return Err(StreamError::trap(&format!("a write of {} bytes, {MAX_WRITE_BYTES} are allowed", bytes.len())));
        }
        self.log.feed(self.stream, &bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(MAX_WRITE_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, atomic::Ordering::Relaxed};

    use super::{Counters, GuestLog, Level, MAX_LINE_BYTES, Stream, lock};

    fn log(budget: usize) -> (Arc<GuestLog>, Arc<Counters>) {
        let counters = Arc::new(Counters::default());
        let log = GuestLog::new(
            "p".into(),
            "".into(),
            Arc::clone(&counters),
            crate::log_rate::LogRates::default().of(&"".into(), &"p".into(), 1 << 20),
        );
        log.begin(budget);
        (log, counters)
    }

    #[test]
    fn a_message_cannot_log_more_than_its_budget() {
        let (log, counters) = log(1_000);
        for _ in 0..100 {
            log.emit(Level::Info, &"x".repeat(100), &[("k".into(), "v".into())]);
        }
        assert!(log.remaining.load(Relaxed) < 200);
        log.end();
        assert!(counters.dropped_log_bytes() > 9_000);
        log.begin(1_000);
        assert_eq!(log.remaining.load(Relaxed), 1_000);
    }

    #[test]
    fn empty_lines_cost_budget_too() {
        let (log, _) = log(1_000);
        for _ in 0..100 {
            log.emit(Level::Info, "", &[]);
        }
        assert!(log.remaining.load(Relaxed) < 64);
    }

    #[test]
    fn the_line_buffer_is_bounded() {
        let (log, _) = log(usize::MAX);
        log.feed(Stream::Stdout, &vec![b'x'; 3 * MAX_LINE_BYTES + 1]);
        assert_eq!(lock(&log.stdout).len(), 1);
        log.feed(Stream::Stdout, b"half");
        log.end();
        assert!(lock(&log.stdout).is_empty());
    }

    #[test]
    fn a_flood_without_budget_is_not_read_but_for_its_end() {
        let (log, counters) = log(0);
        log.feed(Stream::Stdout, &b"a\n".repeat(1 << 20));
        log.feed(Stream::Stderr, &[b"a\n".repeat(1 << 20), b"boom\n".to_vec()].concat());
        assert!(log.last_words().ends_with("boom"), "{}", log.last_words());
        log.end();
        assert!(counters.dropped_log_bytes() > 3 << 20, "{counters:?}");
    }

    #[test]
    fn one_write_is_as_large_as_was_allowed() {
        let (log, _) = log(0);
        let mut stream = super::GuestStream { log, stream: Stream::Stdout };
        let mut write = |bytes: usize| super::OutputStream::write(&mut stream, vec![b'x'; bytes].into());
        assert!(write(64 << 10).is_ok());
        assert!(matches!(write((64 << 10) + 1), Err(super::StreamError::Trap(_))));
    }

    #[test]
    fn last_words_are_the_panic_message() {
        let (log, _) = log(usize::MAX);
        log.feed(Stream::Stderr, b"\nthread panicked at src/lib.rs:1:\nbo");
        log.feed(Stream::Stderr, b"om\nnote: run with `RUST_BACKTRACE=1`\n");
        assert_eq!(log.last_words(), "thread panicked at src/lib.rs:1: boom");
        log.begin(0);
        assert_eq!(log.last_words(), "");
    }
}
