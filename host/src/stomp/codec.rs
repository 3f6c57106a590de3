//! Bytes <-> frames: a decoder that can stop at any byte, and the encoder.
//!
//! The decoder is fed by connections and by the embedded broker; it remembers how far it has looked,
//! so that a frame that arrives in a thousand pieces is scanned once. Everything that comes from the
//! network is bounded by [`FrameLimits`]; `skip` reads past a MESSAGE that exceeds one. No sockets, no clock.

mod skip;

use bytes::{Buf, Bytes, BytesMut};
use memchr::memchr;

use self::skip::Skip;
pub use self::skip::Skipped;
use super::frame::{Command, Entry, Frame, Headers, Version};

/// Bounds for what a peer may send. ActiveMQ's own are 10 KiB a line, 1,000 headers, 100 MiB.
#[derive(Debug, Clone, Copy)]
pub struct FrameLimits {
    /// Bytes of one line: the command or a header.
    pub line_bytes: usize,
    /// Header lines of one frame.
    pub headers: usize,
    /// Bytes of all header lines of one frame.
    pub head_bytes: usize,
    /// Bytes of one body.
    pub body_bytes: usize,
}

impl Default for FrameLimits {
    fn default() -> Self {
        Self { line_bytes: 64 << 10, headers: 1_000, head_bytes: 256 << 10, body_bytes: 100 << 20 }
    }
}

/// Why bytes are not a frame. The connection is of no use afterwards, since framing is lost, but for
/// [`DecodeError::Skipped`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The first line is not a STOMP command.
    #[error("{0:?} is not a STOMP command: is this port a STOMP port without TLS?")]
    UnknownCommand(String),
    /// A header line has no colon.
    #[error("the header line {0:?} of {1} has no colon")]
    NoColon(String, Command),
    /// `content-length` is not a number.
    #[error("content-length {0:?} is not a number of bytes")]
    ContentLength(String),
    /// The byte after the body is not NUL.
    #[error("the body of {0} is longer than its content-length of {1} bytes")]
    NoNul(Command, usize),
    /// A line, the header block, the header count or the body exceeds its limit.
    #[error("a frame's {what} exceeds the limit of {limit}")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// The limit, in the unit of `what`.
        limit: usize,
    },
    /// A MESSAGE exceeds a limit and was read past: the next frame can be decoded.
    #[error(transparent)]
    Skipped(Box<Skipped>),
}

/// Why a frame cannot be written in the negotiated version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("header {name:?} holds {what}, which STOMP {} cannot carry", version.as_str())]
pub struct EncodeError {
    /// The name of the header.
    pub name: String,
    /// The character at fault.
    pub what: &'static str,
    /// The version of the connection.
    pub version: Version,
}

/// Cuts a stream of bytes into frames.
#[derive(Debug)]
pub struct Decoder {
    limits: FrameLimits,
    version: Version,
    skips: bool,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Looking for the empty line: bytes before `line` belong to complete lines, those before
    /// `scanned` hold no line feed that was not seen.
    Head { line: usize, scanned: usize, lines: usize },
    /// The head is cut off; the body ends after `length` bytes, or at the first NUL.
    Body { command: Command, headers: Headers, length: Option<usize>, scanned: usize },
    /// The frame exceeds a limit; its end is looked for.
    Skip(Box<Skip>),
}

impl State {
    const START: Self = Self::Head { line: 0, scanned: 0, lines: 0 };
}

impl Decoder {
    /// Creates a decoder. Until [`Decoder::set_version`] is called it reads escapes as 1.2 does, which
    /// only matters for frames other than CONNECT and CONNECTED: these are never escaped.
    #[must_use]
    pub fn new(limits: FrameLimits) -> Self {
        Self { limits, version: Version::V1_2, skips: false, state: State::START }
    }

    /// Reads past a MESSAGE that exceeds a limit, from now on, and tells of it by [`DecodeError::Skipped`]: one such
    /// message must not keep all others of its queue from being read.
    pub fn skip_messages(&mut self) {
        self.skips = true;
    }

