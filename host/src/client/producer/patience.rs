//! How long a producer waits for receipts that do not come.
//!
//! A broker that holds its senders back must not be left: everything would be sent twice. One that is gone must not be
//! waited for. [`super::ProducerTask`] asks at each tick; nothing here touches an output.

use std::time::Duration;

use tokio::time::Instant;
use tracing::warn;

use crate::client::{ClientError, Connection};

/// How long receipts may be missing before an alarm is logged, and again each time.
const ALARM: Duration = Duration::from_secs(60);
/// How long receipts may be missing before the kernel is asked whether the peer answers at all.
const ASK_THE_KERNEL: Duration = Duration::from_secs(30);
/// How often the kernel must have tried in vain. It waits twice as long each time, at least 200 ms at first: 8 are at
/// least 51 s, and twice that on a slow way.
const UNANSWERED: u64 = 8;
/// How long a broker may hold back its senders. Nothing tells it from a broker that hangs.
pub(super) const FLOW_CONTROL: Duration = Duration::from_secs(30 * 60);

/// The time since the last answer.
pub(super) struct Patience {
    since: Instant,
    alarm: Instant,
}

impl Patience {
    pub(super) fn new() -> Self {
        let now = Instant::now();
        Self { since: now, alarm: now + ALARM }
    }

    /// There was an answer, or nothing to answer.
    pub(super) fn answered(&mut self) {
        *self = Self::new();
    }

    /// Whether to go on waiting on this connection.
    ///
    /// # Errors
    /// The peer is gone, or has not answered for longer than any flow control should last.
    pub(super) fn check(
        &mut self,
        server: &str,
        unconfirmed: usize,
        connection: &Connection,
    ) -> Result<(), ClientError> {
        if unconfirmed == 0 {
            self.answered();
            return Ok(());
        }
        let waited = self.since.elapsed();
        if waited >= ASK_THE_KERNEL && connection.unanswered().is_some_and(|count| count >= UNANSWERED) {
            return Err(ClientError::Gone);
        }
        if waited >= FLOW_CONTROL {
            return Err(ClientError::Silent { what: "receipt", limit: FLOW_CONTROL });
        }
        if Instant::now() >= self.alarm {
            self.alarm = Instant::now() + ALARM;
            warn!(
                server,
                unconfirmed,
                waited_s = waited.as_secs(),
                "the broker withholds receipts (flow control?): lanes wait, nothing is resent on a living connection"
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::AsyncWriteExt,
        net::TcpListener,
        time::{advance, pause},
    };

    use super::*;
    use crate::client::ConnectOptions;

    /// A connection to a broker that says nothing after CONNECTED.
    async fn silent() -> (Connection, tokio::net::TcpStream) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let options = ConnectOptions::new("mb", vec![listener.local_addr().unwrap().into()]);
        let greet = async {
            let mut peer = listener.accept().await.unwrap().0;
            peer.write_all(b"CONNECTED\nversion:1.2\n\n\0").await.unwrap();
            peer
        };
        let (connection, peer) = tokio::join!(Connection::open(&options), greet);
        (connection.unwrap(), peer)
    }

    #[tokio::test]
    async fn a_broker_that_is_silent_is_waited_for_and_not_for_ever() {
        let (connection, _peer) = silent().await;
        let mut patience = Patience::new();
        pause();
        advance(FLOW_CONTROL - Duration::from_secs(1)).await;
        assert!(patience.check("mb", 1, &connection).is_ok(), "its system answers, so it may be flow control");
        patience.answered();
        advance(FLOW_CONTROL - Duration::from_secs(1)).await;
        assert!(patience.check("mb", 1, &connection).is_ok(), "the time is counted from the last answer");
        advance(Duration::from_secs(1)).await;
        assert!(matches!(patience.check("mb", 1, &connection), Err(ClientError::Silent { .. })));
        assert!(patience.check("mb", 0, &connection).is_ok(), "nothing is owed");
    }
}
