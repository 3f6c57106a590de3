//! One file per subcommand, and what they share. Exit codes: 0 done, 1 failed, 64 wrong usage or
//! configuration.

mod ask;
pub mod build;
pub mod change;
pub mod check;
pub mod compile;
pub mod dead_letters;
pub mod demo;
pub mod dev_broker;
pub mod inspect;
pub mod send;
pub mod status;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use tracing::{info, warn};

use crate::{
    app::{PrepareError, Prepared},
    config::Config,
    console::complain,
    manager::Source,
    metrics::ProcessorMetrics,
    sandbox::{CompileConfig, CompileLimits},
};

/// The exit code for wrong usage and wrong configuration (EX_USAGE of sysexits.h).
pub const EXIT_USAGE: u8 = 64;

/// Loads a configuration and its components; tells all that is wrong on standard error.
///
/// # Errors
/// The exit code to leave with.
pub fn prepare(file: &Path, strict: bool) -> Result<Prepared, ExitCode> {
    let loaded = Config::load(file, strict).map_err(|error| {
        complain(format_args!("error: {error}"));
        ExitCode::from(EXIT_USAGE)
    })?;
    for warning in &loaded.warnings {
        warn!("{}: {warning}", file.display());
    }
    let source = Source { file: file.to_owned(), strict };
    let prepared = Prepared::new(loaded.config, compile_config()).map(|prepared| prepared.with_source(source));
    prepared.map_err(|error| match error {
        PrepareError::Processors(problems) => {
            complain(format_args!("error: {} cannot run: {} problem(s)", file.display(), problems.len()));
            problems.iter().for_each(|problem| complain(format_args!("  {problem}")));
            ExitCode::from(EXIT_USAGE)
        }
        PrepareError::Sandbox(cause) => {
            complain(format_args!("error: {:#}", anyhow::Error::new(cause).context("the sandbox cannot be set up")));
            ExitCode::FAILURE
        }
    })
}

/// How the program compiles components: it starts itself, also when its file was replaced meanwhile.
#[must_use]
pub fn compile_config() -> CompileConfig {
    CompileConfig { program: "/proc/self/exe".into(), limits: CompileLimits::default(), cache_dir: cache_dir() }
}

/// Where compiled components are kept: below `XDG_CACHE_HOME`, else `HOME/.cache`.
fn cache_dir() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    // The specification of these directories has relative ones ignored.
    let base = set("XDG_CACHE_HOME").filter(|base| base.is_absolute()).or_else(|| Some(set("HOME")?.join(".cache")))?;
    Some(base.join("stompbox").join("components"))
}

/// The runtime for sockets and timers. Guests never run on it, so two threads go a long way.
///
/// # Errors
/// The system refuses threads.
pub fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(2).thread_name("io").enable_all().build()?)
}

/// Logs what each processor did, once, at the end.
pub fn log_totals(metrics: &BTreeMap<Arc<str>, Arc<ProcessorMetrics>>) {
    for (processor, did) in metrics {
        info!(%processor, received = did.received.get(), forwarded = did.forwarded.get(), filtered = did.filtered.get(),
              dead_lettered = did.dead_lettered.get(), retried = did.retried.get(), unsent = did.unsent.get(),
              possible_duplicates = did.possible_duplicates.get(), "totals");
    }
}
