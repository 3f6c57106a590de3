//! `stompbox compile`: this program as a compiler, started by a host for a component that its cache does not have.
//!
//! Not for people: [`crate::sandbox`] starts it and reads what it leaves: an artifact on standard output and 0, or a text
//! on standard error and the exit code that tells why.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use crate::{
    cli::Compile,
    sandbox::compiler_process::{REFUSED, UNBOUNDED, bound_myself, compile_from_to},
};

/// Compiles standard input to standard output.
///
/// # Errors
/// None: the exit code is for the host that started it.
pub fn compile(args: &Compile) -> anyhow::Result<ExitCode> {
    // Where the host is gone, nobody is left to be told.
    let told = |code, error: &dyn std::fmt::Display| {
        let _ = write!(io::stderr(), "{error:#}");
        Ok(ExitCode::from(code))
    };
    if let Err(error) = bound_myself(args.memory_bytes, args.cpu_seconds) {
        return told(UNBOUNDED, &error);
    }
    match compile_from_to(io::stdin().lock(), io::stdout().lock()) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error) => told(REFUSED, &error),
    }
}
