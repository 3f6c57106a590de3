//! Reading past a MESSAGE that exceeds a limit, without keeping it.
//!
//! Used by [`super::Decoder`] alone. What is kept of a frame is bounded, however long it is: a few headers that
//! say which message it was. What is said of it does not depend on the pieces in which it arrived.

use bytes::{Buf, BytesMut};
use memchr::memchr;

use super::{DecodeError, FrameLimits, body_length, trim_cr, unescape};
use crate::stomp::{Command, Headers, Version};

/// The headers that are kept: what frames the message, and what names it.
const KEPT: [&str; 6] = ["content-length", "message-id", "ack", "subscription", "destination", "amqp-message-id"];
/// A longer value is none: no broker's id is.
const MAX_VALUE_BYTES: usize = 1 << 10;
/// More room than this is not kept for what follows.
const MAX_IDLE_BYTES: usize = 1 << 20;

/// A MESSAGE that exceeded a limit and was read past.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("a MESSAGE's {what} is {size}, over the limit of {limit}")]
pub struct Skipped {
    /// What is too large.
    pub what: &'static str,
    /// How large it is, in the unit of `what`.
    pub size: usize,
    /// The limit, in the same unit.
    pub limit: usize,
    /// What there was of it, at least: its body, and its head where that was too large.
    pub bytes: usize,
    /// Those of its headers that say which message it is, as far as they stood there.
    pub headers: Headers,
}

impl Eq for Skipped {}

/// How far a frame was read.
#[derive(Debug)]
pub(super) struct Skip {
    version: Version,
    kept: Vec<(&'static str, String)>,
    /// Bytes of the line at the front of the input that are gone already.
    gone: usize,
    lines: usize,
    longest_line: usize,
    head: usize,
    body: usize,
    place: Place,
}

#[derive(Debug)]
enum Place {
    Head,
    /// How much of the body is left; none where a NUL ends it.
    Body(Option<usize>),
}

impl Skip {
    /// Begins at the front of a frame.
    pub(super) fn head(version: Version) -> Self {
        let (kept, place) = (Vec::new(), Place::Head);
        Self { version, kept, gone: 0, lines: 0, longest_line: 0, head: 0, body: 0, place }
    }

    /// Begins behind the head of a frame, of which the body is so long.
    pub(super) fn body(headers: &Headers, length: Option<usize>) -> Self {
        let mut skip = Self { place: Place::Body(length), ..Self::head(Version::V1_0) };
        for name in KEPT {
            headers.get(name).into_iter().for_each(|value| skip.keep(name, value));
        }
        skip
    }

    /// Reads on; what exceeded which limit when the frame is at its end.
    pub(super) fn read(&mut self, input: &mut BytesMut, limits: &FrameLimits) -> Result<Option<Skipped>, DecodeError> {
        let ended = self.read_head(input, limits)? && self.read_body(input)?;
        Ok(ended.then(|| self.skipped(limits)))
    }

    /// True when the head is at its end.
    fn read_head(&mut self, input: &mut BytesMut, limits: &FrameLimits) -> Result<bool, DecodeError> {
        while matches!(self.place, Place::Head) {
            let Some(at) = memchr(b'\n', input) else {
                if self.gone > 0 || input.len() > limits.line_bytes {
                    self.gone += input.len();
                    forget(input);
                }
                return Ok(false);
            };
            let (line, length) = (input.split_to(at), self.gone + at);
            input.advance(1);
            self.head += length + 1;
            if length <= limits.line_bytes {
                self.line(&line)?;
            }
            self.longest_line = self.longest_line.max(length);
            self.lines += 1;
            self.gone = 0;
        }
        Ok(true)
    }

    fn line(&mut self, line: &[u8]) -> Result<(), DecodeError> {
        let line = trim_cr(line);
        if line.is_empty() {
            let length = self.value("content-length").map(body_length).transpose()?;
            self.place = Place::Body(length);
        } else if let Some(colon) = memchr(b':', line)
            && let Some(name) = KEPT.into_iter().find(|name| line.get(..colon) == Some(name.as_bytes()))
        {
            let mut line = BytesMut::from(line);
            let (from, to) = (colon + 1, line.len());
            let to = if self.version > Version::V1_0 { unescape(&mut line, from, to, self.version) } else { to };
            self.keep(name, &String::from_utf8_lossy(line.get(from..to).unwrap_or_default()));
        }
        Ok(())
    }

