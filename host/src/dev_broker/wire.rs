//! The broker's end of one socket: bytes in, bytes out.
//!
//! Owned by one [`super::peer`]. It knows frames only as something that the decoder cuts off.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Buf, BytesMut};
use tokio::{
    io::{AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, sleep},
};
use tokio_util::io::poll_read_buf;

/// Room asked for each read.
const READ_BYTES: usize = 64 << 10;
/// How much output capacity is kept for the next batch.
const KEEP_BYTES: usize = 2 << 20;
/// How much is read at a time while a closing connection is drained.
const DRAIN_BYTES: usize = 4 << 10;

/// What one round of input and output came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// Something was read, or everything is written.
    Moved,
    /// The peer will send nothing more.
    Ended,
}

/// A socket with its buffers.
#[derive(Debug)]
pub(super) struct Wire {
    stream: TcpStream,
    /// What was read and not yet decoded.
    pub(super) input: BytesMut,
    /// What is still to be written; whole frames are appended.
    pub(super) output: BytesMut,
    /// When the peer was last heard.
    pub(super) last_read: Instant,
    last_write: Instant,
}

impl Wire {
    pub(super) fn new(stream: TcpStream) -> Self {
        let now = Instant::now();
        Self { stream, input: BytesMut::new(), output: BytesMut::new(), last_read: now, last_write: now }
    }

    /// Writes and reads what can be, each where it is wanted.
    pub(super) fn poll_progress(
        &mut self,
        cx: &mut Context<'_>,
        read: bool,
        write: bool,
    ) -> Poll<io::Result<Progress>> {
        let mut moved = write && self.poll_write(cx)?;
        if read {
            self.input.reserve(READ_BYTES / 4);
            match poll_read_buf(Pin::new(&mut self.stream), cx, &mut self.input)? {
                Poll::Pending => {}
                Poll::Ready(0) => return Poll::Ready(Ok(Progress::Ended)),
                Poll::Ready(_) => {
                    self.last_read = Instant::now();
                    moved = true;
                }
            }
        }
        if moved { Poll::Ready(Ok(Progress::Moved)) } else { Poll::Pending }
    }

    /// Writes until the socket is full; true once everything is written.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        let mut done = false;
        while !self.output.is_empty() {
            match Pin::new(&mut self.stream).poll_write(cx, &self.output)? {
                Poll::Pending => return Ok(false),
                Poll::Ready(0) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(written) => self.output.advance(written),
            }
            self.last_write = Instant::now();
            done = self.output.is_empty();
        }
        if done && self.output.capacity() > KEEP_BYTES {
            self.output = BytesMut::new();
        }
        Ok(done)
    }

    /// Leaves a line end where nothing was written for `every`.
    pub(super) fn beat(&mut self, every: Duration) {
        if self.output.is_empty() && self.last_write.elapsed() >= every {
            self.output.extend_from_slice(b"\n");
        }
    }

    /// Whether the connection was reset; asked while it is not read.
    pub(super) fn is_broken(&self) -> bool {
        !matches!(self.stream.take_error(), Ok(None))
    }

    /// Writes what is left after `delay` and says goodbye. It reads on until the peer closes too: a
    /// socket that is closed with unread data resets the connection, and the last frames with it.
    pub(super) async fn finish(&mut self, delay: Duration) -> io::Result<()> {
        sleep(delay).await;
        self.stream.write_all(&self.output).await?;
        self.stream.shutdown().await?;
        let mut discarded = [0; DRAIN_BYTES];
        while self.stream.read(&mut discarded).await? > 0 {}
        Ok(())
    }
}
