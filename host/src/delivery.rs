//! A delivery: one message plus the duty to settle it.
//!
//! The session makes deliveries, the buffer and the lanes pass them on, and [`Delivery::ack`] ends the
//! duty. Dropping a delivery leaves it un-acked: the broker still has it and delivers it again when the
//! session ends; the session is told. Nothing here knows of sockets: the session lends its end through
//! [`Settle`], and the buffer its order through [`Turn`].

#[cfg(test)]
pub(crate) mod testing;

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use tracing::Span;

use crate::stomp::Headers;

/// A message as it came from the broker, immutable from here on.
#[derive(Debug, Clone)]
pub struct Message {
    /// The name of the in queue in the configuration.
    pub queue: Arc<str>,
    /// All headers of the MESSAGE frame, in order, unescaped.
    pub headers: Headers,
    /// The body, byte for byte: a slice of the read buffer, never copied.
    pub body: Bytes,
    /// When the host read it (wall clock).
    pub received_at: SystemTime,
    /// Where in `message-id` the part begins that every delivery of this message has; none where the broker
    /// makes a new id each time. Known to the session, which knows the broker.
    pub stable_from: Option<usize>,
}

impl Message {
    /// The broker's `message-id`; empty where the broker sent none.
    #[must_use]
    pub fn id(&self) -> &str {
        self.headers.get("message-id").unwrap_or_default()
    }

    /// What names the message whenever it is delivered: the id that a Stompbox gave it, else the broker's,
    /// where that is stable, else one of AMQP; none where nothing does.
    #[must_use]
    pub fn stable_id(&self) -> Option<&str> {
        let own = self.headers.get("stompbox_id");
        let of_broker = || self.id().get(self.stable_from?..);
        own.or_else(of_broker).or_else(|| self.headers.get("amqp-message-id")).filter(|id| !id.is_empty())
    }

    /// The broker's destination.
    #[must_use]
    pub fn destination(&self) -> &str {
        self.headers.get("destination").unwrap_or_default()
    }

    /// The STOMP id of the subscription that delivered it.
    #[must_use]
    pub fn subscription(&self) -> &str {
        self.headers.get("subscription").unwrap_or_default()
    }

    /// Whether the broker marked it as delivered before.
    #[must_use]
    pub fn redelivered(&self) -> bool {
        self.headers.get("redelivered") == Some("true")
    }

    /// A copy out of the read buffer, of which a small message would keep 64 KiB alive.
    #[must_use]
    pub fn compact(&self) -> Self {
        Self {
            queue: self.queue.clone(),
            headers: self.headers.compact(),
            body: Bytes::copy_from_slice(&self.body),
            received_at: self.received_at,
            stable_from: self.stable_from,
        }
    }

    /// What it takes of a buffer's bytes.
    #[must_use]
    pub fn byte_len(&self) -> usize {
        self.body.len() + self.headers.byte_len()
    }
}

/// The session's end of a delivery: where its acknowledgement goes. A delivery is known by its number.
pub trait Settle: Send + Sync + std::fmt::Debug {
    /// Acknowledges the message, now or when the broker delivers it again; returns false where that will
    /// not be recognised and the message may be processed twice.
    fn ack(&self, number: u64, message: &Arc<Message>) -> bool;
    /// Whether the connection that it came on still stands.
    fn alive(&self) -> bool;
    /// Whether an ACK would be of use; see [`Settle::ack`].
    fn can_ack(&self, _number: u64, _message: &Message) -> bool {
        self.alive()
    }
    /// Learns that nobody will settle it: the broker has it still.
    fn dropped(&self, _number: u64, _message: &Message) {}
    /// Returns the message to the broker now, so that others may have it.
    fn give_back(&self, number: u64, message: &Arc<Message>) {
        self.dropped(number, message);
    }
    /// The same, while the answer to what was sent for it is awaited; `max_hold` bounds what waits for it
    /// because it came again. Returns true where it is given back for good: an ACK would do harm.
    fn lend_back(&self, _number: u64, _message: &Arc<Message>, _max_hold: Duration) -> bool {
        false
    }
    /// Whether it may be given back for its age: not where others would be processed again for it.
    fn may_go_back(&self) -> bool {
        true
    }
    /// Learns that the message was copied, so that the original can go.
    fn copied(&self, _number: u64, _message: &Arc<Message>) {}
    /// Decides whether it is to be processed: not when its connection is gone, nor when an older
    /// connection delivered the same message and it was settled, or still is in work.
    fn claim(&self, delivery: Delivery) -> Option<Delivery> {
        self.alive().then_some(delivery)
    }
}

