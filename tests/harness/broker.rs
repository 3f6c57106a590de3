//! A real broker for the tests: one that all tests of a run share, or one's own to be killed.
//!
//! A script of `tests/brokers` runs it and holds our pipe: the broker dies with this process. What differs
//! between brokers is a [`Kind`] in a file of its own.

use std::{
    io::Write,
    marker::PhantomData,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::OnceLock,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use super::{client::Client, free_port, root};

/// The one user of every broker; nobody else may log in.
pub const USERNAME: &str = "stompbox";
pub const PASSCODE: &str = "only-for-tests";

/// A JVM or a node of Erlang on a busy machine takes its time.
const START_LIMIT: Duration = Duration::from_secs(180);

/// Which broker, and how its script is called.
pub trait Kind: Sized + 'static {
    /// Its name for people.
    const NAME: &'static str;
    /// The script in `tests/brokers`.
    const SCRIPT: &'static str;
    /// The ports that its script wants; the first one speaks STOMP.
    const PORTS: usize;

    /// Where the shared one is kept.
    fn cell() -> &'static OnceLock<Broker<Self>>;
}

/// A running broker, or one that was stopped and can be started again with its messages.
#[derive(Debug)]
pub struct Broker<K> {
    ports: Vec<u16>,
    dir: PathBuf,
    script: Option<Child>,
    journal_sync: &'static str,
    kind: PhantomData<fn() -> K>,
}

impl<K: Kind> Broker<K> {
    /// The broker that all tests of this process share, started by the first that asks. Each test uses
    /// destinations of its own.
    pub fn shared() -> &'static Self {
        K::cell().get_or_init(|| Self::own().unwrap_or_else(|error| panic!("{} cannot be had: {error:#}", K::NAME)))
    }

    /// A broker for one test, which may stop, kill and restart it.
    pub fn own() -> Result<Self> {
        Self::with_journal("always")
    }

    /// A broker that does not wait for the disk, where it can be told so: benches measure clients, not disks.
    pub fn for_benches() -> Result<Self> {
        Self::with_journal("periodic")
    }

    fn with_journal(journal_sync: &'static str) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("stompbox-broker-").tempdir()?.keep();
        let ports = (0..K::PORTS).map(|_| free_port()).collect();
        let mut broker = Self { ports, dir, script: None, journal_sync, kind: PhantomData };
        broker.start()?;
        Ok(broker)
    }

    pub fn address(&self) -> SocketAddr {
        self.address_of(0)
    }

    /// The address of another of its listeners.
    pub fn address_of(&self, port: usize) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.ports[port]))
    }

    /// A client that is logged in.
    pub fn connect(&self) -> Result<Client> {
        Client::connect(self.address(), Some((USERNAME, PASSCODE)))
    }

    /// Starts it again, on the same ports and with the messages it had; returns when it takes logins.
    pub fn start(&mut self) -> Result<()> {
        let script = start_script::<K>(&self.dir, &self.ports, self.journal_sync, Stdio::piped())?;
        self.script = Some(script);
        let limit = Instant::now() + START_LIMIT;
        while self.connect().is_err() {
            let script = self.script.as_mut().context("just started")?;
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
        let log = std::fs::read_to_string(self.dir.join("broker.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }
}

impl<K> Drop for Broker<K> {
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
pub fn start_script<K: Kind>(dir: &Path, ports: &[u16], journal_sync: &str, owner: Stdio) -> Result<Child> {
    Command::new(root().join("tests/brokers").join(K::SCRIPT))
        .arg("start")
        .arg(dir)
        .args(ports.iter().map(u16::to_string))
        .env("JOURNAL_SYNC", journal_sync)
        .stdin(owner)
        .spawn()
        .with_context(|| format!("tests/brokers/{} cannot be run", K::SCRIPT))
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
