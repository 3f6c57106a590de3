//! The sending side: confirmed SENDs over a connection of their own.
//!
//! [`Producer::send`] is called by lanes and by settlement, from any thread: it encodes the frame under
//! a lock and returns. One task owns the socket, writes what was encoded, and reports each RECEIPT to
//! the sender of its frame. An output is either *confirmed*, *refused* (the broker said no) or still
//! with us: one that was lost with a connection is sent again on the next, never while the connection
//! lives, since a broker that withholds receipts is flow control and not loss.

mod entry;
mod outbox;
mod outgoing;
mod patience;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod transactions;

use std::{pin::pin, sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval, sleep, timeout},
};
use tracing::{info, warn};

use self::{
    outbox::Outbox,
    outgoing::Link,
    patience::{FLOW_CONTROL, Patience},
};
use super::{Backoff, ClientError, ConnectOptions, Connection, Flavour, GOODBYE, GOODBYE_LIMIT, Phase, error_text};
use crate::stomp::{Command, Frame};

pub use self::outgoing::{Outgoing, OutputId, SendRequest};

/// How often outputs are looked for that wait too long.
const LOOK_FOR_OVERDUE: Duration = Duration::from_secs(1);

/// Why a broker did not take an output.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the broker refused the message for {destination}: {detail}")]
pub struct Rejected {
    /// Where it should have gone.
    pub destination: Arc<str>,
    /// What the broker said.
    pub detail: String,
    /// It said nothing: two connections died of it, or by chance, and the message may have arrived.
    pub may_have_arrived: bool,
}

/// Who waits for the fate of a send. All is told on the producer's task, so nothing here may block.
pub trait OnDone: Send {
    /// The broker has confirmed or refused the message. Called once.
    fn done(self: Box<Self>, fate: Result<(), Rejected>);

    /// Whether it has waited too long. Asked every second, under the producer's lock.
    fn is_overdue(&self) -> bool {
        false
    }

    /// It was overdue, and the message was never on a wire: it is not sent. Called instead of `done`.
    fn withdrawn(self: Box<Self>) {}

    /// It is overdue, but the message may have arrived, so `done` will be called. Called every second, under the
    /// producer's lock.
    fn overdue(&mut self) {}

    /// Nobody waits for an answer any more: its unit is left, or the host ends. Called instead of `done`.
    fn abandoned(self: Box<Self>) {}
}

impl<F: FnOnce(Result<(), Rejected>) + Send> OnDone for F {
    fn done(self: Box<Self>, fate: Result<(), Rejected>) {
        self(fate);
    }
}

/// A cheap handle for sending to one server.
#[derive(Debug, Clone)]
pub struct Producer {
    outbox: Arc<Outbox>,
}

impl Producer {
    /// Creates the handle and the task that must be spawned for it.
    #[must_use]
    pub fn new(options: ConnectOptions, phase: watch::Receiver<Phase>) -> (Self, ProducerTask) {
        let outbox = Arc::new(Outbox::default());
        let (connected, is_connected) = watch::channel(false);
        let flavour = Flavour::Unknown;
        let task = ProducerTask { options, outbox: outbox.clone(), phase, connected, is_connected, flavour };
        (Self { outbox }, task)
    }

    /// Sends a message; `done` is told when the broker has confirmed or refused it. `urgent` says that
    /// nothing else will follow at once, so that waiting for company is of no use.
    pub fn send(&self, message: impl Into<Outgoing>, urgent: bool, done: Box<dyn OnDone>) {
        self.outbox.send(message.into(), urgent, done);
    }

    /// Sends messages that stand or fall together: `done` is told once, that all are confirmed or that
    /// none counts as sent. With `transaction` that is true at the broker as well, where it has
    /// transactions that keep their word; elsewhere some may have arrived.
    pub fn send_group(&self, messages: Vec<Outgoing>, transaction: bool, urgent: bool, done: Box<dyn OnDone>) {
        self.outbox.send_group(messages, transaction, urgent, done);
    }

    /// Whether two handles send over the same connection.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.outbox, &other.outbox)
    }

    /// Whoever still waits is told that there will be no answer, and nothing more is sent for them.
    pub fn abandon(&self) {
        self.outbox.abandon();
    }

    /// How much is neither confirmed nor refused: messages, of which a group counts as one.
    #[must_use]
    pub fn unconfirmed(&self) -> usize {
        self.outbox.unconfirmed()
    }
}

/// Owns the socket of a producer.
pub struct ProducerTask {
    options: ConnectOptions,
    outbox: Arc<Outbox>,
    phase: watch::Receiver<Phase>,
    connected: watch::Sender<bool>,
    is_connected: watch::Receiver<bool>,
    /// That of the last connection.
    flavour: Flavour,
}

impl ProducerTask {
    /// Tells whether the producer is connected.
    #[must_use]
    pub fn connected(&self) -> watch::Receiver<bool> {
        self.is_connected.clone()
    }

    /// Sends until the phase is [`Phase::Finish`]; breaks are logged and mended here.
    pub async fn run(self) {
        let (outbox, server) = (self.outbox.clone(), self.options.server.clone());
        tokio::select! {
            () = self.connect_and_send() => {}
            () = withdraw_overdue(&outbox, &server) => {}
        }
    }

