//! Queues, servers, lanes and processors come and go while the host runs; what has not changed is not touched.

use std::{fs, process::Command, thread, time::Duration};

use serde_json::{Value, json};

use super::config::Program;
use crate::harness::{
    free_port,
    host::{One, wait_until, wait_within},
    ledger::{Ledger, sorter},
    target::{Target, on_each_broker},
    versions::Versions,
};

/// A unit that cannot settle what it has is left behind after half a minute.
const LEFT_BEHIND: Duration = Duration::from_secs(120);

/// Adds a second processor of the guest `hostile` between queues of its own, on this server of the configuration.
fn add(config: &mut Value, two: &One, server: &str) {
    config["queues"]["in2"] = json!({"server": server, "destination": two.from});
    config["queues"]["out2"] = json!({"server": server, "destination": two.to});
    let processor = two.config["processors"]["one"].clone();
    config["processors"]["two"] = processor;
    (config["processors"]["two"]["in_queue"], config["processors"]["two"]["out_queue"]) = (json!("in2"), json!("out2"));
}

fn remove(config: &mut Value) {
    for (what, name) in [("queues", "in2"), ("queues", "out2"), ("processors", "two")] {
        config[what].as_object_mut().unwrap().remove(name).unwrap();
    }
}

/// What was done, by processor, without what needed nothing.
fn done(changes: &[Value]) -> Vec<(&str, &str)> {
    let told = changes.iter().map(|change| (change["name"].as_str().unwrap(), change["what"].as_str().unwrap()));
    told.filter(|(_, what)| *what != "unchanged").collect()
}

/// One message through the second processor.
fn two_works(target: &Target, two: &One) {
    target.client().send_all(&two.from, &["for two"]).unwrap();
    wait_until("it works", || !target.drain(&two.to).is_empty());
}

on_each_broker! {
    what_comes_changes_and_goes_under_load_loses_and_doubles_nothing
}

fn what_comes_changes_and_goes_under_load_loses_and_doubles_nothing(target: &Target) {
    let program = Program::start_one(sorter(target, &Value::Null, json!({"n_threads": 2})));
    let ledger = Ledger::open(target, &program.one);
    let (two, mut config) = (One::new(target, "Echo", json!({})), program.one.config.clone());
    for round in 1..=3 {
        config["processors"]["one"]["n_threads"] = json!(2 + round);
        config["queues"]["in"]["max_buffer_len"] = json!(10 * round);
        assert_eq!(done(&program.take_up(&config)), [("one", "restarted")]);
        add(&mut config, &two, "mb");
        assert_eq!(done(&program.take_up(&config)), [("two", "started")]);
        two_works(target, &two);
        // All connections are made anew.
        config["mb_servers"]["mb"]["recv_heartbeat_ms"] = json!(10_000 + round);
        let mut both = program.take_up(&config);
        both.sort_by_key(|change| change["name"].to_string());
        assert_eq!(done(&both), [("one", "restarted"), ("two", "restarted")]);
        two_works(target, &two);
        remove(&mut config);
        assert_eq!(done(&program.take_up(&config)), [("two", "removed")]);
    }
    let Program { one, host, .. } = program;
    let balance = ledger.close(target, &one, || assert!(host.terminate().success()));
    println!("12 changes, {}: {balance}", target.name());
    balance.is_even();
    assert_eq!(balance.duplicated, 0, "{balance}");
}

#[test]
fn only_what_changed_is_restarted() {
    let target = Target::embedded();
    let mut one = sorter(&target, &Value::Null, json!({}));
    let two = One::new(&target, "Echo", json!({}));
    add(&mut one.config, &two, "mb");
    let program = Program::start_one(one);
    let subscribed = |queue: &str| {
        let (log, queue) = (program.host.log(), format!("queue={queue}"));
        log.lines()
            .filter(|line| line.ends_with(" subscribed") || line.contains(" subscribed "))
            .filter(|line| line.contains(&queue))
            .count()
    };
    wait_until("both are subscribed", || subscribed("in ") + subscribed("in2") == 2);
    let mut config = program.one.config.clone();
    for (place, value) in [
        ("/queues/in/max_buffer_len", json!(7)),
        ("/queues/out/send_headers", json!({"x-from": "one"})),
        ("/processors/one/retry/max_attempts", json!(7)),
        ("/processors/one/n_threads", json!(3)),
    ] {
        let (parent, key) = place.rsplit_once('/').unwrap();
        config.pointer_mut(parent).unwrap()[key] = value;
        assert_eq!(done(&program.take_up(&config)), [("one", "restarted")], "{place}");
    }
    wait_until("one is subscribed again", || subscribed("in ") == 5);
    assert_eq!(subscribed("in2"), 1);
    let lanes = program.status()["processors"][0]["lanes"].as_array().unwrap().len();
    assert_eq!(lanes, 3);
    assert!(program.host.terminate().success());
}

