//! The command line: clap structs only.

mod operate;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};

pub use self::operate::{At, One, Reload, RollBack, Status};

/// Runs PanDA's message processors as sandboxed WebAssembly components between STOMP queues.
///
/// Nothing is lost: an input is acknowledged only after its outputs are confirmed.
/// Nothing escapes: a processor has limits for instructions, time, memory and output.
/// Start with `stompbox demo`.
#[derive(Debug, Parser)]
#[command(name = "stompbox", version = crate::version::BOTH, propagate_version = true)]
pub struct Cli {
    /// What to do
    #[command(subcommand)]
    pub command: Command,
    /// How log lines look on standard error
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
    /// What is logged, for example `debug` or `stompbox=debug,guest=info` [default: info; send and dead-letters: warn; demo: error]
    #[arg(long, global = true, env = "STOMPBOX_LOG", value_name = "FILTER")]
    pub log: Option<String>,
}

impl Cli {
    /// The filter for log lines: the demo is quiet, since its dead letters are part of the show, and so are
    /// commands that answer on standard output.
    #[must_use]
    pub fn log_filter(&self) -> &str {
        let default = match self.command {
            Command::Demo(_) => "error",
            Command::Send(_) | Command::DeadLetters { .. } => "warn",
            _ => "info",
        };
        self.log.as_deref().unwrap_or(default)
    }
}

/// The form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the processors of a configuration until SIGTERM or SIGINT
    ///
    /// The first signal drains: nothing new is taken, what was taken is finished and acknowledged. A
    /// second one leaves at once; the broker then delivers again what was not acknowledged.
    Run(Run),
    /// Check a configuration and its components, with --connect also the servers
    ///
    /// Prints all problems at once, each with its place in the file. Exit code 0: it can run; 64: the
    /// configuration or a component is wrong; 1: a server or a right is missing.
    Check(Check),
    /// Show what a host at work does: its processors, queues and last changes
    ///
    /// In a terminal a table that is drawn again each second, until q or Ctrl-C; elsewhere once, as text, with the
    /// rates of one second.
    Status(Status),
    /// Have a host look at its configuration and components again, or at those of one processor
    ///
    /// Says what was done, a line for each change. Exit code 0: done; 1: something was refused, and runs on as it
    /// was, or the host cannot be reached.
    Reload(Reload),
    /// Have a processor go back to an earlier generation
    ///
    /// The one that it leaves is not picked up again until its file changes, or `reload` asks for it by name.
    Rollback(RollBack),
    /// Have a processor take nothing more until it is resumed
    Pause(One),
    /// Have a paused processor take messages again
    Resume(One),
    /// Show the whole thing working on this machine, without a broker or a configuration
    ///
    /// Builds the plugins of this repository, starts the embedded broker, runs the document's
    /// push_jobtask_status processor on realistic messages with a component that spins beside it, and
    /// ends by itself with a table in which every message is accounted for.
    Demo(Demo),
    /// Send messages to a queue, each confirmed by the broker
    ///
    /// Reads a configuration of PanDA's message senders, or of message processors. Each line of standard
    /// input is one message, empty ones are skipped; with files as arguments each file is one. Exit code
    /// 0: the broker has confirmed every message. Exit code 1: standard error names each line or file that
    /// it has not.
    Send(SendMessages),
    /// List, show, replay or drop dead letters, on the broker and in the spool
    ///
    /// Needs neither a running host nor its admin page. Looking takes nothing away: on ActiveMQ the queue is
    /// browsed; elsewhere its messages are read, left unacknowledged and given back within seconds, during which
    /// nobody else gets them. Exit code 0: done. Exit code 1: standard error names what could not be read,
    /// replayed or dropped.
    DeadLetters {
        /// What to do with them
        #[command(subcommand)]
        command: DeadLetters,
    },
    /// Run the embedded development broker
    ///
    /// In memory and for development only: production runs on ActiveMQ, Artemis or RabbitMQ.
    DevBroker(DevBroker),
    /// Show what a component offers and needs
    Inspect(Inspect),
    /// Build a processor written in Rust into a component
    ///
    /// Adds nothing to the project: it calls cargo for the target wasm32-wasip2 with the settings that
    /// make components fast, and names the file as the host looks it up.
    Build(Build),
    /// Compile a component from standard input to standard output: for the host's own use, see `sandbox::compiler`
    #[command(hide = true)]
    Compile(Compile),
}

