//! What sessions are asked to do, and where they stand.
//!
//! [`crate::wiring`] asks and watches; sessions, producers and consumers obey and tell.

/// What the sessions of a host are asked to do; only ever goes forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Consume.
    Run,
    /// Take nothing more, but go on sending ACKs.
    Drain,
    /// All ACKs are staged: write them, unsubscribe, say goodbye, close.
    Finish,
}

/// Where a session stands; the order is that of its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SessionState {
    /// Not connected, or not subscribed yet.
    Connecting,
    /// The broker has confirmed the subscription.
    Subscribed,
    /// No further delivery will come.
    Quiet,
    /// Closed in good order: the broker has confirmed everything.
    Closed,
    /// Closed otherwise: ACKs may not have arrived.
    Lost,
}
