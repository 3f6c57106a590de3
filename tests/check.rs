//! `check --connect`: it says which server or right is missing, and leaves no trace.

use std::{fs, process::Output};

use serde_json::{Value, json};
use stompbox::dev_broker::Faults;

use crate::{
    harness::{
        activemq::{ActiveMq, PASSCODE},
        client::Msg,
        guests,
        host::One,
        target::{Target, on_every_broker},
    },
    program::program,
};

on_every_broker! {
    rights_that_are_there_are_found_and_nothing_is_touched
    senders_are_checked_too
}

fn check(config: &Value) -> (Option<i32>, String, String) {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config.clone();
    config["plugins"] = json!([guests::plugins_dir()]);
    let file = dir.path().join("config.json");
    fs::write(&file, config.to_string()).unwrap();
    let run = program().args(["check", "--connect", "--config"]).arg(&file).output().unwrap();
    let Output { status, stdout, stderr } = run;
    let text = |bytes| String::from_utf8(bytes).unwrap().replace(dir.path().to_str().unwrap(), "DIR");
    (status.code(), text(stdout), text(stderr))
}

fn rights_that_are_there_are_found_and_nothing_is_touched(target: &Target) {
    let one = One::new(target, "Echo", json!({}));
    let bodies = ["first", "second", "third"];
    target.client().send_all(&one.from, &bodies).unwrap();
    let (code, out, err) = check(&one.config);
    assert_eq!(code, Some(0), "{out}\n{err}");
    assert!(
        out.contains(&format!("mb at {}: ", target.address)) && out.contains("3 right(s) tested, 0 problem(s)"),
        "{out}"
    );
    let left = target.drain(&one.from);
    assert_eq!(left.iter().map(Msg::text).collect::<Vec<_>>(), bodies);
    assert_eq!(target.drain(&one.to).len() + target.drain(&one.dead).len(), 0, "nothing is left behind");
}

fn senders_are_checked_too(target: &Target) {
    let queue = |destination: &str, enable: bool| json!({"server": "mb", "destination": destination, "enable": enable});
    let destination = Target::destination("sender");
    let config = json!({
        "mb_servers": {"mb": target.server()},
        "queues": {"one": queue(&destination, true), "off": queue("/queue/off", false)}
    });
    let (code, out, err) = check(&config);
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("a sender's configuration, for one\n") && out.contains("1 right(s) tested"), "{out}");
    assert_eq!(target.drain(&destination).len(), 0);
}

/// The queues of a processor, by what the login `limited` may do there.
fn limited(broker: &ActiveMq, from: &str, to: &str, dead: &str) -> Value {
    let queue = |destination: &str| json!({"server": "mb", "destination": destination});
    let server = json!({"host_port_list": [broker.address().to_string()], "username": "limited", "passcode": PASSCODE});
    json!({
        "mb_servers": {"mb": server},
        "queues": {"in": queue(from), "out": queue(to)},
        "processors": {"p": {
            "module": "hostile", "name": "Echo", "in_queue": "in", "out_queue": "out", "dead_letter": dead
        }}
    })
}

#[test]
fn activemq_tells_which_rights_are_missing() {
    let broker = ActiveMq::shared();
    let (read, write) = ("/queue/rights.read.check", "/queue/rights.write.check");
    broker.connect().unwrap().send(read, &[("persistent", "true")], b"stays").unwrap();
    let (code, out, err) = check(&limited(broker, read, write, write));
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");

    let (code, _, err) = check(&limited(broker, write, read, "/queue/rights.none.check"));
    assert_eq!(code, Some(1), "{err}");
    let place = format!("on mb at {}: the broker reports an error: ", broker.address());
    for (path, said) in [
        ("queues.in.destination", format!("cannot subscribe to {write} {place}")),
        ("queues.out.destination", format!("cannot send to {read} {place}")),
        ("processors.p.dead_letter", format!("cannot send to /queue/rights.none.check {place}")),
    ] {
        assert!(err.contains(&format!("  {path}: {said}")), "{path}: {said} in\n{err}");
    }
    assert!(err.contains("3 problem(s)") && err.contains("not authorized"), "{err}");
    let left = broker.connect().unwrap().drain_queue(read).unwrap();
    assert_eq!(left.iter().map(Msg::text).collect::<Vec<_>>(), ["stays"]);
    assert_eq!(broker.connect().unwrap().drain_queue(write).unwrap(), []);
}

#[test]
fn a_selector_that_rabbitmq_would_ignore_is_told() {
    let mut one = One::new(&Target::rabbitmq(), "Echo", json!({}));
    one.config["queues"]["in"]["selector"] = json!("vo = 'atlas'");
    let (code, _, err) = check(&one.config);
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains("queues.in.destination: ") && err.contains("this broker ignores selectors"), "{err}");
}

#[test]
fn every_problem_of_every_server_is_told_at_once() {
    let target = Target::embedded();
    let mut one = One::new(&target, "Echo", json!({}));
    target
        .handle()
        .set_faults(Faults { refuse_destinations: vec![one.from.clone(), one.dead.clone()], ..Faults::default() });
    one.config["mb_servers"]["away"] = json!({"host_port_list": ["127.0.0.1:1"]});
    one.config["queues"]["elsewhere"] = json!({"server": "away", "destination": "/queue/x"});
    one.config["processors"]["one"]["out_queues"] = json!(["elsewhere"]);
    let (code, out, err) = check(&one.config);
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains("3 problem(s)"), "{err}");
    assert!(err.contains("  queues.in.destination: cannot subscribe to"), "{err}");
    assert!(err.contains("  queues.in.dead_letter: cannot send to"), "{err}");
    assert!(err.contains("  mb_servers.away.host_port_list[0]: cannot connect to 127.0.0.1:1"), "{err}");
    assert!(out.contains("3 right(s) tested, 2 problem(s)") && out.contains("away at 127.0.0.1:1: no login"), "{out}");
}

#[test]
fn rights_that_artemis_refuses_are_told() {
    for target in [Target::artemis(), Target::artemis_prefixed()] {
        let mut one = One::new(&target, "Echo", json!({}));
        let refused = one.to.replace("/queue/", "/queue/refused.");
        one.config["queues"]["out"]["destination"] = json!(refused);
        let (code, _, err) = check(&one.config);
        assert_eq!(code, Some(1), "{err}");
        assert!(err.contains(&format!("queues.out.destination: cannot send to {refused}")), "{err}");
        assert!(err.contains("1 problem(s)") && err.contains("does not have permission"), "{err}");
    }
}

/// What is wrong in the file is told before any socket opens.
#[test]
fn a_wrong_configuration_is_64_also_with_connect() {
    let (code, _, err) = check(&json!({"mb_servers": {}, "queues": {"q": {}}}));
    assert_eq!(code, Some(64), "{err}");
}
