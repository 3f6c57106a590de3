//! What differs between brokers, and nowhere else.
//!
//! Sessions, producers and probes ask here; everything else treats all brokers alike. Facts: each rule names
//! the broker it was measured on.

mod queue_name;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

pub use self::queue_name::QueueName;

use super::{AckMode, ClientError};
use crate::stomp::Headers;

/// Which broker answered, told apart by the `server` header of CONNECTED.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavour {
    /// ActiveMQ Classic.
    ActiveMq,
    /// ActiveMQ Artemis.
    Artemis,
    /// RabbitMQ with its STOMP plugin.
    RabbitMq,
    /// The embedded development broker.
    Embedded,
    /// Anything else: only what the STOMP specification says is relied on.
    Unknown,
}

impl Flavour {
    /// Tells the broker by the `server` header; Artemis has none in a 1.0 session.
    #[must_use]
    pub fn of(server: Option<&str>) -> Self {
        let name = server.unwrap_or_default().split('/').next().unwrap_or_default();
        match name {
            "ActiveMQ" => Self::ActiveMq,
            "ActiveMQ-Artemis" => Self::Artemis,
            "RabbitMQ" => Self::RabbitMq,
            "stompbox-dev-broker" => Self::Embedded,
            _ => Self::Unknown,
        }
    }

    /// The one SUBSCRIBE header that bounds what this broker sends ahead of ACKs, for a window of that
    /// many messages; `room` is for [`Flavour::window_bytes`]. Never all of them: Artemis reads ActiveMQ's as bytes.
    #[must_use]
    pub fn window_header(self, window: usize, room: usize) -> Option<(&'static str, String)> {
        match self {
            Self::ActiveMq | Self::Embedded => Some(("activemq.prefetchSize", window.to_string())),
            Self::RabbitMq => Some(("prefetch-count", window.min(usize::from(u16::MAX)).to_string())),
            Self::Artemis => {
                Some(("consumer-window-size", self.window_bytes(window, room).unwrap_or_default().to_string()))
            }
            Self::Unknown => None,
        }
    }

    /// The window in bytes, where the broker counts these: 2 KiB a message up to 1 MiB, 0 for one message at a time,
    /// and `room` for messages that will stay outstanding: Artemis sends nothing while these exceed the window.
    #[must_use]
    pub fn window_bytes(self, window: usize, room: usize) -> Option<usize> {
        let bytes = match window {
            0 | 1 => 0,
            many => many.saturating_mul(2 << 10).min(1 << 20),
        };
        (self == Self::Artemis).then(|| bytes.saturating_add(room).min(1 << 30))
    }

    /// Where and with which header to subscribe so that nothing is delivered, or one message that is given
    /// back: the host only looks whether it may. On RabbitMQ SUBSCRIBE to `/queue/x` would declare the queue.
    #[must_use]
    pub fn quiet_subscription(self, destination: &str) -> (String, (&'static str, &'static str)) {
        match self {
            Self::RabbitMq => (as_existing(destination).into_owned(), ("prefetch-count", "1")),
            // It has no selectors.
            Self::Embedded => (destination.to_owned(), ("activemq.prefetchSize", "1")),
            Self::ActiveMq | Self::Artemis | Self::Unknown => (destination.to_owned(), ("selector", "1 = 0")),
        }
    }

    /// The SUBSCRIBE header by which the broker shows what a queue holds and hands nothing out. The others have none
    /// such: there a subscription gets the messages and acknowledges none.
    #[must_use]
    pub fn browser(self) -> Option<(&'static str, &'static str)> {
        (self == Self::ActiveMq).then_some(("browser", "true"))
    }

    /// Whether a MESSAGE is the one by which ActiveMQ says that a browser has seen all. What a stranger sends has a
    /// longer id.
    #[must_use]
    pub fn ends_browsing(self, message: &Headers) -> bool {
        self.browser().is_some() && message.get("browser") == Some("end") && message.get("message-id") == Some("0")
    }

    /// How often a message was delivered before and given back, where the broker takes it away after too many: the
    /// quorum queues of RabbitMQ (20 since 4.0), whatever the way it was given back. Artemis does not count good ones.
    #[must_use]
    pub fn counted_deliveries(self, message: &Headers) -> Option<u64> {
        let count = message.get("x-delivery-count").filter(|_| self == Self::RabbitMq);
        count.and_then(|count| count.parse().ok())
    }

    /// Whether the right to send is looked at when a SEND comes in a transaction; RabbitMQ keeps it unseen
    /// until COMMIT.
    #[must_use]
    pub fn checks_sends_in_transactions(self) -> bool {
        self != Self::RabbitMq
    }

