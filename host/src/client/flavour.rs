//! What differs between brokers, and nowhere else.
//!
//! Sessions and producers ask here; everything else treats all brokers alike. Facts: each rule names
//! the broker it was measured on.

use super::AckMode;

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
    /// many messages. Never all of them: Artemis reads ActiveMQ's as bytes.
    #[must_use]
    pub fn window_header(self, window: usize, mode: AckMode) -> Option<(&'static str, String)> {
        match self {
            Self::ActiveMq | Self::Embedded => Some(("activemq.prefetchSize", window.to_string())),
            Self::RabbitMq => Some(("prefetch-count", window.min(usize::from(u16::MAX)).to_string())),
            Self::Artemis => Some(("consumer-window-size", artemis_window(window, mode))),
            Self::Unknown => None,
        }
    }

    /// Where and with which header to subscribe so that nothing is delivered, or one message that is given
    /// back: the host only looks whether it may. On RabbitMQ SUBSCRIBE to `/queue/x` would declare the queue.
    #[must_use]
    pub fn quiet_subscription(self, destination: &str) -> (String, (&'static str, &'static str)) {
        match self {
            Self::RabbitMq => {
                let queue = destination.strip_prefix("/queue/").map(|queue| format!("/amq/queue/{queue}"));
                (queue.unwrap_or_else(|| destination.to_owned()), ("prefetch-count", "1"))
            }
            // It has no selectors.
            Self::Embedded => (destination.to_owned(), ("activemq.prefetchSize", "1")),
            Self::ActiveMq | Self::Artemis | Self::Unknown => (destination.to_owned(), ("selector", "1 = 0")),
        }
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

    /// Whether an ERROR says that a queue does not exist, which is no missing right.
    #[must_use]
    pub fn says_absent(self, error: &str) -> bool {
        self == Self::RabbitMq && error.contains("NOT_FOUND")
    }

    /// Whether the connection is still of use after an ERROR frame: RabbitMQ and Artemis close it.
    #[must_use]
    pub fn survives_error(self) -> bool {
        matches!(self, Self::ActiveMq | Self::Embedded)
    }
}

/// Artemis counts bytes: 2 KiB a message up to 1 MiB, 0 for one message at a time; in ack mode auto a
/// finite window stops the subscription for good.
fn artemis_window(window: usize, mode: AckMode) -> String {
    match (mode, window) {
        (AckMode::Auto, _) => "-1".into(),
        (_, 0 | 1) => "0".into(),
        (_, many) => many.saturating_mul(2 << 10).min(1 << 20).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brokers_are_told_apart() {
        for (server, flavour) in [
            (Some("ActiveMQ/6.3.1"), Flavour::ActiveMq),
            (Some("ActiveMQ-Artemis/2.44.0 ActiveMQ Artemis Messaging Engine"), Flavour::Artemis),
            (Some("RabbitMQ/3.10.8"), Flavour::RabbitMq),
            (Some("apache-apollo/1.7"), Flavour::Unknown),
            (None, Flavour::Unknown),
        ] {
            assert_eq!(Flavour::of(server), flavour, "{server:?}");
        }
    }

    #[test]
    fn rights_are_looked_at_where_nothing_happens() {
        let rabbit = Flavour::RabbitMq;
        assert_eq!(rabbit.quiet_subscription("/queue/a").0, "/amq/queue/a");
        assert_eq!(rabbit.quiet_subscription("/topic/a").0, "/topic/a");
        assert_eq!(Flavour::ActiveMq.quiet_subscription("/queue/a"), ("/queue/a".into(), ("selector", "1 = 0")));
        for (destination, nobody) in [
            ("/queue/a", "/amq/queue/n"),
            ("/topic/a.b", "/topic/n"),
            ("/exchange/e/key", "/exchange/e/n"),
            ("a", "/amq/queue/n"),
        ] {
            assert_eq!(rabbit.nobody_like(destination, "n"), nobody);
        }
        assert!(rabbit.says_absent("not_found: NOT_FOUND - no queue 'a'") && !rabbit.says_absent("access_refused"));
    }

    #[test]
    fn each_broker_gets_its_own_window_header() {
        let header = |flavour: Flavour, window, mode| flavour.window_header(window, mode);
        let individual = AckMode::ClientIndividual;
        assert_eq!(header(Flavour::ActiveMq, 1000, individual), Some(("activemq.prefetchSize", "1000".into())));
        assert_eq!(header(Flavour::RabbitMq, 70_000, individual), Some(("prefetch-count", "65535".into())));
        assert_eq!(header(Flavour::Artemis, 1, individual), Some(("consumer-window-size", "0".into())));
        assert_eq!(header(Flavour::Artemis, 10, individual), Some(("consumer-window-size", "20480".into())));
        assert_eq!(header(Flavour::Artemis, 1000, individual), Some(("consumer-window-size", "1048576".into())));
        assert_eq!(header(Flavour::Artemis, 1000, AckMode::Auto), Some(("consumer-window-size", "-1".into())));
        assert_eq!(header(Flavour::Unknown, 1000, individual), None);
    }
}