    async fn connect_and_send(mut self) {
        let mut backoff = Backoff::new(self.options.max_backoff);
        while *self.phase.borrow() < Phase::Finish {
            let mut opened = None;
            let result = self.one_connection(&mut opened).await;
            self.connected.send_replace(false);
            let readdressed = self.learn(&result);
            let said_no = matches!(result, Err(ClientError::Broker(_)));
            self.outbox.disconnected(&result.as_ref().map_or_else(ToString::to_string, |()| String::new()), said_no);
            let Err(error) = result else { return };
            if readdressed {
                continue;
            }
            backoff.after(opened);
            let pause = backoff.pause();
            warn!(server = %self.options.server, error = &error as &dyn std::error::Error,
                  unconfirmed = self.outbox.unconfirmed(), "sending connection lost, connecting again in {} ms", pause.as_millis());
            tokio::select! {
                () = sleep(pause) => {}
                _ = self.phase.wait_for(|phase| *phase == Phase::Finish) => {}
            }
        }
    }

    /// Whether the connection ended because RabbitMQ has a queue with other arguments: what was for it goes to
    /// it by another name, at once.
    fn learn(&self, result: &Result<(), ClientError>) -> bool {
        let Some(queue) = result.as_ref().err().and_then(|error| self.flavour.declared_otherwise(error)) else {
            return false;
        };
        info!(server = %self.options.server, queue, "the queue has other arguments than a SEND declares: sending to /amq/queue/{queue}");
        self.outbox.take_as_existing(queue)
    }

    async fn one_connection(&mut self, opened: &mut Option<Instant>) -> Result<(), ClientError> {
        let mut connection = tokio::select! {
            connection = Connection::open(&self.options) => connection?,
            _ = self.phase.wait_for(|phase| *phase == Phase::Finish) => return Ok(()),
        };
        info!(server = %self.options.server, peer = %connection.peer, broker = ?connection.flavour, "ready to send");
        connection.tolerate_silence(FLOW_CONTROL)?;
        *opened = Some(Instant::now());
        self.flavour = connection.flavour;
        self.outbox.connected(Link { version: connection.version, flavour: connection.flavour });
        self.connected.send_replace(true);
        self.serve(&mut connection).await?;
        timeout(GOODBYE_LIMIT, say_goodbye(&mut connection))
            .await
            .map_err(|_| ClientError::Silent { what: "receipt of DISCONNECT", limit: GOODBYE_LIMIT })?
    }

    async fn serve(&mut self, connection: &mut Connection) -> Result<(), ClientError> {
        let mut ticker = interval(connection.beat_every());
        ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (outbox, mut phase) = (self.outbox.clone(), self.phase.clone());
        let mut staged = pin!(outbox.staged());
        let mut patience = Patience::new();
        loop {
            if self.handle_frames(connection)? {
                patience.answered();
            }
            // Under a backlog one write takes all that was encoded meanwhile; while the socket is full
            // the rest stays in the outbox.
            let writing = !connection.output.is_empty();
            tokio::select! {
                moved = connection.progress(true) => moved?,
                () = staged.as_mut(), if !writing => {
                    staged.set(outbox.staged());
                    outbox.take_into(&mut connection.output);
                }
                _ = ticker.tick() => {
                    connection.beat(true)?;
                    patience.check(&self.options.server, outbox.unconfirmed(), connection)?;
                }
                _ = phase.wait_for(|phase| *phase == Phase::Finish) => return Ok(()),
            }
        }
    }

    /// Reports receipts and refusals; true where there was one.
    fn handle_frames(&self, connection: &mut Connection) -> Result<bool, ClientError> {
        let mut answered = false;
        while let Some(frame) = connection.next_frame()? {
            answered |= take_answer(&self.outbox, &frame, connection.flavour)?;
        }
        Ok(answered)
    }
}

/// Reports a receipt or a refusal; true where the frame was one. An error ends the connection.
fn take_answer(outbox: &Outbox, frame: &Frame, flavour: Flavour) -> Result<bool, ClientError> {
    match frame.command {
        Command::Receipt => {
            outbox.answer(frame.headers.get("receipt-id").unwrap_or_default(), Ok(()));
        }
        Command::Error => {
            let text = error_text(frame);
            let expected = match frame.headers.get("receipt-id") {
                Some(id) => outbox.answer(id, Err(text.clone())),
                None => flavour.survives_error() && outbox.complain(text.clone()),
            };
            // Artemis names what stood behind the culprit too: only its first ERROR tells something.
            if !(expected && flavour.survives_error()) {
                return Err(ClientError::Broker(text));
            }
        }
        _ => return Ok(false),
    }
    Ok(true)
}

/// Nothing waits for a server for longer than `max_hold_s`, connected or not. Never ends.
async fn withdraw_overdue(outbox: &Outbox, server: &str) {
    let mut ticker = interval(LOOK_FOR_OVERDUE);
    loop {
        ticker.tick().await;
        let count = outbox.withdraw_overdue();
        if count > 0 {
            warn!(server, count, "not sent within max_hold_s: the inputs are given back");
        }
    }
}

async fn say_goodbye(connection: &mut Connection) -> Result<(), ClientError> {
    connection.put(Command::Disconnect, [("receipt", GOODBYE)], b"")?;
    connection.read_to_receipt(GOODBYE).await
}