#[test]
fn a_server_comes_and_goes() {
    let (target, far) = (Target::embedded(), Target::embedded());
    let program = Program::start_one(sorter(&target, &Value::Null, json!({})));
    let (two, before) = (One::new(&far, "Echo", json!({})), program.one.config.clone());
    let mut config = before.clone();
    config["mb_servers"]["far"] = far.server();
    add(&mut config, &two, "far");
    assert_eq!(done(&program.take_up(&config)), [("two", "started")]);
    two_works(&far, &two);
    let servers = || program.status()["servers"].as_array().unwrap().len();
    assert_eq!(servers(), 2);
    assert_eq!(done(&program.take_up(&before)), [("two", "removed")]);
    assert_eq!(servers(), 1);
    wait_until("its connections are closed", || far.handle().stats().connections == 0);
    let (status, _) = program.ask("GET /v1/processors/two");
    assert_eq!(status, 404);
    assert!(program.host.terminate().success());
}

#[test]
fn held_deliveries_of_a_removed_processor_are_given_back() {
    let target = Target::embedded();
    let two = One::new(&target, "RetryAlways", json!({"retry": {"min_delay_ms": 600_000, "max_delay_ms": 600_000}}));
    let mut one = sorter(&target, &Value::Null, json!({}));
    let without = one.config.clone();
    add(&mut one.config, &two, "mb");
    let program = Program::start_one(one);
    target.client().send_all(&two.from, &["a", "b", "c"]).unwrap();
    let held = || {
        program.status()["queues"].as_array().unwrap().iter().map(|queue| queue["held"].as_u64().unwrap()).sum::<u64>()
    };
    wait_until("they are held", || held() == 3);
    let mut config = without;
    for name in ["admin", "plugins"] {
        config[name] = program.one.config[name].clone();
    }
    assert_eq!(done(&program.take_up(&config)), [("two", "removed")]);
    assert_eq!(target.drain(&two.from).len(), 3);
    assert!(program.host.terminate().success());
}

#[test]
fn what_cannot_start_leaves_everything_as_it_is() {
    let target = Target::embedded();
    let program = Program::start_one(sorter(&target, &Value::Null, json!({})));
    let before = program.status()["servers"].clone();
    let two = One::new(&target, "Echo", json!({}));
    for (key, value, why) in [
        ("module", json!("missing"), "missing"),
        ("name", json!("Nobody"), "Nobody"),
        ("name", json!("InitFails"), "processors.two: "),
        ("dead_letter", json!(two.from), "for ever"),
    ] {
        let mut config = program.one.config.clone();
        add(&mut config, &two, "mb");
        config["processors"]["two"][key] = value;
        // Also what could be taken up alone is not.
        config["processors"]["one"]["n_threads"] = json!(5);
        let (status, told) = program.reload(&config);
        let text = told["error"].as_str().unwrap_or_default();
        assert_eq!(status, 409, "{told}");
        assert!(text.ends_with("everything stays as it is"), "{text}");
        assert!(text.contains(why), "{text}");
        assert_eq!(program.status()["servers"], before);
    }
    let lanes = program.status()["processors"][0]["lanes"].as_array().unwrap().len();
    assert_eq!(lanes, 1);
    assert!(program.host.terminate().success());
}

/// What it counts, whether it is paused and what it ran go on.
#[test]
fn a_processor_that_is_restarted_is_the_same_one() {
    let target = Target::embedded();
    let program = Program::start_one(sorter(&target, &Value::Null, json!({"rollout": {"messages": 0}})));
    let mut config = program.one.config.clone();
    config["processors"]["one"]["params"] = json!({"poison": true});
    program.take_up(&config);
    let told = || program.ask("GET /v1/processors/one").1;
    let standings = |told: &Value| {
        let all = told["generations"].as_array().unwrap().iter();
        all.map(|each| (each["number"].as_u64().unwrap(), each["standing"].to_string())).collect::<Vec<_>>()
    };
    wait_until("the second generation is kept", || {
        standings(&told()).len() == 2 && standings(&told())[0].1 == "\"stable\""
    });
    target.client().send_all(&program.one.from, &["x 000001"]).unwrap();
    wait_until("it is forwarded", || told()["messages"]["forwarded"] == 1);
    program.ask("POST /v1/processors/one/pause");
    let before = told();
    config["processors"]["one"]["n_threads"] = json!(3);
    assert_eq!(done(&program.take_up(&config)), [("one", "restarted")]);
    let after = told();
    assert_eq!(
        (&after["paused"], &after["messages"], standings(&after)),
        (&json!(true), &before["messages"], standings(&before))
    );
    // With other queues to send to it is another generation of the same component.
    let other = Target::destination("other");
    config["queues"]["other"] = json!({"server": "mb", "destination": other});
    config["processors"]["one"]["out_queue"] = json!("other");
    assert_eq!(done(&program.take_up(&config)), [("one", "restarted")]);
    let after = told();
    assert_eq!((&after["paused"], standings(&after)), (&json!(true), vec![(3, "\"stable\"".to_owned())]));
    program.ask("POST /v1/processors/one/resume");
    target.client().send_all(&program.one.from, &["x 000002"]).unwrap();
    wait_until("it comes there", || !target.drain(&other).is_empty());
    assert!(program.host.terminate().success());
}

