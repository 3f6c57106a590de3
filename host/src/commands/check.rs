//! `stompbox check`: would this configuration run?

mod connect;

use std::process::ExitCode;

use crate::{
    app::Prepared,
    cli::Check,
    client::Resolver,
    console::{complain, say},
};

/// Loads configuration and components and says what would run.
///
/// # Errors
/// The machine refuses threads.
pub fn check(args: &Check) -> anyhow::Result<ExitCode> {
    let prepared = match super::prepare(&args.config, args.strict) {
        Ok(prepared) => prepared,
        Err(code) => return Ok(code),
    };
    say(format_args!("{} can run:", args.config.display()));
    list(&prepared);
    prepared.told().iter().for_each(|change| complain(format_args!("warning: {}: {}", change.name, change.detail)));
    if !args.connect {
        return Ok(ExitCode::SUCCESS);
    }
    say("servers:");
    let missing = super::runtime()?.block_on(connect::connect(prepared.config(), &Resolver::default()));
    if missing.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    complain(format_args!(
        "error: {} cannot work with its servers: {} problem(s)",
        args.config.display(),
        missing.len()
    ));
    missing.iter().for_each(|problem| complain(format_args!("  {problem}")));
    Ok(ExitCode::FAILURE)
}

fn list(prepared: &Prepared) {
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
    let config = prepared.config();
    if config.processors.is_empty() {
        let queues: Vec<&str> = config.queues.values().filter(|queue| queue.enable).map(|queue| &*queue.name).collect();
        say(format_args!("  no processors: a sender's configuration, for {}", queues.join(", ")));
    } else if prepared.generations().is_empty() {
        say("  no processor is enabled: the host would do nothing");
    }
}
