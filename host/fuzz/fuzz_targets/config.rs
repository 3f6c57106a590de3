//! See `stompbox::config::fuzzing::document`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = stompbox::config::fuzzing::document(bytes);
});
