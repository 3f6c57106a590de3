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
