//! The compiler's own process: a component on standard input, its artifact on standard output.
//!
//! Run by the hidden subcommand `compile` (`crate::commands::compile`), started by [`super::compiler`]. It bounds itself
//! before it reads the first byte. It must never run what it compiles.

use std::io::{self, Read, Write};

use rustix::process::{Resource, Rlimit, Signal, nice, set_parent_process_death_signal, setrlimit};

use super::{allocation::settings, artifact::Artifact, lines::Lines, lookup::MAX_COMPONENT_BYTES};

/// Guests and connections go first.
const NICE: i32 = 10;

/// The exit code where the component is refused.
pub const REFUSED: u8 = 1;
/// The exit code where the process could not bound itself.
pub const UNBOUNDED: u8 = 2;

/// Takes from itself what a compiler does not need.
///
/// # Errors
/// The system refuses.
pub fn bound_myself(memory_bytes: u64, cpu_seconds: u64) -> io::Result<()> {
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

/// Compiles the component that `input` has to the artifact that `output` gets.
///
/// # Errors
/// The component is refused, or one of the pipes is broken.
pub fn compile_from_to(input: impl Read, mut output: impl Write) -> wasmtime::Result<()> {
    let mut component = Vec::new();
    input.take(MAX_COMPONENT_BYTES).read_to_end(&mut component)?;
    let code = wasmtime::Engine::new(&settings())?.precompile_component(&component)?;
    let lines = Lines::of(&component);
    Artifact { code, lines }.write(&mut output)?;
    output.flush()?;
    Ok(())
}
