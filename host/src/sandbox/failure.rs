//! Why a call failed: wasmtime's errors as [`CallError`]s.
//!
//! Called by [`super::instance`] with the error of a call. The order of the questions matters: a guest
//! that was refused memory usually aborts, and the abort is not the cause.

use std::{
    fmt::{self, Write as _},
    str::Utf8Error,
};

use wasmtime::{Store, Trap, WasmBacktrace};
use wasmtime_wasi::I32Exit;

use super::{
    lines::Lines,
    state::{Budget, State},
    text::{clamp, one_line},
    wasi::DeadlinePassed,
};
use crate::outcome::CallError;

/// How much of a trap's story is kept.
pub(crate) const MAX_DETAIL_BYTES: usize = 1 << 10;
/// How many of the guest's functions are named.
const MAX_FRAMES: usize = 3;
/// How long the name of a function may be, and how much of its mangled form is read.
const MAX_NAME_BYTES: usize = 200;
const MAX_MANGLED_BYTES: usize = 2 << 10;
/// What the names of functions have in common that the SDK makes for each processor.
const SDK: &str = " as stompbox_sdk::rt::";

/// Finds out why a call with this budget failed; `lines` are those of the component.
pub(crate) fn classify(error: &wasmtime::Error, store: &Store<State>, budget: Budget, lines: &Lines) -> CallError {
    let trap = error.downcast_ref::<Trap>();
    if trap == Some(&Trap::OutOfFuel) {
        let left = store.get_fuel().unwrap_or_default();
        return CallError::Fuel { used: budget.fuel.saturating_sub(left), limit: budget.fuel };
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
    CallError::Trap(story(error, store.data(), lines))
}

/// Whether the error is wasmtime's exhausted hostcall fuel, which has no type of its own.
fn copied_too_much(error: &wasmtime::Error) -> bool {
    // Never the other causes: one is the backtrace, in which the guest's own names are, mangled or not.
    error.root_cause().to_string().contains("fuel allocated for hostcalls")
}

/// What is wrong with a string that the guest returned. One that it gives a host function is a trap in its code.
fn answered_no_text(error: &wasmtime::Error) -> Option<Utf8Error> {
    let returned = error.downcast_ref::<WasmBacktrace>().is_none();
    error.downcast_ref::<Utf8Error>().copied().filter(|_| returned)
}

/// Tells what happened, where in the guest, and what the guest last said, in one line.
fn story(error: &wasmtime::Error, state: &State, lines: &Lines) -> String {
    let mut story = cause(error);
    if let Some(refused) = state.limiter.refused_table() {
        story += &format!(" after asking for {} table elements of {}", refused.wanted, refused.limit);
    }
    let places = error.downcast_ref::<WasmBacktrace>().map(|trace| places(trace, lines)).unwrap_or_default();
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

/// The guest's own functions, innermost first, with the line where it is known; those of its language's runtime
/// say nothing.
fn places(backtrace: &WasmBacktrace, lines: &Lines) -> Vec<String> {
    let mut places: Vec<String> = Vec::new();
    for frame in backtrace.frames() {
        let name = frame.func_name().map(readable).filter(|name| !is_runtime(name));
        let line = frame.module_offset().and_then(|offset| lines.find(offset));
        let place = match (name, line) {
            (None, _) => continue,
            // The author's code became part of the function that the SDK makes of it.
            (Some(name), Some((file, line))) if name.contains(SDK) => format!("{}:{line}", end_of(file)),
            (Some(name), Some((file, line))) => format!("{name} ({}:{line})", end_of(file)),
            (Some(name), None) => name,
        };
        if places.last() != Some(&place) {
            places.push(place);
        }
    }
    places.truncate(MAX_FRAMES);
    places
}

/// The end of a path that begins at the root, such as those of libraries: folder and file.
fn end_of(file: &str) -> &str {
    let cut = file.starts_with('/').then(|| file.rmatch_indices('/').nth(1)).flatten();
    cut.and_then(|(at, _)| file.get(at + 1..)).unwrap_or(file)
}

/// The name of a function as its author wrote it: demangled, without the compiler's hashes, bounded.
fn readable(name: &str) -> String {
    // A mangled name can stand for one without end: what is written is cut, not what was made.
    let mut short = Short(String::new());
    let _ = write!(short, "{:#}", rustc_demangle::demangle(clamp(name, MAX_MANGLED_BYTES)));
    short.0
}

/// Takes text until it is as long as a name may be.
struct Short(String);

impl fmt::Write for Short {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.push_str(clamp(text, MAX_NAME_BYTES.saturating_sub(self.0.len())));
        if self.0.len() < MAX_NAME_BYTES { Ok(()) } else { Err(fmt::Error) }
    }
}

/// Whether a function belongs to the machinery of panics, allocation and bindings.
fn is_runtime(function: &str) -> bool {
    let name = function.trim_start_matches(['<', '&']);
    let runtime = ["std::", "core::", "alloc::", "rust_", "__", "abort", "stompbox_sdk::"];
    runtime.iter().any(|prefix| name.starts_with(prefix)) || name.contains('#') || name.contains("_cabi")
}

#[cfg(test)]
mod tests {
    use super::{MAX_NAME_BYTES, is_runtime, readable};

    #[test]
    fn names_are_as_their_author_wrote_them() {
        let names = [
            ("_ZN7hostile7answers7forward17h22805a97eadc4339E", "hostile::answers::forward"),
            ("_RNvCs1234_7mycrate3foo", "mycrate::foo"),
            ("process", "process"),
            ("PyEval_EvalFrameDefault", "PyEval_EvalFrameDefault"),
        ];
        for (mangled, name) in names {
            assert_eq!(readable(mangled), name);
        }
        assert_eq!(readable(&"x".repeat(1 << 20)).len(), MAX_NAME_BYTES);
    }

    #[test]
    fn the_runtime_of_the_language_says_nothing() {
        for name in ["std::process::abort", "<core::fmt::X as Y>::z", "__rustc::rust_begin_unwind", "abort"] {
            assert!(is_runtime(name), "{name}");
        }
        assert!(!is_runtime("<hostile::Echo as stompbox_sdk::Processor>::process"));
    }
}
