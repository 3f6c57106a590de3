//! See `stompbox::sandbox::fuzzing::outputs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = stompbox::sandbox::fuzzing::outputs(bytes);
});