/// Arguments of `run`.
#[derive(Debug, Args)]
pub struct Run {
    /// The configuration: PanDA's JSON file of message processors
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Unknown and duplicate keys are errors instead of warnings
    #[arg(long)]
    pub strict: bool,
    /// How long a drain may take, in seconds; closing the connections may take 6 more
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    pub grace: Duration,
}

/// Arguments of `check`.
#[derive(Debug, Args)]
pub struct Check {
    /// The configuration: PanDA's JSON file of message processors
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Unknown and duplicate keys are errors instead of warnings
    #[arg(long)]
    pub strict: bool,
    /// Also log in to every server that is used and test the rights to subscribe and to send there; takes
    /// no message and leaves none behind
    #[arg(long)]
    pub connect: bool,
}

/// Arguments of `send`.
#[derive(Debug, Args)]
pub struct SendMessages {
    /// The configuration: PanDA's JSON file of message queues
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Unknown and duplicate keys are errors instead of warnings
    #[arg(long)]
    pub strict: bool,
    /// The queue: a key of `queues` in the configuration
    #[arg(value_name = "QUEUE")]
    pub queue: String,
    /// Files to send, one message each, instead of the lines of standard input
    #[arg(value_name = "BODY-FILE")]
    pub files: Vec<PathBuf>,
    /// A header of each message; may be repeated
    #[arg(long = "header", value_name = "NAME:VALUE", value_parser = header)]
    pub headers: Vec<(String, String)>,
    /// The priority of each message, 9 is the highest
    #[arg(long, value_name = "0-9", value_parser = clap::value_parser!(u8).range(0..=9))]
    pub priority: Option<u8>,
    /// How many messages may be on their way without confirmation
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub in_flight: u32,
    /// How long the broker may take to confirm a message, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    pub timeout: Duration,
}

/// The subcommands of `dead-letters`.
#[derive(Debug, Subcommand)]
pub enum DeadLetters {
    /// List the dead letters of all queues that are read, or of one
    ///
    /// One line each, oldest first; by the `id` the other commands know it.
    List(ListLetters),
    /// Show one dead letter: its headers and its body
    ///
    /// A body that is no text is shown in hexadecimal digits; control characters are escaped.
    Show(ShowLetter),
    /// Put dead letters back to their original destinations
    ///
    /// Each is sent as the original was, under a new id, and taken out of the dead letters when the broker has
    /// confirmed it: what stops in between leaves it in both places, never in none. What fails again becomes a
    /// new dead letter, which the same replay does not touch.
    Replay(ReplayLetters),
    /// Remove dead letters for good
    Drop(DropLetters),
}

/// Where the dead letters of a configuration are.
#[derive(Debug, Args)]
pub struct LetterPlaces {
    /// The configuration that the host runs with
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Unknown and duplicate keys are errors instead of warnings
    #[arg(long)]
    pub strict: bool,
    /// How long a queue must be silent to count as read to its end, in seconds; ActiveMQ tells the end by itself
    /// where nothing is taken
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    pub wait: Duration,
}

/// Which dead letters are meant.
#[derive(Debug, PartialEq, Default, Args)]
pub struct LetterFilter {
    /// Only those with this error code
    #[arg(long, value_name = "CODE")]
    pub code: Option<String>,
    /// Only those of this processor
    #[arg(long, value_name = "NAME")]
    pub processor: Option<String>,
    /// Only those that failed in this generation of their processor
    #[arg(long, value_name = "N")]
    pub failed_generation: Option<u64>,
}