    /// Whether it is in the midst of such a MESSAGE.
    #[must_use]
    pub fn is_skipping(&self) -> bool {
        matches!(self.state, State::Skip(_))
    }

    /// Sets the version that the session agreed on.
    pub fn set_version(&mut self, version: Version) {
        self.version = version;
    }

    /// Takes the next frame off the front of `input`, or none while it is not complete. Heart-beats
    /// (line ends between frames) are consumed silently.
    ///
    /// # Errors
    /// The bytes are not STOMP, or exceed a limit. The connection must be closed, but for
    /// [`DecodeError::Skipped`].
    pub fn decode(&mut self, input: &mut BytesMut) -> Result<Option<Frame>, DecodeError> {
        if matches!(self.state, State::Head { .. }) && !self.decode_head(input)? {
            return Ok(None);
        }
        match self.decode_body(input)? {
            None => self.skip(input),
            frame => Ok(frame),
        }
    }

    /// Looks for the end of the head; true once it is found, or need not be.
    fn decode_head(&mut self, input: &mut BytesMut) -> Result<bool, DecodeError> {
        let State::Head { mut line, mut scanned, mut lines } = self.state else { return Ok(true) };
        if line == 0 {
            let beats = input.iter().take_while(|b| matches!(b, b'\n' | b'\r')).count();
            input.advance(beats);
            scanned = scanned.saturating_sub(beats);
        }
        while let Some(at) = memchr(b'\n', input.get(scanned..).unwrap_or_default()) {
            let end = scanned + at;
            let text = input.get(line..end).unwrap_or_default();
            if let Err(error) = self.check_line(text.len(), end, lines) {
                return self.skip_head(input, error);
            }
            if matches!(text, b"" | b"\r") {
                self.state = self.parse_head(input.split_to(end + 1))?;
                return Ok(true);
            }
            lines += 1;
            line = end + 1;
            scanned = line;
        }
        if let Err(error) = self.check_line(input.len().saturating_sub(line), input.len(), lines) {
            return self.skip_head(input, error);
        }
        self.state = State::Head { line, scanned: input.len(), lines };
        Ok(false)
    }

    fn check_line(&self, line: usize, head: usize, lines: usize) -> Result<(), DecodeError> {
        let limits = &self.limits;
        for (what, is, limit) in [
            ("line in bytes", line, limits.line_bytes),
            ("header block in bytes", head, limits.head_bytes),
            ("number of headers", lines.saturating_sub(1), limits.headers),
        ] {
            if is > limit {
                return Err(DecodeError::TooLarge { what, limit });
            }
        }
        Ok(())
    }

    fn parse_head(&self, mut head: BytesMut) -> Result<State, DecodeError> {
        if std::str::from_utf8(&head).is_err() {
            // One bad byte in a header must not make a message undeliverable for ever.
            head = BytesMut::from(String::from_utf8_lossy(&head).as_bytes());
        }
        let first = memchr(b'\n', &head).unwrap_or(head.len());
        let line = trim_cr(head.get(..first).unwrap_or_default());
        let command = Command::parse(line).ok_or_else(|| DecodeError::UnknownCommand(excerpt(line)))?;
        let escaped = self.version > Version::V1_0 && !unescaped(command);
        let mut entries = Vec::with_capacity(16);
        let mut start = first + 1;
        while let Some(len) = memchr(b'\n', head.get(start..).unwrap_or_default()) {
            let line = trim_cr(head.get(start..start + len).unwrap_or_default());
            if line.is_empty() {
                break;
            }
            let colon = memchr(b':', line).ok_or_else(|| DecodeError::NoColon(excerpt(line), command))?;
            let (name, value) = ((start, start + colon), (start + colon + 1, start + line.len()));
            let range = |(from, to): (usize, usize), head: &mut BytesMut| {
                let to = if escaped { unescape(head, from, to, self.version) } else { to };
                // Within `head_bytes`, far below 4 GiB.
                (u32::try_from(from).unwrap_or(0), u32::try_from(to).unwrap_or(0))
            };
            entries.push(Entry { name: range(name, &mut head), value: range(value, &mut head) });
            start += len + 1;
        }
        let headers = Headers::from_parts(head.freeze(), entries);
        let length = headers.get("content-length").map(body_length).transpose()?;
        match self.check_body(length.unwrap_or_default()) {
            Err(_) if self.may_skip(command) => Ok(State::Skip(Box::new(Skip::body(&headers, length)))),
            checked => checked.map(|()| State::Body { command, headers, length, scanned: 0 }),
        }
    }

