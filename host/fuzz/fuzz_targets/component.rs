//! See `stompbox::sandbox::fuzzing::component`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = stompbox::sandbox::fuzzing::component(bytes);
});
