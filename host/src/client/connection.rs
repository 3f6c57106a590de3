//! One socket to a broker: bytes in, frames out, heart-beats.
//!
//! Owned by exactly one task, a session or a producer, which calls [`Connection::progress`] in its
//! loop. It never decides what a frame means beyond the opening handshake.

mod login;

use std::{
    future::poll_fn,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, BytesMut};
use tokio::{
    io::AsyncWrite,
    time::{Instant, sleep, timeout},
};
use tokio_util::io::poll_read_buf;
use tracing::info;

use self::login::{Login, Secret};
use super::{
    Address, ClientError, ConnectOptions, Flavour, address, error_text, stream::Stream, tls, wiretap::Wiretap,
};
use crate::stomp::{Command, DecodeError, Decoder, EncodeError, Frame, FrameLimits, Version, encode};

/// Room asked for each read: a slice of it stays with every message until it is settled.
const READ_BYTES: usize = 64 << 10;
/// How much is read ahead while a flush waits for the peer to read.
const READ_AHEAD: usize = 1 << 20;
/// How long TLS, and then the answer to CONNECT, may take.
const HANDSHAKE: Duration = Duration::from_secs(15);
/// A line end leaves at least this often: Artemis closes connections that are silent for 60 s, also
/// those that declared no heart-beats.
const MAX_SILENCE: Duration = Duration::from_secs(20);

/// The receipt of DISCONNECT.
pub(super) const GOODBYE: &str = "goodbye";
/// How long the broker may take to answer a DISCONNECT behind which nothing else waits for it.
pub(super) const GOODBYE_LIMIT: Duration = Duration::from_secs(5);

/// A STOMP session's socket after the handshake.
#[derive(Debug)]
pub struct Connection {
    stream: Stream,
    /// Whether TLS may still hold some of what was written.
    unflushed: bool,
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
    wiretap: Option<Wiretap>,
    secret: Secret,
}

impl Connection {
    /// Connects, logs in and negotiates version and heart-beats: with a random entry, and with the others
    /// when none of its addresses opens a session.
    ///
    /// # Errors
    /// What the last address said: it is not there, does not speak STOMP or TLS, or refuses the login.
    pub async fn open(options: &ConnectOptions) -> Result<Self, ClientError> {
        let opened = Self::open_one_of(options).await;
        options.reach.set(opened.is_ok());
        opened
    }

    async fn open_one_of(options: &ConnectOptions) -> Result<Self, ClientError> {
        let login = Login::read(options).await?;
        let mut last = None;
        for entry in address::shuffled(&options.addresses) {
            let found = match options.pinned {
                Some(address) => Ok(vec![address]),
                None => options.resolver.resolve(entry).await,
            };
            match found {
                Ok(found) => {
                    for address in found {
                        match Self::open_at(options, &login, entry, address).await {
                            Ok(connection) => return Ok(connection),
                            Err(error) => last = Some(failed(options, error)),
                        }
                    }
                }
                Err(error) => last = Some(failed(options, error)),
            }
        }
        let none = || ClientError::Resolve("an empty host_port_list".into(), std::io::ErrorKind::NotFound.into());
        Err(last.unwrap_or_else(none))
    }

    async fn open_at(
        options: &ConnectOptions,
        login: &Login,
        entry: &Address,
        peer: SocketAddr,
    ) -> Result<Self, ClientError> {
        let shown = entry.at(peer);
        let stream =
            Stream::connect(peer).await.map_err(|source| ClientError::Connect { address: shown.clone(), source })?;
        let refused = |detail| ClientError::Tls { address: shown.clone(), detail };
        let explained = |error: &std::io::Error| tls::explain(error, &entry.host, options.tls.as_ref()?);
        let stream = match &login.tls {
            None => Stream::Plain(stream),
            Some(config) => timeout(HANDSHAKE, Stream::secure(stream, &entry.host, config.clone()))
                .await
                .map_err(|_| refused("no answer to the TLS handshake: is this its TLS port?".to_owned()))?
                .map_err(|error| refused(explained(&error).unwrap_or_else(|| tls::unexplained(&error))))?,
        };
        let mut connection = Self::new(stream, peer, options, login);
        match timeout(HANDSHAKE, connection.handshake(options, login)).await {
            Err(_) => Err(ClientError::Silent { what: "answer to CONNECT", limit: HANDSHAKE }),
            // In TLS 1.3 a refused client certificate shows only here.
            Ok(Err(ClientError::Io(error))) => Err(explained(&error).map_or(ClientError::Io(error), refused)),
            Ok(Err(error)) => Err(error),
            Ok(Ok(())) => Ok(connection),
        }
    }

    fn new(stream: Stream, peer: SocketAddr, options: &ConnectOptions, login: &Login) -> Self {
        let now = Instant::now();
        if options.verbose {
            info!(server = %options.server, %peer, tls = stream.security(), "connected");
        }
        Self {
            stream,
            unflushed: false,
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
            wiretap: options.verbose.then(|| Wiretap::new(peer)),
            secret: Secret::new(login.passcode.as_deref()),
        }
    }