    /// A destination that needs the same right to send as this one and that nobody reads: what is sent there
    /// is confirmed and gone. `name` must be one that nobody uses.
    #[must_use]
    pub fn nobody_like(self, destination: &str, name: &str) -> String {
        match destination.strip_prefix("/exchange/").and_then(|rest| rest.split('/').next()) {
            Some(exchange) => format!("/exchange/{exchange}/{name}"),
            None if destination.starts_with("/topic/") => format!("/topic/{name}"),
            None => format!("/amq/queue/{name}"),
        }
    }

    /// Whether a SUBSCRIBE or SEND there declares the queue, which wants the right to configure it, on RabbitMQ
    /// even where the queue exists.
    #[must_use]
    pub fn declares(self, destination: &str) -> bool {
        self == Self::RabbitMq && destination.starts_with("/queue/")
    }

    /// Whether an ERROR says that a queue does not exist, which is no missing right.
    #[must_use]
    pub fn says_absent(self, error: &str) -> bool {
        self == Self::RabbitMq && error.contains("NOT_FOUND")
    }

    /// Whether an ERROR says that a queue is not ours alone: then it exists, and we might have declared it.
    #[must_use]
    pub fn says_shared(self, error: &str) -> bool {
        self == Self::RabbitMq && (error.contains("RESOURCE_LOCKED") || error.contains("PRECONDITION_FAILED"))
    }

    /// The mode that is asked for where the configuration says this one. Mode auto loses or doubles messages at
    /// an UNSUBSCRIBE: RabbitMQ drops what is on its way by then, Artemis gives again what it has just sent. There
    /// the session acknowledges each message itself, as soon as it has read it. (In its own mode auto a finite window
    /// stops a subscription of Artemis for good.)
    #[must_use]
    pub fn wire_mode(self, mode: AckMode) -> AckMode {
        match (mode, self) {
            (AckMode::Auto, Self::RabbitMq | Self::Artemis) => AckMode::ClientIndividual,
            _ => mode,
        }
    }

    /// Whether an ERROR only tells that a message was on its way when UNSUBSCRIBE came: RabbitMQ has it still.
    #[must_use]
    pub fn is_late_delivery(self, error: &str) -> bool {
        self == Self::RabbitMq && error.contains("Subscription not found")
    }

    /// The SUBSCRIBE header that says whether a destination is a queue or a topic, for Artemis: on its
    /// acceptors as generated everything is a topic otherwise.
    #[must_use]
    pub fn subscription_type(self, destination: &str) -> Option<(&'static str, &'static str)> {
        self.routing(destination).map(|routing| ("subscription-type", routing))
    }

    /// The SEND header that says what its destination is to be, where a SEND makes it. On Artemis one to
    /// `/queue/x` without it gets its RECEIPT and is gone; on RabbitMQ one that is not persistent makes a queue
    /// that no other connection may read, and that goes with ours.
    #[must_use]
    pub fn declaration(self, destination: &str) -> Option<(&'static str, &'static str)> {
        if self == Self::RabbitMq && destination.starts_with("/queue/") {
            return Some(("durable", "true"));
        }
        self.routing(destination).map(|routing| ("destination-type", routing))
    }

