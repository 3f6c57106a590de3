//! The signals that end the host, and the one that does not yet do what it will.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signal for a file that would outgrow its limit (`ulimit -f`), which kills by default.
const SIGXFSZ: i32 = 25;

/// SIGTERM and SIGINT, one after the other; SIGHUP is only answered.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    /// Heard and nothing else: a file that may not grow is an error of its writer, not the end of the host.
    _file_limit: Signal,
}

impl Signals {
    /// Takes over the signals; from here on they do not end the process by themselves.
    ///
    /// # Errors
    /// The system refuses.
    pub fn listen() -> io::Result<Self> {
        let [terminate, interrupt, hangup] =
            [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()].map(signal);
        let file_limit = signal(SignalKind::from_raw(SIGXFSZ))?;
        Ok(Self { terminate: terminate?, interrupt: interrupt?, hangup: hangup?, _file_limit: file_limit })
    }

    /// Waits for the next signal that ends the host, and names it.
    pub async fn next(&mut self) -> &'static str {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return "SIGTERM",
                _ = self.interrupt.recv() => return "SIGINT",
                _ = self.hangup.recv() => {
                    tracing::warn!("SIGHUP: reloading is not in this version yet, nothing was changed; restart to load");
                }
            }
        }
    }
}
