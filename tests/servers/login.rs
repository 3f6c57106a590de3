//! `username`, `passcode`, `passcode_file`, `vhost`, `${NAME}` and `verbose`.

use std::{
    fs,
    net::Ipv4Addr,
    path::Path,
    process::{Child, Stdio},
};

use serde_json::{Value, json};
use stompbox::{
    app::Drained,
    client::ConnectOptions,
    dev_broker::{BrokerHandle, BrokerOptions, DevBroker},
};

use super::{open, runtime};
use crate::{
    harness::process::{program, terminate},
    harness::{
        broker,
        certificates::write,
        client::{Client, Msg},
        guests,
        host::{Host, One, wait_until},
        messages::texts,
        target::Target,
    },
};

const USERNAME: &str = "panda";
const PASSCODE: &str = "hunter2-passcode";

/// An embedded broker that wants a login.
struct Guarded {
    address: std::net::SocketAddr,
    handle: BrokerHandle,
    _runtime: tokio::runtime::Runtime,
}

impl Guarded {
    fn start() -> Self {
        let login = (Some(USERNAME.to_owned()), Some(PASSCODE.to_owned()));
        let options = BrokerOptions { username: login.0, passcode: login.1, ..BrokerOptions::default() };
        let runtime = runtime();
        let broker = runtime.block_on(DevBroker::bind((Ipv4Addr::LOCALHOST, 0).into(), options)).unwrap();
        let (address, handle) = (broker.local_addr(), broker.handle());
        runtime.spawn(broker.run(std::future::pending::<()>()));
        Self { address, handle, _runtime: runtime }
    }

    fn client(&self) -> Client {
        Client::connect(self.address, Some((USERNAME, PASSCODE))).unwrap()
    }

    /// A processor on this broker, which is to be reached like that.
    fn one(&self, server: Value) -> One {
        let mut one = One::new(&Target::embedded(), "Echo", json!({}));
        one.config["mb_servers"]["mb"] = server;
        one.config["plugins"] = json!([guests::plugins_dir()]);
        one
    }
}

#[test]
fn passcode_file_logs_in() {
    let (broker, dir) = (Guarded::start(), tempfile::tempdir().unwrap());
    let file = write(dir.path(), "passcode", &format!("{PASSCODE}\n"));
    let list = [broker.address.to_string()];
    let one = broker.one(json!({"host_port_list": list, "username": USERNAME, "passcode_file": file}));
    let host = Host::start(&one.config);
    broker.client().send_all(&one.from, &["x"]).unwrap();
    host.wait_ended("one", 1);
    assert_eq!(host.drain(), Drained::Clean);
}

#[test]
fn passcode_file_is_read_at_each_connect() {
    let (broker, dir) = (Guarded::start(), tempfile::tempdir().unwrap());
    let file = write(dir.path(), "passcode", "wrong-but-secret");
    let mut options = ConnectOptions::new("mb", vec![broker.address.into()]);
    (options.username, options.passcode_file) = (Some(USERNAME.into()), Some(file.clone()));
    let told = open(&options).unwrap_err();
    assert!(told.contains("it refuses the login") && !told.contains("wrong-but-secret"), "{told}");
    fs::write(&file, PASSCODE).unwrap();
    open(&options).unwrap();
    fs::remove_file(&file).unwrap();
    let told = open(&options).unwrap_err();
    assert!(told.contains("passcode_file") && told.contains("there is no such file"), "{told}");
}

/// A queue of the same name is another one there.
#[test]
fn vhost_is_where_the_queues_are() {
    let target = Target::rabbitmq();
    let mut one = One::new(&target, "Echo", json!({}));
    one.config["mb_servers"]["mb"]["vhost"] = json!("other");
    let host = Host::start(&one.config);
    let login = Some((broker::USERNAME, broker::PASSCODE));
    let other = || Client::connect_with(target.address, login, &[("host", "other")]).unwrap();
    target.client().send_all(&one.from, &["without"]).unwrap();
    other().send_all(&one.from, &["with"]).unwrap();
    host.wait_ended("one", 1);
    assert_eq!(host.drain(), Drained::Clean);
    assert_eq!(texts(&other().drain_queue(&one.to).unwrap()), ["with"]);
    assert_eq!(texts(&target.drain(&one.from)), ["without"]);
}

/// The program at work on a configuration.
fn run(dir: &Path, config: &Value, env: &[(&str, &str)], log: &Path) -> Child {
    let file = write(dir, "config.json", &config.to_string());
    let mut command = program();
    command.args(["run", "--config"]).arg(file).envs(env.iter().copied());
    command.stderr(Stdio::from(fs::File::create(log).unwrap())).spawn().unwrap()
}

#[test]
fn names_in_braces_come_from_the_environment() {
    let (broker, dir) = (Guarded::start(), tempfile::tempdir().unwrap());
    let one = broker.one(
        json!({"host_port_list": ["${HOSTS}"], "connect": "any", "username": "${USER_NAME}", "passcode": "${WORD}"}),
    );
    let hosts = format!("{0}, {0}", broker.address);
    let env = [("HOSTS", hosts.as_str()), ("USER_NAME", USERNAME), ("WORD", PASSCODE)];
    let mut host = run(dir.path(), &one.config, &env, &dir.path().join("log"));
    wait_until("the program is subscribed", || broker.handle.queue_depth(&one.from).consumers == 1);
    host.kill().unwrap();
    host.wait().unwrap();
}

/// What the program logs while one message goes through it.
fn logged(verbose: bool) -> String {
    let (broker, dir) = (Guarded::start(), tempfile::tempdir().unwrap());
    let list = [broker.address.to_string()];
    let server = json!({"host_port_list": list, "username": USERNAME, "passcode": PASSCODE, "verbose": verbose});
    let one = broker.one(server);
    let log = dir.path().join("log");
    let mut host = run(dir.path(), &one.config, &[], &log);
    wait_until("the program is subscribed", || broker.handle.queue_depth(&one.from).consumers == 1);
    broker.client().send(&one.from, &[("vo", "header-secret")], b"body-secret").unwrap();
    wait_until("the output", || broker.handle.queue_depth(&one.to).waiting == 1);
    // In good order: a host that is killed does not write the last lines of its log.
    terminate(&host);
    host.wait().unwrap();
    let out: Vec<_> = broker.client().drain_queue(&one.to).unwrap().iter().map(Msg::text).collect();
    assert_eq!(out, ["body-secret"]);
    fs::read_to_string(log).unwrap()
}

#[test]
fn verbose_tells_of_connects_and_frames_and_never_of_secrets() {
    let log = logged(true);
    let told = |words: &[&str]| log.lines().any(|line| words.iter().all(|word| line.contains(word)));
    assert!(told(&["connected", "server"]) && told(&["logged in", "we_beat_every"]), "{log}");
    for command in ["CONNECT", "SUBSCRIBE", "SEND", "ACK"] {
        assert!(told(&["sent frame", &format!("command={command} "), "headers="]), "{command}: {log}");
    }
    for command in ["CONNECTED", "MESSAGE", "RECEIPT"] {
        assert!(told(&["received frame", &format!("command={command} "), "headers="]), "{command}: {log}");
    }
    assert!(![PASSCODE, "header-secret", "body-secret"].iter().any(|secret| log.contains(secret)), "{log}");
    let quiet = logged(false);
    assert!(quiet.contains("subscribed") && !quiet.contains("frame") && !quiet.contains("logged in"), "{quiet}");
}
