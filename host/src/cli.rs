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
    /// What is logged, for example `debug` or `stompbox=debug,guest=info` [default: info; send: warn; demo: error]
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
            Command::Send(_) => "warn",
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
