//! The program from outside: commands, exit codes, what people read.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Output, Stdio},
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{
    client::Msg,
    guests,
    host::{One, wait_until},
    process::{program, terminate},
    root,
    target::Target,
};

fn run(args: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = program().args(args).output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

fn write(dir: &Path, config: &Value) -> PathBuf {
    let file = dir.join("config.json");
    fs::write(&file, serde_json::to_string_pretty(config).unwrap()).unwrap();
    file
}

#[test]
fn help_teaches_and_wrong_usage_is_64() {
    let (code, out, _) = run(&["--help"]);
    assert_eq!(code, Some(0));
    for command in [
        "run",
        "check",
        "send",
        "status",
        "reload",
        "rollback",
        "pause",
        "resume",
        "demo",
        "dev-broker",
        "inspect",
        "build",
    ] {
        assert!(out.contains(&format!("\n  {command} ")), "{command} in\n{out}");
        let (code, help, _) = run(&[command, "--help"]);
        assert_eq!((code, help.contains("Usage: stompbox")), (Some(0), true), "{help}");
    }
    for wrong in
        [&["fly"][..], &[], &["run"], &["run", "--config", "x", "--grace", "never"], &["demo", "--log", "a=b=c"]]
    {
        let (code, _, err) = run(wrong);
        assert_eq!((code, err.is_empty()), (Some(64), false), "{wrong:?}: {err}");
    }
}

/// Everything that can be wrong at once; the texts are what an operator reads.
const BROKEN: &str = r#"{
  "mb_servers": {
    "internal_mb": {"host_port_list": ["mb.example.org:999999"], "use_ssl": "no", "user_name": "panda"},
    "empty": {}
  },
  "queues": {
    "in": {"server": "internal_mbb", "destination": "/queue/in", "ack_mode": "client-induvidual"},
    "out": {"server": "internal_mb", "max_buffer_len": 0}
  },
  "processors": {
    "one": {"module": "../etc/passwd", "name": "P", "in_queue": "int", "n_threads": -1},
    "two": {"name": "P", "in_queue": "in", "out_queue": "out", "limits": {"fuel": "lots", "memory": 5}}
  }
}"#;

#[test]
fn check_says_everything_that_is_wrong_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("broken.json");
    fs::write(&file, BROKEN).unwrap();
    let (code, out, err) = run(&["check", "--config", file.to_str().unwrap()]);
    assert_eq!((code, out.as_str()), (Some(64), ""));
    insta::assert_snapshot!(err.replace(dir.path().to_str().unwrap(), "DIR"));
}

#[test]
fn check_names_missing_components_and_what_would_run() {
    let dir = tempfile::tempdir().unwrap();
    let queue = |name: &str| json!({"server": "mb", "destination": format!("/queue/{name}")});
    let mut config = json!({
        "plugins": [guests::plugins_dir()],
        "mb_servers": {"mb": {"host_port_list": ["127.0.0.1:1"]}},
        "queues": {"in": queue("in"), "out": queue("out")},
        "processors": {
            "missing": {"module": "pandajedi.jedimsgprocessor.forwarding_msg_procesor", "name": "X", "in_queue": "in"},
            "misnamed": {"module": "hostile", "name": "Eco", "in_queue": "in"},
            "looping": {"module": "hostile", "name": "Echo", "in_queue": "in", "dead_letter": "/queue/in"},
            "good": {"module": "hostile", "name": "Echo", "in_queue": "in", "out_queue": "out"}
        }
    });
    let (code, _, err) = run(&["check", "--config", write(dir.path(), &config).to_str().unwrap()]);
    assert_eq!(code, Some(64));
    assert!(err.contains("processors.missing.module") && err.contains("forwarding_msg_processor"), "{err}");
    assert!(err.contains("processors.misnamed.name") && err.contains("Echo"), "{err}");
    assert!(err.contains("processors.looping.dead_letter") && err.contains("for ever"), "{err}");
    assert!(!err.contains("processors.good"), "{err}");

    config["processors"].as_object_mut().unwrap().retain(|name, _| name == "good");
    let (code, out, err) = run(&["check", "--config", write(dir.path(), &config).to_str().unwrap()]);
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("good: in -> out, 1 lane(s) of Echo"), "{out}");
}

