//! Where fuzzers of the codec enter: bytes of a peer, and frames made of bytes.
//!
//! Called by the targets of `host/fuzz`, and by the tests below with seeded random bytes and with the files of
//! `host/fuzz/seeds`. A panic, or a promise that is broken, is a finding. Not part of the host.
#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a finding is a panic")]

use bytes::{Bytes, BytesMut};

use super::{Command, DecodeError, Decoder, Frame, FrameLimits, Version, encode};

const VERSIONS: [Version; 3] = [Version::V1_0, Version::V1_1, Version::V1_2];
/// Small, so that short inputs reach them.
const LIMITS: FrameLimits = FrameLimits { line_bytes: 120, headers: 8, head_bytes: 400, body_bytes: 600 };

/// What a decoder made of some bytes: frames, and why it stopped. Which of several limits is met first depends on
/// the split, so that is not told apart.
type Decoded = (Vec<Frame>, Option<DecodeError>);

/// Bytes of a peer: the first says where they are split, the others are the stream. Returns the frames.
///
/// Every split gives the same; nothing that is too large passes; what was understood can be written and read again.
pub fn stream(bytes: &[u8]) -> usize {
    let Some((first, wire)) = bytes.split_first() else { return 0 };
    let mut frames = 0;
    for version in VERSIONS {
        let whole = decode(version, [wire]);
        let size = usize::from(*first % 16) + 1;
        assert_eq!(whole, decode(version, wire.chunks(size)), "split after each {size} bytes");
        assert_eq!(whole, decode(version, wire.chunks(1)), "byte by byte");
        whole.0.iter().for_each(is_bounded);
        whole.0.iter().for_each(|frame| is_read_as_written(version, frame));
        frames += whole.0.len();
    }
    frames
}

/// Frames made of bytes: what can be written is read as it was, whatever the split, and what cannot leaves no trace.
/// Returns how many could be written.
pub fn frames(bytes: &[u8]) -> usize {
    let mut bytes = bytes.iter().copied();
    let version = VERSIONS[usize::from(bytes.next().unwrap_or(0)) % 3];
    let size = usize::from(bytes.next().unwrap_or(0) % 32) + 1;
    let (mut wire, mut expected) = (BytesMut::new(), Vec::new());
    while bytes.len() > 0 {
        let frame = made_of(&mut bytes);
        let before = wire.len();
        match encode(&mut wire, version, frame.command, frame.headers.iter(), &frame.body) {
            Ok(()) => expected.push(frame),
            Err(_) => assert_eq!(wire.len(), before, "what could not be written left something"),
        }
    }
    assert_eq!(decode_within(FrameLimits::default(), version, wire.chunks(size)), (expected.clone(), None));
    expected.len()
}

fn decode<'a>(version: Version, pieces: impl IntoIterator<Item = &'a [u8]>) -> Decoded {
    decode_within(LIMITS, version, pieces)
}

fn decode_within<'a>(limits: FrameLimits, version: Version, pieces: impl IntoIterator<Item = &'a [u8]>) -> Decoded {
    let (mut decoder, mut input, mut frames) = (Decoder::new(limits), BytesMut::new(), Vec::new());
    decoder.set_version(version);
    for piece in pieces {
        input.extend_from_slice(piece);
        loop {
            match decoder.decode(&mut input) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(DecodeError::TooLarge { .. }) => {
                    return (frames, Some(DecodeError::TooLarge { what: "part", limit: 0 }));
                }
                Err(error) => return (frames, Some(error)),
            }
        }
        // One piece more than what a frame may have can wait, and no more.
        assert!(input.len() <= LIMITS.head_bytes.max(limits.head_bytes) + limits.body_bytes + 1);
    }
    (frames, None)
}

fn is_bounded(frame: &Frame) {
    assert!(frame.body.len() <= LIMITS.body_bytes && frame.headers.len() <= LIMITS.headers, "{frame:?}");
}

/// A frame that was understood is written, and understood again as the same, unless this version cannot carry it.
fn is_read_as_written(version: Version, frame: &Frame) {
    let mut wire = BytesMut::new();
    let length = frame.body.len().to_string();
    let others = frame.headers.iter().filter(|(name, _)| *name != "content-length");
    let headers: Vec<_> = [("content-length", length.as_str())].into_iter().chain(others).collect();
    if encode(&mut wire, version, frame.command, headers.iter().copied(), &frame.body).is_ok() {
        let again = Frame::new(frame.command, headers, frame.body.clone());
        let read = decode_within(FrameLimits::default(), version, [&wire[..]]);
        assert_eq!(read, (vec![again], None));
    }
}

/// A frame: a length before each of its parts.
fn made_of(bytes: &mut impl Iterator<Item = u8>) -> Frame {
    let command = Command::ALL[usize::from(bytes.next().unwrap_or(0)) % Command::ALL.len()];
    let count = bytes.next().unwrap_or(0) % 8;
    let text = |bytes: &mut dyn Iterator<Item = u8>| {
        let length = usize::from(bytes.next().unwrap_or(0) % 24);
        bytes.take(length).collect::<Vec<u8>>()
    };
    let mut headers: Vec<(String, String)> = Vec::new();
    for _ in 0..count {
        let (name, value) = (text(bytes), text(bytes));
        headers.push((String::from_utf8_lossy(&name).into(), String::from_utf8_lossy(&value).into()));
    }
    let body = text(bytes);
    // The first length is the one that counts, so a hostile one stands behind it.
    headers.insert(0, ("content-length".to_owned(), body.len().to_string()));
    Frame::new(command, headers.iter().map(|(name, value)| (&**name, &**value)), Bytes::from(body))
}

#[cfg(test)]
mod tests {
    use fastrand::Rng;

    use super::{frames, stream};
    use crate::seeds::{files, mutated};

    #[test]
    fn any_bytes_of_a_peer_are_frames_or_an_error_whatever_the_split() {
        let (seeds, mut rng) = (files("stream"), Rng::with_seed(6));
        let whole: usize = seeds.iter().map(|bytes| stream(bytes)).sum();
        assert!(whole > seeds.len(), "{whole} frames in {} files: most of them hold some", seeds.len());
        let found: usize = (0..20_000).map(|_| stream(&mutated(&mut rng, &seeds))).sum();
        assert!(found > 10_000, "{found} frames: many changes leave some");
    }

    #[test]
    fn what_can_be_written_is_read_as_it_was() {
        let (seeds, mut rng) = (files("frames"), Rng::with_seed(6));
        assert!(seeds.iter().all(|bytes| frames(bytes) > 0));
        let written: usize = (0..40_000).map(|_| frames(&mutated(&mut rng, &seeds))).sum();
        assert!(written > 20_000, "{written} frames could be written");
    }
}
