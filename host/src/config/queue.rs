//! The queues: what is read from and written to on a broker.
//!
//! Read by [`super::Config::parse`] after the servers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::fields::{Fields, must_be};
use super::retry;
use super::server::Server;
use crate::client::AckMode;
use crate::retry::RetryPolicy;
use crate::stomp::wrong_value;

/// A destination on a broker and how it is read and written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queue {
    /// The key in `queues`.
    pub name: Arc<str>,
    /// The key of its broker in `mb_servers`.
    pub server: Arc<str>,
    /// The destination as the user wrote it, such as `/queue/jedi_jobtaskstatus`.
    pub destination: String,
    /// Whether it is used at all.
    pub enable: bool,
    /// The ack header of SUBSCRIBE.
    pub ack_mode: AckMode,
    /// Deliveries that may wait in the host, at least 1.
    pub max_buffer_len: usize,
    /// How often a full buffer is reported, at least 0.1 s.
    pub buffer_block: Duration,
    /// Whether several outputs of one message are sent in a transaction, where the broker can.
    pub use_transaction: bool,
    /// Whether to log the details; true as well when the server is verbose.
    pub verbose: bool,
    /// A destination on the same server for messages that cannot be processed.
    pub dead_letter: Option<String>,
    /// Retry policy of the processors that read it and have none of their own.
    pub retry: Option<RetryPolicy>,
    /// Whether outputs survive a restart of the broker.
    pub persistent: bool,
    /// The selector header of SUBSCRIBE.
    pub selector: Option<String>,
    /// The name of a durable subscription.
    pub subscription: Option<String>,
    /// Further headers of SUBSCRIBE.
    pub headers: Vec<(String, String)>,
    /// Further headers of SEND.
    pub send_headers: Vec<(String, String)>,
    /// A header: messages with equal values stay in order.
    pub order_by: Option<String>,
    /// Bytes of deliveries that may wait in the host.
    pub max_buffer_bytes: usize,
}

impl Queue {
    /// The headers of the host for messages to it, written before any others: `persistent`, and `send_headers`.
    #[must_use]
    pub fn headers_to_send(&self) -> Vec<(String, String)> {
        let persistent = ("persistent".to_owned(), self.persistent.to_string());
        std::iter::once(persistent).chain(self.send_headers.iter().cloned()).collect()
    }

    /// Whether the broker keeps nothing of it for absent readers: a topic, or an exchange of RabbitMQ, without a
    /// durable subscription.
    #[must_use]
    pub fn is_fleeting(&self) -> bool {
        let fleeting = ["/topic/", "/exchange/"].iter().any(|prefix| self.destination.starts_with(prefix));
        fleeting && self.subscription.is_none()
    }

    /// The mode of acknowledgement in effect. What cannot be given back is taken as in mode auto: it is ours
    /// alone from the moment it is read.
    #[must_use]
    pub fn ack_mode_in_effect(&self) -> AckMode {
        if self.is_fleeting() { AckMode::Auto } else { self.ack_mode }
    }

    pub(super) fn read(name: Arc<str>, fields: &Fields<'_>, servers: &BTreeMap<Arc<str>, Arc<Server>>) -> Self {
        fields.require("server");
        let server = fields.reference("server", "server", servers).unwrap_or_default();
        let verbose_server = servers.get(&server).is_some_and(|server| server.verbose);
        Self {
            name,
            server,
            destination: destination(fields),
            enable: fields.flag("enable", true),
            ack_mode: ack_mode(fields).unwrap_or(AckMode::ClientIndividual),
            max_buffer_len: fields.count("max_buffer_len", 999, 1..=1_000_000),
            buffer_block: fields.seconds("buffer_block_sec", 10.0, 0.0..=86_400.0).max(MIN_BLOCK),
            use_transaction: fields.flag("use_transaction", true),
            verbose: fields.flag("verbose", false) || verbose_server,
            dead_letter: dead_letter(fields),
            retry: fields.nested("retry", retry::read),
            persistent: fields.flag("persistent", true),
            selector: fields.word("selector"),
            subscription: subscription(fields),
            headers: headers(fields, "headers", &SUBSCRIBE_HEADERS),
            send_headers: headers(fields, "send_headers", &SEND_HEADERS),
            order_by: order_by(fields),
            max_buffer_bytes: fields.mebibytes("max_buffer_mb", 64, 1..=65_536),
        }
    }
}

