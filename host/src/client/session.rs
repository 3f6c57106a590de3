//! The consuming side: one task that owns one consumer connection.
//!
//! It subscribes, turns MESSAGE frames into deliveries, pushes them to the buffer and writes the
//! acknowledgements that come back. After a break it reconnects with back-off and begins a new *epoch*:
//! an ACK for a delivery of an older epoch is never sent, since ack ids belong to one STOMP session.
//! Where it must give back what it has, it leaves in good order and comes again when it is wanted.
//! [`Acks::take_into`] writes the ACK frames; `ledger` knows which may be written, `recall` what older
//! epochs delivered.

pub(super) mod ack_frame;
mod acks;
mod epoch;
mod epoch_ack;
mod goodbye;
mod ledger;
mod left;
mod oversized;
mod recall;
mod subscription;
#[cfg(test)]
pub(crate) mod testing;

use std::{pin::pin, sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval, sleep, timeout},
};
use tracing::{debug, info, warn};

pub use self::subscription::{AckMode, Subscription};
use self::{
    ack_frame::ack_id,
    acks::Acks,
    epoch::Epoch,
    oversized::Told,
    subscription::{SUBSCRIBED, UNSUBSCRIBED},
};
use super::{
    Backoff, ClientError, ConnectOptions, Connection, GOODBYE, GOODBYE_LIMIT, Phase, SessionState, error_text,
    flavour::QueueName,
};
use crate::{
    delivery::{Delivery, Intake, Message},
    stomp::{Command, DecodeError, Frame},
};

/// How long a broker may leave an ACK, SUBSCRIBE or the goodbye behind ACKs without its RECEIPT while we read.
const RECEIPT_LIMIT: Duration = Duration::from_secs(30);

