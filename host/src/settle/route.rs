//! Where messages for one configured queue go, and how.

use std::sync::Arc;

use bytes::Bytes;

use crate::client::{OnDone, Outgoing, OutputId, Producer, SendRequest};

/// Where outputs for one configured queue go.
#[derive(Debug, Clone)]
pub struct Route {
    /// The connection for it.
    pub producer: Producer,
    /// The broker's destination.
    pub destination: Arc<str>,
    /// Headers written before the guest's: `persistent` and the queue's `send_headers`.
    pub headers: Option<Arc<[(String, String)]>>,
    /// The queue whose log tells each message (`verbose`).
    pub told_as: Option<Arc<str>>,
}

impl Route {
    /// Sends one message of its own: a dead letter, or an output of a source.
    pub(crate) fn send(
        &self,
        headers: Vec<(String, String)>,
        body: Bytes,
        as_bytes: bool,
        urgent: bool,
        done: Box<dyn OnDone>,
    ) {
        let request = SendRequest { destination: self.destination.clone(), headers, body, as_bytes };
        self.producer.send(self.on_its_way(request, None), urgent, done);
    }

    /// An output on its way here.
    pub(super) fn outgoing(&self, headers: Vec<(String, String)>, body: Bytes, id: Option<OutputId>) -> Outgoing {
        let request = SendRequest { destination: self.destination.clone(), headers, body, as_bytes: false };
        self.on_its_way(request, id)
    }

    fn on_its_way(&self, request: SendRequest, id: Option<OutputId>) -> Outgoing {
        Outgoing { request, common: self.headers.clone(), id, told_as: self.told_as.clone() }
    }
}
