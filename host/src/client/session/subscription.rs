//! What a session subscribes to, and the frames that say so.
//!
//! Made by [`crate::wiring`] from the configuration of a queue; used by the session alone. What differs
//! between brokers is asked of [`super::super::flavour`].

use std::{sync::Arc, time::Duration};

use crate::{
    client::{Connection, Flavour, flavour::QueueName},
    stomp::{Command, EncodeError},
};

/// The id of a subscription that has no name of its own.
const ID: &str = "stompbox";
/// The receipt that confirms SUBSCRIBE.
pub(super) const SUBSCRIBED: &str = "subscribed";
/// The receipt that confirms UNSUBSCRIBE.
pub(super) const UNSUBSCRIBED: &str = "unsubscribed";

/// When the broker regards a message as consumed (`ack_mode`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AckMode {
    /// When it was sent: nothing is acknowledged.
    Auto,
    /// By an ACK for it or for one delivered after it: cumulatively.
    Client,
    /// Each message by its own ACK.
    ClientIndividual,
}

impl AckMode {
    /// The word for the ack header.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Client => "client",
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
    /// The name of a durable subscription: the broker keeps what is sent while nobody is connected.
    pub durable: Option<Arc<str>>,
    /// Whether the queue is read in order (`order_by`): then nothing is given back by NACK, which would let
    /// others overtake it.
    pub ordered: bool,
}

impl Subscription {
    /// The id on the wire. RabbitMQ knows a durable subscription by it.
    pub(super) fn id(&self) -> &str {
        self.durable.as_deref().unwrap_or(ID)
    }

    /// Whether only some messages are wanted.
    pub(super) fn selects(&self) -> bool {
        self.headers.iter().any(|(name, _)| name == "selector")
    }

    /// Whether the host acknowledges in this broker's place, as soon as it has read: see [`Flavour::wire_mode`].
    pub(super) fn stands_in(&self, flavour: Flavour) -> bool {
        flavour.wire_mode(self.ack_mode) != self.ack_mode
    }

    /// `name` is what the queue is called on this broker, `room` for messages that will stay un-acked.
    pub(super) fn put_subscribe(
        &self,
        connection: &mut Connection,
        name: &mut QueueName,
        room: usize,
    ) -> Result<(), EncodeError> {
        let flavour = connection.flavour;
        let destination = name.of(flavour, &self.destination);
        let routing = flavour.subscription_type(&self.destination);
        let mode = flavour.wire_mode(self.ack_mode);
        let window = flavour.window_header(self.window, room);
        let durable = self.durable.iter().flat_map(|name| flavour.durable_headers(name));
        let headers = [("destination", &*destination), ("id", self.id()), ("ack", mode.as_str())];
        // The first of repeated headers wins, so the configured ones stand before what the flavour adds.
        let configured = self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let window = window.as_ref().map(|(name, value)| (*name, value.as_str()));
        let added = routing.into_iter().chain(window).chain([("receipt", SUBSCRIBED)]);
        let all = headers.into_iter().chain(durable).chain(configured).chain(added);
        connection.put(Command::Subscribe, all, b"")
    }

    /// By id alone: with the headers of a durable subscription it would delete what the broker keeps for it.
    pub(super) fn put_unsubscribe(&self, connection: &mut Connection) -> Result<(), EncodeError> {
        let headers = [("id", self.id()), ("destination", self.destination.as_str()), ("receipt", UNSUBSCRIBED)];
        connection.put(Command::Unsubscribe, headers, b"")
    }
}
