//! `stompbox send`: messages for a queue, from lines or files, each confirmed.

mod input;

use std::{collections::VecDeque, io::IsTerminal, process::ExitCode, time::Duration};

use indicatif::ProgressBar;
use tokio::{
    sync::mpsc,
    time::{Instant, timeout_at},
};

use self::input::Piece;
use super::EXIT_USAGE;
use crate::{
    cli::SendMessages,
    config::Config,
    console::{complain, say},
    sender::{Confirmation, SendError, Sender, SenderError, max_body_bytes},
};

/// Sends until the input ends, or until the broker confirms nothing more.
///
/// # Errors
/// The machine refuses threads.
pub fn send(args: &SendMessages) -> anyhow::Result<ExitCode> {
    let runtime = super::runtime()?;
    let code = runtime.block_on(run(args));
    // Standard input may never end: its reader is left behind.
    runtime.shutdown_timeout(Duration::from_millis(100));
    Ok(code)
}

async fn run(args: &SendMessages) -> ExitCode {
    let headers: Vec<_> =
        args.headers.iter().cloned().chain(args.priority.map(|p| ("priority".to_owned(), p.to_string()))).collect();
    let sender = match open(args) {
        Ok(sender) => sender,
        Err(error) => return usage(format_args!("{}: {error}", args.config.display())),
    };
    if let Err(error) = sender.check_headers(&headers) {
        return usage(error);
    }
    if args.files.is_empty() && std::io::stdin().is_terminal() {
        complain("each line is sent as one message; Ctrl-D ends");
    }
    let pieces = input::read(args.files.clone(), max_body_bytes());
    let sending = Sending { sender, headers, args, waiting: VecDeque::new(), counts: Counts::default(), bar: bar() };
    sending.run(pieces).await
}

fn open(args: &SendMessages) -> Result<Sender, SenderError> {
    let loaded = Config::load(&args.config, args.strict)?;
    for warning in &loaded.warnings {
        tracing::warn!("{}: {warning}", args.config.display());
    }
    Ok(Sender::open(&loaded.config, &args.queue)?.in_flight(args.in_flight as usize))
}

fn usage(error: impl std::fmt::Display) -> ExitCode {
    complain(format_args!("error: {error}"));
    ExitCode::from(EXIT_USAGE)
}

/// Shown where standard error is a terminal, and nowhere else.
fn bar() -> ProgressBar {
    ProgressBar::new_spinner()
}

/// Messages on their way, oldest first.
struct Sending<'a> {
    sender: Sender,
    headers: Vec<(String, String)>,
    args: &'a SendMessages,
    waiting: VecDeque<Waiting>,
    counts: Counts,
    bar: ProgressBar,
}

struct Waiting {
    name: String,
    until: Instant,
    confirmation: Confirmation,
}

#[derive(Default)]
struct Counts {
    confirmed: u64,
    failed: u64,
}

/// The broker did not confirm a message in time: sending more makes no sense.
struct Silent;

impl Sending<'_> {
    async fn run(mut self, mut pieces: mpsc::Receiver<Piece>) -> ExitCode {
        let silent = self.send_all(&mut pieces).await.is_err();
        if silent {
            self.name_the_rest(pieces).await;
        } else {
            // Everything is answered: what remains is the farewell.
            let _ = tokio::time::timeout(self.args.timeout, self.sender.finish()).await;
        }
        self.bar.finish_and_clear();
        let Counts { confirmed, failed } = self.counts;
        say(format_args!("{confirmed} message(s) confirmed for queue {}", self.args.queue));
        if failed == 0 && !silent {
            return ExitCode::SUCCESS;
        }
        complain(format_args!("error: {failed} message(s) named above are not confirmed"));
        ExitCode::FAILURE
    }

    async fn send_all(&mut self, pieces: &mut mpsc::Receiver<Piece>) -> Result<(), Silent> {
        let mut open = true;
        while open || !self.waiting.is_empty() {
            let room = self.waiting.len() < self.args.in_flight as usize;
            let Self { waiting, sender, headers, args, .. } = self;
            let first = waiting.front_mut();
            tokio::select! {
                piece = pieces.recv(), if open && room => match piece {
                    None => open = false,
                    Some(Piece { name, body: Err(problem) }) => self.not_sent(&name, problem),
                    Some(Piece { name, body: Ok(body) }) => {
                        let until = Instant::now() + args.timeout;
                        let sent = timeout_at(until, sender.send(body, headers)).await;
                        self.sent(name, until, sent.ok())?;
                    }
                },
                answer = answer(first) => self.answered(answer)?,
            }
        }
        Ok(())
    }

    fn sent(
        &mut self,
        name: String,
        until: Instant,
        sent: Option<Result<Confirmation, SendError>>,
    ) -> Result<(), Silent> {
        match sent {
            Some(Ok(confirmation)) => self.waiting.push_back(Waiting { name, until, confirmation }),
            Some(Err(error)) => self.not_sent(&name, error),
            None => {
                self.not_sent(&name, "not sent: too much before it is not confirmed");
                return Err(Silent);
            }
        }
        Ok(())
    }

    /// The oldest message has its answer, or its time is over.
    fn answered(&mut self, answer: Option<Result<(), SendError>>) -> Result<(), Silent> {
        if answer.is_none() {
            return Err(Silent);
        }
        let first = self.waiting.pop_front();
        match (answer, first) {
            (Some(Err(error)), Some(first)) => self.not_sent(&first.name, error),
            _ => {
                self.counts.confirmed += 1;
                self.bar.set_message(format!("{} messages confirmed", self.counts.confirmed));
                self.bar.inc(1);
            }
        }
        Ok(())
    }

    fn not_sent(&mut self, name: &str, why: impl std::fmt::Display) {
        self.counts.failed += 1;
        self.bar.suspend(|| complain(format_args!("{name}: {why}")));
    }

    /// Says what is not confirmed. Of standard input only what was read has numbers.
    async fn name_the_rest(&mut self, mut pieces: mpsc::Receiver<Piece>) {
        let limit = self.args.timeout.as_secs_f64();
        while let Some(mut late) = self.waiting.pop_front() {
            // Answers may have come behind one that did not.
            match late.confirmation.now() {
                Some(Ok(())) => self.counts.confirmed += 1,
                Some(Err(error)) => self.not_sent(&late.name, error),
                None => self.not_sent(&late.name, format_args!("not confirmed within {limit} s")),
            }
        }
        if self.args.files.is_empty() {
            if let Ok(piece) = pieces.try_recv() {
                self.not_sent(&piece.name, "not sent, and nothing behind it");
            }
            return;
        }
        while let Some(piece) = pieces.recv().await {
            self.not_sent(&piece.name, "not sent");
        }
    }
}

/// The answer for the oldest message; none when its time is over.
async fn answer(first: Option<&mut Waiting>) -> Option<Result<(), SendError>> {
    match first {
        Some(first) => timeout_at(first.until, &mut first.confirmation).await.ok(),
        None => std::future::pending().await,
    }
}
