//! The signals: those that end the host, and the one that reloads.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signal for a file that would outgrow its limit (`ulimit -f`), which kills by default.
const SIGXFSZ: i32 = 25;

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// SIGTERM or SIGINT: to end.
    End(&'static str),
    /// SIGHUP: to look at configuration and components again.
    Reload,
}

/// SIGTERM, SIGINT and SIGHUP, one after the other.
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

    /// Waits for the next one.
    pub async fn next(&mut self) -> Heard {
        tokio::select! {
            _ = self.terminate.recv() => Heard::End("SIGTERM"),
            _ = self.interrupt.recv() => Heard::End("SIGINT"),
            _ = self.hangup.recv() => Heard::Reload,
        }
    }

    /// Waits for the next one that ends the host, and names it.
    pub async fn end(&mut self) -> &'static str {
        loop {
            if let Heard::End(name) = self.next().await {
                return name;
            }
        }
    }
}
