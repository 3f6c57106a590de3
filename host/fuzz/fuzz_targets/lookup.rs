//! See `stompbox::sandbox::fuzzing::lookup`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = stompbox::sandbox::fuzzing::lookup(bytes);
});
