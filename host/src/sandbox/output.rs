//! Checks what a guest answered, and turns it into an [`Outcome`].
//!
//! Called by [`super::instance`] after each call. Everything here comes from an untrusted guest: every
//! number is bounded, every name is checked, and every refusal names what it refused. It must never
//! repair an output: a wrong one is the author's to mend.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use super::{
    bindings::stompbox::processor::types::{Failure, Output as GuestOutput, Reason as GuestReason},
    limits::Limits,
    text::{nearest, one_line},
};
use crate::{
    outcome::{CallError, Outcome, Output, Reason},
    stomp::{is_reserved, wrong_value},
};

/// Headers of one output.
const MAX_HEADERS: usize = 64;
/// Bytes of a header's name, and of a reason's code.
const MAX_NAME_BYTES: usize = 64;
/// Bytes of a header's value.
const MAX_VALUE_BYTES: usize = 1 << 10;
/// Bytes of a reason's detail.
const MAX_DETAIL_BYTES: usize = 1 << 10;
/// The longest delay that is handed on; the host clamps it further.
const MAX_DELAY: Duration = Duration::from_secs(7 * 86_400);

/// Headers that belong to the host or to the broker, in lower case.
const REFUSED: [&str; 12] = [
    "destination",
    "receipt",
    "transaction",
    "content-length",
    "subscription",
    "ack",
    "id",
    "message-id",
    "login",
    "passcode",
    "host",
    "selector",
];

/// What a guest answered.
pub(crate) type Answer = Result<Vec<GuestOutput>, Failure>;

/// An answer that passed: the decision, and how many outputs have nowhere to go because the processor
/// has no `out_queue` (PanDA ignores what such a plugin returns).
#[derive(Debug, PartialEq)]
pub(crate) struct Checked {
    pub(crate) outcome: Outcome,
    pub(crate) unsent: u32,
}

/// What a processor may send.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules<'a> {
    /// How much.
    pub(crate) limits: &'a Limits,
    /// Where to.
    pub(crate) out_queues: &'a [Arc<str>],
    /// Where an output goes that names no queue.
    pub(crate) default_queue: Option<&'a Arc<str>>,
}

/// Checks an answer against the limits and grants of its processor.
pub(crate) fn check(answer: Answer, rules: Rules<'_>) -> Result<Checked, CallError> {
    match answer {
        Ok(outputs) => check_outputs(outputs, rules),
        Err(failure) => Ok(Checked { outcome: failed(failure), unsent: 0 }),
    }
}

fn failed(failure: Failure) -> Outcome {
    match failure {
        Failure::Retry(retry) => Outcome::Retry {
            reason: reason(&retry.reason),
            delay: retry.delay_ms.map(|ms| Duration::from_millis(ms).min(MAX_DELAY)),
        },
        Failure::Reject(why) => Outcome::Reject(reason(&why)),
        Failure::Unavailable(why) => Outcome::Unavailable(reason(&why)),
        Failure::Other(text) => {
            let why = Reason { code: "other".to_owned(), detail: detail(&text) };
            Outcome::Retry { reason: why, delay: None }
        }
    }
}

fn reason(guest: &GuestReason) -> Reason {
    Reason { code: code(&guest.code), detail: detail(&guest.detail) }
}

/// Makes a word of `[a-z0-9-]` out of any text; an empty one becomes `other`.
fn code(text: &str) -> String {
    let code: String = text
        .chars()
        .take(MAX_NAME_BYTES)
        .map(|c| c.to_ascii_lowercase())
        .map(|c| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '-' })
        .collect();
    if code.is_empty() { "other".to_owned() } else { code }
}

fn detail(text: &str) -> String {
    one_line(text, MAX_DETAIL_BYTES).into_owned()
}

fn check_outputs(outputs: Vec<GuestOutput>, rules: Rules<'_>) -> Result<Checked, CallError> {
    let (count, limit) = (outputs.len(), rules.limits.outputs);
    if count > limit {
        return Err(CallError::OutputLimit(format!("{count} outputs, the limit is {limit}")));
    }
    let (bytes, limit) = (outputs.iter().map(size).fold(0, usize::saturating_add), rules.limits.output_bytes);
    if bytes > limit {
        let detail = format!("{bytes} bytes of outputs, the limit is {limit}");
        return Err(CallError::OutputLimit(detail));
    }
    let mut checked = Vec::with_capacity(count);
    let mut unsent = 0_u32;
    for (index, output) in outputs.into_iter().enumerate() {
        let invalid = |what: String| CallError::OutputInvalid(format!("output {index}: {what}"));
        check_headers(&output.headers).map_err(invalid)?;
        match queue(output.queue.as_deref(), rules).map_err(invalid)? {
            Some(queue) => {
                let body = Bytes::from(output.body);
                checked.push(Output { queue, headers: output.headers, body });
            }
            None => unsent = unsent.saturating_add(1),
        }
    }
    Ok(Checked { outcome: Outcome::Ok(checked), unsent })
}

/// The bytes of an output, headers included.
fn size(output: &GuestOutput) -> usize {
    output
        .headers
        .iter()
        .fold(output.body.len(), |sum, (name, value)| sum.saturating_add(name.len()).saturating_add(value.len()))
}

/// Finds the queue of an output; none where it names none and the processor has no `out_queue`.
fn queue(name: Option<&str>, rules: Rules<'_>) -> Result<Option<Arc<str>>, String> {
    let Some(name) = name else { return Ok(rules.default_queue.cloned()) };
    if let Some(queue) = rules.out_queues.iter().find(|queue| &***queue == name) {
        return Ok(Some(Arc::clone(queue)));
    }
    let known = rules.out_queues.iter().map(|queue| &**queue);
    let hint = nearest(name, known).map(|n| format!("; did you mean `{n}`?")).unwrap_or_default();
    let name = one_line(name, 100);
    Err(format!("queue `{name}` is not one that this processor may send to{hint}"))
}

fn check_headers(headers: &[(String, String)]) -> Result<(), String> {
    if headers.len() > MAX_HEADERS {
        return Err(format!("{} headers, the limit is {MAX_HEADERS}", headers.len()));
    }
    headers.iter().try_for_each(|(name, value)| check_header(name, value))
}

fn check_header(name: &str, value: &str) -> Result<(), String> {
    let shown = || one_line(name, 100);
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    if name.is_empty() || name.len() > MAX_NAME_BYTES || !name.bytes().all(legal) {
        return Err(format!("header name `{}` is not [A-Za-z0-9_.-]{{1,64}}", shown()));
    }
    if is_refused(name) || is_reserved(name, value) {
        return Err(format!("header `{name}` belongs to the host"));
    }
    if value.len() > MAX_VALUE_BYTES {
        return Err(format!("header `{name}` has {} bytes, the limit is {MAX_VALUE_BYTES}", value.len()));
    }
    if value.contains(char::is_control) {
        return Err(format!("header `{name}` has a control character"));
    }
    match wrong_value(name, value) {
        Some(wrong) => Err(format!("header `{name}` {wrong}, not `{}`", one_line(value, 100))),
        None => Ok(()),
    }
}

fn is_refused(name: &str) -> bool {
    const OURS: &str = "stompbox_";
    REFUSED.iter().any(|refused| name.eq_ignore_ascii_case(refused))
        || name.get(..OURS.len()).is_some_and(|start| start.eq_ignore_ascii_case(OURS))
}

#[cfg(test)]
mod tests;
