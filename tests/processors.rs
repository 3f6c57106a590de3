//! The parameters of processors that choose what runs and what is told of it.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::Stdio,
};

use serde_json::{Value, json};
use stompbox::{
    app::{Drained, Prepared},
    config::Config,
};

use crate::{
    harness::process::program,
    harness::{
        client::Msg,
        guests,
        host::{Host, One},
        messages::numbered,
        target::Target,
    },
};

#[test]
fn enable_false_leaves_a_processor_out() {
    let target = Target::embedded();
    let mut one = One::new(&target, "Echo", json!({}));
    one.config["processors"]["off"] =
        json!({"enable": false, "module": "hostile", "name": "RejectAll", "in_queue": "in", "n_threads": 4});
    let host = Host::start(&one.config);
    target.client().send_all(&one.from, &numbered(200)).unwrap();
    host.wait_ended("one", 200);
    assert_eq!(host.drain(), Drained::Clean);
    assert_eq!(target.drain(&one.to).iter().map(Msg::text).collect::<Vec<_>>(), numbered(200));
}

#[test]
fn enable_false_of_a_queue_leaves_out_what_reads_it() {
    let target = Target::embedded();
    let mut one = One::new(&target, "Echo", json!({}));
    let other = Target::destination("disabled");
    one.config["queues"]["off"] = json!({"server": "mb", "destination": other, "enable": false});
    one.config["processors"]["two"] =
        json!({"module": "hostile", "name": "Echo", "in_queue": "off", "out_queue": "out"});
    target.client().send_all(&other, &numbered(3)).unwrap();
    let host = Host::start(&one.config);
    target.client().send_all(&one.from, &numbered(1)).unwrap();
    host.wait_ended("one", 1);
    assert_eq!(target.handle().queue_depth(&other).consumers, 0);
    assert_eq!(host.drain(), Drained::Clean);
    assert_eq!((target.drain(&one.to).len(), target.drain(&other).len()), (1, 3));
}

/// Runs the program on a configuration until one message of each queue has been processed; its log.
fn log_of(target: &Target, config: &Value, queues: &[&str], outputs: &str) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config.clone();
    config["plugins"] = json!([guests::plugins_dir()]);
    let file = dir.path().join("config.json");
    fs::write(&file, config.to_string()).unwrap();
    for queue in queues {
        target.client().send(queue, &[], b"a message").unwrap();
    }
    let mut host = program().args(["run", "--config"]).arg(&file).stderr(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(host.stderr.take().unwrap()).lines().map_while(Result::ok);
    let mut reader = target.client();
    reader.subscribe(outputs, "auto", &[]).unwrap();
    assert_eq!(reader.read(queues.len(), crate::harness::host::LIMIT).unwrap().len(), queues.len());
    assert!(std::process::Command::new("kill").arg(host.id().to_string()).status().unwrap().success());
    let log = lines.collect();
    assert!(host.wait().unwrap().success(), "{log:#?}");
    log
}

#[test]
fn verbose_of_a_processor_tells_each_of_its_messages() {
    let target = Target::embedded();
    let mut one = One::new(&target, "Echo", json!({"verbose": true}));
    let second = Target::destination("quiet");
    one.config["queues"]["second"] = json!({"server": "mb", "destination": second});
    one.config["processors"]["quiet"] =
        json!({"module": "hostile", "name": "Echo", "in_queue": "second", "out_queue": "out"});
    let log = log_of(&target, &one.config, &[&one.from, &second], &one.to);
    let told = |processor: &str| log.iter().any(|line| line.contains("processed") && line.contains(processor));
    assert!(told("processor=one") && !told("processor=quiet"), "{log:#?}");
}

/// The log of a host with a queue for outputs and one of which the message becomes a dead letter.
fn log_of_sending(verbose: bool) -> Vec<String> {
    let target = Target::embedded();
    let mut one = One::new(&target, "Echo", json!({}));
    let second = Target::destination("rejected");
    one.config["queues"]["rejected"] =
        json!({"server": "mb", "destination": second, "dead_letter": one.to, "verbose": verbose});
    one.config["queues"]["out"]["verbose"] = json!(verbose);
    one.config["queues"]["in"]["verbose"] = json!(false);
    one.config["processors"]["rejects"] = json!({"module": "hostile", "name": "RejectAll", "in_queue": "rejected"});
    log_of(&target, &one.config, &[&one.from, &second], &one.to)
}

/// Others send over the same connection: each SEND is told by its queue, and none of its body or headers.
#[test]
fn verbose_of_a_queue_tells_what_is_sent_to_it() {
    let (verbose, quiet) = (log_of_sending(true), log_of_sending(false));
    for queue in ["queue=out", "queue=rejected"] {
        for what in ["sending", "confirmed"] {
            let told = |log: &[String]| log.iter().filter(|line| line.contains(what) && line.contains(queue)).count();
            assert_eq!((told(&verbose), told(&quiet)), (1, 0), "{what} {queue}: {verbose:#?}");
        }
    }
    assert!(!verbose.iter().any(|line| line.contains("a message")), "{verbose:#?}");
}

