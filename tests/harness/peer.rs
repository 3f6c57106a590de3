//! The broker's side of one connection, for tests that watch what a client sends and script the answers.

use std::{
    io::{ErrorKind, Read, Write},
    net::{TcpListener, TcpStream},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use socket2::SockRef;

use super::client::{Msg, frame, parse};

/// How long a client may take for anything before a test calls it lost.
const LIMIT: Duration = Duration::from_secs(60);

/// One client's connection.
#[derive(Debug)]
pub struct Peer {
    stream: TcpStream,
    input: Vec<u8>,
    /// The headers of CONNECTED.
    greeting: Vec<(String, String)>,
    /// Line ends that came between frames.
    beats: usize,
}

/// A frame, and how it stood on the wire.
#[derive(Debug)]
pub struct Received {
    pub frame: Msg,
    pub wire: String,
}

impl Received {
    /// A header, unescaped as STOMP 1.2 says.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.frame.header(name)
    }

    /// The header lines in alphabetical order, as they stood on the wire.
    pub fn lines(&self) -> Vec<&str> {
        let mut lines: Vec<&str> = self.wire.lines().skip(1).take_while(|line| !line.is_empty()).collect();
        lines.sort_unstable();
        lines
    }

    /// The header lines but for `receipt`.
    pub fn lines_but_receipt(&self) -> Vec<&str> {
        self.lines().into_iter().filter(|line| !line.starts_with("receipt:")).collect()
    }
}

impl Peer {
    /// Takes the next connection; it will be greeted in version 1.2, by a broker that does not say its name.
    pub fn accept(listener: &TcpListener) -> Result<Self> {
        SockRef::from(listener).set_read_timeout(Some(LIMIT))?;
        let stream = listener.accept().context("no connection came")?.0;
        stream.set_nodelay(true)?;
        Ok(Self { stream, input: Vec::new(), greeting: vec![("version".into(), "1.2".into())], beats: 0 })
    }

    /// Chooses the headers of CONNECTED.
    #[must_use]
    pub fn greeting(mut self, headers: &[(&str, &str)]) -> Self {
        self.greeting = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        self
    }

    /// The next frame, not answered; none when the client has closed.
    pub fn receive(&mut self) -> Result<Option<Received>> {
        let until = Instant::now() + LIMIT;
        loop {
            self.skip_beats();
            if let Some((frame, used)) = parse(&self.input)? {
                let wire = String::from_utf8_lossy(&self.input[..used]).into_owned();
                self.input.drain(..used);
                return Ok(Some(Received { frame, wire }));
            }
            match self.fill(until)? {
                None => bail!("the client sends nothing"),
                Some(0) => return Ok(None),
                Some(_) => {}
            }
        }
    }

    /// The next frame, which must be this one; not answered.
    pub fn expect(&mut self, command: &str) -> Result<Received> {
        let received = self.receive()?.with_context(|| format!("the client closed instead of sending {command}"))?;
        ensure!(received.frame.command == command, "{command} should have come, not {received:?}");
        Ok(received)
    }

    /// Answers a frame as an agreeable broker would: CONNECT, or one with a receipt.
    pub fn answer(&mut self, received: &Received) -> Result<()> {
        if received.frame.command == "CONNECT" {
            let greeting: Vec<_> = self.greeting.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            self.stream.write_all(&frame("CONNECTED", &greeting, b""))?;
        }
        if let Some(receipt) = received.header("receipt") {
            self.stream.write_all(&frame("RECEIPT", &[("receipt-id", receipt)], b""))?;
        }
        Ok(())
    }

    /// Expects a frame and answers it.
    pub fn serve(&mut self, command: &str) -> Result<Received> {
        let received = self.expect(command)?;
        self.answer(&received)?;
        Ok(received)
    }

    /// Answers whatever comes next and returns its command; none when the client has closed.
    pub fn serve_one(&mut self) -> Result<Option<String>> {
        let Some(received) = self.receive()? else { return Ok(None) };
        self.answer(&received)?;
        Ok(Some(received.frame.command))
    }

    /// Sends one frame.
    pub fn send(&mut self, command: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<()> {
        self.send_raw(&frame(command, headers, body))
    }

    /// Sends bytes as they are.
    pub fn send_raw(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.stream.write_all(bytes)?)
    }

    /// Sends what the client takes of this, without ever reading; stops when it takes nothing for that long. Returns
    /// what is left.
    pub fn send_unread<'a>(&mut self, bytes: &'a [u8], patience: Duration) -> Result<&'a [u8]> {
        self.stream.set_write_timeout(Some(patience))?;
        let mut left = bytes;
        while !left.is_empty() {
            match self.stream.write(left) {
                Ok(count) => left = &left[count..],
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break,
                Err(error) => return Err(error.into()),
            }
        }
        self.stream.set_write_timeout(None)?;
        Ok(left)
    }

    /// Waits until the client has closed; fails when it sends a frame instead.
    pub fn wait_closed(&mut self) -> Result<()> {
        match self.receive()? {
            None => Ok(()),
            Some(received) => bail!("the client should have closed, but sent {received:?}"),
        }
    }

    /// Waits for one more line end between frames, until then at the latest.
    pub fn wait_beat(&mut self, until: Instant) -> Result<()> {
        let before = self.beats;
        loop {
            self.skip_beats();
            if self.beats > before {
                return Ok(());
            }
            ensure!(self.input.is_empty(), "a frame came: {}", String::from_utf8_lossy(&self.input));
            match self.fill(until)? {
                None => bail!("no heart-beat came in time"),
                Some(0) => bail!("the client has closed"),
                Some(_) => {}
            }
        }
    }

    /// Fails when a frame, or the beginning of one, comes within this time.
    pub fn stays_quiet(&mut self, time: Duration) -> Result<()> {
        let until = Instant::now() + time;
        loop {
            self.skip_beats();
            ensure!(self.input.is_empty(), "the client sent {}", String::from_utf8_lossy(&self.input));
            match self.fill(until)? {
                None => return Ok(()),
                Some(0) => bail!("the client has closed"),
                Some(_) => {}
            }
        }
    }

    fn skip_beats(&mut self) {
        let count = self.input.iter().take_while(|byte| matches!(byte, b'\n' | b'\r')).count();
        self.beats += self.input.drain(..count).filter(|byte| *byte == b'\n').count();
    }

    /// Reads something and tells how much; zero when the client has closed, none when the time is over.
    fn fill(&mut self, until: Instant) -> Result<Option<usize>> {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(None);
        }
        self.stream.set_read_timeout(Some(left))?;
        let mut chunk = [0; 4096];
        match self.stream.read(&mut chunk) {
            Ok(count) => {
                self.input.extend_from_slice(&chunk[..count]);
                Ok(Some(count))
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(None),
            // The client closed with something unread.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(Some(0)),
            Err(error) => Err(error.into()),
        }
    }
}
