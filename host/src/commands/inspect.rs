//! `stompbox inspect`: what a component offers and needs.

use std::process::ExitCode;

use anyhow::Context;

use crate::{
    cli::Inspect,
    console::say,
    sandbox::{Component, Engine, EngineConfig, Kind, Limits, read_file},
};

/// Loads the component, asks it to describe itself, and prints the answer.
///
/// # Errors
/// The file cannot be read, or is not a component of this host.
pub fn inspect(args: &Inspect) -> anyhow::Result<ExitCode> {
    let file = args.file.display();
    let bytes = read_file(&args.file)?;
    let engine = Engine::new(EngineConfig { max_instances: 4, compile: super::compile_config() })?;
    let component = Component::load(&engine, &bytes).with_context(|| format!("{file} is not a usable component"))?;
    let description = component.describe().with_context(|| format!("{file} does not describe itself"))?;
    let world = match component.kind() {
        Kind::Handler => "processor (handles the messages of an in_queue)",
        Kind::Timer => "source (works by the clock)",
    };
    say(format_args!("file      {file}, {:.1} KB", bytes.len() as f64 / 1e3));
    say(format_args!("digest    {}", component.digest()));
    say(format_args!("version   {}", description.version));
    say(format_args!("world     {world}"));
    say(format_args!("name{}", if description.processors.len() == 1 { "" } else { "s" }));
    for processor in &description.processors {
        say(format_args!("          {}  {}", processor.name, processor.summary));
    }
    let needs = component.needs().with_context(|| format!("{file} does not describe itself"))?;
    say(format_args!("fits      {}", needs.compared_with(&Limits::default())));
    say(format_args!("imports"));
    for import in component.imports() {
        say(format_args!("          {import}"));
    }
    Ok(ExitCode::SUCCESS)
}
