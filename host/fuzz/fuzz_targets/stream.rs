//! See `stompbox::stomp::fuzzing::stream`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = stompbox::stomp::fuzzing::stream(bytes);
});
