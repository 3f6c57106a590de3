//! `dead-letters replay` and `drop`: takes letters away, replayed ones once their messages are confirmed.

use std::process::ExitCode;

use indicatif::ProgressBar;
use tokio_util::sync::CancellationToken;

use super::{
    choose,
    gather::{Gathered, Purpose, gather},
    letter::Letter,
    open,
    places::Places,
    replay::Replay,
    told,
};
use crate::{
    cli::{ChosenLetters, DropLetters, LetterFilter, ReplayLetters},
    commands::EXIT_USAGE,
    console::{complain, say},
};

/// Letters that are on their way at the same time.
const CHUNK: usize = 100;

/// Puts letters back.
pub(super) async fn replay(args: &ReplayLetters, stop: CancellationToken) -> ExitCode {
    let places = match places(&args.chosen) {
        Ok(places) => places,
        Err(code) => return code,
    };
    let replay = Replay::new(&places.config, args);
    Settling::new(&args.chosen, Some(replay), stop).run(&places).await
}

/// Removes letters for good.
pub(super) async fn drop(args: &DropLetters, stop: CancellationToken) -> ExitCode {
    if args.chosen.all && !args.yes {
        complain("error: --all drops every dead letter that is meant, for good: say --yes as well");
        return ExitCode::from(EXIT_USAGE);
    }
    match places(&args.chosen) {
        Ok(places) => Settling::new(&args.chosen, None, stop).run(&places).await,
        Err(code) => code,
    }
}

fn places(chosen: &ChosenLetters) -> Result<Places, ExitCode> {
    if !chosen.all && chosen.filter != LetterFilter::default() {
        complain("error: --code, --processor and --failed-generation go with --all, not with ids");
        return Err(ExitCode::from(EXIT_USAGE));
    }
    open(&chosen.places, chosen.queue.as_deref())
}

/// One command at work.
struct Settling<'a> {
    chosen: &'a ChosenLetters,
    /// None where letters are dropped.
    replay: Option<Replay<'a>>,
    stop: CancellationToken,
    bar: ProgressBar,
    done: usize,
    failed: usize,
}

impl<'a> Settling<'a> {
    fn new(chosen: &'a ChosenLetters, replay: Option<Replay<'a>>, stop: CancellationToken) -> Self {
        // Shown where standard error is a terminal, and nowhere else.
        Self { chosen, replay, stop, bar: ProgressBar::new(0), done: 0, failed: 0 }
    }

    /// In rounds, where a queue holds more than is read at once.
    async fn run(mut self, places: &Places) -> ExitCode {
        let code = loop {
            let before = self.done;
            let mut gathered = gather(places, Purpose::Take, self.chosen.places.wait, &self.stop).await;
            let settled = self.round(&gathered).await;
            gathered.close().await;
            let code = told(&gathered, &self.stop);
            if let Err(problems) = settled {
                problems.iter().for_each(|problem| complain(format_args!("error: {problem}")));
                break if code == ExitCode::SUCCESS { ExitCode::from(EXIT_USAGE) } else { code };
            }
            let again = self.chosen.all && gathered.more && self.done > before && self.failed == 0;
            if !again || code != ExitCode::SUCCESS {
                break code;
            }
        };
        self.bar.finish_and_clear();
        let verb = if self.replay.is_some() { "replayed" } else { "dropped" };
        say(format_args!("{} dead letter(s) {verb}", self.done));
        if let Some(replay) = self.replay {
            replay.finish().await;
        }
        if self.failed == 0 {
            return code;
        }
        complain(format_args!("error: {} dead letter(s) named above were not {verb}", self.failed));
        ExitCode::FAILURE
    }

    /// Settles what is meant of these.
    async fn round(&mut self, gathered: &Gathered) -> Result<(), Vec<String>> {
        let letters = self.meant(&gathered.letters)?;
        self.bar.inc_length(letters.len() as u64);
        for (number, chunk) in letters.chunks(CHUNK).enumerate() {
            if self.stop.is_cancelled() || self.replay.as_ref().is_some_and(Replay::is_silent) {
                complain(format_args!("{} more were not tried", letters.len() - number * CHUNK));
                break;
            }
            let confirmed = self.confirmed(chunk).await;
            let removed = gathered.remove(&confirmed).await;
            for (letter, removed) in confirmed.into_iter().zip(removed) {
                self.note(letter, removed);
            }
        }
        Ok(())
    }

    /// Of these what may be removed: what is replayed and confirmed, or is to be dropped.
    async fn confirmed<'b>(&mut self, chunk: &[&'b Letter]) -> Vec<&'b Letter> {
        let Some(replay) = &mut self.replay else { return chunk.to_vec() };
        let sent = replay.send(chunk).await;
        let mut confirmed = Vec::new();
        for (letter, sent) in chunk.iter().copied().zip(sent) {
            match sent {
                Ok(()) => confirmed.push(letter),
                Err(why) => self.not_done(letter, &why),
            }
        }
        confirmed
    }

    fn meant<'b>(&self, letters: &'b [Letter]) -> Result<Vec<&'b Letter>, Vec<String>> {
        if !self.chosen.all {
            let chosen = choose::by_ids(letters, &self.chosen.ids)?;
            return Ok(chosen.into_iter().filter_map(|index| letters.get(index)).collect());
        }
        // What this replay has made is not replayed again: it would go round for ever.
        let is_ours = |letter: &Letter| self.replay.as_ref().is_some_and(|replay| replay.has_sent(letter));
        let is_meant = |letter: &&Letter| !is_ours(letter) && choose::is_meant(letter, &self.chosen.filter);
        Ok(letters.iter().filter(is_meant).collect())
    }

    fn note(&mut self, letter: &Letter, removed: Result<(), String>) {
        self.bar.inc(1);
        match removed {
            Ok(()) => self.done += 1,
            Err(why) if self.replay.is_some() => {
                let why = format!(
                    "replayed, but the dead letter could not be removed and is still there, so that replaying it again \
                     would double it: {why}"
                );
                self.not_done(letter, &why);
            }
            Err(why) => self.not_done(letter, &why),
        }
    }

    fn not_done(&mut self, letter: &Letter, why: &str) {
        self.failed += 1;
        self.bar.suspend(|| complain(format_args!("{}: {}", letter.id(), super::text::line(why))));
    }
}