/// Arguments of `dead-letters list`.
#[derive(Debug, Args)]
pub struct ListLetters {
    /// Where they are
    #[command(flatten)]
    pub places: LetterPlaces,
    /// The queue that was read when they failed: a key of `queues` [default: all that processors read]
    #[arg(value_name = "QUEUE")]
    pub queue: Option<String>,
    /// Which
    #[command(flatten)]
    pub filter: LetterFilter,
    /// How many are listed; the totals count all
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub limit: usize,
    /// One JSON object a line instead of a table
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `dead-letters show`.
#[derive(Debug, Args)]
pub struct ShowLetter {
    /// Where it is
    #[command(flatten)]
    pub places: LetterPlaces,
    /// Look only among those of this queue
    #[arg(long, value_name = "QUEUE")]
    pub queue: Option<String>,
    /// The id as `list` prints it, or the beginning of it
    #[arg(value_name = "ID", value_parser = letter_id)]
    pub id: String,
}

/// The dead letters that are to be settled.
#[derive(Debug, Args)]
pub struct ChosenLetters {
    /// Where they are
    #[command(flatten)]
    pub places: LetterPlaces,
    /// Only those of this queue
    #[arg(long, value_name = "QUEUE")]
    pub queue: Option<String>,
    /// Ids as `list` prints them, or the beginnings of them
    #[arg(value_name = "ID", value_parser = letter_id, required_unless_present = "all", conflicts_with = "all")]
    pub ids: Vec<String>,
    /// All that there are; with --code, --processor or --failed-generation all of these
    #[arg(long)]
    pub all: bool,
    /// Which
    #[command(flatten)]
    pub filter: LetterFilter,
}

/// Arguments of `dead-letters replay`.
#[derive(Debug, Args)]
pub struct ReplayLetters {
    /// Which
    #[command(flatten)]
    pub chosen: ChosenLetters,
    /// Ask the host to process them with this generation
    #[arg(long, value_name = "N")]
    pub generation: Option<u64>,
    /// Send them to this destination of the same server instead
    #[arg(long, value_name = "DESTINATION", value_parser = destination)]
    pub to: Option<String>,
    /// How long the broker may take to confirm a message, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    pub timeout: Duration,
}

/// Arguments of `dead-letters drop`.
#[derive(Debug, Args)]
pub struct DropLetters {
    /// Which
    #[command(flatten)]
    pub chosen: ChosenLetters,
    /// Really drop all: needed with --all
    #[arg(long)]
    pub yes: bool,
}

/// Arguments of `demo`.
#[derive(Debug, Args)]
pub struct Demo {
    /// How many status messages to send
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub messages: u32,
    /// The repository to build the plugins from [default: the one around the current directory]
    #[arg(long, value_name = "DIR")]
    pub source: Option<PathBuf>,
}

/// Arguments of `dev-broker`.
#[derive(Debug, Args)]
pub struct DevBroker {
    /// Where to listen; port 0 takes a free one and prints it
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:61613")]
    pub listen: SocketAddr,
}

/// Arguments of `inspect`.
#[derive(Debug, Args)]
pub struct Inspect {
    /// The component
    #[arg(value_name = "FILE.wasm")]
    pub file: PathBuf,
}

/// Arguments of `build`.
#[derive(Debug, Args)]
pub struct Build {
    /// The directory of the processor's Cargo.toml
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// Where the component goes
    #[arg(long, value_name = "DIR", default_value = "plugins")]
    pub out: PathBuf,
    /// Keep the line numbers of the source: a trap then names file and line, and the file is about ten times
    /// as large
    #[arg(long)]
    pub line_numbers: bool,
}

/// Arguments of `compile`.
#[derive(Debug, Args)]
pub struct Compile {
    /// How much memory it may write to, in bytes
    pub memory_bytes: u64,
    /// How much CPU time it may use, in seconds
    pub cpu_seconds: u64,
}

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("must be NAME:VALUE, such as \"vo:atlas\"")?;
    Ok((name.to_owned(), value.to_owned()))
}

fn letter_id(text: &str) -> Result<String, String> {
    let hex = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    hex.then(|| text.to_ascii_lowercase())
        .ok_or_else(|| "an id has hexadecimal digits: `stompbox dead-letters list` prints them".to_owned())
}

fn destination(text: &str) -> Result<String, String> {
    let wrong = !text.starts_with('/') || text.ends_with('/') || text.contains(char::is_control);
    if wrong { Err("must be a destination, such as \"/queue/idds\"".to_owned()) } else { Ok(text.to_owned()) }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    if (0.0..=86_400.0).contains(&seconds) {
        Ok(Duration::from_secs_f64(seconds))
    } else {
        Err("must be between 0 and 86,400 seconds".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        super::Cli::command().debug_assert();
    }
}
