//! Passcodes never leave the host but in CONNECT: not in its log at the most verbose level, its errors, its pages,
//! nor in what it sends or keeps.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    path::Path,
    process::{Child, Stdio},
    thread,
};

use serde_json::{Value, json};
use stompbox::{config::Config, dev_broker::Faults};
use tempfile::TempDir;

use crate::{
    harness::process::{program, terminate},
    harness::{
        client::frame,
        guests,
        host::{One, wait_until},
        peer::Peer,
        target::Target,
    },
    operate::{admin, ask},
};

/// A part of every secret, and of nothing else.
const MARK: &str = "s3cret";
const IN_CONFIG: &str = "config-s3cret:word";
const IN_FILE: &str = "file-s3cret";
const IN_ENVIRONMENT: &str = "environment-s3cret";
const FORMATS: [&str; 2] = ["text", "json"];

/// A broker that refuses each login, and repeats it in its ERROR, twice.
fn repeats_what_it_refuses() -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        while let Ok(mut peer) = Peer::accept(&listener) {
            let Ok(connect) = peer.expect("CONNECT") else { continue };
            let told = format!("no user with passcode {}", connect.header("passcode").unwrap_or_default());
            let body = format!("java.lang.SecurityException: {told}\n\tat x\nCaused by: {told}\n");
            let _ = peer.send_raw(&frame("ERROR", &[("message", &told)], body.as_bytes()));
        }
    });
    address
}

/// Four servers, each with a passcode from another place, of which one refuses it.
struct Scene {
    target: Target,
    one: One,
    pages: SocketAddr,
    dir: TempDir,
}

impl Scene {
    fn new() -> Self {
        let (target, dir, pages) = (Target::embedded(), tempfile::tempdir().unwrap(), admin());
        let file = dir.path().join("passcode");
        fs::write(&file, IN_FILE).unwrap();
        let mut one = One::new(&target, "RejectAll", json!({"verbose": true}));
        let server = |address: SocketAddr, key: &str, value: &str| json!({"host_port_list": [address.to_string()], "username": "panda", "verbose": true, key: value});
        one.config["mb_servers"]["mb"] = server(target.address, "passcode", IN_CONFIG);
        one.config["mb_servers"]["filed"] = server(target.address, "passcode_file", file.to_str().unwrap());
        one.config["mb_servers"]["named"] = server(target.address, "passcode", "${STOMPBOX_TEST_WORD}");
        let refusing = repeats_what_it_refuses();
        for (name, key, value) in [
            ("refusing", "passcode", IN_CONFIG),
            ("refusing_filed", "passcode_file", file.to_str().unwrap()),
            ("refusing_named", "passcode", "${STOMPBOX_TEST_WORD}"),
        ] {
            one.config["mb_servers"][name] = server(refusing, key, value);
            one.config["queues"][name] = json!({"server": name, "destination": "/queue/refused", "verbose": true});
            let echo = json!({"module": "hostile", "name": "Echo", "in_queue": name, "out_queue": "echoed"});
            one.config["processors"][name] = echo;
        }
        one.config["queues"]["echoed"] = json!({"server": "named", "destination": "/queue/echoed"});
        one.config["queues"]["out"]["server"] = json!("filed");
        one.config["plugins"] = json!([guests::plugins_dir()]);
        one.config["state_dir"] = json!(dir.path().join("state"));
        one.config["admin"] = json!({"listen": pages});
        one.config["guard_period"] = json!(0.1);
        fs::write(dir.path().join("config.json"), one.config.to_string()).unwrap();
        Self { target, one, pages, dir }
    }

    /// Runs a command of the program to its end; returns all it printed.
    fn run(&self, args: &[&str]) -> String {
        printed(self.dir.path(), args)
    }

