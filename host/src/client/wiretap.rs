//! What `verbose` tells about a connection: each frame by its command and number of headers.
//!
//! Used by [`super::Connection`]; no header's value and no body is ever logged, as they may be secret.

use std::net::SocketAddr;

use bytes::BytesMut;

use crate::stomp::{Decoder, Frame, FrameLimits};

/// Follows the bytes that are written, whoever encoded them.
#[derive(Debug)]
pub(super) struct Wiretap {
    peer: SocketAddr,
    decoder: Decoder,
    written: BytesMut,
}

impl Wiretap {
    pub(super) fn new(peer: SocketAddr) -> Self {
        Self { peer, decoder: Decoder::new(FrameLimits::default()), written: BytesMut::new() }
    }

    pub(super) fn read(&self, frame: &Frame) {
        self.tell("received", frame);
    }

    pub(super) fn wrote(&mut self, bytes: &[u8]) {
        self.written.extend_from_slice(bytes);
        while let Ok(Some(frame)) = self.decoder.decode(&mut self.written) {
            self.tell("sent", &frame);
        }
    }

    fn tell(&self, what: &str, frame: &Frame) {
        tracing::info!(peer = %self.peer, command = %frame.command, headers = frame.headers.len(),
                       body_bytes = frame.body.len(), "{what} frame");
    }
}