#[test]
fn a_server_that_is_away_is_replaced_at_once() {
    let target = Target::embedded();
    let mut one = sorter(&target, &Value::Null, json!({}));
    one.config["mb_servers"]["mb"]["host_port_list"] = json!([format!("127.0.0.1:{}", free_port())]);
    let program = Program::spawn_one(one);
    wait_until("it tries", || program.host.log().contains("connecting again"));
    let mut config = program.one.config.clone();
    config["mb_servers"]["mb"] = target.server();
    assert_eq!(done(&program.take_up(&config)), [("one", "restarted")]);
    assert!(!program.host.log().contains("not all was settled in time"));
    target.client().send_all(&program.one.from, &["x 000001"]).unwrap();
    wait_until("it works", || !target.drain(&program.one.to).is_empty());
    assert!(program.host.terminate().success());
}

/// A server that takes outputs and never confirms them keeps nobody from going on elsewhere; and what changes meanwhile
/// is taken up after that.
#[test]
fn a_server_that_is_mute_can_be_replaced() {
    let (target, mute, other) = (Target::embedded(), Target::silent(), Target::embedded());
    let mut one = sorter(&target, &Value::Null, json!({"limits": {"time_ms": 500}}));
    one.config["mb_servers"]["far"] = mute.server();
    one.config["queues"]["out"]["server"] = json!("far");
    let program = Program::start_one(one);
    target.client().send_all(&program.one.from, &["x 000001", "x 000002", "x 000003"]).unwrap();
    wait_until("they are sent", || program.status()["processors"][0]["messages"]["unconfirmed"] == 3);
    let mut config = program.one.config.clone();
    config["mb_servers"]["far"] = other.server();
    thread::scope(|scope| {
        let (program, other) = (&program, config.clone());
        let first = scope.spawn(move || program.take_up(&other));
        let lane = || program.status()["processors"][0]["lanes"][0]["doing"].clone();
        wait_until("it is to go", || lane() == "ended");
        config["processors"]["one"]["n_threads"] = json!(2);
        // It is told of both, since it asked before the first was done.
        assert_eq!(done(&program.take_up(&config)), [("one", "restarted"); 2], "the second");
        assert_eq!(done(&first.join().unwrap()), [("one", "restarted")], "the first");
    });
    let mut arrived = 0;
    wait_within(LEFT_BEHIND, "they are sent to the other one", || {
        arrived += other.drain(&program.one.to).len();
        arrived == 3
    });
    wait_until("nothing is left of the mute one", || mute.handle().stats().connections == 0);
    assert!(program.host.terminate().success());
    assert_eq!(target.drain(&program.one.from).len(), 0);
}

/// Neither a pause of its configuration nor another VO brings back what was rolled back.
#[test]
fn what_was_rolled_back_does_not_come_back_with_the_configuration() {
    let (target, versions) = (Target::embedded(), Versions::new());
    let mut one = sorter(&target, &Value::Null, json!({"rollout": {"messages": 0}}));
    one.config["plugins"] = json!([versions.dir()]);
    one.config["vos"] = json!({"atlas": {}});
    let program = Program::start_one(one);
    versions.put("silent", 1);
    program.take_up(&program.one.config);
    program.ask("POST /v1/processors/one/rollback");
    let runs = || {
        let told = program.ask("GET /v1/processors/one").1;
        let all = told["generations"].as_array().unwrap().clone();
        all.into_iter().find(|each| each["standing"] == "stable").unwrap()["digest"].clone()
    };
    let good = runs();
    let mut config = program.one.config.clone();
    for (key, value) in [("enable", json!(false)), ("enable", json!(true)), ("vo", json!("atlas"))] {
        config["processors"]["one"][key] = value;
        program.take_up(&config);
    }
    assert_eq!(runs(), good);
    target.client().send_all(&program.one.from, &["x 000001"]).unwrap();
    wait_until("it works", || !target.drain(&program.one.to).is_empty());
    assert!(program.host.terminate().success());
}

/// The next configuration is read after this one, whatever the file was.
#[test]
fn a_configuration_that_is_no_file_is_refused() {
    let target = Target::embedded();
    let program = Program::start_one(sorter(&target, &Value::Null, json!({})));
    let file = program.file();
    fs::remove_file(&file).unwrap();
    assert!(Command::new("mkfifo").arg(&file).status().unwrap().success());
    let (status, told) = program.ask("POST /v1/reload");
    assert_eq!(status, 409, "{told}");
    assert!(told["error"].as_str().unwrap().contains("not a regular file"), "{told}");
    fs::remove_file(&file).unwrap();
    program.take_up(&program.one.config);
    assert!(program.host.terminate().success());
}
