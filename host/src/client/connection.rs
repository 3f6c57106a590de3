//! One socket to a broker: bytes in, frames out, heart-beats.
//!
//! Owned by exactly one task, a session or a producer, which calls [`Connection::progress`] in its
//! loop. It never decides what a frame means beyond the opening handshake.

use std::{
    future::poll_fn,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Buf, BytesMut};
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::AsyncWrite,
    net::TcpStream,
    time::{Instant, timeout},
};
use tokio_util::io::poll_read_buf;

use super::{ClientError, ConnectOptions, Flavour, address, error_text};
use crate::stomp::{Command, Decoder, EncodeError, Frame, FrameLimits, Version, encode};

/// Room asked for each read: a slice of it stays with every message until it is settled.
const READ_BYTES: usize = 64 << 10;
/// How long the answer to CONNECT may take.
const HANDSHAKE: Duration = Duration::from_secs(15);
/// A line end leaves at least this often: Artemis closes connections that are silent for 60 s, also
/// those that declared no heart-beats.
const MAX_SILENCE: Duration = Duration::from_secs(20);

/// A STOMP session's socket after the handshake.
#[derive(Debug)]
pub struct Connection {
    /// The place where TLS will wrap the socket: everything below needs only to poll it.
    stream: TcpStream,
    decoder: Decoder,
    input: BytesMut,
    /// What is still to be written; the owner appends whole frames.
    pub output: BytesMut,
    /// The version agreed on.
    pub version: Version,
    /// Which broker this is.
    pub flavour: Flavour,
    /// The peer, for logs.
    pub peer: SocketAddr,
    beat_every: Duration,
    silent_limit: Option<Duration>,
    last_read: Instant,
    last_write: Instant,
    verbose: bool,
}

impl Connection {
    /// Connects, logs in and negotiates version and heart-beats.
    ///
    /// # Errors
    /// No address answers, the peer does not speak STOMP, or it refuses the login.
    pub async fn open(options: &ConnectOptions) -> Result<Self, ClientError> {
        let (stream, peer) = address::connect(&options.addresses).await?;
        set_socket_options(&stream)?;
        let now = Instant::now();
        let mut connection = Self {
            stream,
            decoder: Decoder::new(FrameLimits::default()),
            input: BytesMut::with_capacity(READ_BYTES),
            output: BytesMut::new(),
            version: Version::V1_0,
            flavour: Flavour::Unknown,
            peer,
            beat_every: MAX_SILENCE,
            silent_limit: None,
            last_read: now,
            last_write: now,
            verbose: options.verbose,
        };
        timeout(HANDSHAKE, connection.handshake(options))
            .await
            .map_err(|_| ClientError::Silent { what: "answer to CONNECT", limit: HANDSHAKE })??;
        Ok(connection)
    }

    async fn handshake(&mut self, options: &ConnectOptions) -> Result<(), ClientError> {
        let beats = format!("{},{}", options.send_heartbeat.as_millis(), options.recv_heartbeat.as_millis());
        let headers = [
            ("accept-version", Some("1.0,1.1,1.2")),
            ("host", options.vhost.as_deref()),
            ("login", options.username.as_deref()),
            ("passcode", options.passcode.as_deref()),
            ("client-id", options.client_id.as_deref()),
            ("heart-beat", Some(beats.as_str())),
        ];
        let given = headers.iter().filter_map(|(name, value)| value.map(|v| (*name, v)));
        encode(&mut self.output, Version::V1_0, Command::Connect, given, b"")?;
        let frame = self.read_frame().await?;
        let handshake = |detail| ClientError::Handshake { address: self.peer.to_string(), detail };
        match frame.command {
            Command::Connected => {}
            Command::Error => return Err(handshake(format!("it refuses the login: {}", error_text(&frame)))),
            other => return Err(handshake(format!("it answers CONNECT with {other}"))),
        }
        let offered = frame.headers.get("version");
        self.version = Version::parse(offered).ok_or_else(|| handshake(format!("it wants version {offered:?}")))?;
        self.decoder.set_version(self.version);
        self.flavour = Flavour::of(frame.headers.get("server"));
        self.agree_heartbeats(options, frame.headers.get("heart-beat"));
        Ok(())
    }

    /// STOMP 1.2, "Heart-beating": each direction beats at the slower of what one side offers and the
    /// other wants; zero on either side means none.
    fn agree_heartbeats(&mut self, options: &ConnectOptions, theirs: Option<&str>) {
        let mut parts = theirs.unwrap_or("0,0").split(',').map(|part| part.trim().parse().unwrap_or(0));
        let mut next = || Duration::from_millis(parts.next().unwrap_or(0));
        let (they_send, they_want) = (next(), next());
        let slower = |a: Duration, b: Duration| (!a.is_zero() && !b.is_zero()).then(|| a.max(b));
        if let Some(agreed) = slower(options.send_heartbeat, they_want) {
            // Early, so that a slow network does not make us look dead.
            self.beat_every = MAX_SILENCE.min(agreed.mul_f64(0.6)).max(Duration::from_millis(5));
        }
        self.silent_limit = slower(they_send, options.recv_heartbeat).map(|agreed| agreed * 2 + Duration::from_secs(1));
    }

