//! `check --connect`: it says which server or right is missing, and leaves no trace.

use std::{fs, net::SocketAddr, process::Output};

use serde_json::{Value, json};
use stompbox::{app::Drained, dev_broker::Faults};

use crate::{
    harness::process::program,
    harness::{
        activemq::PASSCODE,
        guests,
        host::{Host, One},
        messages::texts_in_order,
        rabbitmq::RabbitMq,
        target::{Target, on_every_broker},
    },
};

on_every_broker! {
    rights_that_are_there_are_found_and_nothing_is_touched
    senders_are_checked_too
    a_durable_subscription_keeps_what_it_holds
}

pub fn check(config: &Value) -> (Option<i32>, String, String) {
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
    assert_eq!(texts_in_order(&left), bodies);
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

/// Whether the host is at work or away; and where there is none yet, none is made.
fn a_durable_subscription_keeps_what_it_holds(target: &Target) {
    let mut one = One::new(target, "Echo", json!({}));
    let topic = one.from.replace("/queue/", "/topic/");
    one.config["mb_servers"]["mb"]["client_id"] = json!(one.from);
    one.config["queues"]["in"]["destination"] = json!(topic);
    one.config["queues"]["in"]["subscription"] = json!(one.from.replace("/queue/", "sub-"));
    let checked = |when: &str| {
        let (code, out, err) = check(&one.config);
        assert_eq!(code, Some(0), "{when}: {out}\n{err}");
    };
    let send = |body: &str| target.client().send(&topic, &[("persistent", "true")], body.as_bytes()).unwrap();
    checked("before the first start");
    send("for nobody");
    let host = Host::start(&one.config);
    checked("at work");
    send("first");
    host.wait_ended("one", 1);
    assert_eq!(host.drain(), Drained::Clean);
    send("second");
    checked("away");
    let host = Host::start(&one.config);
    host.wait_ended("one", 1);
    assert_eq!(host.drain(), Drained::Clean);
    assert_eq!(texts_in_order(&target.drain(&one.to)), ["first", "second"]);
}

/// The queues of a processor, by what the login `limited` may do there.
fn limited(address: SocketAddr, from: &str, to: &str, dead: &str) -> Value {
    let queue = |destination: &str| json!({"server": "mb", "destination": destination});
    let server = json!({"host_port_list": [address.to_string()], "username": "limited", "passcode": PASSCODE});
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
    let err = tells_which_rights_are_missing(&Target::activemq());
    assert!(err.contains("not authorized"), "{err}");
}

/// Artemis says it in words of its own, of a reader without the reason.
#[test]
fn artemis_tells_which_rights_are_missing() {
    let err = tells_which_rights_are_missing(&Target::artemis());
    assert!(err.contains("the broker reports an error: AMQ"), "{err}");
}

/// The login `limited` may read one queue and write another; nothing is left in either.
fn tells_which_rights_are_missing(target: &Target) -> String {
    let (read, write) = ("/queue/rights.read.check", "/queue/rights.write.check");
    target.client().send(read, &[("persistent", "true")], b"stays").unwrap();
    let (code, out, err) = check(&limited(target.address, read, write, write));
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");

    let (code, _, err) = check(&limited(target.address, write, read, "/queue/rights.none.check"));
    assert_eq!(code, Some(1), "{err}");
    let place = format!("on mb at {}: the broker reports an error: ", target.address);
    for (path, said) in [
        ("queues.in.destination", format!("cannot subscribe to {write} {place}")),
        ("queues.out.destination", format!("cannot send to {read} {place}")),
        ("processors.p.dead_letter", format!("cannot send to /queue/rights.none.check {place}")),
    ] {
        assert!(err.contains(&format!("  {path}: {said}")), "{path}: {said} in\n{err}");
    }
    assert!(err.contains("3 problem(s)"), "{err}");
    assert_eq!(texts_in_order(&target.drain(read)), ["stays"]);
    assert_eq!(target.drain(write), []);
    err
}

/// RabbitMQ lets `limited` read `rights.read` and `rights.taken`, and declare `rights.read` and `rights.write`.
#[test]
fn rabbitmq_tells_which_rights_are_missing_also_that_to_declare() {
    let broker = RabbitMq::shared();
    let address = broker.address();
    let name = |kind: &str, name: &str| format!("/queue/rights.{kind}.{name}{}", std::process::id());
    let exists = |queue: &str| {
        broker.connect().unwrap().subscribe(&queue.replace("/queue/", "/amq/queue/"), "client", &[]).is_ok()
    };

    let (read, write, dead) = (name("read", "new"), name("write", "new"), name("write", "dead"));
    let (code, out, err) = check(&limited(address, &read, &write, &dead));
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    assert!(out.contains(&format!("{read} does not exist yet; the host will declare it")), "{out}");
    for queue in [&read, &write, &dead] {
        assert!(!exists(queue), "{queue} was left behind");
    }

    let (kept, taken) = (name("write", "kept"), name("taken", "kept"));
    for queue in [&kept, &taken] {
        broker.connect().unwrap().send(queue, &[("persistent", "true")], b"stays").unwrap();
    }
    let (code, out, err) = check(&limited(address, &taken, &kept, &kept));
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");

    let (code, _, err) = check(&limited(address, &name("taken", "new"), &taken, &name("none", "new")));
    assert_eq!(code, Some(1), "{err}");
    let refused = "the broker reports an error: access_refused: ACCESS_REFUSED - access to queue 'rights.";
    for (path, queue) in [
        ("queues.in.destination", name("taken", "new")),
        ("queues.out.destination", taken.clone()),
        ("processors.p.dead_letter", name("none", "new")),
    ] {
        let said = format!("  {path}: cannot declare {queue} on mb at {address}: {refused}");
        assert!(err.contains(&said), "{said} in\n{err}");
    }
    assert!(err.contains("3 problem(s)"), "{err}");

    let (_, _, err) = check(&limited(address, &kept, "/amq/queue/rights.write.none", "/topic/rights"));
    for said in [format!("cannot subscribe to {kept} on"), "cannot send to /topic/rights on".to_owned()] {
        assert!(err.contains(&said), "{said} in\n{err}");
    }
    assert!(err.contains("2 problem(s)"), "{err}");
    for queue in [&kept, &taken] {
        let left = broker.connect().unwrap().drain_queue(queue).unwrap();
        assert_eq!(texts_in_order(&left), ["stays"], "{queue}");
    }
}

/// Nobody declares a queue that is asked for by its name as it is.
#[test]
fn rabbitmq_tells_of_a_missing_queue_that_nobody_declares() {
    let broker = RabbitMq::shared();
    let (code, _, err) = check(&limited(
        broker.address(),
        "/amq/queue/rights.read.missing",
        "/queue/rights.write.x",
        "/queue/rights.write.y",
    ));
    assert_eq!(code, Some(1), "{err}");
    assert!(
        err.contains("cannot subscribe to /amq/queue/rights.read.missing on") && err.contains("NOT_FOUND"),
        "{err}"
    );
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
