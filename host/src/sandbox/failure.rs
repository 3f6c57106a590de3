//! Why a call failed: wasmtime's errors as [`CallError`]s.
//!
//! Called by [`super::instance`] with the error of a call. The order of the questions matters: a guest
//! that was refused memory usually aborts, and the abort is not the cause.

use std::str::Utf8Error;

use wasmtime::{Store, Trap, WasmBacktrace};
use wasmtime_wasi::I32Exit;

use super::{
    state::{Budget, State},
    text::{clamp, one_line},
    wasi::DeadlinePassed,
};
use crate::outcome::CallError;

/// How much of a trap's story is kept.
const MAX_DETAIL_BYTES: usize = 1 << 10;
/// How many of the guest's functions are named.
const MAX_FRAMES: usize = 3;

/// Finds out why a call with this budget failed.
pub(crate) fn classify(error: &wasmtime::Error, store: &Store<State>, budget: Budget) -> CallError {
    let trap = error.downcast_ref::<Trap>();
    if trap == Some(&Trap::OutOfFuel) {
        return CallError::Fuel { limit: budget.fuel };
    }
    if trap == Some(&Trap::Interrupt) || error.downcast_ref::<DeadlinePassed>().is_some() {
        return CallError::Deadline { limit: budget.time };
    }
    if copied_too_much(error) {
        return CallError::OutputLimit("more data in one call than all outputs may have".to_owned());
    }
    if let Some(what) = answered_no_text(error) {
        return CallError::OutputInvalid(format!("text that is none: {what}"));
    }
    if let Some(refused) = store.data().limiter.refused_memory() {
        return CallError::Memory {
            wanted_bytes: u64::try_from(refused.wanted).unwrap_or(u64::MAX),
            limit_bytes: u64::try_from(refused.limit).unwrap_or(u64::MAX),
        };
    }
    CallError::Trap(story(error, store.data()))
}

/// Whether the error is wasmtime's exhausted hostcall fuel, which has no type of its own.
fn copied_too_much(error: &wasmtime::Error) -> bool {
    error.chain().any(|cause| cause.to_string().contains("fuel allocated for hostcalls"))
}

/// What is wrong with a string that the guest returned. One that it gives a host function is a trap in its code.
fn answered_no_text(error: &wasmtime::Error) -> Option<Utf8Error> {
    let returned = error.downcast_ref::<WasmBacktrace>().is_none();
    error.downcast_ref::<Utf8Error>().copied().filter(|_| returned)
}

/// Tells what happened, where in the guest, and what the guest last said, in one line.
fn story(error: &wasmtime::Error, state: &State) -> String {
    let mut story = cause(error);
    if let Some(refused) = state.limiter.refused_table() {
        story += &format!(" after asking for {} table elements of {}", refused.wanted, refused.limit);
    }
    let places = error.downcast_ref::<WasmBacktrace>().map(places).unwrap_or_default();
    if !places.is_empty() {
        story += " in ";
        story += &places.join(", called by ");
    }
    let words = state.log.last_words();
    if !words.is_empty() {
        story += "; stderr: ";
        story += &words;
    }
    one_line(&story, MAX_DETAIL_BYTES).into_owned()
}

/// What stopped the guest, without the backtrace.
fn cause(error: &wasmtime::Error) -> String {
    if let Some(I32Exit(code)) = error.downcast_ref::<I32Exit>() {
        return format!("it called exit({code})");
    }
    let root = error.root_cause().to_string();
    root.strip_prefix("wasm trap: ").unwrap_or(&root).to_owned()
}

/// The guest's own functions, innermost first; those of its language's runtime say nothing.
fn places(backtrace: &WasmBacktrace) -> Vec<String> {
    // Only the Display form is demangled.
    let mut places = functions(&backtrace.to_string());
    places.dedup();
    places.truncate(MAX_FRAMES);
    places
}

/// Takes the functions out of a backtrace, of which each line is like "  0: 0x1a - module!function".
fn functions(backtrace: &str) -> Vec<String> {
    let name = |line: &str| Some(line.split_once(" - ")?.1.split_once('!')?.1.to_owned());
    let frames = backtrace.lines().filter_map(name).map(|name| without_hashes(&name));
    frames.filter(|name| !is_runtime(name)).map(|name| clamp(&name, 200).to_owned()).collect()
}

/// Removes the compiler's hashes: `std[d123b7a1a2ed1472]::abort`, `app::work::h22805a97eadc4339`.
fn without_hashes(name: &str) -> String {
    let is_hash = |text: &str| text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let name = match name.rsplit_once("::h") {
        Some((rest, hash)) if is_hash(hash) => rest,
        _ => name,
    };
    let mut parts = name.split('[');
    let mut clean = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.split_once(']') {
            Some((hash, rest)) if is_hash(hash) => clean += rest,
            _ => {
                clean.push('[');
                clean += part;
            }
        }
    }
    clean
}

/// Whether a function belongs to the machinery of panics, allocation and bindings.
fn is_runtime(function: &str) -> bool {
    let name = function.trim_start_matches(['<', '&']);
    let runtime = ["std::", "core::", "alloc::", "rust_", "__", "abort", "stompbox_sdk::"];
    runtime.iter().any(|prefix| name.starts_with(prefix)) || name.contains('#') || name.contains("_cabi")
}

#[cfg(test)]
mod tests {
    use super::functions;

    #[test]
    fn a_backtrace_is_told_by_the_guest_s_own_functions() {
        let backtrace = "error while executing at wasm backtrace:
    0:  0x1a2b - hostile.wasm!abort
    1:  0x1a2c - hostile.wasm!std[d123b7a1a2ed1472]::process::abort
    2:  0x1a2d - hostile.wasm!__rustc[59807616e1fa2540]::rust_begin_unwind
    3:  0x1a2e - hostile.wasm!hostile[0123456789abcdef]::answers::forward::<[u8; 2]>
    4:  0x1a2f - hostile.wasm!<hostile::Echo as stompbox_sdk::Processor>::process::h22805a97eadc4339
    5:  0x1a30 - hostile.wasm!stompbox_sdk::bindings::_export_process_cabi::h22805a97eadc4339
    6:  0x1a31 - hostile.wasm!stompbox:processor/handler@0.1.0#process";
        assert_eq!(
            functions(backtrace),
            ["hostile::answers::forward::<[u8; 2]>", "<hostile::Echo as stompbox_sdk::Processor>::process"]
        );
        assert!(functions("").is_empty());
    }
}
