//! Every row of the table, and every kind of bad input.

use stompbox_sdk::{Error, testing};

use super::{Verdict, judge};

fn verdict(body: &str) -> Verdict {
    judge(&testing::message(body)).unwrap()
}

fn rejection(body: &[u8]) -> (String, String) {
    match judge(&testing::message(body)) {
        Err(Error::Reject(reason)) => (reason.code, reason.detail),
        other => panic!("{other:?}"),
    }
}

/// Expects `invalid-message` with this detail.
#[track_caller]
fn invalid(body: &str, detail: &str) {
    assert_eq!(rejection(body.as_bytes()), ("invalid-message".to_owned(), detail.to_owned()));
}

fn task(status: &str) -> Verdict {
    verdict(&format!(r#"{{"msg_type":"task_status","taskid":5,"status":"{status}","timestamp":1718000000}}"#))
}

fn job(status: &str) -> Verdict {
    verdict(&format!(r#"{{"msg_type":"job_status","jobid":7,"taskid":5,"status":"{status}","timestamp":1}}"#))
}

#[test]
fn task_statuses() {
    let reported = "defined ready scouting pending paused running prepared done finished failed broken aborted";
    for status in reported.split(' ') {
        assert_eq!(task(status), Verdict::Report, "{status}");
    }
    for status in ["exhausted", "registered", "assigning", "topreprocess", "activated", "Done", " done", ""] {
        assert_eq!(task(status), Verdict::Filter, "{status}");
    }
}

#[test]
fn job_statuses() {
    let reported = "pending defined assigned activated starting running throttled finished failed cancelled closed";
    for status in reported.split(' ') {
        assert_eq!(job(status), Verdict::Report, "{status}");
    }
    for status in ["sent", "holding", "merging", "transferring", "ready", "done", "FINISHED", ""] {
        assert_eq!(job(status), Verdict::Filter, "{status}");
    }
}

#[test]
fn a_real_job_message() {
    let body = r#"{"computingsite":"CERN-PROD","inputs":["EVNT.1._000001.pool.root"],"piloterrorcode":0,
        "piloterrordiag":null,"exeerrorcode":"NULL","job_hs06sec":1.5e3,"msg_type":"job_status",
        "jobid":5123456789,"taskid":29999999,"status":"finished","timestamp":1718000000}"#;
    assert_eq!(verdict(body), Verdict::Report);
    assert_eq!(verdict(&body.replace("\"CERN-PROD\"", "null").replace("29999999", "null")), Verdict::Report);
}

#[test]
fn a_job_without_a_task() {
    for taskid in ["null", "\"NULL\""] {
        let body = format!(r#"{{"msg_type":"job_status","jobid":7,"taskid":{taskid},"status":"closed"}}"#);
        assert_eq!(verdict(&body), Verdict::Report, "{taskid}");
    }
}

#[test]
fn an_unknown_type_needs_no_other_field() {
    for body in [r#"{"msg_type":"get_job"}"#, r#"{"msg_type":"get_job","status":[1],"taskid":{"a":null}}"#] {
        assert_eq!(verdict(body), Verdict::Unknown("get_job".to_owned()));
    }
    assert_eq!(verdict(r#"{"msg_type":""}"#), Verdict::Unknown(String::new()));
}

#[test]
fn escapes_and_white_space_are_read() {
    let body = "\n\t {\"msg_type\":\"task\\u005fstatus\", \"taskid\":-1, \"status\":\"d\\u006fne\"} ";
    assert_eq!(verdict(body), Verdict::Report);
}

#[test]
fn what_is_not_json() {
    let cases: [&[u8]; 7] = [b"", b" ", b"hello", b"{", b"{\"msg_type\":\"task_status\",}", b"{} x", b"[1"];
    for body in cases {
        assert_eq!(rejection(body).0, "invalid-json", "{}", body.escape_ascii());
    }
    let body = b"{\"msg_type\":\"task_status\",\"taskid\":5,\"status\":\"\xff\"}";
    assert_eq!(rejection(body).0, "invalid-json");
    let (_, detail) = rejection(b"{'msg_type': 1}");
    assert_eq!(detail, "key must be a string at line 1 column 2; the body starts with: {'msg_type': 1}");
}

#[test]
fn what_is_not_an_object() {
    invalid(r#"["task_status", "done", 5, 7]"#, "the message must be a JSON object, found an array");
    invalid("null", "the message must be a JSON object, found null");
    invalid("3", "the message must be a JSON object, found an integer");
    invalid("true", "the message must be a JSON object, found a boolean");
    invalid("\"done\"", "the message must be a JSON object, found the text \"done\"");
}

#[test]
fn a_bad_msg_type() {
    let detail = |found| format!("the field `msg_type` of a message must be text, found: {found}");
    invalid("{}", &detail("missing"));
    invalid(r#"{"msg_type":null}"#, &detail("null"));
    invalid(r#"{"msg_type":3,"taskid":5,"status":"done"}"#, &detail("an integer"));
    invalid(r#"{"msg_type":["task_status"]}"#, &detail("an array"));
}

#[test]
fn a_bad_task() {
    let taskid = |found| format!("the field `taskid` of a task_status must be an integer, found: {found}");
    invalid(r#"{"msg_type":"task_status","status":"done"}"#, &taskid("missing"));
    invalid(r#"{"msg_type":"task_status","taskid":null,"status":"done"}"#, &taskid("null"));
    invalid(r#"{"msg_type":"task_status","taskid":"5","status":"done"}"#, &taskid("the text \"5\""));
    invalid(
        r#"{"msg_type":"task_status","taskid":5.5,"status":"done"}"#,
        &taskid("a number that is no 64-bit integer"),
    );
    let status = |found| format!("the field `status` of a task_status must be text, found: {found}");
    invalid(r#"{"msg_type":"task_status","taskid":5}"#, &status("missing"));
    invalid(r#"{"msg_type":"task_status","taskid":5,"status":null}"#, &status("null"));
    invalid(r#"{"msg_type":"task_status","taskid":5,"status":{"is":"done"}}"#, &status("an object"));
}

#[test]
fn a_bad_job() {
    let jobid = |found| format!("the field `jobid` of a job_status must be an integer, found: {found}");
    invalid(r#"{"msg_type":"job_status","taskid":5,"status":"done"}"#, &jobid("missing"));
    invalid(r#"{"msg_type":"job_status","jobid":null,"taskid":5,"status":"done"}"#, &jobid("null"));
    invalid(r#"{"msg_type":"job_status","jobid":false,"taskid":5,"status":"done"}"#, &jobid("a boolean"));
    let taskid = |found| format!("the field `taskid` of a job_status must be an integer or null, found: {found}");
    invalid(r#"{"msg_type":"job_status","jobid":7,"status":"closed"}"#, &taskid("missing"));
    invalid(r#"{"msg_type":"job_status","jobid":7,"taskid":"5","status":"closed"}"#, &taskid("the text \"5\""));
    let status = "the field `status` of a job_status must be text, found: missing";
    invalid(r#"{"msg_type":"job_status","jobid":7,"taskid":5}"#, status);
}

#[test]
fn a_field_that_stands_there_twice() {
    let (code, detail) = rejection(br#"{"msg_type":"task_status","taskid":5,"status":"done","status":"x"}"#);
    assert_eq!(code, "invalid-message");
    assert!(detail.contains("duplicate field `status` at line 1 column 61"), "{detail}");
}

#[test]
fn a_long_wrong_text_is_cut() {
    let body = format!(r#"{{"msg_type":"task_status","taskid":"{}","status":"done"}}"#, "9".repeat(5_000));
    let found = format!("the text \"{}\"...", "9".repeat(40));
    invalid(&body, &format!("the field `taskid` of a task_status must be an integer, found: {found}"));
}
