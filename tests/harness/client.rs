//! A small STOMP 1.2 client of the tests' own: blocking, and written apart from the host's, so that the
//! two do not share a mistake.

use std::{
    collections::HashSet,
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

/// How long anything that a broker owes may take.
const LIMIT: Duration = Duration::from_secs(30);
/// The header of the message that tells [`Client::drain_queue`] that it has seen all.
const LAST: &str = "stompbox-test-last";
/// SENDs in flight at once.
const PIPELINE: usize = 200;

/// A frame from the broker; mostly a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Msg {
    pub command: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Msg {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// One connection.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    input: Vec<u8>,
    frames: u64,
    subscribed: Option<String>,
    /// What the broker calls itself.
    server: String,
    /// Whether it says nothing but what the caller says.
    plain: bool,
    /// What came while something else was waited for.
    waiting: std::collections::VecDeque<Msg>,
}

impl Client {
    /// Connects and logs in. On Artemis the client says of each destination whether it is a queue, as a
    /// correct client does there.
    pub fn connect(address: SocketAddr, login: Option<(&str, &str)>) -> Result<Self> {
        Self::connect_with(address, login, &[])
    }

    /// Connects with further headers, some instead of the client's own.
    pub fn connect_with(address: SocketAddr, login: Option<(&str, &str)>, more: &[(&str, &str)]) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&address, LIMIT)?;
        stream.set_nodelay(true)?;
        let mut client = Self {
            stream,
            input: Vec::new(),
            frames: 0,
            subscribed: None,
            server: String::new(),
            plain: false,
            waiting: Default::default(),
        };
        let own = [("accept-version", "1.2"), ("host", "/"), ("heart-beat", "0,0")];
        let own = own.into_iter().filter(|(name, _)| !more.iter().any(|(given, _)| given == name));
        let mut headers: Vec<_> = more.iter().copied().chain(own).collect();
        if let Some((username, passcode)) = login {
            headers.extend([("login", username), ("passcode", passcode)]);
        }
        client.stream.write_all(&frame("CONNECT", &headers, b""))?;
        let answer = client.next_frame(Instant::now() + LIMIT)?.context("no answer to CONNECT")?;
        ensure!(answer.command == "CONNECTED", "CONNECT was answered with {answer:?}");
        client.server = answer.header("server").unwrap_or_default().to_owned();
        client.waiting.push_back(answer);
        Ok(client)
    }

    /// The same client without knowledge of brokers: it sends the caller's headers and nothing else.
    pub fn plain(mut self) -> Self {
        self.plain = true;
        self
    }

    /// The answer to CONNECT; only before anything was read.
    pub fn greeting(&self) -> &Msg {
        self.waiting.front().expect("nothing was read yet")
    }

    /// What a client must add to SEND or SUBSCRIBE on this broker.
    fn routing(&self, header: &'static str, destination: &str) -> Option<(&'static str, &'static str)> {
        let known = [("/queue/", "ANYCAST"), ("/topic/", "MULTICAST")];
        let routing = known.into_iter().find(|(prefix, _)| destination.starts_with(prefix))?.1;
        (!self.plain && self.server.starts_with("ActiveMQ-Artemis/")).then_some((header, routing))
    }

    /// The headers of a SEND; the first of repeated ones wins.
    fn send_headers<'a>(&self, destination: &'a str, given: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
        let own = [("destination", destination)];
        own.into_iter().chain(given.iter().copied()).chain(self.routing("destination-type", destination)).collect()
    }

    /// Writes a frame and returns what answers it: its RECEIPT, or an ERROR. Messages are kept for `read`.
    pub fn exchange(&mut self, command: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<Msg> {
        self.put(command, headers, body)?;
        self.answer()
    }

    /// The answer to what was written last: its RECEIPT, or an ERROR.
    pub fn answer(&mut self) -> Result<Msg> {
        let receipt = format!("t-{}", self.frames);
        let until = Instant::now() + LIMIT;
        loop {
            let frame = self.next_frame(until)?.context("no answer")?;
            match frame.command.as_str() {
                "RECEIPT" if frame.header("receipt-id") == Some(&receipt) => return Ok(frame),
                "ERROR" => return Ok(frame),
                _ => self.waiting.push_back(frame),
            }
        }
    }

    /// Writes bytes as they are.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.stream.write_all(bytes)?)
    }

    /// Sends one message and waits for its receipt.
    pub fn send(&mut self, destination: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<()> {
        let receipt = self.put("SEND", &self.send_headers(destination, headers), body)?;
        self.wait_receipts(&mut HashSet::from([receipt]))
    }

    /// Sends one message without asking for a receipt.
    pub fn send_unconfirmed(&mut self, destination: &str, body: &[u8]) -> Result<()> {
        self.stream.write_all(&frame("SEND", &self.send_headers(destination, &[]), body))?;
        Ok(())
    }

    /// Sends many persistent messages and waits for all receipts.
    pub fn send_all<B: AsRef<[u8]>>(&mut self, destination: &str, bodies: &[B]) -> Result<()> {
        for some in bodies.chunks(PIPELINE) {
            let mut receipts = HashSet::new();
            for body in some {
                let headers = self.send_headers(destination, &[("persistent", "true")]);
                receipts.insert(self.put("SEND", &headers, body.as_ref())?);
            }
            self.wait_receipts(&mut receipts)?;
        }
        Ok(())
    }

    /// Subscribes; one subscription at a time.
    pub fn subscribe(&mut self, destination: &str, ack: &str, headers: &[(&str, &str)]) -> Result<()> {
        ensure!(self.subscribed.is_none(), "already subscribed");
        let own = [("destination", destination), ("id", "test"), ("ack", ack)];
        let routing = self.routing("subscription-type", destination);
        let all: Vec<_> = own.into_iter().chain(headers.iter().copied()).chain(routing).collect();
        let receipt = self.put("SUBSCRIBE", &all, b"")?;
        self.subscribed = Some(destination.to_owned());
        self.wait_receipts(&mut HashSet::from([receipt]))
    }

    /// Reads messages: `count` of them, or fewer if the time is over before.
    pub fn read(&mut self, count: usize, within: Duration) -> Result<Vec<Msg>> {
        let until = Instant::now() + within;
        let mut messages = Vec::new();
        while messages.len() < count {
            let Some(frame) = self.waiting.pop_front().map_or_else(|| self.next_frame(until), |m| Ok(Some(m)))? else {
                break;
            };
            match frame.command.as_str() {
                "MESSAGE" => messages.push(frame),
                "ERROR" => {
                    let came: Vec<_> = messages.iter().map(Msg::text).collect();
                    bail!("the broker reports: {:?} {}, after {came:?} of {count}", frame.headers, frame.text())
                }
                _ => {}
            }
        }
        Ok(messages)
    }

    /// The next frame of any kind; none when the time is over.
    pub fn any_frame(&mut self, within: Duration) -> Result<Option<Msg>> {
        self.waiting.pop_front().map_or_else(|| self.next_frame(Instant::now() + within), |frame| Ok(Some(frame)))
    }

    /// Acknowledges one message and waits for the receipt.
    pub fn ack(&mut self, message: &Msg) -> Result<()> {
        let id = message.header("ack").context("a message without ack header")?;
        let receipt = self.put("ACK", &[("id", id)], b"")?;
        self.wait_receipts(&mut HashSet::from([receipt]))
    }

    /// Leaves in good order: the broker has handled all that was sent.
    pub fn close(mut self) -> Result<()> {
        let receipt = self.put("DISCONNECT", &[], b"")?;
        self.wait_receipts(&mut HashSet::from([receipt]))
    }

    /// Takes everything out of a queue that has no other consumer, oldest first. Last messages of our own
    /// tell when the queue is empty, so no time is waited. ActiveMQ keeps persistent and other messages apart
    /// and their order only within each kind, so there it is one of each; on RabbitMQ a message that is not
    /// persistent would make the queue another one.
    pub fn drain_queue(mut self, destination: &str) -> Result<Vec<Msg>> {
        let one_order = self.server.starts_with("RabbitMQ/") || self.server.starts_with("ActiveMQ-Artemis/");
        let mut last_ones = 0;
        for persistent in ["true", "false"].into_iter().take(if one_order { 1 } else { 2 }) {
            self.send(destination, &[(LAST, "yes"), ("persistent", persistent)], b"")?;
            last_ones += 1;
        }
        self.subscribe(destination, "client-individual", &[])?;
        let mut messages = Vec::new();
        while last_ones > 0 {
            let message = self.read(1, LIMIT)?.pop().context("the queue did not give back what was sent to it")?;
            let ack = message.header("ack").context("a message without ack header")?;
            self.put("ACK", &[("id", ack)], b"")?;
            if message.header(LAST).is_some() {
                last_ones -= 1;
            } else {
                messages.push(message);
            }
        }
        self.close()?;
        Ok(messages)
    }

    /// Writes one frame, with a receipt asked for; returns its id.
    fn put(&mut self, command: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<String> {
        self.frames += 1;
        let receipt = format!("t-{}", self.frames);
        let headers = [&[("receipt", receipt.as_str())], headers].concat();
        self.stream.write_all(&frame(command, &headers, body))?;
        Ok(receipt)
    }

    fn wait_receipts(&mut self, receipts: &mut HashSet<String>) -> Result<()> {
        let until = Instant::now() + LIMIT;
        while !receipts.is_empty() {
            let frame = self.next_frame(until)?.with_context(|| format!("no receipts {receipts:?}"))?;
            match frame.command.as_str() {
                "RECEIPT" => drop(receipts.remove(frame.header("receipt-id").unwrap_or_default())),
                "ERROR" => bail!("the broker reports: {:?} {}", frame.headers, frame.text()),
                _ => self.waiting.push_back(frame),
            }
        }
        Ok(())
    }

    /// The next frame; none when the time is over.
    fn next_frame(&mut self, until: Instant) -> Result<Option<Msg>> {
        loop {
            if let Some((message, used)) = parse(&self.input)? {
                self.input.drain(..used);
                return Ok(Some(message));
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            self.stream.set_read_timeout(Some(left))?;
            // Without it the kernel may sit on its ACK for 40 ms while ActiveMQ waits for that before it sends more.
            socket2::SockRef::from(&self.stream).set_tcp_quickack(true)?;
            let mut chunk = [0; 64 << 10];
            match self.stream.read(&mut chunk) {
                Ok(0) => bail!("the broker closed the connection"),
                Ok(count) => self.input.extend_from_slice(&chunk[..count]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// A frame as bytes. A body that is text goes without content-length, as PanDA's senders do.
pub fn frame(command: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("{command}\n").into_bytes();
    for (name, value) in headers {
        let value = if command == "CONNECT" { (*value).to_owned() } else { escape(value) };
        bytes.extend_from_slice(format!("{name}:{value}\n").as_bytes());
    }
    if body.contains(&0) || std::str::from_utf8(body).is_err() {
        bytes.extend_from_slice(format!("content-length:{}\n", body.len()).as_bytes());
    }
    [&bytes, b"\n".as_slice(), body, b"\0"].concat()
}

fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('\n', "\\n").replace('\r', "\\r").replace(':', "\\c")
}

fn unescape(value: &str) -> String {
    let mut plain = String::new();
    let mut chars = value.chars();
    while let Some(char) = chars.next() {
        plain.push(match (char == '\\').then(|| chars.next()).flatten() {
            None => char,
            Some('n') => '\n',
            Some('r') => '\r',
            Some('c') => ':',
            Some(other) => other,
        });
    }
    plain
}

/// One frame at the front of `bytes`, and how many bytes it takes; none if it is not complete.
pub fn parse(bytes: &[u8]) -> Result<Option<(Msg, usize)>> {
    let start = bytes.iter().position(|byte| !matches!(byte, b'\n' | b'\r')).unwrap_or(bytes.len());
    let mut lines = Vec::new();
    let mut at = start;
    loop {
        let Some(len) = bytes[at..].iter().position(|byte| *byte == b'\n') else { return Ok(None) };
        let line = std::str::from_utf8(&bytes[at..at + len])?.trim_end_matches('\r');
        at += len + 1;
        if line.is_empty() {
            break;
        }
        lines.push(line);
    }
    let headers: Vec<(String, String)> =
        lines[1..].iter().filter_map(|line| line.split_once(':')).map(|(k, v)| (unescape(k), unescape(v))).collect();
    let length = headers.iter().find(|(name, _)| name == "content-length").map(|(_, value)| value.parse::<usize>());
    let length = match length.transpose()? {
        Some(length) if bytes.len() <= at + length => return Ok(None),
        Some(length) => length,
        None => match bytes[at..].iter().position(|byte| *byte == 0) {
            Some(length) => length,
            None => return Ok(None),
        },
    };
    let body = bytes[at..at + length].to_vec();
    Ok(Some((Msg { command: lines[0].to_owned(), headers, body }, at + length + 1)))
}
