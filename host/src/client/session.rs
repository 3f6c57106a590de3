//! The consuming side: one task that owns one consumer connection.
//!
//! It subscribes, turns MESSAGE frames into deliveries, pushes them to the buffer and writes the
//! acknowledgements that come back. After a break it reconnects with back-off and begins a new *epoch*:
//! an ACK for a delivery of an older epoch is never sent, since ack ids belong to one STOMP session.
//! [`Acks::take_into`] writes the ACK frames.

mod acks;

use std::{pin::pin, sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval, sleep, timeout},
};
use tracing::{debug, info, warn};

use self::acks::{Acks, AutoAck};
use super::{Backoff, ClientError, ConnectOptions, Connection, error_text, flavour::QueueName};
use crate::{
    delivery::{Delivery, Intake, Message, Settle},
    stomp::{Command, Frame},
};

/// The id of the one subscription of a session.
const SUBSCRIPTION: &str = "stompbox";
/// The receipt that confirms SUBSCRIBE.
const SUBSCRIBED: &str = "subscribed";
/// The receipt that confirms UNSUBSCRIBE.
const UNSUBSCRIBED: &str = "unsubscribed";
/// The receipt of DISCONNECT.
const GOODBYE: &str = "goodbye";
/// How long a broker may leave an ACK or SUBSCRIBE without its RECEIPT while we read.
const RECEIPT_LIMIT: Duration = Duration::from_secs(30);
/// How long the broker may take to answer DISCONNECT.
const GOODBYE_LIMIT: Duration = Duration::from_secs(5);
/// A connection that held this long was a good one: the back-off begins anew.
const STABLE: Duration = Duration::from_secs(10);

/// When the broker regards a message as consumed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AckMode {
    /// When it was sent: nothing is acknowledged.
    Auto,
    /// Each message by its own ACK.
    ClientIndividual,
}

impl AckMode {
    fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::ClientIndividual => "client-individual",
        }
    }
}

/// What to consume.
#[derive(Debug, Clone)]
pub struct Subscription {
    /// The name of the queue in the configuration.
    pub queue: Arc<str>,
    /// The broker's destination.
    pub destination: String,
    /// The mode of acknowledgement.
    pub ack_mode: AckMode,
    /// How many deliveries the broker may have outstanding with us.
    pub window: usize,
    /// How often a full buffer is reported (`buffer_block_sec`).
    pub report_blocked: Duration,
    /// Further headers for SUBSCRIBE, from the configuration.
    pub headers: Vec<(String, String)>,
}

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

/// One consumer connection and all its successors.
pub struct Session {
    options: ConnectOptions,
    subscription: Subscription,
    intake: Arc<dyn Intake>,
    phase: watch::Receiver<Phase>,
    acks: Arc<Acks>,
    state: watch::Sender<SessionState>,
    queue_name: QueueName,
}

impl Session {
    /// Creates a session that will fill `intake` once [`Session::run`] is spawned. The second value
    /// tells where it stands.
    #[must_use]
    pub fn new(
        options: ConnectOptions,
        subscription: Subscription,
        intake: Arc<dyn Intake>,
        phase: watch::Receiver<Phase>,
    ) -> (Self, watch::Receiver<SessionState>) {
        let acks = Arc::new(Acks::new(subscription.window, SUBSCRIPTION));
        let (state, watched) = watch::channel(SessionState::Connecting);
        (Self { options, subscription, intake, phase, acks, state, queue_name: QueueName::default() }, watched)
    }

    /// Consumes until the phase is over; breaks are logged and mended here.
    pub async fn run(mut self) {
        let end = self.run_epochs().await;
        self.state.send_replace(end);
    }

    async fn run_epochs(&mut self) -> SessionState {
        let mut backoff = Backoff::new(self.options.max_backoff);
        while *self.phase.borrow() == Phase::Run {
            let mut opened = None;
            let result = self.one_epoch(&mut opened).await;
            self.acks.close_epoch();
            let Err(error) = result else { return SessionState::Closed };
            if *self.phase.borrow() != Phase::Run {
                warn!(server = %self.options.server, queue = %self.subscription.queue, error = &error as &dyn std::error::Error,
                      "session lost while draining: what was not confirmed may be delivered again");
                return SessionState::Lost;
            }
            self.state.send_replace(SessionState::Connecting);
            if self.queue_name.learn(&error) {
                info!(server = %self.options.server, queue = %self.subscription.queue, "no such queue yet: declaring it");
                continue;
            }
            if opened.is_some_and(|opened: Instant| opened.elapsed() >= STABLE) {
                backoff.reset();
            }
            let pause = backoff.pause();
            warn!(server = %self.options.server, queue = %self.subscription.queue, error = &error as &dyn std::error::Error,
                  "session lost, connecting again in {} ms", pause.as_millis());
            tokio::select! {
                () = sleep(pause) => {}
                _ = self.phase.wait_for(|phase| *phase != Phase::Run) => {}
            }
        }
        SessionState::Closed
    }

