//! The codec's table of cases, round trips, and every split point.

use proptest::prelude::*;

use super::*;

fn decode_all(version: Version, wire: &[u8]) -> Result<Vec<Frame>, DecodeError> {
    decode_pieces(version, &[wire])
}

fn decode_pieces(version: Version, pieces: &[&[u8]]) -> Result<Vec<Frame>, DecodeError> {
    let mut decoder = Decoder::new(FrameLimits::default());
    decoder.set_version(version);
    let (mut input, mut frames) = (BytesMut::new(), Vec::new());
    for piece in pieces {
        input.extend_from_slice(piece);
        while let Some(frame) = decoder.decode(&mut input)? {
            frames.push(frame);
        }
    }
    Ok(frames)
}

fn one(version: Version, wire: &[u8]) -> Frame {
    decode_all(version, wire).unwrap().remove(0)
}

#[test]
fn escapes_by_version() {
    let wire = b"MESSAGE\na\\cb:x\\ny\\\\z\\rw\\t\n\n\0";
    let expect = [
        (Version::V1_0, "a\\cb", "x\\ny\\\\z\\rw\\t"),
        (Version::V1_1, "a:b", "x\ny\\z\\rw\\t"),
        (Version::V1_2, "a:b", "x\ny\\z\rw\\t"),
    ];
    for (version, name, value) in expect {
        assert_eq!(one(version, wire).headers.iter().next(), Some((name, value)), "{version:?}");
    }
}

#[test]
fn connected_is_never_escaped() {
    assert_eq!(one(Version::V1_2, b"CONNECTED\nsession:a\\cb\n\n\0").headers.get("session"), Some("a\\cb"));
}

#[test]
fn crlf_heart_beats_and_repeated_headers() {
    let frames =
        decode_all(Version::V1_2, b"\r\n\n\nRECEIPT\r\nreceipt-id:7\r\nreceipt-id:8\r\n\r\n\0\n\nERROR\n\nbad\0\n")
            .unwrap();
    assert_eq!(frames.len(), 2);
    assert_eq!(frames[0].headers.get("receipt-id"), Some("7"));
    assert_eq!((frames[1].command, &frames[1].body[..]), (Command::Error, &b"bad"[..]));
}

#[test]
fn value_keeps_later_colons_and_spaces() {
    assert_eq!(one(Version::V1_0, b"MESSAGE\nmessage-id: ID:a:1 \n\n\0").headers.get("message-id"), Some(" ID:a:1 "));
}

#[test]
fn body_with_nul_needs_its_length() {
    let frame = one(Version::V1_2, b"MESSAGE\ncontent-length:3\n\na\0b\0");
    assert_eq!(&frame.body[..], b"a\0b");
}

#[test]
fn invalid_utf8_in_a_header_is_replaced() {
    let frame = one(Version::V1_2, b"MESSAGE\nk:\xff!\nl:m\n\nbody\0");
    assert_eq!(frame.headers.get("k"), Some("\u{fffd}!"));
    assert_eq!(frame.headers.get("l"), Some("m"));
}

