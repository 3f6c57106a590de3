//! A real ActiveMQ for the tests: one that all tests of a run share, or one's own to be killed.
//!
//! `tests/brokers/activemq.sh` runs it and holds our pipe: the broker dies with this process.

use std::{
    io::Write,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::OnceLock,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use super::{client::Client, free_port, root};

/// The one user of the broker; nobody else may log in.
pub const USERNAME: &str = "stompbox";
pub const PASSCODE: &str = "only-for-tests";

/// A JVM on a busy machine takes its time.
const START_LIMIT: Duration = Duration::from_secs(120);

/// A running broker, or one that was stopped and can be started again with its messages.
#[derive(Debug)]
pub struct ActiveMq {
    address: SocketAddr,
    dir: PathBuf,
    script: Option<Child>,
    journal_sync: &'static str,
}

impl ActiveMq {
    /// The broker that all tests of this process share, started by the first that asks. Each test uses
    /// destinations of its own.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<ActiveMq> = OnceLock::new();
        SHARED.get_or_init(|| Self::own().unwrap_or_else(|error| panic!("ActiveMQ cannot be had: {error:#}")))
    }

    /// A broker for one test, which may stop, kill and restart it.
    pub fn own() -> Result<Self> {
        Self::with_journal("always")
    }

    /// A broker that does not wait for the disk: benches measure clients, not disks.
    pub fn for_benches() -> Result<Self> {
        Self::with_journal("periodic")
    }

    fn with_journal(journal_sync: &'static str) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("stompbox-activemq-").tempdir()?.keep();
        let mut broker =
            Self { address: SocketAddr::from((Ipv4Addr::LOCALHOST, free_port())), dir, script: None, journal_sync };
        broker.start()?;
        Ok(broker)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A client that is logged in.
    pub fn connect(&self) -> Result<Client> {
        Client::connect(self.address, Some((USERNAME, PASSCODE)))
    }

    /// Starts it again, on the same port and with the messages it had; returns when it takes logins.
    pub fn start(&mut self) -> Result<()> {
        let script = start_script(&self.dir, self.address.port(), self.journal_sync, Stdio::piped())?;
        let script = self.script.insert(script);
        let limit = Instant::now() + START_LIMIT;
        while Client::connect(self.address, Some((USERNAME, PASSCODE))).is_err() {
            if let Some(status) = script.try_wait()? {
                bail!("the broker ended at its start ({status}):\n{}", self.log());
            }
            if Instant::now() > limit {
                bail!("the broker takes no login within {START_LIMIT:?}:\n{}", self.log());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// Stops it in good order.
    pub fn stop(&mut self) -> Result<()> {
        self.end("stop")
    }

    /// Kills it, as a crash would.
    pub fn kill(&mut self) -> Result<()> {
        self.end("kill")
    }

    fn end(&mut self, word: &str) -> Result<()> {
        let mut script = self.script.take().context("the broker is not running")?;
        writeln!(script.stdin.take().context("the pipe is gone")?, "{word}")?;
        wait(&mut script)?;
        Ok(())
    }

    /// The end of the broker's log.
    fn log(&self) -> String {
        let log = std::fs::read_to_string(self.dir.join("activemq.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }
}

impl Drop for ActiveMq {
    fn drop(&mut self) {
        if let Some(mut script) = self.script.take() {
            drop(script.stdin.take());
            let _ = wait(&mut script);
        } else {
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }
}

/// Runs the script that runs the broker; the broker ends when `owner` closes.
pub fn start_script(dir: &Path, port: u16, journal_sync: &str, owner: Stdio) -> Result<Child> {
    Command::new(root().join("tests/brokers/activemq.sh"))
        .args(["start".as_ref(), dir.as_os_str(), port.to_string().as_ref()])
        .env("ACTIVEMQ_JOURNAL_SYNC", journal_sync)
        .stdin(owner)
        .spawn()
        .context("tests/brokers/activemq.sh cannot be run")
}

/// Waits for the script, so that the broker is gone when this returns.
pub fn wait(script: &mut Child) -> Result<ExitStatus> {
    let limit = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(status) = script.try_wait()? {
            return Ok(status);
        }
        if Instant::now() > limit {
            bail!("the broker with script {} did not end within 60 s", script.id());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
