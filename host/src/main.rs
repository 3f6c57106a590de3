//! The `stompbox` program: command line -> telemetry -> configuration -> app -> wait -> drain -> exit
//! code.

use std::{backtrace::Backtrace, process::ExitCode};

use anyhow::Context;
use clap::Parser;
use stompbox::{
    app::{Drained, Prepared, Running},
    cli::{Cli, Command, Run},
    commands::{self, EXIT_USAGE},
    console::complain,
    control::{Control, Request, What},
    shutdown::{Heard, Signals},
    telemetry::{self, Logs},
};
use tracing::{info, warn};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(answer) => {
            let wrong = answer.use_stderr();
            // Nothing can be told where the terminal is gone.
            let _ = answer.print();
            return if wrong { ExitCode::from(EXIT_USAGE) } else { ExitCode::SUCCESS };
        }
    };
    let logs = match telemetry::init(cli.log_filter(), cli.log_format) {
        Ok(logs) => logs,
        Err(error) => {
            complain(format_args!("error: {error}"));
            return ExitCode::from(EXIT_USAGE);
        }
    };
    let result = match cli.command {
        Command::Run(args) => run(&args, &logs),
        Command::Check(args) => commands::check::check(&args),
        Command::Send(args) => commands::send::send(&args),
        Command::DeadLetters { command } => commands::dead_letters::dead_letters(&command),
        Command::Status(args) => commands::status::status(&args),
        Command::Reload(args) => commands::change::reload(&args),
        Command::Rollback(args) => commands::change::roll_back(&args),
        Command::Pause(args) => commands::change::pause(&args),
        Command::Resume(args) => commands::change::resume(&args),
        Command::Demo(args) => commands::demo::demo(&args),
        Command::DevBroker(args) => commands::dev_broker::dev_broker(&args),
        Command::Inspect(args) => commands::inspect::inspect(&args),
        Command::Build(args) => commands::build::build(&args),
        Command::Compile(args) => commands::compile::compile(&args),
    };
    let code = result.unwrap_or_else(|error| {
        logs.last_words(format!("error: {error:#}"));
        ExitCode::FAILURE
    });
    logs.flush();
    code
}

fn run(args: &Run, logs: &Logs) -> anyhow::Result<ExitCode> {
    let prepared = match commands::prepare(&args.config, args.strict) {
        Ok(prepared) => prepared,
        Err(code) => return Ok(code),
    };
    commands::runtime()?.block_on(serve(prepared.with_logs(logs.clone()), args, logs.clone()))
}

async fn serve(prepared: Prepared, args: &Run, logs: Logs) -> anyhow::Result<ExitCode> {
    end_with_the_first_panic(logs);
    let mut signals = Signals::listen().context("cannot listen for signals")?;
    let running = prepared.start().context("cannot start")?;
    let signal = work(&running, &mut signals).await;
    info!("{signal} received");
    let metrics = running.metrics();
    let drained = tokio::select! {
        drained = running.drain(args.grace) => drained,
        signal = signals.end() => {
            warn!("{signal} again: leaving at once, the broker delivers again what was not acknowledged");
            Drained::Forced
        }
    };
    commands::log_totals(&metrics);
    Ok(if drained == Drained::Clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Works until somebody wants the host to end; returns who.
async fn work(running: &Running, signals: &mut Signals) -> &'static str {
    let mut ready = false;
    loop {
        tokio::select! {
            heard = signals.next() => match heard {
                Heard::End(name) => return name,
                Heard::Reload => drop(tokio::spawn(reload(running.control().clone()))),
            },
            () = running.drain_asked() => return "a drain by an operator",
            () = running.ready(), if !ready => {
                info!("every queue is subscribed");
                ready = true;
            }
        }
    }
}

async fn reload(control: Control) {
    match control.ask("SIGHUP", Request::Reload { processor: None }).await {
        Ok(changes) => {
            let changed = changes.iter().filter(|change| change.what != What::Unchanged).count();
            info!(looked_at = changes.len(), changed, "SIGHUP: reloaded");
        }
        Err(error) => warn!(%error, "SIGHUP: not reloaded"),
    }
}

/// A task or a lane that is gone would leave its queue standing still. A host that ends is started again by
/// its service manager, and the broker delivers again what was not acknowledged.
fn end_with_the_first_panic(logs: Logs) {
    std::panic::set_hook(Box::new(move |panic| {
        let (thread, trace) = (std::thread::current(), Backtrace::capture());
        let name = thread.name().unwrap_or("without a name");
        logs.last_words(format!(
            "thread {name:?}: {panic}\n{trace}\nerror: this is a bug; leaving, the broker delivers again what was not acknowledged"
        ));
        std::process::exit(1);
    }));
}
