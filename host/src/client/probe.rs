//! Tests what a login may do, and leaves nothing behind.
//!
//! For `check --connect`: no message is taken from a queue, and none is left in one. Brokers tell a missing
//! right by an ERROR, and most close the connection with it; the next test opens another. How each broker is
//! asked stands in [`Flavour`].

use std::time::Duration;

use tokio::time::timeout;

use super::{ClientError, ConnectOptions, Connection, Flavour, error_text};
use crate::stomp::Command;

/// How long the broker may take to answer a test.
const ANSWER: Duration = Duration::from_secs(15);
/// The id of the subscription, the transaction and the receipts of a test.
const ID: &str = "stompbox-check";

/// What may be allowed or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Right {
    /// To read a destination.
    Subscribe,
    /// To send there.
    Send,
}

/// A login to one address of a server.
#[derive(Debug)]
pub struct Probe {
    options: ConnectOptions,
    connection: Option<Connection>,
    flavour: Flavour,
}

impl Probe {
    /// Logs in.
    ///
    /// # Errors
    /// The address does not answer, or refuses the login.
    pub async fn open(options: ConnectOptions) -> Result<Self, ClientError> {
        let connection = Connection::open(&options).await?;
        Ok(Self { options, flavour: connection.flavour, connection: Some(connection) })
    }

    /// Which broker it is.
    #[must_use]
    pub fn flavour(&self) -> Flavour {
        self.flavour
    }

    /// Tests a right on a destination.
    ///
    /// # Errors
    /// [`ClientError::Broker`] when the broker refuses it, others when it does not answer.
    pub async fn test(
        &mut self,
        right: Right,
        destination: &str,
        headers: &[(String, String)],
    ) -> Result<(), ClientError> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => Connection::open(&self.options).await?,
        };
        let asked = async {
            match right {
                Right::Subscribe => subscribe(&mut connection, destination, headers).await,
                Right::Send if self.flavour.checks_sends_in_transactions() => {
                    send_and_abort(&mut connection, destination, headers).await
                }
                Right::Send => send_to_nobody(&mut connection, destination).await,
            }
        };
        let answer = timeout(ANSWER, asked).await.unwrap_or(Err(ClientError::Silent { what: "answer", limit: ANSWER }));
        // After an ERROR the connection is of no more use on most brokers.
        if answer.is_ok() {
            self.connection = Some(connection);
        }
        answer
    }

    /// Leaves in good order.
    pub async fn close(mut self) {
        if let Some(mut connection) = self.connection.take() {
            let goodbye = ask(&mut connection, Command::Disconnect, &[], b"");
            let _ = timeout(ANSWER, goodbye).await;
        }
    }
}

/// A subscription that gets nothing, or gives back what it gets.
async fn subscribe(
    connection: &mut Connection,
    destination: &str,
    headers: &[(String, String)],
) -> Result<(), ClientError> {
    if !connection.flavour.has_selectors() && headers.iter().any(|(name, _)| name == "selector") {
        return Err(ClientError::NoSelectors);
    }
    let (place, quiet) = connection.flavour.quiet_subscription(destination);
    let own = [("destination", place.as_str()), ("id", ID), ("ack", "client-individual"), quiet];
    let given =
        headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).filter(|(name, _)| *name != quiet.0);
    let routing = connection.flavour.subscription_type(destination);
    let all: Vec<_> = own.into_iter().chain(given).chain(routing).collect();
    ask(connection, Command::Subscribe, &all, b"").await?;
    ask(connection, Command::Unsubscribe, &[("id", ID), ("destination", &place)], b"").await
}

/// Brokers that look at the right when the SEND comes, and forget it with the transaction.
async fn send_and_abort(
    connection: &mut Connection,
    destination: &str,
    headers: &[(String, String)],
) -> Result<(), ClientError> {
    connection.put(Command::Begin, [("transaction", ID)], b"")?;
    let own = [("destination", destination), ("transaction", ID)];
    let given = headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let routing = connection.flavour.destination_type(destination);
    let all: Vec<_> = own.into_iter().chain(given).chain(routing).collect();
    ask(connection, Command::Send, &all, b"stompbox check: aborted").await?;
    ask(connection, Command::Abort, &[("transaction", ID)], b"").await
}

/// Brokers that look at the right only when a transaction is committed: to a place that does not exist.
async fn send_to_nobody(connection: &mut Connection, destination: &str) -> Result<(), ClientError> {
    let place = connection.flavour.nobody_like(destination, &format!("{ID}-{:016x}", fastrand::u64(..)));
    ask(connection, Command::Send, &[("destination", &place)], b"stompbox check: for nobody").await
}

/// Sends a frame and waits for its receipt. Messages that come meanwhile stay un-acked.
async fn ask(
    connection: &mut Connection,
    command: Command,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Result<(), ClientError> {
    let receipt = format!("{ID}-{command}");
    connection.put(command, headers.iter().copied().chain([("receipt", receipt.as_str())]), body)?;
    loop {
        while let Some(frame) = connection.next_frame()? {
            match frame.command {
                Command::Receipt if frame.headers.get("receipt-id") == Some(&receipt) => return Ok(()),
                Command::Error => return Err(ClientError::Broker(error_text(&frame))),
                _ => {}
            }
        }
        connection.progress(true).await?;
    }
}
