//! A STOMP frame in memory: command, headers, body.
//!
//! Made by [`super::codec`], read by sessions, producers and the embedded broker. Header names and
//! values stand here as they are meant, without the escaping of the wire.

use std::{fmt, ops::Range};

use bytes::Bytes;

/// The protocol version that a connection agreed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// STOMP 1.0: no escaping, no heart-beats, ACK by message-id.
    V1_0,
    /// STOMP 1.1: escapes `\n`, `\c`, `\\`; ACK by message-id and subscription.
    V1_1,
    /// STOMP 1.2: escapes also `\r`; ACK by the `ack` header's value.
    V1_2,
}

impl Version {
    /// Reads the `version` header of CONNECTED; its absence means 1.0 (STOMP 1.1, "Protocol
    /// Negotiation"). Returns none for a version that this client did not offer.
    #[must_use]
    pub fn parse(text: Option<&str>) -> Option<Self> {
        match text {
            None | Some("1.0") => Some(Self::V1_0),
            Some("1.1") => Some(Self::V1_1),
            Some("1.2") => Some(Self::V1_2),
            Some(_) => None,
        }
    }

    /// The version as it stands in headers.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V1_0 => "1.0",
            Self::V1_1 => "1.1",
            Self::V1_2 => "1.2",
        }
    }
}

macro_rules! commands {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// The command of a frame.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Command { $($(#[$doc])* $name,)* }

        impl Command {
            /// All commands, for tests and tables.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The command as it stands on the wire.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            pub(super) fn parse(line: &[u8]) -> Option<Self> {
                $(if line == $text.as_bytes() { return Some(Self::$name); })*
                None
            }
        }
    };
}

commands! {
    /// Server: a message for a subscription.
    Message = "MESSAGE",
    /// Server: a frame with this receipt id was handled.
    Receipt = "RECEIPT",
    /// Server: something went wrong.
    Error = "ERROR",
    /// Server: the session is open.
    Connected = "CONNECTED",
    /// Client: sends a message.
    Send = "SEND",
    /// Client: acknowledges.
    Ack = "ACK",
    /// Client: refuses.
    Nack = "NACK",
    /// Client: opens a subscription.
    Subscribe = "SUBSCRIBE",
    /// Client: closes a subscription.
    Unsubscribe = "UNSUBSCRIBE",
    /// Client: begins a transaction.
    Begin = "BEGIN",
    /// Client: commits a transaction.
    Commit = "COMMIT",
    /// Client: aborts a transaction.
    Abort = "ABORT",
    /// Client: opens a session (1.0 to 1.2).
    Connect = "CONNECT",
    /// Client: opens a session (1.1 and 1.2).
    Stomp = "STOMP",
    /// Client: closes the session.
    Disconnect = "DISCONNECT",
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Header entries in the order of the frame, in one shared piece of text.
///
/// The decoder unescapes the header block in place and keeps ranges into it, so a frame costs one
/// allocation whatever the number of its headers.
#[derive(Clone, Default)]
pub struct Headers {
    text: Bytes,
    entries: Vec<Entry>,
}

/// Where a name and its value stand in the text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    pub(super) name: (u32, u32),
    pub(super) value: (u32, u32),
}

impl Headers {
    pub(super) fn from_parts(text: Bytes, entries: Vec<Entry>) -> Self {
        Self { text, entries }
    }

    fn slice(&self, (start, end): (u32, u32)) -> &str {
        let range: Range<usize> = start as usize..end as usize;
        // The decoder checked the text; the fallback is never taken.
        self.text.get(range).and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default()
    }

    /// The first value of that name: the first of repeated headers wins (STOMP 1.2, "Repeated Header
    /// Entries").
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.entries
            .iter()
            .find(|e| self.text.get(e.name.0 as usize..e.name.1 as usize) == Some(name.as_bytes()))
            .map(|e| self.slice(e.value))
    }

    /// The same headers in memory of their own, apart from the buffer they were read into.
    #[must_use]
    pub fn compact(&self) -> Self {
        Self { text: Bytes::copy_from_slice(&self.text), entries: self.entries.clone() }
    }

    /// All entries in order, repeated ones included.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> + Clone {
        self.entries.iter().map(|e| (self.slice(e.name), self.slice(e.value)))
    }

    /// The number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The bytes that the header text takes in memory.
    #[must_use]
    pub fn byte_len(&self) -> usize {
        self.text.len()
    }
}

impl<N: AsRef<str>, V: AsRef<str>> FromIterator<(N, V)> for Headers {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(entries: I) -> Self {
        let mut text = String::new();
        // Text beyond 4 GiB cannot be built here: configured and tested headers are small.
        let mut put = |part: &str| {
            let start = u32::try_from(text.len()).unwrap_or(u32::MAX);
            text.push_str(part);
            (start, u32::try_from(text.len()).unwrap_or(u32::MAX))
        };
        let entries =
            entries.into_iter().map(|(n, v)| Entry { name: put(n.as_ref()), value: put(v.as_ref()) }).collect();
        Self { text: Bytes::from(text), entries }
    }
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |(n, v)| if n == "passcode" { (n, "...") } else { (n, v) };
        f.debug_map().entries(self.iter().map(shown)).finish()
    }
}

impl PartialEq for Headers {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

/// One frame.
#[derive(Debug, Clone, PartialEq)]
pub struct Frame {
    /// What it is.
    pub command: Command,
    /// Its headers, unescaped.
    pub headers: Headers,
    /// Its body, byte for byte: a slice of the read buffer.
    pub body: Bytes,
}

impl Frame {
    /// Creates a frame from parts, as tests and the embedded broker do.
    #[must_use]
    pub fn new<'a>(command: Command, headers: impl IntoIterator<Item = (&'a str, &'a str)>, body: Bytes) -> Self {
        Self { command, headers: headers.into_iter().collect(), body }
    }
}