#[test]
fn bad_input_is_named() {
    for (wire, part) in [
        (&b"GARBAGE\n\n\0"[..], "\"GARBAGE\" is not a STOMP command"),
        (b"MESSAGE\nnocolon\n\n\0", "\"nocolon\" of MESSAGE has no colon"),
        (b"MESSAGE\ncontent-length:x\n\n\0", "content-length \"x\""),
        (b"MESSAGE\ncontent-length:-1\n\n\0", "content-length \"-1\""),
        (b"MESSAGE\ncontent-length:+1\n\na\0", "content-length \"+1\""),
        (b"MESSAGE\ncontent-length:1\n\nab\0", "longer than its content-length of 1"),
        (b"MESSAGE\ncontent-length:99999999999\n\n", "body in bytes exceeds the limit"),
    ] {
        let error = decode_all(Version::V1_2, wire).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn every_limit_stops_a_flood() {
    let limits = FrameLimits { line_bytes: 100, headers: 10, head_bytes: 400, body_bytes: 1_000 };
    let flood = |prefix: &[u8], unit: &[u8]| {
        let mut decoder = Decoder::new(limits);
        let mut input = BytesMut::from(prefix);
        for _ in 0..10_000 {
            input.extend_from_slice(unit);
            if let Err(e) = decoder.decode(&mut input) {
                assert!(input.len() < 2_000, "stopped late: {}", input.len());
                return e.to_string();
            }
        }
        panic!("not stopped");
    };
    assert!(flood(b"MESSAGE\n", b"x").contains("line in bytes"));
    assert!(flood(b"MESSAGE\n", b"a:b\n").contains("number of headers"));
    assert!(
        flood(b"MESSAGE\n", b"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa:b\n")
            .contains("header block")
    );
    assert!(flood(b"MESSAGE\n\n", b"x").contains("body in bytes"));
}

#[test]
fn nothing_is_injected() {
    let mut out = BytesMut::new();
    for version in [Version::V1_0, Version::V1_1, Version::V1_2] {
        for (name, value) in [("a", "b\n\nx"), ("a\nb", "c"), ("a", "b\0"), ("a", "b\rc"), ("a:b", "c")] {
            out.clear();
            match encode(&mut out, version, Command::Send, [(name, value)], b"") {
                Err(_) => assert!(out.is_empty()),
                Ok(()) => {
                    let frame = one(version, &out);
                    assert_eq!(frame.headers.iter().collect::<Vec<_>>(), [(name, value)], "{version:?}");
                }
            }
        }
    }
}

#[test]
fn text_has_no_content_length() {
    assert_eq!(content_length(&Bytes::from_static(b"{\"a\":1}")), None);
    assert_eq!(content_length(&Bytes::from_static(b"a\0")), Some(2));
    assert_eq!(content_length(&Bytes::from_static(b"\xff")), Some(1));
}

fn version() -> impl Strategy<Value = Version> {
    prop_oneof![Just(Version::V1_0), Just(Version::V1_1), Just(Version::V1_2)]
}

fn header() -> impl Strategy<Value = (String, String)> {
    ("[a-z\\-\\\\:\n\r\u{e9}]{1,8}", "[a-z0-9:\\\\ \n\r\u{20ac}]{0,12}")
}

prop_compose! {
    fn frame()(command in proptest::sample::select(Command::ALL), headers in prop::collection::vec(header(), 0..6),
               body in prop::collection::vec(any::<u8>(), 0..60)) -> (Command, Vec<(String, String)>, Vec<u8>) {
        (command, headers, body)
    }
}

type Parts = (Command, Vec<(String, String)>, Vec<u8>);

/// What can be encoded of these frames, and the bytes.
fn encoded(version: Version, frames: Vec<Parts>) -> (Vec<Frame>, BytesMut) {
    let (mut expect, mut wire) = (Vec::new(), BytesMut::new());
    for (command, mut headers, body) in frames {
        headers.push(("content-length".into(), body.len().to_string()));
        let pairs = || headers.iter().map(|(n, v)| (n.as_str(), v.as_str()));
        if encode(&mut wire, version, command, pairs(), &body).is_ok() {
            expect.push(Frame::new(command, pairs(), Bytes::from(body)));
            wire.extend_from_slice(b"\n");
        }
    }
    (expect, wire)
}

proptest! {
    #[test]
    fn round_trip_at_every_split_point(version in version(), frames in prop::collection::vec(frame(), 1..4)) {
        let (expect, wire) = encoded(version, frames);
        for at in 0..=wire.len() {
            let (head, tail) = wire.split_at(at);
            prop_assert_eq!(&decode_pieces(version, &[head, tail]).unwrap(), &expect, "split at {}", at);
        }
        let bytes: Vec<&[u8]> = wire.chunks(1).collect();
        prop_assert_eq!(&decode_pieces(version, &bytes).unwrap(), &expect);
    }

    #[test]
    fn any_bytes_never_panic_and_do_not_depend_on_the_split(version in version(),
            wire in prop::collection::vec(prop_oneof![any::<u8>(), Just(b'\n'), Just(0u8), Just(b':')], 0..200), at in 0usize..200) {
        let mut wire = wire;
        wire.splice(0..0, *b"MESSAGE\n");
        let (head, tail) = wire.split_at(at.min(wire.len()));
        prop_assert_eq!(decode_pieces(version, &[head, tail]), decode_all(version, &wire));
    }
}