/// 0 is a valid `buffer_block_sec` for PanDA; reporting needs a pause.
const MIN_BLOCK: Duration = Duration::from_millis(100);

/// Headers of SUBSCRIBE that the host sets itself.
const SUBSCRIBE_HEADERS: [&str; 5] = ["destination", "id", "ack", "receipt", "selector"];

/// Headers of SEND that the host sets itself.
const SEND_HEADERS: [&str; 5] = ["destination", "receipt", "transaction", "content-length", "persistent"];

/// The words of STOMP for the ack modes.
const ACK_MODES: [(&str, AckMode); 3] =
    [("auto", AckMode::Auto), ("client", AckMode::Client), ("client-individual", AckMode::ClientIndividual)];

fn ack_mode(fields: &Fields<'_>) -> Option<AckMode> {
    // PanDA's document prints it like this.
    if fields.value("ack_mode").and_then(Value::as_str) == Some("clien-individual") {
        fields.warn("ack_mode", "\"clien-individual\" is read as \"client-individual\"");
        return Some(AckMode::ClientIndividual);
    }
    fields.choice("ack_mode", &ACK_MODES)
}

/// The destination for dead letters, of a queue or a processor.
pub(super) fn dead_letter(fields: &Fields<'_>) -> Option<String> {
    let destination = fields.word("dead_letter")?;
    if !destination.starts_with('/') || destination.ends_with('/') {
        fields.error("dead_letter", "must be a destination, such as \"/queue/idds.DLQ\"");
    } else if destination.starts_with("/topic/") {
        fields.warn("dead_letter", "is a topic: dead letters are lost while nobody listens to it; use \"/queue/...\"");
    }
    Some(destination)
}

fn destination(fields: &Fields<'_>) -> String {
    let destination = fields.required("destination");
    if destination.ends_with('/') {
        fields.error("destination", "ends in \"/\": the name of the queue is missing");
    } else if !destination.is_empty() && !destination.starts_with('/') {
        let message =
            format!("does not begin with \"/\": what it means differs between brokers; write \"/queue/{destination}\"");
        fields.warn("destination", message);
    }
    destination
}

fn subscription(fields: &Fields<'_>) -> Option<String> {
    let name = fields.word("subscription")?;
    // The name says nothing about a queue, so one of the two words is a mistake.
    if fields.value("destination").and_then(Value::as_str).is_some_and(|place| place.starts_with("/queue/")) {
        let message = "is for topics: a queue keeps what is sent while the host is away; leave \"subscription\" out, \
                       or read \"/topic/...\"";
        fields.error("subscription", message);
    }
    Some(name)
}

fn order_by(fields: &Fields<'_>) -> Option<String> {
    let name = fields.word("order_by")?;
    if !is_header_name(&name) {
        fields.error("order_by", "must be the name of a header, without a colon");
    }
    Some(name)
}

/// Reads headers. A line break in one would start a new header or end the frame.
fn headers(fields: &Fields<'_>, key: &'static str, ours: &[&str]) -> Vec<(String, String)> {
    let mut headers = Vec::new();
    for (name, value) in fields.members(key) {
        let text = match value {
            Value::Null => continue,
            Value::String(text) => text.clone(),
            Value::Bool(_) | Value::Number(_) => value.to_string(),
            Value::Array(_) | Value::Object(_) => {
                fields.error_at(key, name, must_be("a text in quotes", value));
                continue;
            }
        };
        match check_header(name, &text, ours) {
            Ok(()) => headers.push((name.clone(), text)),
            Err(message) => fields.error_at(key, name, message),
        }
    }
    headers
}

