//! A delivery: one message plus the duty to settle it.
//!
//! The session makes deliveries, the buffer and the lanes pass them on, and exactly one of
//! [`Delivery::ack`], [`Delivery::nack`] or dropping ends the duty. Dropping a delivery leaves it
//! un-acked: the broker still has it and delivers it again when the session ends. Nothing here knows
//! of sockets: the session lends its handle through [`Settle`].

use std::{sync::Arc, time::Instant, time::SystemTime};

use bytes::Bytes;

/// A message as it came from the broker, immutable from here on.
#[derive(Debug, Clone)]
pub struct Message {
    /// The broker's `message-id`.
    pub id: String,
    /// The name of the in queue in the configuration.
    pub queue: Arc<str>,
    /// The STOMP id of the subscription that delivered it.
    pub subscription: String,
    /// The broker's destination.
    pub destination: String,
    /// All headers of the MESSAGE frame, in order, unescaped.
    pub headers: Vec<(String, String)>,
    /// The body, byte for byte: a slice of the read buffer, never copied.
    pub body: Bytes,
    /// Whether the broker marked it as delivered before.
    pub redelivered: bool,
    /// When the host read it (wall clock).
    pub received_at: SystemTime,
}

impl Message {
    /// Returns the first header of that name: the first of repeated ones wins (STOMP 1.2,
    /// "Repeated Header Entries").
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }
}

/// The session's end of a delivery: where its acknowledgement goes.
pub trait Settle: Send + Sync + std::fmt::Debug {
    /// Acknowledges the delivery with this ack id if it still belongs to the living session; returns
    /// false where the session it came from is gone (the broker will deliver it again).
    fn ack(&self, ack_id: &str) -> bool;
    /// Whether the session that made the delivery is still the living one.
    fn alive(&self) -> bool;
}

/// A message plus the duty to settle it.
#[derive(Debug)]
pub struct Delivery {
    /// The message.
    pub message: Arc<Message>,
    /// How often it was given to the processor, this time included.
    pub attempt: u32,
    /// When the host read it (monotonic): latency is measured from here.
    pub received: Instant,
    ack_id: String,
    settle: Arc<dyn Settle>,
}

impl Delivery {
    /// Creates the delivery of a message just read; `ack_id` is what an ACK must name.
    #[must_use]
    pub fn new(message: Message, ack_id: String, settle: Arc<dyn Settle>) -> Self {
        Self { message: Arc::new(message), attempt: 1, received: Instant::now(), ack_id, settle }
    }

    /// Acknowledges the delivery and ends the duty. Returns false where the session is gone.
    #[must_use]
    pub fn ack(self) -> bool {
        self.settle.ack(&self.ack_id)
    }

    /// Whether an acknowledgement could still reach the session that made this delivery.
    #[must_use]
    pub fn alive(&self) -> bool {
        self.settle.alive()
    }
}
