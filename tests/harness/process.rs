//! The program as operators run it: a process of its own that a test may kill.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
};

use serde_json::{Value, json};

use super::{built, guests, host::wait_until};

/// The program, as `cargo test` built it beside the tests.
pub fn program() -> Command {
    let program = built().join("stompbox");
    assert!(
        program.is_file(),
        "{} is missing: tests/run builds it, or cargo build --release -p stompbox",
        program.display()
    );
    let mut command = Command::new(program);
    command.env_remove("STOMPBOX_LOG").env("NO_COLOR", "1");
    command
}

/// Sends SIGTERM, as service managers do.
pub fn terminate(child: &Child) {
    send("TERM", child);
}

/// Sends SIGHUP.
pub fn hang_up(child: &Child) {
    send("HUP", child);
}

fn send(signal: &str, child: &Child) {
    let sent = Command::new("kill").args(["-s", signal]).arg(child.id().to_string()).status();
    assert!(sent.unwrap().success());
}

/// `stompbox run` at work on a configuration. Dropped it is killed.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts it with its files in `dir`; returns when every queue is subscribed.
    pub fn start(dir: &Path, config: &Value) -> Self {
        let process = Self::spawn(dir, config);
        process.wait_ready();
        process
    }

    /// Waits until every queue is subscribed.
    #[track_caller]
    pub fn wait_ready(&self) {
        wait_until("every queue is subscribed", || {
            let log = self.log();
            assert!(!log.contains("error:"), "{log}");
            log.contains("every queue is subscribed")
        });
    }

    /// Starts it and does not wait for anything.
    pub fn spawn(dir: &Path, config: &Value) -> Self {
        let mut config = config.clone();
        if config.get("plugins").is_none() {
            config["plugins"] = json!([guests::plugins_dir()]);
        }
        let (file, log) = (dir.join("config.json"), dir.join("log"));
        fs::write(&file, config.to_string()).unwrap();
        let stderr = Stdio::from(fs::File::create(&log).unwrap());
        let child = program().args(["run", "--config"]).arg(file).stderr(stderr).spawn().unwrap();
        Self { child, log }
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// Its resident memory in KiB.
    pub fn resident_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a process has memory");
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// SIGKILL: it dies wherever it is.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGHUP.
    pub fn reload(&self) {
        hang_up(&self.child);
    }

    /// SIGTERM.
    pub fn signal(&self) {
        terminate(&self.child);
    }

    /// SIGTERM, and its end.
    pub fn terminate(self) -> ExitStatus {
        self.signal();
        self.end()
    }

    /// Its end, which is on its way.
    pub fn end(mut self) -> ExitStatus {
        wait_until("the program ends", || self.child.try_wait().unwrap().is_some());
        self.child.wait().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