    fn check_body(&self, length: usize) -> Result<(), DecodeError> {
        let limit = self.limits.body_bytes;
        if length > limit { Err(DecodeError::TooLarge { what: "body in bytes", limit }) } else { Ok(()) }
    }

    fn decode_body(&mut self, input: &mut BytesMut) -> Result<Option<Frame>, DecodeError> {
        let State::Body { command, length, scanned, .. } = &mut self.state else { return Ok(None) };
        let end = if let Some(length) = *length {
            match input.get(length) {
                None => return Ok(None),
                Some(0) => length,
                Some(_) => return Err(DecodeError::NoNul(*command, length)),
            }
        } else if let Some(at) = memchr(0, input.get(*scanned..).unwrap_or_default()) {
            *scanned + at
        } else {
            *scanned = input.len();
            input.len()
        };
        if let Err(error) = self.check_body(end) {
            return self.skip_body(error);
        }
        if end == input.len() {
            return Ok(None);
        }
        let body = input.split_to(end).freeze();
        input.advance(1);
        match std::mem::replace(&mut self.state, State::START) {
            State::Body { command, headers, .. } => Ok(Some(Frame { command, headers, body })),
            State::Head { .. } | State::Skip(_) => Ok(None),
        }
    }

    fn may_skip(&self, command: Command) -> bool {
        self.skips && command == Command::Message
    }

    /// Begins to read past a frame of which the head exceeds a limit; it stands at the front of `input`.
    fn skip_head(&mut self, input: &BytesMut, error: DecodeError) -> Result<bool, DecodeError> {
        let first = memchr(b'\n', input).and_then(|end| Command::parse(trim_cr(input.get(..end)?)));
        if !first.is_some_and(|command| self.may_skip(command)) {
            return Err(error);
        }
        self.state = State::Skip(Box::new(Skip::head(self.version)));
        Ok(true)
    }

    /// The same for a body that ends at a NUL, wherever that is.
    fn skip_body(&mut self, error: DecodeError) -> Result<Option<Frame>, DecodeError> {
        match &self.state {
            State::Body { command, headers, .. } if self.may_skip(*command) => {
                self.state = State::Skip(Box::new(Skip::body(headers, None)));
                Ok(None)
            }
            _ => Err(error),
        }
    }

    fn skip(&mut self, input: &mut BytesMut) -> Result<Option<Frame>, DecodeError> {
        let State::Skip(skip) = &mut self.state else { return Ok(None) };
        let Some(skipped) = skip.read(input, &self.limits)? else { return Ok(None) };
        self.state = State::START;
        Err(DecodeError::Skipped(Box::new(skipped)))
    }
}

/// Reads the value of `content-length`.
fn body_length(text: &str) -> Result<usize, DecodeError> {
    let wrong = || DecodeError::ContentLength(excerpt(text.as_bytes()));
    let digits = text.trim();
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong()); // Rust would take "+5" too.
    }
    digits.parse().map_err(|_| wrong())
}

/// CONNECT and CONNECTED are never escaped (STOMP 1.2, "Value Encoding").
fn unescaped(command: Command) -> bool {
    matches!(command, Command::Connect | Command::Stomp | Command::Connected)
}

fn trim_cr(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

fn excerpt(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes.get(..bytes.len().min(60)).unwrap_or_default()).into_owned()
}