    async fn handshake(&mut self, options: &ConnectOptions, login: &Login) -> Result<(), ClientError> {
        let beats = format!("{},{}", options.send_heartbeat.as_millis(), options.recv_heartbeat.as_millis());
        let headers = [
            ("accept-version", Some("1.0,1.1,1.2")),
            ("host", options.vhost.as_deref()),
            ("login", options.username.as_deref()),
            ("passcode", login.passcode.as_deref()),
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
        self.version = Version::parse(offered)
            .ok_or_else(|| handshake(format!("it wants version {:?}", offered.map(|text| self.secret.hide(text)))))?;
        self.decoder.set_version(self.version);
        self.flavour = Flavour::of(frame.headers.get("server"));
        self.agree_heartbeats(options, frame.headers.get("heart-beat"));
        if options.verbose {
            info!(server = %options.server, peer = %self.peer, version = ?self.version, broker = ?self.flavour,
                  we_beat_every = ?self.beat_every, peer_silent_at_most = ?self.silent_limit, "logged in");
        }
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

    /// The next frame of what was already read: here alone text of the broker comes in, without the passcode.
    ///
    /// # Errors
    /// The peer does not send STOMP.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, ClientError> {
        let mut frame = self.decoder.decode(&mut self.input).map_err(|error| self.secret.hide_in_error(error))?;
        if let Some(frame) = &mut frame {
            self.secret.hide_in_frame(frame);
            if let Some(wiretap) = &self.wiretap {
                wiretap.read(frame);
            }
        }
        Ok(frame)
    }

    /// From now on a MESSAGE over a limit is read past and told by [`DecodeError::Skipped`]: the connection stands.
    pub fn skip_messages(&mut self) {
        self.decoder.skip_messages();
    }

    /// Whether it is in the midst of such a MESSAGE.
    #[must_use]
    pub fn is_skipping(&self) -> bool {
        self.decoder.is_skipping()
    }

    /// For how long nothing has come, though it was read.
    #[must_use]
    pub fn silent_for(&self) -> Duration {
        self.last_read.elapsed()
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
        encode(&mut self.output, self.version, command, headers, body)
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

    /// Writes everything that was put; reads what arrives meanwhile, so that no peer waits for us. Nothing takes
    /// frames off it here, so it reads only so much ahead.
    ///
    /// # Errors
    /// The socket failed, or the peer closed it.
    pub async fn flush(&mut self) -> Result<(), ClientError> {
        let full = self.input.len().saturating_add(READ_AHEAD);
        while !self.output.is_empty() || self.unflushed {
            let reading = self.input.len() < full;
            self.progress(reading).await?;
            if !reading {
                self.last_read = Instant::now(); // As in `beat`.
            }
        }
        Ok(())
    }

    /// Reads up to this RECEIPT, and keeps the connection alive; what comes before it is of no interest any more.
    ///
    /// # Errors
    /// An ERROR comes first, or the connection is lost.
    pub async fn read_to_receipt(&mut self, id: &str) -> Result<(), ClientError> {
        loop {
            loop {
                let frame = match self.next_frame() {
                    Ok(Some(frame)) => frame,
                    Ok(None) => break,
                    Err(ClientError::Decode(DecodeError::Skipped(_))) => continue,
                    Err(error) => return Err(error),
                };
                match frame.command {
                    Command::Receipt if frame.headers.get("receipt-id") == Some(id) => return Ok(()),
                    Command::Error if !self.flavour.is_late_delivery(&error_text(&frame)) => {
                        return Err(ClientError::Broker(error_text(&frame)));
                    }
                    _ => {}
                }
            }
            let beat = self.beat_every();
            tokio::select! {
                moved = self.progress(true) => moved?,
                () = sleep(beat) => self.beat(true)?,
            }
        }
    }

    fn poll_progress(&mut self, cx: &mut Context<'_>, read: bool) -> Poll<Result<(), ClientError>> {
        let wrote = self.poll_write(cx)?;
        let read = if read { self.poll_read(cx)? } else { Poll::Pending };
        if wrote.is_ready() || read.is_ready() { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    /// Ready when there was something to write and all of it is with the kernel.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ClientError>> {
        while !self.output.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.output))?;
            if written == 0 {
                return Poll::Ready(Err(ClientError::Closed));
            }
            if let Some(wiretap) = &mut self.wiretap {
                wiretap.wrote(self.output.get(..written).unwrap_or_default());
            }
            self.output.advance(written);
            self.last_write = Instant::now();
            self.unflushed = true;
        }
        if !self.unflushed {
            return Poll::Pending;
        }
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        self.unflushed = false;
        Poll::Ready(Ok(()))
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ClientError>> {
        self.input.reserve(READ_BYTES / 4);
        if ready!(poll_read_buf(Pin::new(&mut self.stream), cx, &mut self.input))? == 0 {
            return Poll::Ready(Err(ClientError::Closed));
        }
        self.last_read = Instant::now();
        self.stream.quick_ack();
        Poll::Ready(Ok(()))
    }

    /// For connections that send: a broker that holds its producers back may stop reading for minutes, which
    /// looks like a dead peer to TCP_USER_TIMEOUT. Cutting it would send everything twice.
    ///
    /// # Errors
    /// The system refuses.
    pub fn tolerate_silence(&self, limit: Duration) -> Result<(), ClientError> {
        Ok(self.stream.set_user_timeout(limit)?)
    }

    /// How many times in a row the peer's kernel has not answered ours; none where the system does not tell.
    #[must_use]
    pub fn unanswered(&self) -> Option<u64> {
        self.stream.unanswered()
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

/// Notes a failed try, since only the last one becomes the error.
fn failed(options: &ConnectOptions, error: ClientError) -> ClientError {
    if options.verbose {
        info!(server = %options.server, error = &error as &dyn std::error::Error, "an address opens no session");
    }
    error
}
