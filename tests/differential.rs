//! The host's codec against two that share no line with it: the parser of the tests' own client, and stomp.py, with
//! which PanDA reads. What one writes the others read alike.
//!
//! No crate would do as a third: `host/docs/decisions.md` says what is wrong with each.

use std::{collections::BTreeMap, io::Write as _};

use bytes::{Bytes, BytesMut};
use fastrand::Rng;
use serde_json::Value;
use stompbox::stomp::{Command, Decoder, Frame, FrameLimits, Version, encode};

use crate::harness::{client, python, root};

/// A frame in words that all three share: of repeated headers the first.
type Plain = (String, BTreeMap<String, String>, Vec<u8>);

fn plain<'a>(command: &str, headers: impl Iterator<Item = (&'a str, &'a str)>, body: &[u8]) -> Plain {
    let mut first = BTreeMap::new();
    for (name, value) in headers {
        first.entry(name.to_owned()).or_insert_with(|| value.to_owned());
    }
    (command.to_owned(), first, body.to_vec())
}

fn by_the_host(wire: &[u8]) -> Vec<Plain> {
    let (mut decoder, mut input) = (Decoder::new(FrameLimits::default()), BytesMut::from(wire));
    let frames = std::iter::from_fn(|| decoder.decode(&mut input).unwrap());
    frames.map(|frame| plain(frame.command.as_str(), frame.headers.iter(), &frame.body)).collect()
}

fn by_the_tests_client(mut wire: &[u8]) -> Vec<Plain> {
    let mut frames = Vec::new();
    while wire.iter().any(|byte| !matches!(byte, b'\n' | b'\r')) {
        let (frame, used) = client::parse(wire).unwrap().unwrap();
        let headers = frame.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        frames.push(plain(&frame.command, headers, &frame.body));
        wire = &wire[used..];
    }
    frames
}

fn by_stomp_py(wires: &[Vec<u8>], chunk_bytes: usize) -> Vec<Vec<Plain>> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    for wire in wires {
        writeln!(file, "{}", wire.iter().map(|byte| format!("{byte:02x}")).collect::<String>()).unwrap();
    }
    let said = python::run("read_stomp.py", &[file.path().to_str().unwrap(), &chunk_bytes.to_string()]).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let frame = |frame: &Value| {
        let headers = frame[1].as_object().unwrap().iter().map(|(name, value)| (name.clone(), text(value))).collect();
        (text(&frame[0]), headers, bytes_of(&text(&frame[2])))
    };
    let lines = said.lines().map(|line| serde_json::from_str::<Vec<Value>>(line).unwrap());
    lines.map(|frames| frames.iter().map(frame).collect()).collect()
}

fn bytes_of(hex: &str) -> Vec<u8> {
    hex.as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// A frame of a broker with everything that a header may hold.
fn random(rng: &mut Rng) -> Frame {
    let command = [Command::Message, Command::Receipt, Command::Error][rng.usize(..3)];
    let mut text = |least: usize| {
        let letters = ['a', 'b', 'Z', '0', '-', ' ', ':', '\\', '\n', '\r', 'n', 'c', 'é', '\u{1f600}'];
        (0..rng.usize(least..8)).map(|_| letters[rng.usize(..letters.len())]).collect::<String>()
    };
    let mut headers: Vec<(String, String)> = (0..5).map(|_| (text(1), text(0))).collect();
    let body: Vec<u8> = (0..rng.usize(..40)).map(|_| if rng.bool() { 0 } else { rng.u8(..) }).collect();
    headers.push(("content-length".to_owned(), body.len().to_string()));
    Frame::new(command, headers.iter().map(|(name, value)| (&**name, &**value)), Bytes::from(body))
}

#[test]
fn what_the_host_writes_others_read_alike() {
    let mut rng = Rng::with_seed(6);
    let (mut expected, mut wires) = (Vec::new(), Vec::new());
    for _ in 0..2_000 {
        let frames: Vec<Frame> = (0..rng.usize(1..4)).map(|_| random(&mut rng)).collect();
        let mut wire = BytesMut::new();
        for frame in &frames {
            encode(&mut wire, Version::V1_2, frame.command, frame.headers.iter(), &frame.body).unwrap();
            wire.extend_from_slice(b"\n");
        }
        wires.push(wire.to_vec());
        let frames = frames.iter().map(|frame| plain(frame.command.as_str(), frame.headers.iter(), &frame.body));
        expected.push(frames.collect::<Vec<_>>());
    }
    for (wire, expected) in wires.iter().zip(&expected) {
        assert_eq!((&by_the_host(wire), &by_the_tests_client(wire)), (expected, expected));
    }
    for chunk_bytes in [1, 7, 1_000] {
        let read = by_stomp_py(&wires, chunk_bytes);
        assert_eq!(read.len(), expected.len());
        read.iter().zip(&expected).for_each(|(read, expected)| assert_eq!(read, expected));
    }
}

#[test]
fn frames_as_brokers_send_them_are_read_as_others_read_them() {
    let of = |name: &str| std::fs::read(root().join("host/fuzz/seeds/stream").join(name)).unwrap()[1..].to_vec();
    let names =
        ["activemq-message", "artemis-message", "rabbitmq-message", "receipts", "activemq-error", "rabbitmq-error"];
    let more = ["repeated-headers", "body-gzip", "body-utf-16", "body-nul-in-the-middle", "at-the-limits"];
    let wires: Vec<Vec<u8>> = names.into_iter().chain(more).map(of).collect();
    for (wire, by_python) in wires.iter().zip(by_stomp_py(&wires, 5)) {
        let frames = by_the_host(wire);
        assert!(!frames.is_empty());
        assert_eq!((&by_the_tests_client(wire), &by_python), (&frames, &frames), "{}", wire.escape_ascii());
    }
}