    fn routing(self, destination: &str) -> Option<&'static str> {
        let prefixes = [("/queue/", "ANYCAST"), ("/topic/", "MULTICAST")];
        let mut known = prefixes.into_iter().filter(|_| self == Self::Artemis);
        known.find(|(prefix, _)| destination.starts_with(prefix)).map(|(_, routing)| routing)
    }

    /// The queue whose declaration RabbitMQ refused, told by the text of its ERROR: it exists with other
    /// arguments than `/queue/x` declares. A SEND to `/amq/queue/x` declares nothing.
    #[must_use]
    pub fn declared_otherwise(self, error: &ClientError) -> Option<&str> {
        let ClientError::Broker(text) = error else { return None };
        if self != Self::RabbitMq || !text.contains("PRECONDITION_FAILED") {
            return None;
        }
        text.split_once(" for queue '")?.1.split_once("' in vhost").map(|(queue, _)| queue)
    }

    /// Whether the broker knows the `selector` of a SUBSCRIBE; RabbitMQ ignores it.
    #[must_use]
    pub fn has_selectors(self) -> bool {
        self != Self::RabbitMq
    }

    /// Whether a message can be recognised when it is delivered again.
    #[must_use]
    pub fn has_stable_ids(self) -> bool {
        matches!(self, Self::ActiveMq | Self::Artemis | Self::Embedded)
    }

    /// Whether NACK returns a message to its queue. ActiveMQ moves it to its own dead-letter queue, Artemis
    /// deletes it. In ack mode client it would take all before it along.
    #[must_use]
    pub fn nack_requeues(self, mode: AckMode) -> bool {
        self == Self::RabbitMq && mode == AckMode::ClientIndividual
    }

    /// Whether each delivery wants an ACK that names it also where ACKs are cumulative: Artemis returns to
    /// the window only what an ACK names, and stops sending when nothing is left of it.
    #[must_use]
    pub fn wants_each_ack(self) -> bool {
        self == Self::Artemis
    }

    /// The SUBSCRIBE headers of a durable subscription with this name; its `id` is the name, too.
    #[must_use]
    pub fn durable_headers(self, name: &str) -> Vec<(&'static str, &str)> {
        match self {
            Self::ActiveMq | Self::Embedded => vec![("activemq.subscriptionName", name)],
            Self::Artemis => vec![("durable-subscription-name", name)],
            Self::RabbitMq => vec![("durable", "true"), ("auto-delete", "false")],
            Self::Unknown => vec![
                ("activemq.subscriptionName", name),
                ("durable-subscription-name", name),
                ("durable", "true"),
                ("auto-delete", "false"),
            ],
        }
    }

    /// Whether UNSUBSCRIBE by id alone ends a durable subscription only for now, and is wanted: without it Artemis
    /// counts the deliveries that are given back. ActiveMQ keeps it too and counts nothing.
    #[must_use]
    pub fn unsubscribe_keeps_durable(self) -> bool {
        matches!(self, Self::Artemis | Self::RabbitMq)
    }

    /// Whether the connection is still of use after an ERROR frame: RabbitMQ and Artemis close it.
    #[must_use]
    pub fn survives_error(self) -> bool {
        matches!(self, Self::ActiveMq | Self::Embedded)
    }

    /// Whether the confirmation of a COMMIT confirms every SEND before it, if these have no receipts of their
    /// own: RabbitMQ confirms it before the SENDs, and even when one failed.
    #[must_use]
    pub fn transactions(self) -> bool {
        matches!(self, Self::ActiveMq | Self::Artemis | Self::Embedded)
    }

    /// Whether a SEND in a transaction needs a receipt of its own: Artemis may carry out a COMMIT without a SEND that
    /// it refuses, and confirm it before it says so.
    #[must_use]
    pub fn receipts_in_transactions(self) -> bool {
        self == Self::Artemis
    }

    /// The header of a SEND by which the broker confirms and drops one that it has already; none where there is no
    /// such thing, or not in a transaction: there Artemis would drop the innocent SENDs with it.
    #[must_use]
    pub fn duplicate_header(self, in_transaction: bool) -> Option<&'static str> {
        (self == Self::Artemis && !in_transaction).then_some("_AMQ_DUPL_ID")
    }

    /// The part of a `message-id` that every delivery of the message has; none where each has its own.
    #[must_use]
    pub fn stable_id(self, message_id: &str) -> Option<&str> {
        let stable = match self {
            Self::ActiveMq | Self::Embedded => Some(message_id),
            // `consumer,message`: the first number changes with every subscription.
            Self::Artemis => message_id.split_once(',').map(|(_, message)| message),
            Self::RabbitMq | Self::Unknown => None,
        };
        stable.filter(|id| !id.is_empty())
    }
}

/// The SUBSCRIBE headers by which some broker makes a subscription durable.
pub const DURABLE: [&str; 4] = ["activemq.subscriptionName", "durable-subscription-name", "durable", "auto-delete"];

/// The line of an ERROR's body that tells why; none where the body is no stack trace. ActiveMQ sends one, and its
/// last cause is why.
#[must_use]
pub fn last_cause(body: &str) -> Option<&str> {
    body.lines().rev().find(|line| line.starts_with("Caused by: "))
}

/// The headers by which a declared queue of RabbitMQ is gone with its connection. Nobody else can use it before, so
/// that no message gets into it.
pub const PASSING: [(&str, &str); 3] = [("exclusive", "true"), ("auto-delete", "true"), ("durable", "false")];

/// A queue under the name by which RabbitMQ takes it as it is.
#[must_use]
pub fn as_existing(destination: &str) -> Cow<'_, str> {
    match destination.strip_prefix("/queue/") {
        Some(name) => format!("/amq/queue/{name}").into(),
        None => destination.into(),
    }
}
