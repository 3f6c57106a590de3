//! The program itself, driven by its page for operators: what it does is in the audit log, and a drain ends it.

use serde_json::{Value, json};

use super::config::Program;
use crate::harness::{host::wait_until, messages::texts, target::Target, versions::Versions};

fn program(target: &Target, versions: &Versions, rollout: Value) -> Program {
    Program::start_on(target, versions.dir(), json!({"rollout": rollout}))
}

/// What happened to the processor so far, and who wanted it.
fn entries(program: &Program) -> Vec<(String, String)> {
    let (_, told) = program.ask("GET /v1/audit");
    let text = |entry: &Value, key: &str| entry[key].as_str().unwrap_or_default().to_owned();
    told["entries"].as_array().unwrap().iter().map(|entry| (text(entry, "what"), text(entry, "who"))).collect()
}

fn has(program: &Program, what: &str, who: &str) -> bool {
    entries(program).contains(&(what.to_owned(), who.to_owned()))
}

#[test]
fn a_drain_by_an_operator_settles_everything_and_ends_the_program() {
    let (target, versions) = (Target::embedded(), Versions::new());
    let program = program(&target, &versions, json!({}));
    let bodies: Vec<String> = (0..500).map(|number| format!("x {number:05}1")).collect();
    target.client().send_all(&program.one.from, &bodies).unwrap();
    wait_until("it is at work", || target.handle().queue_depth(&program.one.to).waiting > 0);
    assert_eq!(program.ask("POST /v1/drain").0, 200);
    let one = program.end_with(0);
    // What it had not begun it gave back: that is redelivered, and no output of it is there.
    let done = texts(&target.drain(&one.to)).into_iter().map(|text| text.trim_end_matches("/0").to_owned());
    let mut all: Vec<String> = done.chain(texts(&target.drain(&one.from))).collect();
    all.sort();
    assert_eq!(all, bodies, "each is done, or with the broker");
}

#[test]
fn the_audit_log_tells_each_change_and_who_wanted_it() {
    let (target, versions) = (Target::embedded(), Versions::new());
    let program = program(&target, &versions, json!({"messages": 20}));
    let mut client = target.client();
    // By itself, because the file is another one.
    versions.put("good", 1);
    wait_until("on trial", || has(&program, "loaded", "file") && has(&program, "on-trial", "file"));
    let bodies: Vec<String> = (0..50).map(|number| format!("x {number:05}1")).collect();
    client.send_all(&program.one.from, &bodies).unwrap();
    wait_until("kept", || has(&program, "stable", "trial"));
    versions.put_bytes(b"no component");
    wait_until("refused", || has(&program, "refused", "file"));
    versions.put("traps", 1);
    assert_eq!(program.ask("POST /v1/processors/one/reload").0, 200);
    wait_until("on trial", || has(&program, "on-trial", "admin"));
    let tenths: Vec<String> = (0..100).map(|number| format!("x {number:05}0")).collect();
    client.send_all(&program.one.from, &tenths).unwrap();
    wait_until("rolled back by itself", || has(&program, "rolled-back", "trial"));
    assert_eq!(program.ask("POST /v1/processors/one/rollback").0, 200);
    assert!(has(&program, "rolled-back", "admin"), "{:?}", entries(&program));
    program.ask("POST /v1/processors/one/pause");
    program.ask("POST /v1/processors/one/resume");
    assert!(has(&program, "paused", "admin") && has(&program, "resumed", "admin"));
    assert_eq!(program.ask("POST /v1/drain").0, 200);
    program.end_with(0);
}