/// The one lane is busy for 700 ms with each message while others fill the buffer of one: it is full for longer than
/// the two seconds in which the session looks at it twice.
fn log_of_a_full_buffer(buffer_block_sec: f64) -> Vec<String> {
    let target = Target::embedded();
    let patient = json!({"params": {"ms": 700}, "limits": {"fuel": 1_000_000_000_000_u64}});
    let mut one = One::new(&target, "Slow", patient);
    one.config["queues"]["in"]["max_buffer_len"] = json!(1);
    one.config["queues"]["in"]["buffer_block_sec"] = json!(buffer_block_sec);
    log_of(&target, &one.config, &[&*one.from; 5], &one.to)
}

#[test]
fn buffer_block_sec_is_how_often_a_full_buffer_is_told() {
    let told = |log: &[String]| log.iter().any(|line| line.contains("the buffer is full"));
    let (often, never) = (log_of_a_full_buffer(0.1), log_of_a_full_buffer(3_600.0));
    assert!(told(&often), "{often:#?}");
    assert!(!told(&never), "{never:#?}");
}

/// The log's word for lines that it did not take.
const DROPPED: &str = "log lines of the processor dropped";

/// How many bytes of log lines a guest that floods the log with one message got out.
fn flood(limits: Value) -> usize {
    let target = Target::embedded();
    let one = One::new(&target, "LogFlood", json!({"limits": limits}));
    let log = log_of(&target, &one.config, &[&one.from], &one.to);
    assert!(log.iter().any(|line| line.contains(DROPPED)), "it is told: {log:#?}");
    log.iter().filter(|line| line.contains(" guest: ")).map(String::len).sum()
}

#[test]
fn log_kb_s_is_how_much_a_processor_may_log() {
    let (little, much) = (flood(json!({"log_kb_s": 1, "log_kb": 200})), flood(json!({"log_kb_s": 100, "log_kb": 200})));
    assert!((1..20_000).contains(&little), "ten seconds' worth, not {little}");
    assert!(much > 100_000, "{much}");
}

/// What it says by rejecting each message is under the same rate.
#[test]
fn log_kb_s_bounds_the_lines_about_failures() {
    let target = Target::embedded();
    let one = One::new(&target, "RejectAll", json!({"limits": {"log_kb_s": 1}}));
    let log = log_of(&target, &one.config, &[&*one.from; 400], &one.dead);
    let lines = log.iter().filter(|line| line.contains("dead letter")).count();
    assert!((1..200).contains(&lines), "{lines} of 400");
    assert!(log.iter().any(|line| line.contains(DROPPED)), "{log:#?}");
}

/// All problems of a configuration in the directories of components.
fn problems(config: &Value) -> String {
    let loaded = Config::parse(&config.to_string(), "test.json".as_ref(), true, &|_| None).unwrap();
    Prepared::new(loaded.config, crate::harness::compile_config())
        .err()
        .map(|error| error.to_string())
        .unwrap_or_default()
}

#[test]
fn plugins_says_where_components_are() {
    let target = Target::embedded();
    let empty = tempfile::tempdir().unwrap();
    let mut config = One::new(&target, "Echo", json!({})).config;
    config["plugins"] = json!([empty.path()]);
    assert!(problems(&config).contains("processors.one.module: "), "{}", problems(&config));
    config["plugins"] = json!([empty.path(), guests::plugins_dir()]);
    assert_eq!(problems(&config), "");
}

#[test]
fn sha256_pins_the_component() {
    let target = Target::embedded();
    let pinned = |digest: &str| problems_with(&One::new(&target, "Echo", json!({"sha256": digest})).config);
    let digest = sha256(&guests::component("hostile"));
    assert_eq!(pinned(&digest), "");
    let told = pinned(&"0".repeat(64));
    assert!(told.contains("processors.one.sha256: ") && told.contains(&digest), "{told}");
}

/// What `sha256sum` says of a file.
fn sha256(file: &Path) -> String {
    let output = std::process::Command::new("sha256sum").arg(file).output().unwrap();
    String::from_utf8(output.stdout).unwrap().split(' ').next().unwrap().to_owned()
}

/// All problems of a configuration with the guests' directory.
fn problems_with(config: &Value) -> String {
    let mut config = config.clone();
    config["plugins"] = json!([guests::plugins_dir()]);
    problems(&config)
}

#[test]
fn plugins_of_a_vo_are_its_own() {
    let target = Target::embedded();
    let dir = tempfile::tempdir().unwrap();
    fs::copy(guests::component("hostile"), dir.path().join("private.wasm")).unwrap();
    let mut config = One::new(&target, "Echo", json!({"module": "private", "vo": "atlas"})).config;
    config["plugins"] = json!([guests::plugins_dir()]);
    config["vos"] = json!({"atlas": {"plugins": [dir.path()]}, "cms": {}});
    assert_eq!(problems(&config), "", "found where its VO has it");
    config["processors"]["one"]["vo"] = json!("cms");
    assert!(problems(&config).contains("processors.one.module: "), "another VO does not reach it");
}