fn check_header(name: &str, value: &str, ours: &[&str]) -> Result<(), &'static str> {
    if !is_header_name(name) || value.chars().any(char::is_control) {
        Err("a header must not contain control characters, nor its name a colon")
    } else if ours.contains(&name) || name.starts_with("stompbox_") {
        Err("this header is set by the host")
    } else {
        wrong_value(name, value).map_or(Ok(()), Err)
    }
}

/// Whether a header may stand on a SEND beside the host's own.
///
/// # Errors
/// What is wrong with it.
pub fn check_send_header(name: &str, value: &str) -> Result<(), &'static str> {
    check_header(name, value, &SEND_HEADERS)
}

fn is_header_name(name: &str) -> bool {
    !name.is_empty() && !name.chars().any(|c| c.is_control() || c == ':')
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, reason = "a failed test is the answer")]
mod tests {
    use insta::assert_snapshot;
    use serde_json::json;

    use super::super::tests::{config, problems, warnings};
    use super::*;

    #[test]
    fn doubtful_destinations_are_named() {
        assert_snapshot!(problems(&[
            ("queues.q.destination", json!("/queue/")),
            ("queues.q.dead_letter", json!("/")),
            ("processors.p.dead_letter", json!("q.DLQ")),
            ("queues.r", json!({"server": "mb", "destination": "/queue/r", "subscription": "mine"})),
        ]), @r#"
        queues.q.destination: ends in "/": the name of the queue is missing
        queues.q.dead_letter: must be a destination, such as "/queue/idds.DLQ"
        queues.r.subscription: is for topics: a queue keeps what is sent while the host is away; leave "subscription" out, or read "/topic/..."
        processors.p.dead_letter: must be a destination, such as "/queue/idds.DLQ"
        "#);
        assert_snapshot!(warnings(&[
            ("queues.q.destination", json!("q")),
            ("queues.q.dead_letter", json!("/topic/dead")),
        ]), @r#"
        queues.q.destination: does not begin with "/": what it means differs between brokers; write "/queue/q"
        queues.q.dead_letter: is a topic: dead letters are lost while nobody listens to it; use "/queue/..."
        "#);
    }

    #[test]
    fn the_ack_mode_of_the_document_is_accepted_with_a_warning() {
        let misprint = [("queues.q.ack_mode", json!("clien-individual"))];
        assert_eq!(config(&misprint).queues["q"].ack_mode, AckMode::ClientIndividual);
        assert_snapshot!(warnings(&misprint), @r#"queues.q.ack_mode: "clien-individual" is read as "client-individual""#);
    }

    #[test]
    fn ack_modes_are_the_words_of_stomp() {
        for (word, mode) in ACK_MODES {
            let config = config(&[("queues.q.ack_mode", json!(word))]);
            assert_eq!(config.queues["q"].ack_mode, mode);
            assert_eq!(mode.as_str(), word);
        }
    }

    #[test]
    fn seconds_may_be_a_fraction_and_never_become_zero() {
        let block = |value| config(&[("queues.q.buffer_block_sec", value)]).queues["q"].buffer_block;
        assert_eq!(block(json!(0.5)), Duration::from_millis(500));
        assert_eq!(block(json!(0)), MIN_BLOCK);
    }

    #[test]
    fn all_our_keys_are_read() {
        let config = config(&[
            ("queues.q.selector", json!("a = 'b'")),
            ("mb_servers.mb.client_id", json!("needed for a durable subscription")),
            ("queues.q.destination", json!("/topic/q")),
            ("queues.q.subscription", json!("durable")),
            ("queues.q.persistent", json!(false)),
            ("queues.q.order_by", json!("taskid")),
            ("queues.q.dead_letter", json!("/queue/dead")),
            ("queues.q.max_buffer_mb", json!(2)),
            ("queues.q.headers", json!({"browser": true, "n": 7, "not-given": null})),
            ("queues.q.send_headers", json!({"vo": "atlas"})),
            ("queues.q.retry", json!({"max_attempts": 2, "max_delay_ms": 10})),
        ]);
        let queue = &config.queues["q"];
        assert_eq!(queue.selector.as_deref(), Some("a = 'b'"));
        assert_eq!(queue.subscription.as_deref(), Some("durable"));
        assert_eq!((queue.persistent, queue.max_buffer_bytes), (false, 2 << 20));
        assert_eq!(queue.order_by.as_deref(), Some("taskid"));
        assert_eq!(queue.dead_letter.as_deref(), Some("/queue/dead"));
        let text = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(queue.headers, [text("browser", "true"), text("n", "7")]);
        assert_eq!(queue.send_headers, [text("vo", "atlas")]);
        let retry = queue.retry.clone().unwrap_or_default();
        let short = Duration::from_millis(10);
        assert_eq!((retry.max_attempts, retry.min_delay, retry.max_delay), (2, short, short));
    }

    #[test]
    fn what_retry_does_not_say_has_its_default() {
        let config = config(&[("queues.q.retry", json!({}))]);
        assert_eq!(config.queues["q"].retry, Some(RetryPolicy::default()));
    }

    #[test]
    fn headers_cannot_inject_frames_or_replace_ours() {
        assert_snapshot!(problems(&[
            ("queues.q.headers", json!({"a": "1\nreceipt:x", "b:c": "1", "": "1", "ack": "auto", "l": []})),
            ("queues.q.send_headers", json!({"receipt": "1", "stompbox_id": "1", "a\r": "1", "priority": "high"})),
        ]), @r#"
        queues.q.headers[""]: a header must not contain control characters, nor its name a colon
        queues.q.headers.a: a header must not contain control characters, nor its name a colon
        queues.q.headers.ack: this header is set by the host
        queues.q.headers["b:c"]: a header must not contain control characters, nor its name a colon
        queues.q.headers.l: must be a text in quotes, not a list
        queues.q.send_headers["a\r"]: a header must not contain control characters, nor its name a colon
        queues.q.send_headers.priority: must be a number from 0 to 9
        queues.q.send_headers.receipt: this header is set by the host
        queues.q.send_headers.stompbox_id: this header is set by the host
        "#);
        assert_snapshot!(problems(&[("queues.q.headers", json!([]))]), @"queues.q.headers: must be an object {...}, not a list");
    }

    #[test]
    fn wrong_values_name_the_right_ones() {
        assert_snapshot!(problems(&[
            ("queues.q.destination", json!("/queue/q\n\nx")),
            ("queues.q.max_buffer_len", json!(0)),
            ("queues.q.max_buffer_mb", json!(99_999_999)),
            ("queues.q.buffer_block_sec", json!(-0.5)),
            ("queues.q.dead_letter", json!("dead")),
            ("queues.q.order_by", json!("a:b")),
            ("queues.q.use_transaction", json!("true")),
            ("queues.q.selector", json!("a\n")),
            ("queues.q.subscription", json!("")),
            ("queues.q.retry", json!({"max_attempts": 0, "min_delay_ms": 90_000, "max_unavailable_s": -1})),
            ("queues.r.destination", json!("/queue/r")),
            ("queues.s.server", json!("nb")),
        ]), @r#"
        queues.q.destination: must not contain control characters such as a line break
        queues.q.max_buffer_len: must be a whole number from 1 to 1000000, not 0
        queues.q.buffer_block_sec: must be a number of seconds from 0 to 86400, not -0.5
        queues.q.use_transaction: must be true or false, not a text
        queues.q.dead_letter: must be a destination, such as "/queue/idds.DLQ"
        queues.q.retry.max_attempts: must be a whole number from 1 to 1000, not 0
        queues.q.retry.min_delay_ms: is above max_delay_ms, which is 60000
        queues.q.retry.max_unavailable_s: must be a number of seconds from 0 to 604800, not -1
        queues.q.selector: must not contain control characters such as a line break
        queues.q.subscription: must not be empty
        queues.q.order_by: must be the name of a header, without a colon
        queues.q.max_buffer_mb: must be a whole number from 1 to 65536, not 99999999
        queues.r.server: missing: this key is mandatory
        queues.s.server: there is no server "nb"; did you mean "mb"?
        queues.s.destination: missing: this key is mandatory
        "#);
    }
}
