//! `stompbox check`: would this configuration run?

use std::process::ExitCode;

use crate::{cli::Check, console::say};

/// Loads configuration and components and says what would run.
///
/// # Errors
/// None so far; the signature is that of all commands.
pub fn check(args: &Check) -> anyhow::Result<ExitCode> {
    let prepared = match super::prepare(&args.config, args.strict) {
        Ok(prepared) => prepared,
        Err(code) => return Ok(code),
    };
    say(format_args!("{} can run:", args.config.display()));
    for (processor, generation) in prepared.generations() {
        let component = &generation.spec.component;
        let digest = component.digest().get(..12).unwrap_or_default();
        say(format_args!(
            "  {}: {} -> {}, {} lane(s) of {} ({}, digest {digest})",
            processor.name,
            processor.in_queue.as_deref().unwrap_or("no queue"),
            processor.out_queue.as_deref().unwrap_or("nothing"),
            processor.n_threads,
            processor.class,
            processor.module,
        ));
    }
    if prepared.generations().is_empty() {
        say(format_args!("  no processor is enabled: the host would do nothing"));
    }
    Ok(ExitCode::SUCCESS)
}
