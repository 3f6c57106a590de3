//! What a producer is given to send, and the frames it becomes.
//!
//! Made by settlement and by senders; [`super::outbox`] has it encoded once the broker is known.

use std::{collections::HashSet, sync::Arc};

use bytes::{Bytes, BytesMut};
use tracing::info;

use crate::{
    client::{Flavour, flavour::as_existing},
    stomp::{Command, EncodeError, Version, content_length, encode},
};

/// One message to be sent.
#[derive(Debug, Clone)]
pub struct SendRequest {
    /// The broker's destination.
    pub destination: Arc<str>,
    /// Headers; the host's own (destination, receipt, content-length) are written before them, and the
    /// first one wins.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Bytes,
    /// Whether it travels as bytes whatever it holds: with a `content-length`. Otherwise that follows from
    /// the body, and what is text travels as text.
    pub as_bytes: bool,
}

/// A message to be sent, with what the host adds to it.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// The message.
    pub request: SendRequest,
    /// Headers written before those of the request, shared by all that goes the same way.
    pub common: Option<Arc<[(String, String)]>>,
    /// The header `stompbox_id`: the same whenever the same output of the same input is sent.
    pub id: Option<OutputId>,
    /// The queue, where the log tells each SEND to it and the answer (`verbose`).
    pub told_as: Option<Arc<str>>,
}

impl From<SendRequest> for Outgoing {
    fn from(request: SendRequest) -> Self {
        Self { request, common: None, id: None, told_as: None }
    }
}

/// An id of 32 hex digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct OutputId([u8; 32]);

impl OutputId {
    /// Writes the number in hex.
    #[must_use]
    pub fn new(number: u128) -> Self {
        let digits = std::array::from_fn(|place| {
            let digit = (number >> (124 - 4 * place)) as u8 & 0xf;
            digit + if digit < 10 { b'0' } else { b'a' - 10 }
        });
        Self(digits)
    }

    /// The digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl std::fmt::Debug for OutputId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A connection, as far as frames depend on it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Link {
    pub(super) version: Version,
    pub(super) flavour: Flavour,
}

/// A broker, as far as frames depend on it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer<'a> {
    pub(super) link: Link,
    /// Queues that RabbitMQ has with other arguments than a SEND to them would declare.
    pub(super) declared_otherwise: &'a HashSet<String>,
}

/// What ties a SEND to its confirmation.
#[derive(Debug, Clone, Copy)]
pub(super) enum Tie<'a> {
    /// A receipt of its own.
    Receipt(&'a str),
    /// The transaction whose COMMIT is confirmed.
    Transaction(&'a str),
    /// The transaction, and a receipt of its own besides.
    Both(&'a str, &'a str),
}

impl Outgoing {
    /// Appends the SEND. The host's headers stand first: the first of repeated ones wins. What the flavour
    /// adds stands last, so that the configuration can say otherwise.
    pub(super) fn encode(
        &self,
        output: &mut BytesMut,
        peer: Peer<'_>,
        tie: Tie<'_>,
        resent: bool,
    ) -> Result<(), EncodeError> {
        let (request, link) = (&self.request, peer.link);
        let existing = peer.declared_otherwise.contains(&*request.destination);
        let destination = if existing { as_existing(&request.destination) } else { (&*request.destination).into() };
        let length = request.as_bytes.then_some(request.body.len()).or_else(|| content_length(&request.body));
        let length = length.map(|length| length.to_string());
        let (transaction, receipt) = match tie {
            Tie::Receipt(id) => (None, Some(id)),
            Tie::Transaction(name) => (Some(name), None),
            Tie::Both(name, id) => (Some(name), Some(id)),
        };
        let in_transaction = transaction.is_some();
        let tie = transaction.map(|name| ("transaction", name)).into_iter().chain(receipt.map(|id| ("receipt", id)));
        let own = [("destination", &*destination)].into_iter().chain(tie);
        let length = length.as_deref().map(|length| ("content-length", length));
        let resent = resent.then_some(("stompbox_resent", "true"));
        let id = self.id.as_ref().map(|id| ("stompbox_id", id.as_str()));
        let duplicate = link.flavour.duplicate_header(in_transaction);
        let duplicate = self.id.as_ref().and_then(|id| Some((duplicate?, id.as_str())));
        let given = self.common.iter().flat_map(|common| common.iter()).chain(&request.headers);
        // A length of the caller's would end the body elsewhere.
        let given = given.filter(|(name, _)| name != "content-length");
        let given = given.map(|(name, value)| (name.as_str(), value.as_str()));
        let all = own.chain(length).chain(resent).chain(id).chain(duplicate).chain(given);
        let all = all.chain(link.flavour.declaration(&request.destination));
        encode(output, link.version, Command::Send, all, &request.body)?;
        if let Some(queue) = &self.told_as {
            info!(%queue, %destination, id = self.told_id(), bytes = request.body.len(), resent = resent.is_some(), "sending");
        }
        Ok(())
    }

    /// Logs what the broker said, where that is wanted.
    pub(super) fn log_answer(&self, answer: &Result<(), String>) {
        let Some(queue) = &self.told_as else { return };
        let (destination, id) = (&self.request.destination, self.told_id());
        match answer {
            Ok(()) => info!(%queue, %destination, id, "confirmed"),
            Err(detail) => info!(%queue, %destination, id, detail, "refused"),
        }
    }

    fn told_id(&self) -> &str {
        self.id.as_ref().map(OutputId::as_str).unwrap_or_default()
    }
}
