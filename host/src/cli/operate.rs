//! The arguments of the commands that ask a host at work: clap structs only.

use std::path::PathBuf;

use clap::Args;

/// Where the host is.
#[derive(Debug, Args)]
pub struct At {
    /// The configuration that the host runs with: its `admin` says where it answers, and where the token is
    #[arg(long, value_name = "FILE", env = "STOMPBOX_CONFIG")]
    pub config: Option<PathBuf>,
    /// Where the host answers, instead of --config: an address with its port, such as 127.0.0.1:9613
    #[arg(long, value_name = "ADDR")]
    pub admin: Option<String>,
    /// A file with the token of the host, instead of the configuration's `admin.token_file`
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
}

/// Arguments of `status`.
#[derive(Debug, Args)]
pub struct Status {
    /// Where the host is
    #[command(flatten)]
    pub at: At,
    /// Print the answer of /v1/status
    #[arg(long)]
    pub json: bool,
    /// Print once, also in a terminal
    #[arg(long)]
    pub once: bool,
}

/// Arguments of `reload`.
#[derive(Debug, Args)]
pub struct Reload {
    /// The processor; without it the configuration and all components
    #[arg(value_name = "PROCESSOR")]
    pub processor: Option<String>,
    /// Where the host is
    #[command(flatten)]
    pub at: At,
}

/// Arguments of `rollback`.
#[derive(Debug, Args)]
pub struct RollBack {
    /// The processor: a key of `processors` in the configuration
    #[arg(value_name = "PROCESSOR")]
    pub processor: String,
    /// The number of the generation [default: the one before]
    #[arg(long, value_name = "N")]
    pub to: Option<u64>,
    /// Where the host is
    #[command(flatten)]
    pub at: At,
}

/// Arguments of `pause` and `resume`.
#[derive(Debug, Args)]
pub struct One {
    /// The processor: a key of `processors` in the configuration
    #[arg(value_name = "PROCESSOR")]
    pub processor: String,
    /// Where the host is
    #[command(flatten)]
    pub at: At,
}
