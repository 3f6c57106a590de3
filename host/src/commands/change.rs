//! `stompbox reload`, `rollback`, `pause` and `resume`: have a host at work change something, and say what it did.

use std::process::ExitCode;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    ask::{Host, processor_path, shown},
    status::Change,
};
use crate::{
    cli::{At, One, Reload, RollBack},
    console::say,
};

/// Has a host look at its configuration and components again.
///
/// # Errors
/// The system refuses sockets.
pub fn reload(args: &Reload) -> anyhow::Result<ExitCode> {
    let path = args.processor.as_deref().map(|name| processor_path(name, "reload"));
    change(&args.at, path.as_deref().unwrap_or("/v1/reload"), &json!({}))
}

/// Has a processor go back to an earlier generation.
///
/// # Errors
/// The system refuses sockets.
pub fn roll_back(args: &RollBack) -> anyhow::Result<ExitCode> {
    change(&args.at, &processor_path(&args.processor, "rollback"), &json!({"to": args.to}))
}

/// Has a processor take nothing more.
///
/// # Errors
/// The system refuses sockets.
pub fn pause(args: &One) -> anyhow::Result<ExitCode> {
    change(&args.at, &processor_path(&args.processor, "pause"), &json!({}))
}

/// Has a processor take messages again.
///
/// # Errors
/// The system refuses sockets.
pub fn resume(args: &One) -> anyhow::Result<ExitCode> {
    change(&args.at, &processor_path(&args.processor, "resume"), &json!({}))
}

#[derive(Deserialize)]
struct Done {
    changes: Vec<Change>,
}

fn change(at: &At, path: &str, body: &Value) -> anyhow::Result<ExitCode> {
    let host = match Host::at(at) {
        Ok(host) => host,
        Err(error) => return Ok(error.told()),
    };
    let answer = match super::runtime()?.block_on(host.post(path, body)) {
        Ok(answer) => answer,
        Err(error) => return Ok(error.told()),
    };
    let Done { changes } = serde_json::from_value(answer)?;
    if changes.is_empty() {
        say("nothing to do");
    }
    changes.iter().for_each(|change| say(shown(&change.to_string())));
    let refused = changes.iter().any(|change| change.what == "refused");
    Ok(if refused { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
