//! Messages over a limit of frames: read past, never held, and left un-acked with their broker.
//!
//! Used by [`super::Session`] alone. The connection has read past such a message ([`Skipped`]); what is kept of
//! each is small and bounded. It is never acknowledged, since nobody has processed it, and never becomes a dead
//! letter, since nobody has it: its queue keeps it, and the messages behind it go on.

use std::collections::HashMap;

use tokio::time::{Duration, Instant};
use tracing::{debug, error, warn};

use super::{
    RECEIPT_LIMIT, Session,
    ack_frame::ack_headers,
    epoch::Epoch,
    left::{ALARM, Alarm, Left},
    subscription::AckMode,
};
use crate::{
    client::ClientError,
    stomp::{Command, Skipped},
};

/// How often the same message is told at most: it comes again with each connection.
const TELL_AGAIN: Duration = Duration::from_secs(3_600);
/// So many messages are remembered as told.
const MAX_TOLD: usize = 1_000;
/// Artemis counts a message as up to so many times its bytes on the wire: texts have two bytes a character there.
const COUNTED_AS: usize = 3;
/// More room is not made.
const MAX_ROOM: usize = 512 << 20;
/// So many lines tell of single messages in a minute; of others the count is told.
const MAX_LINES: usize = 50;

/// Which messages were told, and when.
#[derive(Debug, Default)]
pub(super) struct Told {
    messages: HashMap<String, Instant>,
    /// When the minute began in which so many lines were written.
    minute: Option<Instant>,
    lines: usize,
}

impl Told {
    /// Whether this one is to be told now.
    fn is_due(&mut self, message: &str) -> bool {
        let now = Instant::now();
        if self.messages.get(message).is_some_and(|told| now.duration_since(*told) < TELL_AGAIN) {
            return false;
        }
        if self.minute.is_none_or(|minute| now.duration_since(minute) >= ALARM) {
            (self.minute, self.lines) = (Some(now), 0);
        }
        if self.lines >= MAX_LINES {
            return false;
        }
        self.lines += 1;
        if self.messages.len() >= MAX_TOLD {
            self.messages.clear();
        }
        self.messages.insert(message.to_owned(), now);
        true
    }
}

impl Session {
    /// Goes on without this message, which stays with its broker.
    pub(super) fn leave_oversized(&mut self, epoch: &mut Epoch, skipped: Skipped) {
        if epoch.refuses() {
            return; // As any other that comes now.
        }
        self.intake.was_oversized();
        self.tell_oversized(epoch, &skipped);
        if epoch.auto {
            return;
        }
        epoch.left.add(skipped.headers, skipped.bytes, self.subscription.window);
        self.make_room(epoch);
        let flavour = epoch.connection.flavour;
        if flavour.wire_mode(self.subscription.ack_mode) == AckMode::Client {
            // An ACK for what comes after it would cover it: from now on each has its own.
            self.subscription.ack_mode = AckMode::ClientIndividual;
            epoch.finishing = true;
        }
    }

    /// Where the window is counted in bytes, such a message may take all of it: the session comes again with a wider
    /// one, by a factor, so that many of them cost a few connections.
    fn make_room(&mut self, epoch: &Epoch) {
        let (flavour, counted) = (epoch.connection.flavour, counted_bytes(&epoch.left));
        let Some(window) = flavour.window_bytes(self.subscription.window, self.room) else { return };
        if counted > window / 2 && self.room < MAX_ROOM {
            self.room = counted.saturating_mul(4).min(MAX_ROOM);
            self.acks.leave();
        }
    }

    fn tell_oversized(&mut self, epoch: &Epoch, skipped: &Skipped) {
        let Skipped { what, size, limit, headers, .. } = skipped;
        let id = headers.get("message-id").unwrap_or_default();
        let named = epoch.connection.flavour.stable_id(id).or_else(|| headers.get("amqp-message-id"));
        let (server, queue, error) = (&self.options.server, &self.subscription.queue, skipped);
        let destination = headers.get("destination").unwrap_or_default();
        if epoch.auto {
            error!(%server, %queue, id, destination, %error, "lost: a message over a limit of the host, and in ack mode auto \
                   its broker has forgotten it: use ack_mode client-individual");
        } else if self.told.is_due(&key(named, epoch.left.count, what, *size)) {
            error!(%server, %queue, id, destination, %error, "a message over a limit of the host stays with its broker \
                   un-acked and takes one place of the window; the others go on: remove it from its queue at the broker, \
                   and have it sent in parts of less than {limit}");
        } else {
            debug!(%server, %queue, id, destination, %error, "a message over a limit came again");
        }
    }