    /// The first of repeated headers wins.
    fn keep(&mut self, name: &'static str, value: &str) {
        if self.value(name).is_none() {
            let value = if value.len() > MAX_VALUE_BYTES { "" } else { value };
            self.kept.push((name, value.to_owned()));
        }
    }

    fn value(&self, name: &str) -> Option<&str> {
        self.kept.iter().find(|(kept, _)| *kept == name).map(|(_, value)| value.as_str())
    }

    /// True when the body is at its end, and its NUL is gone.
    fn read_body(&mut self, input: &mut BytesMut) -> Result<bool, DecodeError> {
        let Place::Body(left) = &mut self.place else { return Ok(false) };
        let end = match left {
            Some(left) => (*left < input.len()).then_some(*left),
            None => memchr(0, input),
        };
        let read = end.unwrap_or(input.len());
        self.body += read;
        if let Some(left) = left {
            *left -= read;
        }
        if end.is_none() {
            forget(input);
            return Ok(false);
        }
        input.advance(read);
        if input.get_u8() != 0 {
            return Err(DecodeError::NoNul(Command::Message, self.body));
        }
        Ok(true)
    }

    fn skipped(&mut self, limits: &FrameLimits) -> Skipped {
        // Without the command, and the empty line.
        let headers = self.lines.saturating_sub(2);
        let exceeded = [
            ("number of headers", headers, limits.headers),
            ("header block in bytes", self.head, limits.head_bytes),
            ("longest line in bytes", self.longest_line, limits.line_bytes),
        ];
        let body = ("body in bytes", self.body, limits.body_bytes);
        let (what, size, limit) = exceeded.into_iter().find(|(_, size, limit)| size > limit).unwrap_or(body);
        let headers = std::mem::take(&mut self.kept).into_iter().collect();
        Skipped { what, size, limit, bytes: self.head.saturating_add(self.body), headers }
    }
}

/// Drops what was read, and the room for it where that is much.
fn forget(input: &mut BytesMut) {
    if input.capacity() > MAX_IDLE_BYTES {
        *input = BytesMut::new();
    } else {
        input.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stomp::{Decoder, Frame};

    const LIMITS: FrameLimits = FrameLimits { line_bytes: 40, headers: 5, head_bytes: 118, body_bytes: 30 };
    const NAMED: &str = "message-id:ID\\c7\nack:a\nack:b\n";

    /// Frames and what was skipped, in order; the first other error.
    fn decode<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<Result<Frame, Skipped>>, DecodeError> {
        let (mut decoder, mut input, mut all) = (Decoder::new(LIMITS), BytesMut::new(), Vec::new());
        decoder.skip_messages();
        for piece in pieces {
            input.extend_from_slice(piece);
            loop {
                match decoder.decode(&mut input) {
                    Ok(Some(frame)) => all.push(Ok(frame)),
                    Ok(None) => break,
                    Err(DecodeError::Skipped(skipped)) => all.push(Err(*skipped)),
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(all)
    }

    /// Each over one limit, with what is to be said of it.
    fn oversized() -> Vec<(String, &'static str, usize)> {
        let (line, body) = ("x".repeat(41 - "long:".len()), "y".repeat(31));
        let many: String = (0..3).map(|number| format!("h{number}:1\n")).collect();
        let wide = format!("a:{0}\nb:{0}\n", "w".repeat(38));
        vec![
            (format!("MESSAGE\n{NAMED}{many}\nbody\0"), "number of headers", 6),
            (format!("MESSAGE\r\n{many}{NAMED}content-length:3\n\nb\0d\0"), "number of headers", 7),
            (format!("MESSAGE\n{wide}{NAMED}\nbody\0"), "header block in bytes", 8 + 82 + NAMED.len() + 1),
            (format!("MESSAGE\n{NAMED}long:{line}\n\r\nbody\0"), "longest line in bytes", 41),
            (format!("MESSAGE\nlong:{line}{line}\n{NAMED}\nbody\0"), "longest line in bytes", 77),
            (format!("MESSAGE\n{NAMED}\n{body}\0"), "body in bytes", 31),
            (format!("MESSAGE\n{NAMED}content-length:32\n\n{body}\0\0"), "body in bytes", 32),
        ]
    }

    #[test]
    fn what_is_over_a_limit_is_read_past_at_every_split() {
        for (wire, what, size) in oversized() {
            let wire = format!("{wire}\nMESSAGE\nmessage-id:8\n\nnext\0");
            let whole = decode([wire.as_bytes()]).unwrap();
            let [Err(skipped), Ok(next)] = whole.as_slice() else { panic!("{wire:?}: {whole:?}") };
            assert_eq!((skipped.what, skipped.size), (what, size), "{wire:?}");
            let of = |name| skipped.headers.get(name);
            assert_eq!((of("message-id"), of("ack"), of("long")), (Some("ID:7"), Some("a"), None), "{wire:?}");
            assert_eq!((next.headers.get("message-id"), &next.body[..]), (Some("8"), b"next".as_slice()));
            for at in 0..wire.len() {
                let (head, tail) = wire.as_bytes().split_at(at);
                assert_eq!(decode([head, tail]).unwrap(), whole, "{wire:?} split at {at}");
            }
            assert_eq!(decode(wire.as_bytes().chunks(1)).unwrap(), whole, "{wire:?} by bytes");
        }
    }

    #[test]
    fn what_is_at_its_limits_is_not() {
        let value = "x".repeat(38);
        let wire = format!("MESSAGE\na:{value}\nb:1\nc:1\nd:1\ne:1\n\n{}\0", "y".repeat(30));
        assert!(matches!(decode([wire.as_bytes()]).unwrap().as_slice(), [Ok(_)]));
    }

    #[test]
    fn only_messages_and_only_when_asked() {
        for (wire, ..) in oversized() {
            let is_too_large = |error| matches!(error, DecodeError::TooLarge { .. });
            let error = Decoder::new(LIMITS).decode(&mut BytesMut::from(wire.as_bytes())).unwrap_err();
            assert!(is_too_large(error), "{wire:?}");
            let error = decode([wire.replacen("MESSAGE", "RECEIPT", 1).as_bytes()]).unwrap_err();
            assert!(is_too_large(error), "{wire:?}");
        }
    }

    #[test]
    fn framing_that_cannot_be_kept_is_an_error() {
        let head = "h:1\n".repeat(6);
        for (wire, part) in [
            (format!("MESSAGE\n{head}content-length:x\n\n"), "content-length \"x\""),
            (format!("MESSAGE\n{head}content-length:2\n\nabc\0"), "longer than its content-length of 2"),
            (format!("MESSAGE\ncontent-length:31\n\n{}\0", "y".repeat(32)), "longer than its content-length of 31"),
        ] {
            let error = decode([wire.as_bytes()]).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn memory_stays_bounded_whatever_is_sent() {
        let long_value = format!("message-id:{}\n", "m".repeat(60_000));
        let endless = [
            ("MESSAGE\n", "x"),
            ("MESSAGE\n", "header:value\n"),
            ("MESSAGE\n", long_value.as_str()),
            ("MESSAGE\n\n", "body"),
            ("MESSAGE\ncontent-length:999999999999\n\n", "body"),
        ];
        for (begin, unit) in endless {
            let mut decoder = Decoder::new(FrameLimits { body_bytes: 1 << 20, ..FrameLimits::default() });
            decoder.skip_messages();
            let mut input = BytesMut::from(begin);
            let piece = unit.repeat((16 << 10) / unit.len() + 1);
            for _ in 0..1_000 {
                input.extend_from_slice(piece.as_bytes());
                assert!(decoder.decode(&mut input).unwrap().is_none());
                assert!(input.capacity() < 3 << 20, "{unit:.20}: {} bytes", input.capacity());
            }
            let super::super::State::Skip(skip) = &decoder.state else { panic!("{unit:.20} is not skipped") };
            assert!(skip.kept.iter().map(|(_, value)| value.len()).sum::<usize>() <= KEPT.len() * MAX_VALUE_BYTES);
        }
    }
}
