//! What commands say to people: lines on standard output, complaints on standard error.
//!
//! Used by the commands and by main instead of `println!` and `eprintln!`, which panic where the reader has
//! gone away. A reader that is gone costs the text, never the command. Log lines go through
//! [`crate::telemetry`].

use std::{
    fmt::Display,
    io::{Write, stderr, stdout},
};

/// Writes a line to standard output.
pub fn say(line: impl Display) {
    let _ = writeln!(stdout(), "{line}");
}

/// Writes a line to standard error.
pub fn complain(line: impl Display) {
    let _ = writeln!(stderr(), "{line}");
}