    /// From connecting to a break (error) or to the end of the drain (ok).
    async fn one_epoch(&mut self, opened: &mut Option<Instant>) -> Result<(), ClientError> {
        let mut connection = tokio::select! {
            connection = Connection::open(&self.options) => connection?,
            _ = self.phase.wait_for(|phase| *phase != Phase::Run) => return Ok(()),
        };
        *opened = Some(Instant::now());
        self.subscribe(&mut connection)?;
        let settle: Arc<dyn Settle> = match self.subscription.ack_mode {
            AckMode::Auto => Arc::new(AutoAck),
            AckMode::ClientIndividual => self.acks.open_epoch(connection.version),
        };
        let mut epoch = Epoch {
            connection,
            settle,
            began: Instant::now(),
            subscribed: false,
            draining: false,
            unsubscribed: false,
            blocked: None,
        };
        self.serve(&mut epoch).await?;
        timeout(GOODBYE_LIMIT, self.say_goodbye(&mut epoch))
            .await
            .map_err(|_| ClientError::Silent { what: "receipt of DISCONNECT", limit: GOODBYE_LIMIT })?
    }

    fn subscribe(&mut self, connection: &mut Connection) -> Result<(), ClientError> {
        let wanted = &self.subscription;
        let destination = self.queue_name.of(connection.flavour, &wanted.destination);
        let routing = connection.flavour.subscription_type(&wanted.destination);
        let window = connection.flavour.window_header(wanted.window, wanted.ack_mode);
        // The first of repeated headers wins, so the configured ones stand before what the flavour adds.
        let headers = [("destination", &*destination), ("id", SUBSCRIPTION), ("ack", wanted.ack_mode.as_str())];
        let configured = wanted.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let window = window.as_ref().map(|(name, value)| (*name, value.as_str()));
        let added = routing.into_iter().chain(window).chain([("receipt", SUBSCRIBED)]);
        let all = headers.into_iter().chain(configured).chain(added);
        connection.put(Command::Subscribe, all, b"")?;
        Ok(())
    }

    /// Reads, pushes and acknowledges until the phase says finish. One iteration handles everything
    /// that one read brought, so a backlog costs one wake-up per read.
    async fn serve(&mut self, epoch: &mut Epoch) -> Result<(), ClientError> {
        let mut ticker = interval(epoch.connection.beat_every());
        ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (acks, intake) = (self.acks.clone(), self.intake.clone());
        let mut staged = pin!(acks.staged());
        let mut batch = Vec::new();
        loop {
            let handled = self.handle_frames(epoch, &mut batch);
            intake.push(&mut batch);
            handled?;
            if epoch.unsubscribed {
                // Only now: the last deliveries are in the buffer.
                self.state.send_replace(SessionState::Quiet);
            }
            let reading = epoch.draining || intake.has_room();
            tokio::select! {
                moved = epoch.connection.progress(reading) => moved?,
                () = staged.as_mut() => {
                    staged.set(acks.staged());
                    acks.take_into(&mut epoch.connection)?;
                }
                () = intake.room().notified(), if !reading => {}
                _ = ticker.tick() => self.check(epoch, reading)?,
                changed = self.phase.changed() => {
                    let phase = if changed.is_err() { Phase::Finish } else { *self.phase.borrow_and_update() };
                    if phase == Phase::Finish {
                        return Ok(());
                    }
                    self.drain(epoch)?;
                }
            }
        }
    }

    fn handle_frames(&self, epoch: &mut Epoch, batch: &mut Vec<Delivery>) -> Result<(), ClientError> {
        while let Some(frame) = epoch.connection.next_frame()? {
            match frame.command {
                Command::Message => self.deliver(epoch, frame, batch),
                Command::Receipt => self.receipt(epoch, frame.headers.get("receipt-id").unwrap_or_default()),
                // A clean close and a new epoch: on most brokers the connection is dead anyway.
                Command::Error => return Err(ClientError::Broker(error_text(&frame))),
                other => debug!(command = %other, "unexpected frame ignored"),
            }
        }
        Ok(())
    }

