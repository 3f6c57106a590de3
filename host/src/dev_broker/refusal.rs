//! Why the broker answers a frame with ERROR.
//!
//! Made by the state and by sessions, written to the wire by sessions. Like ActiveMQ, a refusal that
//! leaves no doubt about what comes next keeps the connection; a breach of the protocol closes it.

/// The reason of an ERROR frame; its text becomes the `message` header.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    /// The frame is against the protocol or beyond a bound.
    #[error("{0}")]
    Protocol(String),
    /// No version that both sides speak.
    #[error("only STOMP 1.0, 1.1 and 1.2 are spoken here")]
    Version,
    /// Wrong login or passcode, or the fault that refuses all.
    #[error("the login is refused")]
    Login,
    /// ACK or NACK names nothing that this connection holds.
    #[error("no un-acked delivery {0} on this connection")]
    UnknownDelivery(String),
    /// The fault that refuses every ACK.
    #[error("no ACK is taken")]
    Ack,
    /// UNSUBSCRIBE names no subscription.
    #[error("no subscription {0} on this connection")]
    UnknownSubscription(String),
    /// The frame names a transaction that was not begun.
    #[error("no transaction {0} on this connection")]
    UnknownTransaction(String),
    /// COMMIT of a transaction with a refused SEND.
    #[error("a SEND of transaction {0} was refused: nothing of it was sent")]
    TransactionFailed(String),
    /// The fault that refuses destinations.
    #[error("destination {0} is refused")]
    Destination(String),
    /// One message larger than the memory cap.
    #[error("a message of {size} bytes exceeds the memory cap of {cap}")]
    TooLarge {
        /// What the message takes.
        size: usize,
        /// The cap of the broker.
        cap: usize,
    },
    /// SUBSCRIBE with a selector: taking it without selecting would deliver the wrong messages.
    #[error("the development broker has no selectors")]
    Selector,
}

impl Refusal {
    /// Whether the connection is closed after the ERROR.
    pub(super) fn is_fatal(&self) -> bool {
        matches!(self, Self::Protocol(_) | Self::Version | Self::Login)
    }
}