/// A message plus the duty to settle it.
#[derive(Debug)]
pub struct Delivery {
    /// The message.
    pub message: Arc<Message>,
    /// How often it was given to the processor, this time included.
    pub attempt: u32,
    /// How often an instance failed on it (trap, fuel, memory, output), not counting the guest's own
    /// decisions.
    pub faults: u32,
    /// The fuel that the calls for it used.
    pub fuel: u64,
    /// When the host read it (monotonic): latency is measured from here.
    pub received: Instant,
    /// Since when the processor has answered `unavailable` to it.
    pub unavailable_since: Option<Instant>,
    /// Since when it has been tried without success.
    pub failing_since: Option<Instant>,
    /// Whether it is counted as received.
    pub counted: bool,
    /// Whether its outputs, if any, count as forwarded.
    pub forwarded: bool,
    /// Whether a dead letter of it was confirmed.
    pub dead_lettered: bool,
    /// The generation that was stable when one on trial could not do it: that one runs it from then on.
    pub run_on: Option<u64>,
    /// Counts the output that a broker refused of a generation on trial, if another generation's is confirmed.
    pub refused_on_trial: Option<Arc<AtomicU64>>,
    /// Counted while it is kept because the broker refused the dead letter of it.
    pub kept: Option<Tally>,
    /// Counted among what its connection delivered and is not settled.
    pub outstanding: Option<Tally>,
    /// The span of its way through the host.
    pub span: Span,
    /// Its place in the order of the queue (`order_by`); the next one comes when it is dropped.
    pub turn: Option<Turn>,
    number: u64,
    /// None once it is settled.
    settle: Option<Arc<dyn Settle>>,
}

impl Delivery {
    /// Creates the delivery of a message just read.
    #[must_use]
    pub fn new(message: Message, settle: Arc<dyn Settle>) -> Self {
        let span = tracing::debug_span!(
            "delivery",
            messaging.destination.name = message.destination(),
            messaging.message.id = message.id(),
            processor = tracing::field::Empty,
            attempt = tracing::field::Empty,
        );
        Self {
            message: Arc::new(message),
            attempt: 1,
            faults: 0,
            fuel: 0,
            received: Instant::now(),
            unavailable_since: None,
            failing_since: None,
            counted: false,
            forwarded: false,
            dead_lettered: false,
            run_on: None,
            refused_on_trial: None,
            kept: None,
            outstanding: None,
            span,
            turn: None,
            number: 0,
            settle: Some(settle),
        }
    }

    /// Sets the number by which its session knows it.
    pub fn set_number(&mut self, number: u64) {
        self.number = number;
    }

    /// Acknowledges the delivery and ends the duty. Returns false where the connection is gone and the
    /// session will not recognise the message when the broker delivers it again.
    #[must_use]
    pub fn ack(mut self) -> bool {
        self.settle.take().is_some_and(|settle| settle.ack(self.number, &self.message))
    }

    /// Returns the delivery to the broker without acknowledging it.
    pub fn give_back(mut self) {
        if let Some(settle) = self.settle.take() {
            settle.give_back(self.number, &self.message);
        }
    }

    /// Lets the broker have the message although it is still in work: others may process it meanwhile.
    pub fn lend_back(&mut self, max_hold: Duration) {
        self.settle.take_if(|settle| settle.lend_back(self.number, &self.message, max_hold));
    }

    /// The delivery, if it is to be processed; else its session has seen to it. Asked before each attempt,
    /// and never under a lock.
    #[must_use]
    pub fn claim(self) -> Option<Self> {
        let settle = self.settle.clone()?;
        settle.claim(self)
    }

