//! The decision table: which messages are reported, which are filtered, which are invalid.
//!
//! Pure: called once for each message, decides on the body alone, logs and sends nothing.

use serde::Deserialize;
use stompbox_sdk::{Error, Message};

use crate::field::Field;

/// The statuses of a task that are reported.
const TASK: [&str; 12] = [
    "defined", "ready", "scouting", "pending", "paused", "running", "prepared", "done", "finished", "failed", "broken",
    "aborted",
];

/// The statuses of a job that are reported.
const JOB: [&str; 11] = [
    "pending",
    "defined",
    "assigned",
    "activated",
    "starting",
    "running",
    "throttled",
    "finished",
    "failed",
    "cancelled",
    "closed",
];

/// What the table says of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// A status that is reported.
    Report,
    /// A task or job status that is not reported.
    Filter,
    /// A message of another type, which is named here.
    Unknown(String),
}

/// The fields that the table needs; all others are ignored.
#[derive(Deserialize)]
struct Status<'a> {
    #[serde(borrow, default)]
    msg_type: Field<'a>,
    #[serde(borrow, default)]
    status: Field<'a>,
    #[serde(borrow, default)]
    taskid: Field<'a>,
    #[serde(borrow, default)]
    jobid: Field<'a>,
}

/// Decides what becomes of a message.
///
/// # Errors
/// A rejection that names what is wrong with the body: `invalid-json` if it is not JSON, else
/// `invalid-message`.
pub fn judge(message: &Message) -> Result<Verdict, Error> {
    let status = object(message)?;
    match text("a message", "msg_type", &status.msg_type)? {
        "task_status" => task(&status),
        "job_status" => job(&status),
        other => Ok(Verdict::Unknown(other.to_owned())),
    }
}

/// Reads a body that must be an object: the derived parser alone would take an array for one.
fn object(message: &Message) -> Result<Status<'_>, Error> {
    if message.body.trim_ascii_start().first() == Some(&b'{') {
        return Ok(message.json()?);
    }
    let found: Field = message.json()?;
    Err(invalid(format!("the message must be a JSON object, found {found}")))
}

fn task(status: &Status) -> Result<Verdict, Error> {
    if status.taskid != Field::Integer {
        return Err(wrong("a task_status", "taskid", "an integer", &status.taskid));
    }
    Ok(listed(&TASK, text("a task_status", "status", &status.status)?))
}

fn job(status: &Status) -> Result<Verdict, Error> {
    if status.jobid != Field::Integer {
        return Err(wrong("a job_status", "jobid", "an integer", &status.jobid));
    }
    match &status.taskid {
        Field::Integer | Field::Null => {}
        // The sender's database layer writes this text for a job without a task.
        Field::Text(none) if none == "NULL" => {}
        found => return Err(wrong("a job_status", "taskid", "an integer or null", found)),
    }
    Ok(listed(&JOB, text("a job_status", "status", &status.status)?))
}

fn listed(reported: &[&str], status: &str) -> Verdict {
    if reported.contains(&status) { Verdict::Report } else { Verdict::Filter }
}

fn text<'a>(kind: &str, name: &str, field: &'a Field) -> Result<&'a str, Error> {
    match field {
        Field::Text(text) => Ok(text),
        found => Err(wrong(kind, name, "text", found)),
    }
}

fn wrong(kind: &str, name: &str, expected: &str, found: &Field) -> Error {
    invalid(format!("the field `{name}` of {kind} must be {expected}, found: {found}"))
}

fn invalid(detail: String) -> Error {
    Error::reject("invalid-message", detail)
}

#[cfg(test)]
mod tests;
