//! A changed configuration file: what a processor runs as is taken up, a broken file leaves everything as it is.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{
    free_port, guests, host::One, host::wait_until, ledger::sorter, process::Process, target::Target,
};

/// The program with a configuration of its own, and its page for operators.
pub struct Program {
    dir: TempDir,
    admin: SocketAddr,
    pub one: One,
    pub host: Process,
}

impl Program {
    fn start(target: &Target) -> Self {
        Self::start_one(sorter(target, &Value::Null, json!({"rollout": {"messages": 0}})))
    }

    /// With components of its own.
    pub fn start_on(target: &Target, plugins: &Path, processor: Value) -> Self {
        let mut one = sorter(target, &Value::Null, processor);
        one.config["plugins"] = json!([plugins]);
        Self::start_one(one)
    }

    pub fn start_one(one: One) -> Self {
        let program = Self::spawn_one(one);
        program.host.wait_ready();
        program
    }

    /// The same where it cannot be ready yet.
    pub fn spawn_one(mut one: One) -> Self {
        let (dir, admin) = (tempfile::tempdir().unwrap(), SocketAddr::from(([127, 0, 0, 1], free_port())));
        one.config["admin"] = json!({"listen": admin});
        if one.config.get("plugins").is_none() {
            one.config["plugins"] = json!([guests::plugins_dir()]);
        }
        let host = Process::spawn(dir.path(), &one.config);
        Self { dir, admin, one, host }
    }

    pub fn file(&self) -> PathBuf {
        self.dir.path().join("config.json")
    }

    /// It ends by itself, with this exit code.
    pub fn end_with(self, code: i32) -> One {
        assert_eq!(self.host.end().code(), Some(code));
        self.one
    }

    pub fn ask(&self, head: &str) -> (u16, Value) {
        let (status, _, answer) = crate::admin::send(self.admin, &format!("{head} HTTP/1.1\r\nHost: 127.0.0.1"), "");
        (status, answer)
    }

    /// Has it take up this configuration; returns what it answers.
    pub fn reload(&self, config: &Value) -> (u16, Value) {
        fs::write(self.file(), config.to_string()).unwrap();
        self.ask("POST /v1/reload")
    }

    /// The same where all is well; returns what was done.
    #[track_caller]
    pub fn take_up(&self, config: &Value) -> Vec<Value> {
        let (status, told) = self.reload(config);
        assert_eq!(status, 200, "{told}");
        told["changes"].as_array().unwrap().clone()
    }

    /// What there is to know of it.
    pub fn status(&self) -> Value {
        self.ask("GET /v1/status").1
    }

    fn stable(&self) -> u64 {
        let (_, told) = self.ask("GET /v1/processors/one");
        let all = told["generations"].as_array().unwrap();
        all.iter().find(|each| each["standing"] == "stable").unwrap()["number"].as_u64().unwrap()
    }

    /// What happened last, and what is told of it.
    fn last(&self) -> (String, String) {
        let (_, told) = self.ask("GET /v1/audit?last=1");
        let text = |key: &str| told["entries"][0][key].as_str().unwrap_or_default().to_owned();
        (text("what"), text("detail"))
    }
}

#[test]
fn parameters_that_change_are_a_new_generation() {
    let target = Target::embedded();
    let mut program = Program::start(&target);
    program.one.config["processors"]["one"]["params"] = json!({"poison": true});
    fs::write(program.file(), program.one.config.to_string()).unwrap();
    wait_until("it is taken up by itself", || program.stable() == 2);
    // What a restart takes up is named, and the rest of the file taken up all the same.
    program.one.config["processors"]["one"]["limits"] = json!({"time_ms": 5_000});
    program.one.config["buffer_mb"] = json!(7);
    let changes = program.take_up(&program.one.config);
    let details: Vec<&str> = changes.iter().filter_map(|change| change["detail"].as_str()).collect();
    assert!(details.contains(&"a restart takes up: buffer_mb"), "{changes:?}");
    wait_until("it is taken up", || program.stable() == 3);
    target.client().send_all(&program.one.from, &["x 000001"]).unwrap();
    wait_until("it works", || !target.drain(&program.one.to).is_empty());
    assert!(program.host.terminate().success());
}

#[test]
fn a_broken_file_leaves_everything_as_it_is() {
    let target = Target::embedded();
    let program = Program::start(&target);
    let whole = program.one.config.to_string();
    for broken in
        [whole[..whole.len() / 2].to_owned(), whole.replace("\"in_queue\":\"in\"", "\"in_queue\":\"nowhere\"")]
    {
        assert_ne!(broken, whole);
        fs::write(program.file(), broken).unwrap();
        let (status, told) = program.ask("POST /v1/reload");
        assert_eq!(status, 409, "{told}");
        assert!(told["error"].as_str().unwrap().ends_with("everything stays as it is"), "{told}");
        assert_eq!(program.last().0, "refused");
    }
    assert_eq!(program.stable(), 1);
    target.client().send_all(&program.one.from, &["x 000001"]).unwrap();
    wait_until("it works", || !target.drain(&program.one.to).is_empty());
    assert!(program.host.terminate().success());
}
