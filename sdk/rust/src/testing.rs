//! Runs processors natively, in an author's unit tests.
//!
//! Not part of a component. What a processor logs and counts is kept for the thread of the test.

use std::cell::RefCell;
use std::collections::BTreeMap;

use crate::log::Level;
use crate::{Context, Headers, Message, Processor};

/// One line that a processor wrote to the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// How important it is.
    pub level: Level,
    /// What it says.
    pub text: String,
    /// Its fields, in order.
    pub fields: Headers,
}

thread_local! {
    static LOGS: RefCell<Vec<LogLine>> = const { RefCell::new(Vec::new()) };
    static COUNTERS: RefCell<BTreeMap<String, u64>> = const { RefCell::new(BTreeMap::new()) };
}

/// Makes a message with this body, given for the first time; change its public fields where a test needs
/// other ones.
///
/// ```
/// use stompbox_sdk::{Message, testing};
///
/// let again = Message { attempt: 2, ..testing::message("hello") };
/// ```
pub fn message(body: impl Into<Vec<u8>>) -> Message {
    Message {
        id: "test-1".to_owned(),
        queue: "in".to_owned(),
        subscription: "1".to_owned(),
        destination: "/queue/in".to_owned(),
        headers: Vec::new(),
        body: body.into(),
        attempt: 1,
        redelivered: false,
        received_ms: 0,
        extra: Vec::new(),
    }
}

/// Makes a context for a processor of this name with these `params` (JSON) and the one out queue `out`.
#[must_use]
pub fn context(name: &str, params: &str) -> Context {
    Context {
        processor: "test".to_owned(),
        name: name.to_owned(),
        vo: String::new(),
        generation: 1,
        out_queues: vec!["out".to_owned()],
        params: params.to_owned(),
        extra: Vec::new(),
    }
}

/// Initializes a processor with these `params` (JSON; `null` for none).
///
/// # Errors
/// What `initialize` answers.
pub fn start<P: Processor>(params: &str) -> Result<P, String> {
    P::initialize(&context(P::NAME, params))
}

/// Takes all lines that were logged on this thread since the last call.
#[must_use]
pub fn take_logs() -> Vec<LogLine> {
    LOGS.take()
}

/// Takes all that was counted on this thread since the last call.
#[must_use]
pub fn take_counters() -> BTreeMap<String, u64> {
    COUNTERS.take()
}

pub(crate) fn record_log(level: Level, text: &str, fields: &Headers) {
    let line = LogLine { level, text: text.to_owned(), fields: fields.clone() };
    LOGS.with_borrow_mut(|logs| logs.push(line));
}

pub(crate) fn record_counter(name: &str, add: u64) {
    COUNTERS.with_borrow_mut(|counters| *counters.entry(name.to_owned()).or_default() += add);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{counter, log};

    #[test]
    fn what_is_logged_and_counted_is_captured() {
        let found = 3;
        log::info!("found {found}");
        log::warn!(task = 7, status = "done"; "odd {}", found);
        counter("odd", 2);
        counter("odd", 1);
        let fields = vec![("task".into(), "7".into()), ("status".into(), "done".into())];
        assert_eq!(
            take_logs(),
            [
                LogLine { level: Level::Info, text: "found 3".into(), fields: vec![] },
                LogLine { level: Level::Warn, text: "odd 3".into(), fields },
            ]
        );
        assert_eq!(take_counters(), BTreeMap::from([("odd".into(), 3)]));
        assert!(take_logs().is_empty());
    }
}