    fn deliver(&self, epoch: &Epoch, frame: Frame, batch: &mut Vec<Delivery>) {
        if epoch.draining && self.subscription.ack_mode != AckMode::Auto {
            return; // Un-acked: the broker gives it to the next consumer.
        }
        self.acks.delivered();
        let message = Message {
            queue: self.subscription.queue.clone(),
            headers: frame.headers,
            body: frame.body,
            received_at: std::time::SystemTime::now(),
        };
        batch.push(Delivery::new(message, epoch.settle.clone()));
    }

    fn receipt(&self, epoch: &mut Epoch, id: &str) {
        if id == UNSUBSCRIBED {
            epoch.unsubscribed = true;
        } else if id == SUBSCRIBED {
            epoch.subscribed = true;
            self.state.send_replace(SessionState::Subscribed);
            info!(server = %self.options.server, queue = %self.subscription.queue, peer = %epoch.connection.peer,
                  broker = ?epoch.connection.flavour, window = self.subscription.window, "subscribed");
        } else {
            self.acks.receipt(id);
        }
    }

    fn check(&self, epoch: &mut Epoch, reading: bool) -> Result<(), ClientError> {
        epoch.connection.beat(reading)?;
        self.report_blocked(epoch, reading);
        let silent = |what| Err(ClientError::Silent { what, limit: RECEIPT_LIMIT });
        if !reading {
            epoch.began = Instant::now(); // The receipt may stand behind what is not read.
        }
        if !epoch.subscribed && epoch.began.elapsed() > RECEIPT_LIMIT {
            return silent("receipt of SUBSCRIBE");
        }
        if self.acks.receipt_overdue(RECEIPT_LIMIT, reading) {
            return silent("receipt of ACK");
        }
        Ok(())
    }

    /// Tells every `buffer_block_sec` that the lanes do not keep up.
    fn report_blocked(&self, epoch: &mut Epoch, reading: bool) {
        if reading {
            epoch.blocked = None;
        } else if epoch.blocked.get_or_insert_with(Instant::now).elapsed() >= self.subscription.report_blocked {
            epoch.blocked = None;
            info!(queue = %self.subscription.queue, "the buffer is full: not reading until lanes have taken from it");
        }
    }

    /// Takes nothing more. In mode auto the broker is told at once, since it forgets what it sends. Else
    /// the subscription stays until the last ACK: ActiveMQ does not count an ACK that comes after
    /// UNSUBSCRIBE, and delivers the message again. What arrives meanwhile stays un-acked.
    fn drain(&self, epoch: &mut Epoch) -> Result<(), ClientError> {
        if std::mem::replace(&mut epoch.draining, true) {
            return Ok(());
        }
        if self.subscription.ack_mode == AckMode::Auto {
            return self.unsubscribe(&mut epoch.connection);
        }
        self.state.send_replace(SessionState::Quiet);
        Ok(())
    }

    fn unsubscribe(&self, connection: &mut Connection) -> Result<(), ClientError> {
        let destination = self.subscription.destination.as_str();
        let headers = [("id", SUBSCRIPTION), ("destination", destination), ("receipt", UNSUBSCRIBED)];
        connection.put(Command::Unsubscribe, headers, b"")?;
        Ok(())
    }

    /// Writes the last ACKs and leaves so that no broker loses them: RabbitMQ forgets ACKs of a
    /// connection that is closed with unread data, so everything is read up to the receipt. Artemis raises
    /// delivery counts where UNSUBSCRIBE is missing.
    async fn say_goodbye(&self, epoch: &mut Epoch) -> Result<(), ClientError> {
        let connection = &mut epoch.connection;
        self.acks.take_into(connection)?;
        if !(epoch.draining && self.subscription.ack_mode == AckMode::Auto) {
            self.unsubscribe(connection)?;
        }
        connection.put(Command::Disconnect, [("receipt", GOODBYE)], b"")?;
        loop {
            while let Some(frame) = connection.next_frame()? {
                match frame.command {
                    Command::Receipt if frame.headers.get("receipt-id") == Some(GOODBYE) => return Ok(()),
                    Command::Error => return Err(ClientError::Broker(error_text(&frame))),
                    _ => {}
                }
            }
            connection.progress(true).await?;
        }
    }
}

/// What belongs to one connection of a session.
struct Epoch {
    connection: Connection,
    settle: Arc<dyn Settle>,
    began: Instant,
    subscribed: bool,
    draining: bool,
    unsubscribed: bool,
    /// Since when the buffer has been full.
    blocked: Option<Instant>,
}