#[test]
fn a_describe_that_never_returns_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let config = json!({
        "plugins": [guests::plugins_dir()],
        "mb_servers": {"mb": {"host_port_list": ["127.0.0.1:1"]}},
        "queues": {"in": {"server": "mb", "destination": "/queue/in"}},
        "processors": {"hung": {"module": "spin_describe", "name": "Any", "in_queue": "in"}}
    });
    let file = write(dir.path(), &config);
    for command in ["check", "run"] {
        let (code, out, err) = run(&[command, "--config", file.to_str().unwrap()]);
        assert_eq!((code, out.as_str()), (Some(64), ""), "{err}");
        assert!(err.contains("processors.hung.") && err.contains("`describe` failed: the component "), "{err}");
    }
    let component = guests::component("spin_describe");
    let (code, out, err) = run(&["inspect", component.to_str().unwrap()]);
    assert_eq!((code, out.as_str()), (Some(1), ""), "{err}");
    assert!(
        err.contains("spin_describe.wasm does not describe itself: its `describe` failed: the component "),
        "{err}"
    );
}

#[test]
fn inspect_shows_what_a_component_offers() {
    let file = guests::component("pandajedi.jedimsgprocessor.status_report_msg_processor");
    let (code, out, err) = run(&["inspect", file.to_str().unwrap()]);
    assert_eq!(code, Some(0), "{err}");
    assert!(
        out.contains("StatusReportMsgProcPlugin  Forwards") && out.contains("stompbox:processor/host@0.1.0"),
        "{out}"
    );
    let (code, _, err) = run(&["inspect", root().join("Cargo.toml").to_str().unwrap()]);
    assert_eq!(code, Some(1));
    assert!(err.contains("Cargo.toml") && err.contains("component"), "{err}");
}

#[test]
fn build_makes_a_component_under_its_modules_name() {
    let dir = tempfile::tempdir().unwrap();
    let (crate_dir, out) = (root().join("plugins/forwarding"), dir.path().join("out"));
    let (code, said, err) = run(&["build", crate_dir.to_str().unwrap(), "--out", out.to_str().unwrap()]);
    assert_eq!(code, Some(0), "{err}");
    assert!(said.contains("offers ForwardingMsgProcPlugin"), "{said}");
    assert!(out.join("pandajedi.jedimsgprocessor.forwarding_msg_processor.wasm").is_file());
    let (code, _, err) = run(&["build", dir.path().to_str().unwrap()]);
    assert_eq!((code, err.contains("has no Cargo.toml")), (Some(1), true), "{err}");
}

#[test]
fn the_demo_accounts_for_every_message() {
    let (code, out, err) = run(&["demo", "--messages", "10000", "--source", root().to_str().unwrap()]);
    assert_eq!(code, Some(0), "{out}\n{err}");
    assert!(out.contains("Every message is accounted for"), "{out}");
    let row =
        |name: &str| out.lines().find(|line| line.starts_with(name)).unwrap().split_whitespace().collect::<Vec<_>>();
    let status = row("push_jobtask_status");
    assert_eq!((status[1], status[2]), ("10000", "10000"), "{out}");
    let spinner = row("spinner");
    assert_eq!((spinner[3], spinner[5]), ("0", spinner[1]), "each spin is a dead letter: {out}");
}

