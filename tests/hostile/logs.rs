//! What an operator reads of all this, and what must not reach his terminal.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{BufRead, BufReader},
    process::{Child, Stdio},
};

use serde_json::{Value, json};

use crate::harness::{client::Client, guests, process, target::Target};

/// Processors by their `name`, and the code under which the one message of each ends.
const CODES: [(&str, &str); 7] = [
    ("Spin", "fuel"),
    ("Sleep", "deadline"),
    ("MemoryBomb", "memory"),
    ("StackOverflow", "trap"),
    ("OutputFlood", "output-limit"),
    ("BadHeader", "output-invalid"),
    ("RejectAll", "never"),
];

/// One processor for each of the classes, between queues of its own.
fn config(target: &Target, classes: &BTreeMap<&str, String>) -> Value {
    let (mut queues, mut processors) = (json!({"out": {"server": "mb", "destination": "/queue/out"}}), json!({}));
    for (class, from) in classes {
        queues[*class] = json!({"server": "mb", "destination": from});
        processors[*class] = json!({
            "module": "hostile", "name": class, "in_queue": class, "out_queue": "out",
            "limits": {"time_ms": 1_000}, "retry": {"max_attempts": 1}
        });
    }
    json!({
        "plugins": [guests::plugins_dir()], "mb_servers": {"mb": target.server()},
        "queues": queues, "processors": processors
    })
}

/// A host in a process of its own, and its log.
struct Logged {
    child: Child,
    lines: Box<dyn Iterator<Item = Value>>,
}

impl Logged {
    fn start(config: &Value) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.json");
        fs::write(&file, config.to_string()).unwrap();
        let mut command = process::program();
        command.args(["run", "--log-format", "json", "--config"]).arg(&file);
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let parse = |line: String| serde_json::from_str(&line).unwrap_or_else(|_| panic!("not one line: {line:?}"));
        let mut lines: Box<dyn Iterator<Item = Value>> = Box::new(lines.map(parse));
        lines.find(|line| said(line).contains("every queue is subscribed")).expect("the host subscribes");
        Self { child, lines }
    }
}

/// A test that fails leaves nothing behind.
impl Drop for Logged {
    fn drop(&mut self) {
        let _ = self.child.kill();
    }
}

fn said(line: &Value) -> &str {
    line["message"].as_str().unwrap_or_default()
}

#[test]
fn every_code_stands_in_the_log_with_its_processor() {
    let target = Target::embedded();
    let names = CODES.iter().map(|(class, _)| *class).chain(["SpinTerminate", "InitFails"]);
    let classes: BTreeMap<&str, String> = names.map(|class| (class, Target::destination(class))).collect();
    let mut config = config(&target, &classes);
    config["processors"]["Spin"]["limits"] = json!({"fuel": 50_000_000});
    let mut host = Logged::start(&config);
    let mut client: Client = target.client();
    for from in classes.values() {
        client.send(from, &[], b"x").unwrap();
    }
    let mut expected: BTreeSet<[String; 2]> =
        CODES.into_iter().map(|(class, code)| [class.to_owned(), code.to_owned()]).collect();
    let mut refused = false;
    while !(expected.is_empty() && refused) {
        let line = host.lines.next().unwrap_or_else(|| panic!("the log ends without {expected:?}"));
        let processor = line["processor"].as_str().unwrap_or_default();
        if said(&line) == "dead letter" {
            assert!(expected.remove(&[processor, line["code"].as_str().unwrap()].map(str::to_owned)), "{line}");
            assert!(!line["detail"].as_str().unwrap().is_empty(), "{line}");
        }
        refused |=
            processor == "InitFails" && line["error"].as_str().is_some_and(|it| it.contains("never initializes"));
    }
    process::terminate(&host.child);
    let farewell = host.lines.find(|line| said(line) == "terminate failed").expect("the farewell is in the log");
    assert_eq!(farewell["processor"], "SpinTerminate", "{farewell}");
    assert!(farewell["error"].as_str().unwrap().starts_with("the component "), "{farewell}");
    assert_eq!(host.lines.by_ref().filter(|line| said(line) == "dead letter").count(), 0);
    assert!(host.child.wait().unwrap().success());
}

#[test]
fn what_a_guest_logs_is_one_line_without_escapes() {
    let target = Target::embedded();
    let classes = BTreeMap::from([("LogFlood", Target::destination("LogFlood"))]);
    let mut config = config(&target, &classes);
    config["processors"]["LogFlood"]["limits"] = json!({});
    let mut host = Logged::start(&config);
    target.client().send(&classes["LogFlood"], &[], b"x").unwrap();
    let line = host.lines.find(|line| line["target"] == "guest").expect("the guest's first line");
    assert!(said(&line).starts_with(r"flood\n\u{1b}[2Jflood\n") && !said(&line).contains(char::is_control), "{line}");
    process::terminate(&host.child);
    let rest: Vec<Value> = host.lines.by_ref().collect();
    let bytes: usize = rest.iter().filter(|line| line["target"] == "guest").map(|line| said(line).len()).sum();
    assert!(bytes <= 64 << 10, "{bytes} bytes of one message");
    assert!(host.child.wait().unwrap().success());
}
