//! The codec: nanoseconds and allocations a frame.
//!
//! `cargo bench -p stompbox --profile release --bench codec`
#![allow(missing_docs, clippy::expect_used, reason = "a bench that cannot run says so by a panic")]

use bytes::{Bytes, BytesMut};
use divan::{AllocProfiler, Bencher, counter::ItemsCount};
use stompbox::stomp::{Command, Decoder, FrameLimits, Version, encode};

#[global_allocator]
static ALLOCATIONS: AllocProfiler = AllocProfiler::system();

/// Frames a read: what 64 KiB hold.
const FRAMES: usize = 100;
const BODY: &[u8] = br#"{"computingsite":"CERN-PROD","inputs":["EVNT.1._000001.pool.root"],"piloterrorcode":0,"piloterrordiag":null,"exeerrorcode":0,"exeerrordiag":null,"msg_type":"job_status","jobid":5123456789,"taskid":29999999,"status":"finished","timestamp":1718000000}"#;

fn main() {
    divan::main();
}

/// A MESSAGE as ActiveMQ sends it, with escaped colons in its ids.
fn message() -> Vec<(&'static str, &'static str)> {
    vec![
        ("ack", "ID:host-40101-1718000000000-3:1"),
        ("expires", "0"),
        ("destination", "/queue/jedi_jobtaskstatus"),
        ("subscription", "stompbox"),
        ("priority", "4"),
        ("message-id", "ID:host-40101-1718000000000-3:1:-1:1:1"),
        ("persistent", "true"),
        ("timestamp", "1718000000123"),
    ]
}

fn wire() -> BytesMut {
    let mut wire = BytesMut::new();
    for _ in 0..FRAMES {
        encode(&mut wire, Version::V1_2, Command::Message, message(), BODY).expect("plain headers");
    }
    wire
}

#[divan::bench]
fn decode(bencher: Bencher<'_, '_>) {
    let wire = wire();
    bencher.counter(ItemsCount::new(FRAMES)).with_inputs(|| wire.clone()).bench_refs(|input| {
        let mut decoder = Decoder::new(FrameLimits::default());
        let mut frames = 0;
        while let Ok(Some(frame)) = decoder.decode(input) {
            divan::black_box(&frame);
            frames += 1;
        }
        assert_eq!(frames, FRAMES);
    });
}

#[divan::bench]
fn encode_send(bencher: Bencher<'_, '_>) {
    let headers = [("destination", "/queue/doma.panda_idds"), ("receipt", "123456"), ("persistent", "true")];
    let body = Bytes::from_static(BODY);
    bencher.counter(ItemsCount::new(FRAMES)).with_inputs(|| BytesMut::with_capacity(FRAMES * 512)).bench_refs(
        |output| {
            for _ in 0..FRAMES {
                encode(output, Version::V1_2, Command::Send, headers, &body).expect("plain headers");
            }
        },
    );
}
