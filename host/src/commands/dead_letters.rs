//! `stompbox dead-letters`: what became dead letters, on the broker and in the spool, and the ways out of there.
//!
//! `places` says where they may be, `gather` reads them, `choose` finds those that are meant, `settle` replays
//! or drops them; `table` and `show` print. A list is printed when the messages are given back: a terminal that waits
//! for its reader must not keep them from others.

mod choose;
mod gather;
mod letter;
mod places;
mod replay;
mod settle;
mod show;
mod table;
mod text;

use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use self::{
    choose::is_meant,
    gather::{Gathered, Purpose, gather},
    places::{Places, places},
};
use super::EXIT_USAGE;
use crate::{
    cli::{DeadLetters, LetterPlaces, ListLetters, ShowLetter},
    config::Config,
    console::{complain, say},
};

/// Does what the command line says.
///
/// # Errors
/// The machine refuses threads or signals.
pub fn dead_letters(command: &DeadLetters) -> anyhow::Result<ExitCode> {
    super::runtime()?.block_on(async {
        let stop = stop_at_signal()?;
        Ok(match command {
            DeadLetters::List(args) => list(args, stop).await,
            DeadLetters::Show(args) => show(args, stop).await,
            DeadLetters::Replay(args) => settle::replay(args, stop).await,
            DeadLetters::Drop(args) => settle::drop(args, stop).await,
        })
    })
}

/// A signal ends the command in good order: who just goes raises Artemis's counts of deliveries.
fn stop_at_signal() -> anyhow::Result<CancellationToken> {
    let stop = CancellationToken::new();
    for kind in [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()] {
        let (told, mut heard) = (stop.clone(), signal(kind)?);
        tokio::spawn(async move {
            heard.recv().await;
            told.cancel();
        });
    }
    Ok(stop)
}

async fn list(args: &ListLetters, stop: CancellationToken) -> ExitCode {
    let places = match open(&args.places, args.queue.as_deref()) {
        Ok(places) => places,
        Err(code) => return code,
    };
    let mut gathered = gather(&places, Purpose::Look, args.places.wait, &stop).await;
    gathered.close().await;
    gathered.letters.retain(|letter| is_meant(letter, &args.filter));
    if args.json {
        gathered.letters.iter().take(args.limit).for_each(|letter| say(table::json(letter)));
    } else {
        table::print(&gathered.letters, args.limit);
    }
    told(&gathered, &stop)
}

async fn show(args: &ShowLetter, stop: CancellationToken) -> ExitCode {
    let places = match open(&args.places, args.queue.as_deref()) {
        Ok(places) => places,
        Err(code) => return code,
    };
    let mut gathered = gather(&places, Purpose::Look, args.places.wait, &stop).await;
    gathered.close().await;
    let code = told(&gathered, &stop);
    match choose::by_ids(&gathered.letters, std::slice::from_ref(&args.id)) {
        Ok(found) => {
            found.iter().filter_map(|index| gathered.letters.get(*index)).for_each(show::print);
            ExitCode::SUCCESS
        }
        Err(problems) => {
            problems.iter().for_each(|problem| complain(format_args!("error: {problem}")));
            if code == ExitCode::SUCCESS { ExitCode::from(EXIT_USAGE) } else { code }
        }
    }
}

/// The places of a configuration, or the code to leave with.
fn open(args: &LetterPlaces, queue: Option<&str>) -> Result<Places, ExitCode> {
    let usage = |error: &dyn std::fmt::Display| {
        complain(format_args!("error: {error}"));
        ExitCode::from(EXIT_USAGE)
    };
    let loaded = Config::load(&args.config, args.strict).map_err(|error| usage(&error))?;
    for warning in &loaded.warnings {
        tracing::warn!("{}: {warning}", args.config.display());
    }
    places(loaded.config, queue).map_err(|error| usage(&format!("{}: {error}", args.config.display())))
}

/// Says what could not be read.
fn told(gathered: &Gathered, stop: &CancellationToken) -> ExitCode {
    gathered.notes.iter().for_each(|note| complain(format_args!("note: {note}")));
    gathered.problems.iter().for_each(|problem| complain(format_args!("error: {problem}")));
    if stop.is_cancelled() {
        complain("error: stopped by a signal");
    }
    if gathered.problems.is_empty() && !stop.is_cancelled() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
