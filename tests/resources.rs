//! What the host takes of a machine stays bounded: by the size of a message, by how many there are, by how slowly
//! they go on, and by how badly they go.

mod hour;
mod oversized;
mod soak;

use std::{
    fs,
    io::{BufRead, BufReader},
    process::{Child, Stdio},
};

use tempfile::TempDir;

use crate::{
    harness::{guests, host::One},
    program::{program, terminate},
};

/// A host in a process of its own, whose memory can be told.
struct Alone {
    child: Child,
    _dir: TempDir,
}

impl Alone {
    /// Starts it; returns when every queue is subscribed.
    fn start(one: &One) -> Self {
        let (dir, mut config) = (tempfile::tempdir().unwrap(), one.config.clone());
        config["plugins"] = serde_json::json!([guests::plugins_dir()]);
        let file = dir.path().join("config.json");
        fs::write(&file, config.to_string()).unwrap();
        let mut child = program().args(["run", "--config"]).arg(&file).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        lines.find(|line| line.contains("every queue is subscribed")).expect("the host subscribes");
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, _dir: dir }
    }

    /// Its resident memory in KiB.
    fn resident_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a process has memory");
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// Ends it in good order.
    fn end(mut self) {
        terminate(&self.child);
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Alone {
    /// A test that fails leaves nothing behind.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
