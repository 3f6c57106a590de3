//! Messages over a limit of frames: read past, never held, and left un-acked with their broker.
//!
//! Used by [`super::Session`] alone. The connection has read past such a message ([`Skipped`]); what is kept of
//! each is small and bounded. It is never acknowledged, since nobody has processed it, and never becomes a dead
//! letter, since nobody has it: its queue keeps it, and the messages behind it go on.

use std::collections::HashMap;

use tokio::time::{Duration, Instant};
use tracing::{debug, error};

use super::{Session, ack_frame::ack_headers, epoch::Epoch, subscription::AckMode};
use crate::{
    client::ClientError,
    stomp::{Command, Headers, Skipped},
};

/// How often the same message is told at most: it comes again with each connection.
const TELL_AGAIN: Duration = Duration::from_secs(3_600);
/// So many messages are remembered as told.
const MAX_TOLD: usize = 1_000;
/// Artemis counts a message as up to so many times its bytes on the wire: texts have two bytes a character there.
const COUNTED_AS: usize = 3;
/// More room is not made.
const MAX_ROOM: usize = 512 << 20;
/// How often it is told that nothing else can come.
const ALARM: Duration = Duration::from_secs(60);

/// Which messages were told, and when.
#[derive(Debug, Default)]
pub(super) struct Told(HashMap<String, Instant>);

impl Told {
    /// Whether this one is to be told now.
    fn is_due(&mut self, message: &str) -> bool {
        let now = Instant::now();
        if self.0.len() >= MAX_TOLD {
            self.0.clear();
        }
        match self.0.get_mut(message) {
            Some(told) if now.duration_since(*told) < TELL_AGAIN => false,
            Some(told) => {
                *told = now;
                true
            }
            None => self.0.insert(message.to_owned(), now).is_none(),
        }
    }
}

/// One that the broker has outstanding with this connection.
#[derive(Debug)]
pub(super) struct Left {
    headers: Headers,
    bytes: usize,
    since: Instant,
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
        epoch.left.push(Left { headers: skipped.headers, bytes: skipped.bytes, since: Instant::now() });
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
        } else if self.told.is_due(&format!("{} {what} {size}", named.unwrap_or_default())) {
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
        let Epoch { connection, left, full_told, .. } = epoch;
        let (server, queue, window) = (&self.options.server, &self.subscription.queue, self.subscription.window);
        let is_full = match connection.flavour.window_bytes(window, self.room) {
            Some(bytes) => counted_bytes(left) > bytes,
            None => left.len() >= window,
        };
        if is_full && full_told.is_none_or(|told| told.elapsed() >= ALARM) {
            *full_told = Some(Instant::now());
            error!(%server, %queue, window, "the queue stands still: messages over a limit of the host take all of the window \
                   until they are removed at the broker");
        }
        if connection.flavour.nack_requeues(connection.flavour.wire_mode(self.subscription.ack_mode)) {
            for left in left.extract_if(.., |left| left.since.elapsed() > self.intake.max_hold()) {
                let headers = ack_headers(connection.version, &left.headers, self.subscription.id());
                connection.put(Command::Nack, headers.into_iter().flatten(), b"")?;
            }
        }
        Ok(())
    }
}

fn counted_bytes(left: &[Left]) -> usize {
    left.iter().map(|left| left.bytes).fold(0_usize, usize::saturating_add).saturating_mul(COUNTED_AS)
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
        for number in 0..10 * MAX_TOLD {
            assert!(told.is_due(&number.to_string()));
            assert!(told.0.len() <= MAX_TOLD);
        }
    }
}