    /// Runs the host while messages become dead letters and spooled; returns all it printed, answered and kept.
    fn host(&self, format: &str) -> Vec<(String, String)> {
        let handle = self.target.handle();
        let log = self.dir.path().join("log");
        let mut host = start(self.dir.path(), &["run", "--log-format", format], &log);
        let said = || fs::read_to_string(&log).unwrap();
        wait_until("it is subscribed", || handle.queue_depth(&self.one.from).consumers == 1);
        self.target.client().send(&self.one.from, &[], b"sent").unwrap();
        wait_until("the dead letter", || handle.queue_depth(&self.one.dead).waiting == 1);
        handle.set_faults(Faults { refuse_destinations: vec![self.one.dead.clone()], ..Faults::default() });
        self.target.client().send(&self.one.from, &[], b"spooled").unwrap();
        let spool = self.dir.path().join("state/dead-letters/in.jsonl");
        wait_until("the spooled one", || fs::read(&spool).is_ok_and(|text| !text.is_empty()));
        handle.set_faults(Faults::default());
        for server in ["refusing", "refusing_filed", "refusing_named"] {
            let word = format!("{server}\"");
            let told = |line: &str| {
                line.contains("refuses the login")
                    && (line.contains(&word) || line.contains(&format!("server={server} ")))
            };
            wait_until(&format!("{server} is told"), || said().lines().any(told));
        }
        let pages = ["/healthz", "/readyz", "/metrics", "/v1/status", "/v1/processors/one", "/v1/audit"]
            .map(|path| (path.to_owned(), ask(self.pages, path).1));
        terminate(&host);
        host.wait().unwrap();
        let dead = self.target.drain(&self.one.dead);
        assert_eq!(dead.len(), 1);
        let kept = [("log".to_owned(), said()), ("spool".to_owned(), fs::read_to_string(spool).unwrap())];
        pages.into_iter().chain(kept).chain([("dead letter".to_owned(), format!("{dead:?}"))]).collect()
    }
}

/// Starts the program on the configuration in a folder, as verbose as can be.
fn start(dir: &Path, args: &[&str], log: &Path) -> Child {
    let file = fs::File::create(log).unwrap();
    let mut command = program();
    command.args(args).arg("--config").arg(dir.join("config.json"));
    command.env("STOMPBOX_LOG", "trace").env("STOMPBOX_TEST_WORD", IN_ENVIRONMENT).env("RUST_BACKTRACE", "full");
    command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
    command.spawn().unwrap()
}

fn printed(dir: &Path, args: &[&str]) -> String {
    let log = dir.join("printed");
    start(dir, args, &log).wait().unwrap();
    fs::read_to_string(log).unwrap()
}

fn assert_silent(what: &str, text: &str) {
    let line = text.lines().find(|line| line.contains(MARK));
    assert!(line.is_none(), "{what} tells a secret: {}", line.unwrap_or_default());
}

#[test]
fn a_host_at_work_tells_none() {
    for format in FORMATS {
        for (what, text) in Scene::new().host(format) {
            assert!(!text.is_empty(), "{what}");
            assert_silent(&format!("{what} ({format})"), &text);
        }
    }
}

#[test]
fn commands_tell_none() {
    let scene = Scene::new();
    let body = scene.dir.path().join("body");
    fs::write(&body, "harmless").unwrap();
    let body = body.to_str().unwrap();
    for (args, word) in [
        (&["check"][..], "one: in -> out"),
        (&["check", "--connect"], "refuses the login: no user with passcode ***"),
        (&["send", "refusing", body], "refuses the login: no user with passcode ***"),
        (&["send", "in", body], ""),
    ] {
        for format in FORMATS {
            // A command that sends tries until it is told to end.
            let text = match args {
                ["send", "refusing", _] => told_once(&scene, &[args, &["--log-format", format]].concat(), word),
                _ => scene.run(&[args, &["--log-format", format]].concat()),
            };
            assert!(text.contains(word), "{args:?}: {text}");
            assert_silent(&format!("{args:?} ({format})"), &text);
        }
    }
}

/// Runs a command until it has said this.
fn told_once(scene: &Scene, args: &[&str], word: &str) -> String {
    let log = scene.dir.path().join("told");
    let mut child = start(scene.dir.path(), args, &log);
    let said = || fs::read_to_string(&log).unwrap();
    wait_until(&format!("{args:?} says {word}"), || said().contains(word) || child.try_wait().unwrap().is_some());
    let _ = child.kill();
    child.wait().unwrap();
    said()
}