#[test]
fn the_development_broker_serves_and_ends_with_a_signal() {
    let mut broker = program().args(["dev-broker", "--listen", "127.0.0.1:0"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(broker.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address = line.split_whitespace().find_map(|word| word.trim_end_matches(',').parse().ok()).expect(&line);
    let mut client = crate::harness::client::Client::connect(address, None).unwrap();
    client.send("/queue/x", &[], b"hello").unwrap();
    terminate(&broker);
    assert!(broker.wait().unwrap().success());
}

/// A host of its own process on the embedded broker, in the middle of a call that would last for hours.
struct Spinning {
    target: Target,
    one: One,
    child: Child,
    log: Box<dyn Iterator<Item = String>>,
    /// The configuration lies here.
    _dir: TempDir,
}

impl Spinning {
    fn start(grace: &str) -> Self {
        let target = Target::embedded();
        let dir = tempfile::tempdir().unwrap();
        let limits = json!({"fuel": 1_000_000_000_000_000_u64, "time_ms": 1_500_000});
        let mut one = One::new(&target, "SpinOn", json!({"limits": limits}));
        one.config["plugins"] = json!([guests::plugins_dir()]);
        let file = write(dir.path(), &one.config);
        target.client().send(&one.from, &[], b"spin").unwrap();
        let mut command = program();
        command.args(["run", "--grace", grace, "--config"]).arg(&file);
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut log: Box<dyn Iterator<Item = String>> =
            Box::new(BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok));
        log.find(|line| line.contains("it spins")).expect("the call begins");
        Self { target, one, child, log, _dir: dir }
    }

    /// Waits for the end; it must be that of a failure that says `word`, with the message at the broker.
    fn fails_and_gives_back(mut self, word: &str) {
        wait_until("the program ends", || self.child.try_wait().unwrap().is_some());
        let rest: Vec<String> = self.log.collect();
        assert_eq!(self.child.wait().unwrap().code(), Some(1), "{rest:#?}");
        assert!(rest.iter().any(|line| line.contains(word)), "{rest:#?}");
        let depth = || self.target.handle().queue_depth(&self.one.from);
        wait_until("given back", || depth().unacked == 0);
        let left = self.target.drain(&self.one.from);
        assert_eq!(left.iter().map(Msg::text).collect::<Vec<_>>(), ["spin"]);
        assert_eq!(self.target.drain(&self.one.dead).len(), 0);
    }
}

#[test]
fn a_second_signal_leaves_at_once() {
    let mut host = Spinning::start("86400");
    terminate(&host.child);
    host.log.find(|line| line.contains("draining")).expect("the drain begins");
    assert!(host.child.try_wait().unwrap().is_none(), "one signal alone waits for the call");
    terminate(&host.child);
    host.fails_and_gives_back("SIGTERM again: leaving at once, the broker delivers again");
}

#[test]
fn a_drain_that_outlasts_its_grace_is_a_failure() {
    let host = Spinning::start("0.2");
    terminate(&host.child);
    host.fails_and_gives_back("not everything was settled in time: the broker delivers it again");
}

#[test]
fn a_farewell_that_never_ends_is_cut_short_and_logged() {
    let target = Target::embedded();
    let dir = tempfile::tempdir().unwrap();
    let mut one = One::new(&target, "SpinTerminate", json!({}));
    one.config["plugins"] = json!([guests::plugins_dir()]);
    let file = write(dir.path(), &one.config);
    let mut host = program().args(["run", "--config"]).arg(&file).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(host.stderr.take().unwrap()).lines().map_while(Result::ok);
    lines.find(|line| line.contains("every queue is subscribed")).expect("the host subscribes");
    terminate(&host);
    let rest: Vec<String> = lines.collect();
    assert_eq!(host.wait().unwrap().code(), Some(0), "{rest:#?}");
    assert!(rest.iter().any(|line| line.contains("terminate failed")), "{rest:#?}");
}

#[test]
fn a_second_start_does_not_compile_again() {
    let dir = tempfile::tempdir().unwrap();
    let file = guests::component("hostile");
    let cache = dir.path().join("stompbox/components");
    let inspect = || {
        let done = program().arg("inspect").arg(&file).env("XDG_CACHE_HOME", dir.path()).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        let entries = fs::read_dir(&cache).unwrap().map(|entry| entry.unwrap().path());
        entries.map(|entry| (entry.clone(), fs::metadata(entry).unwrap().modified().unwrap())).collect::<Vec<_>>()
    };
    let first = inspect();
    assert_eq!(first.len(), 1);
    assert_eq!(inspect(), first, "neither written again nor another");
}

#[test]
fn a_broker_that_is_away_is_no_reason_to_end() {
    let dir = tempfile::tempdir().unwrap();
    let queue = json!({"server": "mb", "destination": "/queue/x"});
    let config = json!({
        "plugins": [guests::plugins_dir()],
        "mb_servers": {"mb": {"host_port_list": ["127.0.0.1:1"], "passcode": "hush-hush", "username": "u"}},
        "queues": {"in": queue},
        "processors": {"one": {"module": "hostile", "name": "Echo", "in_queue": "in"}}
    });
    let file = write(dir.path(), &config);
    let mut host =
        program().args(["--log", "trace", "run", "--config"]).arg(&file).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(host.stderr.take().unwrap()).lines().map_while(Result::ok);
    let mut seen = Vec::new();
    while seen.iter().filter(|line: &&String| line.contains("session lost")).count() < 2 {
        seen.push(lines.next().expect("the host goes on"));
    }
    wait_until("still there", || host.try_wait().unwrap().is_none());
    terminate(&host);
    seen.extend(lines);
    assert!(host.wait().unwrap().success());
    assert!(seen.iter().any(|line| line.contains("cannot connect to 127.0.0.1:1")), "{seen:#?}");
    assert!(!seen.iter().any(|line| line.contains("hush-hush")), "the passcode is in the log");
}

#[test]
fn the_version_names_the_engine() {
    let (code, out, _) = run(&["--version"]);
    assert_eq!(code, Some(0));
    assert!(out.starts_with("stompbox 0.") && out.contains("(wasmtime 48."), "{out}");
}

/// What cannot start within its limits is refused by `check`, before any message comes.
#[test]
fn check_refuses_limits_that_no_instance_fits_into() {
    let dir = tempfile::tempdir().unwrap();
    let processor = |extra: Value| json!({"module": "hostile", "name": "Echo", "in_queue": "in", "limits": extra});
    let config = json!({
        "plugins": [guests::plugins_dir()],
        "mb_servers": {"mb": {"host_port_list": ["127.0.0.1:1"]}},
        "queues": {"in": {"server": "mb", "destination": "/queue/in"}},
        "processors": {
            "memory": processor(json!({"memory_mb": 1})),
            "fuel": processor(json!({"init_fuel": 1})),
            "tables": processor(json!({"table_elements": 1})),
            "fine": processor(json!({"memory_mb": 4}))
        }
    });
    let (code, out, err) = run(&["check", "--config", write(dir.path(), &config).to_str().unwrap()]);
    assert_eq!((code, out.as_str()), (Some(64), ""), "{err}");
    let needs = err.split("processors.memory.limits.memory_mb: the component cannot start with so little: it needs ");
    let needs: u64 = needs.last().and_then(|rest| rest.split(' ').next()?.parse().ok()).expect(&err);
    assert!((2..=4).contains(&needs), "{err}");
    let told = |key: &str| {
        let (_, rest) = err.split_once(&format!("processors.{key}: the component cannot start with so")).expect(key);
        let (_, number) = rest.split_once("it needs ").expect(key);
        number.split(' ').next().unwrap().parse::<u64>().expect(key)
    };
    // With what is told it can run.
    let told =
        json!({"init_fuel": told("fuel.limits.init_fuel"), "table_elements": told("tables.limits.table_elements")});
    let mut enough = config.clone();
    enough["processors"] = json!({"enough": processor(told)});
    let (code, _, err_then) = run(&["check", "--config", write(dir.path(), &enough).to_str().unwrap()]);
    assert_eq!(code, Some(0), "{err_then}");
    assert!(!err.contains("processors.fine"), "{err}");
}
