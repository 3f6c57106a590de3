//! See `stompbox::sandbox::fuzzing::artifact`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = stompbox::sandbox::fuzzing::artifact(bytes);
});
