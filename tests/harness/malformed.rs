//! Messages that should not exist and do: what must become of each in the `status_report` processor.

use super::messages::{Case, Expected, Expected::*, status_messages};

/// The table: what is wrong, a body, and what must become of it.
const TABLE: &[(&str, &[u8], Expected)] = &[
    ("no body", b"", Rejected),
    ("only white space", b" \n", Rejected),
    ("not JSON", b"hello", Rejected),
    ("single quotes, as Python prints a dictionary", b"{'msg_type': 'task_status', 'status': 'done'}", Rejected),
    ("a comma too many", br#"{"msg_type":"task_status","taskid":5,"status":"done",}"#, Rejected),
    ("a second value", br#"{"msg_type":"task_status","taskid":5,"status":"done"} {}"#, Rejected),
    ("NaN", br#"{"msg_type":"task_status","taskid":5,"status":"done","timestamp":NaN}"#, Rejected),
    ("invalid UTF-8 in a text", b"{\"msg_type\":\"task_status\",\"taskid\":5,\"status\":\"done\xff\"}", Rejected),
    ("UTF-16", b"\xff\xfe{\0\"\0m\0\"\0:\x001\0}\0", Rejected),
    ("a NUL in the middle", b"{\"msg_type\":\"task_status\",\0\"taskid\":5,\"status\":\"done\"}", Rejected),
    ("compressed", b"\x1f\x8b\x08\0\0\0\0\0\0\x03\xabV*.I,)-\x06\0", Rejected),
    ("an array", br#"["task_status",5,"done"]"#, Rejected),
    ("an array of messages", br#"[{"msg_type":"task_status","taskid":5,"status":"done"}]"#, Rejected),
    ("a number", b"5123456789", Rejected),
    ("a text", br#""task_status""#, Rejected),
    ("null", b"null", Rejected),
    ("true", b"true", Rejected),
    ("an empty object", b"{}", Rejected),
    ("no msg_type", br#"{"taskid":5,"status":"done","timestamp":1}"#, Rejected),
    ("msg_type is null", br#"{"msg_type":null,"taskid":5,"status":"done"}"#, Rejected),
    ("msg_type is an array", br#"{"msg_type":["task_status"],"taskid":5,"status":"done"}"#, Rejected),
    ("no status in a task", br#"{"msg_type":"task_status","taskid":5,"timestamp":1}"#, Rejected),
    ("no status in a job", br#"{"msg_type":"job_status","jobid":7,"taskid":5}"#, Rejected),
    ("status is null", br#"{"msg_type":"job_status","jobid":7,"taskid":5,"status":null}"#, Rejected),
    ("status is a number", br#"{"msg_type":"task_status","taskid":5,"status":3}"#, Rejected),
    ("status is an object", br#"{"msg_type":"task_status","taskid":5,"status":{"is":"done"}}"#, Rejected),
    ("no taskid in a task", br#"{"msg_type":"task_status","status":"done","timestamp":1}"#, Rejected),
    ("taskid is a text", br#"{"msg_type":"task_status","taskid":"5","status":"done"}"#, Rejected),
    ("no jobid in a job", br#"{"msg_type":"job_status","taskid":5,"status":"finished"}"#, Rejected),
    ("another msg_type", br#"{"msg_type":"get_job","taskid":5,"jobid":7,"timestamp":1}"#, Filtered),
    ("a message of iDDS", br#"{"msg_type":"file_stagein","request_id":551,"workload_id":1,"files":[]}"#, Filtered),
    ("an unknown status", br#"{"msg_type":"task_status","taskid":5,"status":"dreaming"}"#, Filtered),
    ("a status in capitals", br#"{"msg_type":"task_status","taskid":5,"status":"DONE"}"#, Filtered),
    ("a job's status in a task", br#"{"msg_type":"task_status","taskid":5,"status":"activated"}"#, Filtered),
    ("a task's status in a job", br#"{"msg_type":"job_status","jobid":7,"taskid":5,"status":"done"}"#, Filtered),
    ("odd white space", b" {\n\t\"msg_type\" : \"task_status\" ,\r\n \"taskid\":5, \"status\":\"done\"}\n", Forwarded),
    ("unknown fields", br#"{"msg_type":"task_status","taskid":5,"status":"done","x":{"y":[1,null]}}"#, Forwarded),
    ("escaped letters", br#"{"msg_type":"task\u005fstatus","taskid":5,"status":"d\u006fne"}"#, Forwarded),
];

/// `n` of them: the table, again and again, each followed by a good message cut at another place.
pub fn malformed(n: usize) -> Vec<Case> {
    let whole = status_messages(n, 0);
    let cut = whole.iter().enumerate().map(|(index, body)| {
        let at = 1 + (index * 37) % (body.len() - 1);
        let end = (0..=at).rev().find(|at| body.is_char_boundary(*at)).unwrap_or(1);
        Case::new("a truncated message", &body.as_bytes()[..end], Rejected)
    });
    let wrong = TABLE.iter().cycle().map(|(name, body, expected)| Case::new(name, *body, *expected));
    wrong.zip(cut).flat_map(|(wrong, cut)| [wrong, cut]).take(n).collect()
}

#[test]
fn the_expectations_agree_with_json() {
    for case in malformed(10 * TABLE.len()) {
        let object = serde_json::from_slice::<serde_json::Value>(&case.body).is_ok_and(|body| body.is_object());
        assert!(object || case.expected == Rejected, "{}: {}", case.name, case.body.escape_ascii());
        assert!(!object || case.name != "a truncated message", "{}", case.body.escape_ascii());
    }
}
