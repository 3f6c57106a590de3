//! See `stompbox::stomp::fuzzing::frames`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = stompbox::stomp::fuzzing::frames(bytes);
});
