//! Tests what a login may do, and leaves nothing behind.
//!
//! For `check --connect`: no message is taken from a queue, and none is left in one. Brokers tell a missing
//! right by an ERROR, and most close the connection with it; the next test opens another. How each broker is
//! asked stands in [`Flavour`].

use std::time::Duration;

use tokio::time::timeout;

use super::{ClientError, ConnectOptions, Connection, Flavour, flavour::PASSING};
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

/// What a test has found.
#[derive(Debug, Default)]
pub struct Tested {
    /// Why not, where the right is missing or the broker does not answer.
    pub refused: Option<ClientError>,
    /// Why the queue could not be declared, where that is needed.
    pub undeclared: Option<ClientError>,
    /// Nobody has declared the queue that is to be read: the host would.
    pub absent: bool,
}

/// How the broker is asked.
#[derive(Debug, Clone, Copy)]
enum Ask<'a> {
    Subscribe(&'a [(String, String)]),
    SendAndAbort(&'a [(String, String)]),
    SendToNobody,
    SubscribePassing,
    SendPassing,
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
        let connection = open(&options).await?;
        Ok(Self { options, flavour: connection.flavour, connection: Some(connection) })
    }

    /// Which broker it is.
    #[must_use]
    pub fn flavour(&self) -> Flavour {
        self.flavour
    }

    /// Tests a right on a destination, and on RabbitMQ the right to declare the queue where the host would.
    pub async fn test(&mut self, right: Right, destination: &str, headers: &[(String, String)]) -> Tested {
        let mut tested = Tested::default();
        let asked = match right {
            Right::Subscribe => Ask::Subscribe(headers),
            Right::Send if self.flavour.checks_sends_in_transactions() => Ask::SendAndAbort(headers),
            Right::Send => Ask::SendToNobody,
        };
        let declares = self.flavour.declares(destination);
        match self.answer(asked, destination).await {
            Err(ClientError::Broker(text)) if declares && self.flavour.says_absent(&text) => tested.absent = true,
            Err(error) => tested.refused = Some(error),
            Ok(()) => {}
        }
        // What exists is read as it is.
        let declaring = match right {
            Right::Subscribe if tested.absent => Ask::SubscribePassing,
            Right::Send if declares => Ask::SendPassing,
            _ => return tested,
        };
        match self.answer(declaring, destination).await {
            Err(ClientError::Broker(text)) if self.flavour.says_shared(&text) => {}
            // Of two rights that are missing the second test may meet the first again.
            Err(error) if tested.refused.as_ref().is_some_and(|told| told.to_string() == error.to_string()) => {}
            answer => tested.undeclared = answer.err(),
        }
        tested
    }

    /// Asks on the connection that is open, or on a new one.
    async fn answer(&mut self, asked: Ask<'_>, destination: &str) -> Result<(), ClientError> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => open(&self.options).await?,
        };
        let answered = async {
            match asked {
                Ask::Subscribe(headers) => subscribe(&mut connection, destination, headers).await,
                Ask::SendAndAbort(headers) => send_and_abort(&mut connection, destination, headers).await,
                Ask::SendToNobody => send_to_nobody(&mut connection, destination).await,
                Ask::SubscribePassing => subscribe_passing(&mut connection, destination).await,
                Ask::SendPassing => send_passing(&mut connection, destination).await,
            }
        };
        let answer =
            timeout(ANSWER, answered).await.unwrap_or(Err(ClientError::Silent { what: "answer", limit: ANSWER }));
        // After an ERROR the connection is of no more use on most brokers; a passing queue ends with its own.
        match (&answer, asked) {
            (Err(_), _) => {}
            (Ok(()), Ask::SubscribePassing | Ask::SendPassing) => leave(connection).await,
            (Ok(()), _) => self.connection = Some(connection),
        }
        answer
    }

    /// Leaves in good order.
    pub async fn close(mut self) {
        if let Some(connection) = self.connection.take() {
            leave(connection).await;
        }
    }
}

/// A connection on which a MESSAGE of any size may come.
async fn open(options: &ConnectOptions) -> Result<Connection, ClientError> {
    let mut connection = Connection::open(options).await?;
    connection.skip_messages();
    Ok(connection)
}

async fn leave(mut connection: Connection) {
    let goodbye = ask(&mut connection, Command::Disconnect, &[], b"");
    let _ = timeout(ANSWER, goodbye).await;
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
    let routing = connection.flavour.declaration(destination);
    let all: Vec<_> = own.into_iter().chain(given).chain(routing).collect();
    ask(connection, Command::Send, &all, b"stompbox check: aborted").await?;
    ask(connection, Command::Abort, &[("transaction", ID)], b"").await
}

/// Brokers that look at the right only when a transaction is committed: to a place that does not exist.
async fn send_to_nobody(connection: &mut Connection, destination: &str) -> Result<(), ClientError> {
    let place = connection.flavour.nobody_like(destination, &format!("{ID}-{:016x}", fastrand::u64(..)));
    ask(connection, Command::Send, &[("destination", &place)], b"stompbox check: for nobody").await
}

/// Declares the queue as a subscriber would, for a moment.
async fn subscribe_passing(connection: &mut Connection, destination: &str) -> Result<(), ClientError> {
    let own = [("destination", destination), ("id", ID), ("ack", "client-individual")];
    let all: Vec<_> = own.into_iter().chain(PASSING).collect();
    ask(connection, Command::Subscribe, &all, b"").await?;
    ask(connection, Command::Unsubscribe, &[("id", ID)], b"").await
}

/// Declares the queue as a sender would, for a moment: with a SEND that is taken back. RabbitMQ tells of a
/// refused declaration when it likes, but before it answers the next SEND.
async fn send_passing(connection: &mut Connection, destination: &str) -> Result<(), ClientError> {
    connection.put(Command::Begin, [("transaction", ID)], b"")?;
    let own = [("destination", destination), ("transaction", ID)];
    connection.put(Command::Send, own.into_iter().chain(PASSING), b"stompbox check: aborted")?;
    connection.put(Command::Abort, [("transaction", ID)], b"")?;
    send_to_nobody(connection, destination).await
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
    connection.read_to_receipt(&receipt).await
}
