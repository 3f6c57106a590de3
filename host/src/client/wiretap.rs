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
    /// None since it could not follow what was written.
    decoder: Option<Decoder>,
    written: BytesMut,
}

impl Wiretap {
    pub(super) fn new(peer: SocketAddr) -> Self {
        Self { peer, decoder: Some(Decoder::new(FrameLimits::default())), written: BytesMut::new() }
    }

    pub(super) fn read(&self, frame: &Frame) {
        tell(self.peer, "received", frame);
    }

    pub(super) fn wrote(&mut self, bytes: &[u8]) {
        let Some(decoder) = &mut self.decoder else { return };
        self.written.extend_from_slice(bytes);
        loop {
            match decoder.decode(&mut self.written) {
                Ok(Some(frame)) => tell(self.peer, "sent", &frame),
                Ok(None) => return,
                Err(_) => {
                    // A frame over a limit is sent all the same. Not the error: it may quote a header.
                    tracing::debug!(peer = %self.peer, "what is sent on this connection is told no longer");
                    (self.decoder, self.written) = (None, BytesMut::new());
                    return;
                }
            }
        }
    }
}

fn tell(peer: SocketAddr, what: &str, frame: &Frame) {
    tracing::info!(%peer, command = %frame.command, headers = frame.headers.len(), body_bytes = frame.body.len(),
                   "{what} frame");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_cannot_follow_is_not_kept() {
        let mut wiretap = Wiretap::new(([127, 0, 0, 1], 61_613).into());
        wiretap.wrote(b"SEND\n\nbo");
        wiretap.wrote(b"dy\0");
        assert!(wiretap.decoder.is_some() && wiretap.written.is_empty());
        let line = [b'x'; 64 << 10];
        for _ in 0..100 {
            wiretap.wrote(&line);
            assert!(wiretap.written.capacity() <= 4 * line.len(), "{}", wiretap.written.capacity());
        }
        assert!(wiretap.decoder.is_none());
        wiretap.wrote(b"\0SEND\n\nbody\0");
        assert!(wiretap.written.is_empty());
    }
}