/// Configurations that are wrong where a secret stands, or near it.
fn wrong() -> Vec<String> {
    let server = |extra: Value| {
        let mut server = json!({"host_port_list": ["127.0.0.1:1"], "username": "panda"});
        for (key, value) in extra.as_object().into_iter().flatten() {
            server[key] = value.clone();
        }
        let queue = json!({"server": "mb", "destination": "/queue/x"});
        json!({"mb_servers": {"mb": server}, "queues": {"in": queue}, "processors": {}}).to_string()
    };
    let servers = [
        json!({"passcode": [IN_CONFIG]}),
        json!({"passcode": {"word": IN_CONFIG}}),
        json!({"passcode": format!("{IN_CONFIG}\nline")}),
        json!({"passcode": format!("{IN_CONFIG}\u{0}")}),
        json!({"passcode": format!("${{{IN_CONFIG}}}")}),
        json!({"passcodee": IN_CONFIG}),
        json!({"password": IN_CONFIG}),
        json!({"use_ssl": IN_CONFIG}),
        json!({"vhost": [IN_CONFIG]}),
        json!({"passcode": IN_CONFIG, "passcode_file": "missing"}),
        json!({"passcode": IN_CONFIG, "heart_beat": "x"}),
        json!({"host_port_list": [format!("stomp://panda:{IN_CONFIG}@127.0.0.1:61613")]}),
        json!({"host_port_list": [format!("panda:{IN_FILE}@127.0.0.1:61613")]}),
        json!({"host_port_list": [format!("panda:{IN_FILE}@127.0.0.1")]}),
        json!({"host_port_list": format!("panda:{IN_FILE}@127.0.0.1:61613")}),
    ];
    let broken = [
        format!("{{\"mb_servers\": {{\"mb\": {{\"passcode\": \"{IN_CONFIG}\n\"}}}}}}"),
        format!("{{\"mb_servers\": {{\"mb\": {{\"passcode\": \"{IN_CONFIG}\"] }}}}"),
        format!("{{\"mb_servers\": {{\"mb\": {{\"passcode\": {IN_CONFIG}}}}}}}"),
        format!("{{\"mb_servers\": {{\"mb\": {{\"passcode\": \"{IN_CONFIG}\", \"passcode\": \"{IN_FILE}\"}}}}}}"),
    ];
    servers.into_iter().map(server).chain(broken).collect()
}

#[test]
fn errors_of_wrong_configurations_quote_none() {
    let dir = tempfile::tempdir().unwrap();
    for config in wrong() {
        fs::write(dir.path().join("config.json"), &config).unwrap();
        for args in
            [&["check", "--strict"][..], &["check", "--log-format", "json"], &["run"], &["send", "in", "config.json"]]
        {
            // What is no error starts; nothing answers there.
            if args[0] != "check" && Config::parse(&config, "config.json".as_ref(), false, &|_| None).is_ok() {
                continue;
            }
            let text = printed(dir.path(), args);
            assert!(!text.is_empty(), "{args:?}: {config}");
            assert_silent(&format!("{args:?} of {config}"), &text);
        }
    }
}

/// What a panic message could hold of it.
#[test]
fn debug_prints_none() {
    let server = json!({"host_port_list": ["127.0.0.1:1"], "username": "panda", "passcode": IN_CONFIG});
    let queue = json!({"server": "mb", "destination": "/queue/x"});
    let config = json!({"mb_servers": {"mb": server}, "queues": {"in": queue}, "processors": {}});
    let loaded = Config::parse(&config.to_string(), "c".as_ref(), true, &|_| None).unwrap().config;
    assert_silent("Debug of Config", &format!("{loaded:#?}"));
    let options = loaded.connect_options(&"mb".into());
    assert_eq!(options.passcode.as_deref(), Some(IN_CONFIG));
    assert_silent("Debug of ConnectOptions", &format!("{options:#?}"));
}