    async fn read_frame(&mut self) -> Result<Frame, ClientError> {
        loop {
            if let Some(frame) = self.next_frame()? {
                return Ok(frame);
            }
            self.progress(true).await?;
        }
    }

    /// The next frame of what was already read.
    ///
    /// # Errors
    /// The peer does not send STOMP.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, ClientError> {
        let frame = self.decoder.decode(&mut self.input)?;
        if let Some(frame) = &frame {
            self.trace("received", frame.command, frame.headers.len());
        }
        Ok(frame)
    }

    /// Appends a frame to the output; [`Connection::progress`] writes it.
    ///
    /// # Errors
    /// A header cannot be expressed in the version agreed on.
    pub fn put<'a>(
        &mut self,
        command: Command,
        headers: impl IntoIterator<Item = (&'a str, &'a str)>,
        body: &[u8],
    ) -> Result<(), EncodeError> {
        self.trace("sending", command, 0);
        encode(&mut self.output, self.version, command, headers, body)
    }

    fn trace(&self, what: &str, command: Command, headers: usize) {
        if self.verbose {
            tracing::info!(peer = %self.peer, %command, headers, "{what} frame");
        }
    }

    /// Writes what can be written and, with `read`, reads what has arrived; returns when something was
    /// read or everything is written. Cancel-safe. With nothing to write and `read` off it never ends:
    /// use it in `select!`.
    ///
    /// # Errors
    /// The socket failed, or the peer closed it.
    pub async fn progress(&mut self, read: bool) -> Result<(), ClientError> {
        poll_fn(|cx| self.poll_progress(cx, read)).await
    }

    fn poll_progress(&mut self, cx: &mut Context<'_>, read: bool) -> Poll<Result<(), ClientError>> {
        let mut done = false;
        while !self.output.is_empty() {
            match Pin::new(&mut self.stream).poll_write(cx, &self.output) {
                Poll::Pending => break,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error.into())),
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(ClientError::Closed)),
                Poll::Ready(Ok(written)) => {
                    self.output.advance(written);
                    self.last_write = Instant::now();
                    done = self.output.is_empty();
                }
            }
        }
        if read {
            self.input.reserve(READ_BYTES / 4);
            match poll_read_buf(Pin::new(&mut self.stream), cx, &mut self.input) {
                Poll::Pending => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error.into())),
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(ClientError::Closed)),
                Poll::Ready(Ok(_)) => {
                    self.last_read = Instant::now();
                    quick_ack(&self.stream);
                    done = true;
                }
            }
        }
        if done { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    /// For connections that send: a broker that holds its producers back may stop reading for minutes, which
    /// looks like a dead peer to TCP_USER_TIMEOUT. Cutting it would send everything twice.
    ///
    /// # Errors
    /// The system refuses.
    pub fn tolerate_flow_control(&self) -> Result<(), ClientError> {
        #[cfg(target_os = "linux")]
        SockRef::from(&self.stream).set_tcp_user_timeout(Some(Duration::from_secs(30 * 60)))?;
        Ok(())
    }

    /// Keeps the connection alive and notices a dead peer; called about once a second, and more often
    /// for short heart-beats ([`Connection::beat_every`]). `reading` tells whether the owner reads: a
    /// paused reader must not take the peer for dead.
    ///
    /// # Errors
    /// The peer promised heart-beats and has been silent for twice the interval.
    pub fn beat(&mut self, reading: bool) -> Result<(), ClientError> {
        if !reading {
            self.last_read = Instant::now();
        }
        if let Some(limit) = self.silent_limit.filter(|limit| self.last_read.elapsed() > *limit) {
            return Err(ClientError::Silent { what: "heart-beat", limit });
        }
        if self.output.is_empty() && self.last_write.elapsed() >= self.beat_every {
            self.output.extend_from_slice(b"\n");
        }
        Ok(())
    }

    /// How often [`Connection::beat`] must be called.
    #[must_use]
    pub fn beat_every(&self) -> Duration {
        (self.beat_every / 2).min(Duration::from_secs(1))
    }
}

fn set_socket_options(stream: &TcpStream) -> Result<(), ClientError> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    let keepalive =
        TcpKeepalive::new().with_time(Duration::from_secs(30)).with_interval(Duration::from_secs(10)).with_retries(3);
    socket.set_tcp_keepalive(&keepalive)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(Duration::from_secs(60)))?;
    quick_ack(stream);
    Ok(())
}

/// Asks the kernel to acknowledge at once; it forgets, so this is repeated after each read. Without it
/// ActiveMQ's small segments wait for delayed ACKs: at a window of 1, 23 messages a second instead of
/// 2,500.
fn quick_ack(stream: &TcpStream) {
    #[cfg(target_os = "linux")]
    if let Err(error) = SockRef::from(stream).set_tcp_quickack(true) {
        tracing::trace!(%error, "TCP_QUICKACK is not to be had");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_socket_is_set_to_notice_a_dead_peer() {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        set_socket_options(&stream).unwrap();
        let socket = SockRef::from(&stream);
        assert!(socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(30));
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), Duration::from_secs(10));
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), 3);
        #[cfg(target_os = "linux")]
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(Duration::from_secs(60)));
    }
}