    /// Tells where such messages leave no room for others, and gives back what RabbitMQ would not leave
    /// outstanding for longer: it closes the channel, and with it everything in work.
    pub(super) fn look_after_oversized(&self, epoch: &mut Epoch) -> Result<(), ClientError> {
        let Epoch { connection, left, .. } = epoch;
        let (server, queue, window) = (&self.options.server, &self.subscription.queue, self.subscription.window);
        let (count, is_full) = match connection.flavour.window_bytes(window, self.room) {
            Some(bytes) => (left.count, counted_bytes(left) > bytes),
            None => (left.count, left.count >= window),
        };
        match left.look(is_full) {
            Some(Alarm::StandsStill) => {
                error!(%server, %queue, window, count, "the queue stands still: messages over a limit of the host take all \
                       of the window until they are removed at the broker");
            }
            Some(Alarm::KeepsComing) => {
                error!(%server, %queue, window, count, "messages over a limit of the host take more than the window: remove \
                       them at the broker");
            }
            None => {}
        }
        if connection.flavour.nack_requeues(connection.flavour.wire_mode(self.subscription.ack_mode)) {
            for headers in left.take_older(self.intake.max_hold()) {
                let headers = ack_headers(connection.version, &headers, self.subscription.id());
                connection.put(Command::Nack, headers.into_iter().flatten(), b"")?;
            }
        }
        Ok(())
    }

    /// Until the message that is read past has ended, nothing else comes: it must go on coming itself.
    pub(super) fn look_after_skip(&self, epoch: &mut Epoch) -> Result<(), ClientError> {
        if !epoch.connection.is_skipping() {
            epoch.skip_told = None;
            return Ok(());
        }
        if epoch.connection.silent_for() > RECEIPT_LIMIT {
            return Err(ClientError::Silent { what: "rest of a message over a limit", limit: RECEIPT_LIMIT });
        }
        if epoch.skip_told.get_or_insert_with(Instant::now).elapsed() >= ALARM {
            epoch.skip_told = Some(Instant::now());
            warn!(server = %self.options.server, queue = %self.subscription.queue, "still reading past a message over a \
                  limit of the host: nothing else comes over this connection meanwhile");
        }
        Ok(())
    }
}

fn counted_bytes(left: &Left) -> usize {
    left.bytes.saturating_mul(COUNTED_AS)
}

/// By what a message is recognised as told. One that no broker's id names is known by its place among those that
/// are outstanding, so that several of a size are told, and not again with each connection.
fn key(named: Option<&str>, place: usize, what: &str, size: usize) -> String {
    match named {
        Some(id) => format!("{id} {what} {size}"),
        None => format!("#{place} {what} {size}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_message_is_told_once_an_hour() {
        let mut told = Told::default();
        assert!(told.is_due("a") && told.is_due("b") && !told.is_due("a"));
        tokio::time::advance(TELL_AGAIN).await;
        assert!(told.is_due("a") && !told.is_due("a"));
    }

    #[tokio::test(start_paused = true)]
    async fn lines_and_memory_are_bounded_whatever_comes() {
        let (mut told, minutes) = (Told::default(), 10 * MAX_TOLD / MAX_LINES);
        for minute in 0..minutes {
            let due = (0..10 * MAX_LINES).filter(|number| told.is_due(&format!("{minute} {number}"))).count();
            assert_eq!(due, MAX_LINES);
            assert!(told.messages.len() <= MAX_TOLD);
            tokio::time::advance(ALARM).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn messages_without_an_id_are_told_each_and_once() {
        let mut told = Told::default();
        let mut connection = || (0..7).filter(|place| told.is_due(&key(None, *place, "headers", 1_001))).count();
        assert_eq!((connection(), connection()), (7, 0));
    }
}