/// Unescapes `text[from..to]` in place and returns its new end. Unknown escapes are kept as they are:
/// the specification calls them fatal, but a broker's odd header must not cost a message.
fn unescape(text: &mut BytesMut, from: usize, to: usize, version: Version) -> usize {
    let Some(part) = text.get_mut(from..to) else { return to };
    let Some(first) = memchr(b'\\', part) else { return to };
    let (mut read, mut write) = (first, first);
    while let Some(&byte) = part.get(read) {
        let plain = match (byte, part.get(read + 1)) {
            (b'\\', Some(b'n')) => Some(b'\n'),
            (b'\\', Some(b'c')) => Some(b':'),
            (b'\\', Some(b'\\')) => Some(b'\\'),
            (b'\\', Some(b'r')) if version == Version::V1_2 => Some(b'\r'),
            _ => None,
        };
        if let Some(slot) = part.get_mut(write) {
            *slot = plain.unwrap_or(byte);
        }
        read += if plain.is_some() { 2 } else { 1 };
        write += 1;
    }
    from + write
}

/// Appends one frame to `output`.
///
/// `content-length` is not added: it is the caller's choice per frame, since ActiveMQ takes a SEND with
/// it for a binary message and one without for text. A body that holds NUL needs it.
///
/// # Errors
/// A header holds a character that the version cannot carry; nothing was appended.
pub fn encode<'a>(
    output: &mut BytesMut,
    version: Version,
    command: Command,
    headers: impl IntoIterator<Item = (&'a str, &'a str)>,
    body: &[u8],
) -> Result<(), EncodeError> {
    let start = output.len();
    output.extend_from_slice(command.as_str().as_bytes());
    output.extend_from_slice(b"\n");
    let version = if unescaped(command) { Version::V1_0 } else { version };
    for (name, value) in headers {
        let mut put = |part: &str, colon_ok| escape(output, version, part, colon_ok);
        if let Err(what) = put(name, false).and_then(|()| {
            output.extend_from_slice(b":");
            escape(output, version, value, version == Version::V1_0)
        }) {
            output.truncate(start);
            return Err(EncodeError { name: excerpt(name.as_bytes()), what, version });
        }
        output.extend_from_slice(b"\n");
    }
    output.extend_from_slice(b"\n");
    output.extend_from_slice(body);
    output.extend_from_slice(b"\0");
    Ok(())
}

fn escape(output: &mut BytesMut, version: Version, part: &str, colon_ok: bool) -> Result<(), &'static str> {
    if !part.bytes().any(|b| matches!(b, b'\n' | b'\r' | b':' | b'\\' | 0)) {
        output.extend_from_slice(part.as_bytes());
        return Ok(());
    }
    for byte in part.bytes() {
        let escaped: &[u8] = match (byte, version) {
            (0, _) => return Err("a NUL"),
            (b'\n', Version::V1_0) => return Err("a line feed"),
            // Parsers of every version strip a carriage return before the line feed.
            (b'\r', Version::V1_0 | Version::V1_1) => return Err("a carriage return"),
            (b':', Version::V1_0) if !colon_ok => return Err("a colon in its name"),
            (b':' | b'\\', Version::V1_0) => std::slice::from_ref(&byte),
            (b'\n', _) => b"\\n",
            (b'\r', _) => b"\\r",
            (b':', _) => b"\\c",
            (b'\\', _) => b"\\\\",
            _ => std::slice::from_ref(&byte),
        };
        output.extend_from_slice(escaped);
    }
    Ok(())
}

/// The `content-length` that a body needs in its frame: none for text (valid UTF-8 without NUL), so that
/// ActiveMQ hands it on as text.
#[must_use]
pub fn content_length(body: &Bytes) -> Option<usize> {
    let text = memchr(0, body).is_none() && std::str::from_utf8(body).is_ok();
    (!text).then_some(body.len())
}

#[cfg(test)]
mod tests;
