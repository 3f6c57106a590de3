//! The compiler's own process: a component on standard input, its artifact on standard output.
//!
//! Run by the hidden subcommand `compile`, started by [`super::compiler`]. It bounds itself before it reads the
//! first byte, and leaves with 1 and a text on standard error where the component is refused. It must never
//! run what it compiles.

use std::{
    io::{self, Read as _, Write as _},
    process::ExitCode,
};

use rustix::process::{Resource, Rlimit, Signal, nice, set_parent_process_death_signal, setrlimit};

use super::{allocation::settings, artifact::Artifact, lines::Lines, lookup::MAX_COMPONENT_BYTES};

/// Guests and connections go first.
const NICE: i32 = 10;

/// The exit code where the component is refused, and where the process could not bound itself.
pub(crate) const REFUSED: u8 = 1;
pub(crate) const UNBOUNDED: u8 = 2;

/// Compiles standard input to standard output, with this much memory and CPU time.
#[must_use]
pub fn compile_stdin(memory_bytes: u64, cpu_seconds: u64) -> ExitCode {
    // Where the host is gone, nobody is left to be told.
    let told = |code, error: &dyn std::fmt::Display| {
        let _ = write!(io::stderr(), "{error:#}");
        ExitCode::from(code)
    };
    if let Err(error) = bound_myself(memory_bytes, cpu_seconds) {
        return told(UNBOUNDED, &error);
    }
    match compile() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => told(REFUSED, &error),
    }
}

/// Takes from itself what a compiler does not need.
fn bound_myself(memory_bytes: u64, cpu_seconds: u64) -> io::Result<()> {
    let most = |number| Rlimit { current: Some(number), maximum: Some(number) };
    // The signal at the end of the CPU time says why; the harder one, a second later, cannot be missed.
    let cpu = Rlimit { current: Some(cpu_seconds), maximum: Some(cpu_seconds.saturating_add(1)) };
    setrlimit(Resource::Cpu, cpu)?;
    setrlimit(Resource::Data, most(memory_bytes))?;
    // No file can be written, also none with the memory of a crash.
    setrlimit(Resource::Fsize, most(0))?;
    setrlimit(Resource::Core, most(0))?;
    set_parent_process_death_signal(Some(Signal::KILL))?;
    nice(NICE)?;
    Ok(())
}

fn compile() -> wasmtime::Result<()> {
    let mut component = Vec::new();
    io::stdin().lock().take(MAX_COMPONENT_BYTES).read_to_end(&mut component)?;
    let code = wasmtime::Engine::new(&settings())?.precompile_component(&component)?;
    let lines = Lines::of(&component);
    let mut out = io::stdout().lock();
    Artifact { code, lines }.write(&mut out)?;
    out.flush()?;
    Ok(())
}