    /// Copies the message out of the read buffer, of which a small one would keep 64 KiB alive: for
    /// deliveries that stay longer.
    pub fn compact(&mut self) {
        self.message = Arc::new(self.message.compact());
        if let Some(settle) = &self.settle {
            settle.copied(self.number, &self.message);
        }
    }

    /// Whether the connection that it came on still stands.
    #[must_use]
    pub fn alive(&self) -> bool {
        self.settle.as_ref().is_some_and(|settle| settle.alive())
    }

    /// Whether an acknowledgement would be of use: now, or when the broker delivers it again.
    #[must_use]
    pub fn can_ack(&self) -> bool {
        self.settle.as_ref().is_some_and(|settle| settle.can_ack(self.number, &self.message))
    }

    /// Whether it may be given back for its age; see [`Settle::may_go_back`].
    #[must_use]
    pub fn may_go_back(&self) -> bool {
        self.settle.as_ref().is_none_or(|settle| settle.may_go_back())
    }

    /// How long ago the host read it.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.received.elapsed()
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if let Some(settle) = self.settle.take() {
            settle.dropped(self.number, &self.message);
        }
    }
}

/// The turn of one delivery among those with the same value of the `order_by` header.
#[derive(Debug)]
pub struct Turn {
    /// The value.
    pub value: Arc<str>,
    /// Who gives the turn to the next.
    pub queue: Weak<dyn Turns>,
}

/// Who keeps deliveries with equal values in order.
pub trait Turns: Send + Sync + std::fmt::Debug {
    /// The delivery with this value has ended: the next may come.
    fn ended(&self, value: &Arc<str>);
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(queue) = self.queue.upgrade() {
            queue.ended(&self.value);
        }
    }
}

/// One more in a count, until it is dropped.
#[derive(Debug)]
pub struct Tally(Arc<AtomicUsize>);

impl Tally {
    /// Counts one.
    #[must_use]
    pub fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count.clone())
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Where a session puts what it reads: the buffer of its queue.
pub trait Intake: Send + Sync {
    /// Takes deliveries that were read together; drops none, except un-acked ones at the end of the host.
    fn push(&self, deliveries: &mut Vec<Delivery>);
    /// Whether the session should read on.
    fn has_room(&self) -> bool;
    /// Notified when there is room again, and when deliveries are wanted again.
    fn room(&self) -> &tokio::sync::Notify;
    /// Whether somebody is there to process deliveries. If not, the session gives back what it has and
    /// stays away until there is.
    fn wanted(&self) -> bool {
        true
    }
    /// Drops the deliveries of connections that are gone: the broker gives them again.
    fn forget_stale(&self) {}
    /// Learns that this many messages may be processed again, here or by another reader, without anybody noticing.
    fn may_repeat(&self, _count: usize) {}
    /// Learns that a message came that exceeds a limit of frames and is not delivered.
    fn was_oversized(&self) {}
    /// How long a delivery may stay un-acked.
    fn max_hold(&self) -> Duration {
        Duration::MAX
    }
    /// Gives back what has waited so long that others should have it.
    fn give_back_overdue(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stable_id_is_the_first_that_there_is() {
        let id = |headers: &[(&str, &str)], stable_from| {
            let headers = headers.iter().copied().collect();
            let (body, received_at) = (Bytes::new(), SystemTime::now());
            let message = Message { queue: "in".into(), headers, body, received_at, stable_from };
            message.stable_id().map(str::to_owned)
        };
        let (broker, own, amqp) = (("message-id", "33,44"), ("stompbox_id", "s"), ("amqp-message-id", "a"));
        assert_eq!(id(&[broker, own, amqp], Some(3)).as_deref(), Some("s"));
        assert_eq!(id(&[broker, amqp], Some(3)).as_deref(), Some("44"));
        assert_eq!(id(&[broker, amqp], None).as_deref(), Some("a"));
        assert_eq!(id(&[broker], None), None);
    }
}
