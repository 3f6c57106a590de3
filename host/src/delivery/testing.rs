//! Deliveries without a broker, for unit tests, and what tells one state of a delivery from another, for the model.

use std::{
    hash::{Hash, Hasher},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
};

use super::{Arc, Bytes, Delivery, Message, Settle, SystemTime};

/// Counts acknowledgements; `alive` can be switched off.
#[derive(Debug)]
pub(crate) struct FakeSession {
    pub(crate) acks: AtomicUsize,
    pub(crate) alive: AtomicBool,
}

impl FakeSession {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { acks: AtomicUsize::new(0), alive: AtomicBool::new(true) })
    }

    pub(crate) fn delivery(self: &Arc<Self>, id: &str, body: &'static [u8]) -> Delivery {
        let headers = [("message-id", id), ("destination", "/queue/in")].into_iter().collect();
        let message = Message {
            queue: "in".into(),
            headers,
            body: Bytes::from_static(body),
            received_at: SystemTime::now(),
            stable_from: Some(0),
        };
        Delivery::new(message, self.clone())
    }
}

impl Settle for FakeSession {
    fn ack(&self, _number: u64, _message: &Arc<Message>) -> bool {
        self.acks.fetch_add(1, Ordering::Relaxed);
        self.alive()
    }

    fn alive(&self) -> bool {
        self.alive.load(Ordering::Relaxed)
    }
}

pub(crate) fn delivery(id: &str) -> Delivery {
    FakeSession::new().delivery(id, b"body")
}

/// The header that tells one delivery of a message from another.
pub(crate) const SERIAL: &str = "serial";

impl Hash for Message {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.headers.get(SERIAL).unwrap_or_else(|| self.id()).hash(state);
    }
}

impl Hash for Delivery {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.message, self.attempt, self.faults, self.number).hash(state);
        (self.settle.is_some(), self.forwarded, self.dead_lettered).hash(state);
    }
}