/// How often a session that stays away asks whether it is wanted, beside being told.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// One consumer connection and all its successors.
pub struct Session {
    options: ConnectOptions,
    subscription: Subscription,
    intake: Arc<dyn Intake>,
    phase: watch::Receiver<Phase>,
    acks: Arc<Acks>,
    state: watch::Sender<SessionState>,
    queue_name: QueueName,
    told: Told,
    /// Bytes of the window for messages that will stay un-acked.
    room: usize,
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
        let acks = Arc::new(Acks::new(&subscription));
        let (state, watched) = watch::channel(SessionState::Connecting);
        let (queue_name, told, room) = Default::default();
        (Self { options, subscription, intake, phase, acks, state, queue_name, told, room }, watched)
    }

    /// Consumes until the phase is over; breaks are logged and mended here.
    pub async fn run(mut self) {
        let end = self.run_epochs().await;
        self.intake.may_repeat(self.acks.end());
        self.state.send_replace(end);
    }

    async fn run_epochs(&mut self) -> SessionState {
        let mut backoff = Backoff::new(self.options.max_backoff);
        while *self.phase.borrow() == Phase::Run {
            self.stay_away().await;
            let mut opened = None;
            let result = self.one_epoch(&mut opened).await;
            self.intake.may_repeat(self.acks.close_epoch(result.is_ok()));
            self.intake.forget_stale();
            let error = match result {
                Ok(End::Over) => return SessionState::Closed,
                Ok(End::GivenBack) => None,
                Err(error) => Some(error),
            };
            if *self.phase.borrow() != Phase::Run {
                let Some(error) = error else { return SessionState::Closed };
                warn!(server = %self.options.server, queue = %self.subscription.queue, error = &error as &dyn std::error::Error,
                      "session lost while draining: what was not confirmed may be delivered again");
                return SessionState::Lost;
            }
            self.state.send_replace(SessionState::Connecting);
            if error.as_ref().is_some_and(|error| self.queue_name.learn(error)) {
                info!(server = %self.options.server, queue = %self.subscription.queue, "no such queue yet: declaring it");
                continue;
            }
            backoff.after(opened);
            self.pause_after(error, backoff.pause()).await;
        }
        SessionState::Closed
    }

    /// While nobody is there to process deliveries, the broker keeps them for others.
    async fn stay_away(&mut self) {
        let (intake, mut told) = (self.intake.clone(), false);
        while self.subscription.ack_mode != AckMode::Auto && *self.phase.borrow() == Phase::Run {
            let wanted = intake.room().notified();
            if intake.wanted() {
                return;
            }
            if !std::mem::replace(&mut told, true) {
                warn!(queue = %self.subscription.queue, "no lane takes deliveries: everything is given back until one does");
            }
            tokio::select! {
                () = wanted => {}
                () = sleep(ASK_AGAIN) => {}
                _ = self.phase.wait_for(|phase| *phase != Phase::Run) => {}
            }
        }
    }

    async fn pause_after(&mut self, error: Option<ClientError>, pause: Duration) {
        let (server, queue) = (&self.options.server, &self.subscription.queue);
        match error {
            Some(error) => {
                warn!(%server, %queue, error = &error as &dyn std::error::Error,
                      "session lost, connecting again in {} ms", pause.as_millis());
            }
            None => info!(%server, %queue, "deliveries given back, connecting again in {} ms", pause.as_millis()),
        }
        tokio::select! {
            () = sleep(pause) => {}
            _ = self.phase.wait_for(|phase| *phase != Phase::Run) => {}
        }
    }

    /// From connecting to a break (error) or to a goodbye (ok).
    async fn one_epoch(&mut self, opened: &mut Option<Instant>) -> Result<End, ClientError> {
        let mut connection = tokio::select! {
            connection = Connection::open(&self.options) => connection?,
            _ = self.phase.wait_for(|phase| *phase != Phase::Run) => return Ok(End::Over),
        };
        *opened = Some(Instant::now());
        if self.subscription.selects() && !connection.flavour.has_selectors() {
            return Err(ClientError::NoSelectors);
        }
        connection.skip_messages();
        self.subscription.put_subscribe(&mut connection, &mut self.queue_name, self.room)?;
        let stands_in = self.subscription.stands_in(connection.flavour);
        let settle =
            self.acks.open_epoch(connection.version, connection.flavour, self.subscription.ack_mode, stands_in);
        let auto = self.subscription.ack_mode == AckMode::Auto && !stands_in;
        let mut epoch = Epoch::new(connection, settle, auto);
        let end = self.serve(&mut epoch).await?;
        // A slow broker answers when it has done all ACKs before it.
        let limit = if self.acks.all_confirmed() { GOODBYE_LIMIT } else { RECEIPT_LIMIT };
        timeout(limit, self.say_goodbye(&mut epoch))
            .await
            .map_err(|_| ClientError::Silent { what: "receipt of DISCONNECT", limit })??;
        Ok(end)
    }

    /// Reads, pushes and acknowledges until the phase says finish. One iteration handles everything
    /// that one read brought, so a backlog costs one wake-up per read.
    async fn serve(&mut self, epoch: &mut Epoch) -> Result<End, ClientError> {
        let mut ticker = interval(epoch.connection.beat_every());
        ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (acks, intake) = (self.acks.clone(), self.intake.clone());
        let mut staged = pin!(acks.staged());
        let mut batch = Vec::new();
        loop {
            let handled = self.handle_frames(epoch, &mut batch);
            self.hand_over(epoch, &mut batch).await?;
            handled?;
            if epoch.unsubscribed {
                // Only now: the last deliveries are in the buffer.
                self.state.send_replace(SessionState::Quiet);
            }
            let room = intake.room().notified();
            let reading = !epoch.said_goodbye && (epoch.draining || epoch.finishing || intake.has_room());
            tokio::select! {
                moved = epoch.connection.progress(reading) => moved?,
                () = staged.as_mut() => {
                    staged.set(acks.staged());
                    acks.take_into(&mut epoch.connection.output)?;
                    intake.push(&mut acks.take_released());
                }
                () = room, if !reading => {}
                _ = ticker.tick() => self.check(epoch, reading)?,
                changed = self.phase.changed() => {
                    let phase = if changed.is_err() { Phase::Finish } else { *self.phase.borrow_and_update() };
                    if phase == Phase::Finish {
                        return Ok(End::Over);
                    }
                    self.drain(epoch)?;
                }
            }
            let finished = epoch.finishing && acks.is_idle();
            if !epoch.draining && (acks.leaving() || epoch.unwanted || finished) {
                return Ok(End::GivenBack);
            }
        }
    }

    /// Gives what was read to the buffer; where the session acknowledges in the broker's place, after that is
    /// written, so that a host that dies has not processed what comes again.
    async fn hand_over(&self, epoch: &mut Epoch, batch: &mut Vec<Delivery>) -> Result<(), ClientError> {
        let mut written = Ok(());
        if self.acks.admit(batch) {
            self.acks.take_into(&mut epoch.connection.output)?;
            let silent = |_| ClientError::Silent { what: "room for ACKs", limit: RECEIPT_LIMIT };
            written = timeout(RECEIPT_LIMIT, epoch.connection.flush()).await.map_err(silent).flatten();
        }
        // Also after a break: the broker may have got the ACKs, and what comes again counts as a repeat.
        self.intake.push(batch);
        written
    }

    fn handle_frames(&mut self, epoch: &mut Epoch, batch: &mut Vec<Delivery>) -> Result<(), ClientError> {
        loop {
            let frame = match epoch.connection.next_frame() {
                Ok(Some(frame)) => frame,
                Ok(None) => return Ok(()),
                Err(ClientError::Decode(DecodeError::Skipped(skipped))) => {
                    epoch.left.arrived();
                    self.leave_oversized(epoch, *skipped);
                    continue;
                }
                Err(error) => return Err(error),
            };
            match frame.command {
                Command::Message => {
                    epoch.left.arrived();
                    self.deliver(epoch, frame, batch)?;
                }
                Command::Receipt => self.receipt(epoch, frame.headers.get("receipt-id").unwrap_or_default()),
                // A clean close and a new epoch: on most brokers the connection is dead anyway.
                Command::Error => return Err(ClientError::Broker(error_text(&frame))),
                other => debug!(command = %other, "unexpected frame ignored"),
            }
        }
    }

    fn deliver(&self, epoch: &Epoch, frame: Frame, batch: &mut Vec<Delivery>) -> Result<(), ClientError> {
        if epoch.refuses() {
            return Ok(());
        }
        let id = frame.headers.get("message-id").unwrap_or_default();
        let stable_from = epoch.connection.flavour.stable_id(id).map(|stable| id.len() - stable.len());
        let message = Message {
            stable_from,
            queue: self.subscription.queue.clone(),
            headers: frame.headers,
            body: frame.body,
            received_at: std::time::SystemTime::now(),
        };
        if !epoch.auto && ack_id(epoch.connection.version, &message.headers).is_none() {
            return Err(ClientError::Nameless);
        }
        batch.push(Delivery::new(message, epoch.settle.clone()));
        Ok(())
    }

    fn receipt(&self, epoch: &mut Epoch, id: &str) {
        match id {
            UNSUBSCRIBED if epoch.asked.contains(&Command::Unsubscribe) => epoch.unsubscribed = true,
            GOODBYE if epoch.asked.contains(&Command::Disconnect) => {
                (epoch.unsubscribed, epoch.said_goodbye) = (true, true);
            }
            SUBSCRIBED if !epoch.subscribed => {
                epoch.subscribed = true;
                // One that takes nothing more, because it ends, is not less quiet for this.
                self.state.send_if_modified(|state| {
                    let came = *state == SessionState::Connecting;
                    *state = (*state).max(SessionState::Subscribed);
                    came
                });
                info!(server = %self.options.server, queue = %self.subscription.queue, peer = %epoch.connection.peer,
                      broker = ?epoch.connection.flavour, window = self.subscription.window, "subscribed");
            }
            // Also what nobody asked for: it means nothing.
            _ => self.acks.receipt(id),
        }
    }

    fn check(&self, epoch: &mut Epoch, reading: bool) -> Result<(), ClientError> {
        if epoch.said_goodbye {
            return Ok(());
        }
        epoch.connection.beat(reading)?;
        if self.subscription.ack_mode != AckMode::Auto {
            self.intake.give_back_overdue();
            epoch.unwanted = !self.intake.wanted();
        }
        self.report_blocked(epoch, reading);
        self.look_after_oversized(epoch)?;
        self.look_after_skip(epoch)?;
        // Receipts may stand behind what is not read, or is read past.
        let reading = reading && !epoch.connection.is_skipping();
        let silent = |what| Err(ClientError::Silent { what, limit: RECEIPT_LIMIT });
        if !reading {
            epoch.began = Instant::now();
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
        if !epoch.auto {
            self.state.send_replace(SessionState::Quiet);
        }
        epoch.asked = goodbye::at_drain(epoch.auto, self.subscription.durable.is_some());
        self.put_leaving(&mut epoch.connection, epoch.asked)
    }

    /// Writes the last ACKs and leaves so that no broker loses them: RabbitMQ forgets ACKs of a
    /// connection that is closed with unread data, so everything is read up to the receipt.
    async fn say_goodbye(&self, epoch: &mut Epoch) -> Result<(), ClientError> {
        if epoch.said_goodbye {
            return Ok(());
        }
        let connection = &mut epoch.connection;
        self.acks.take_into(&mut connection.output)?;
        let said_at_drain = epoch.draining && epoch.auto;
        let frames = goodbye::at_end(said_at_drain, self.subscription.durable.is_some(), connection.flavour);
        self.put_leaving(connection, frames)?;
        connection.read_to_receipt(GOODBYE).await
    }

    fn put_leaving(&self, connection: &mut Connection, frames: &[Command]) -> Result<(), ClientError> {
        for frame in frames {
            match frame {
                Command::Unsubscribe => self.subscription.put_unsubscribe(connection)?,
                _ => connection.put(*frame, [("receipt", GOODBYE)], b"")?,
            }
        }
        Ok(())
    }
}

/// Why an epoch ended in good order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The phase is over.
    Over,
    /// Something had to be given back.
    GivenBack,
}
