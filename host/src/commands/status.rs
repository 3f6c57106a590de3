//! `stompbox status`: what a host at work does, as a live table, as text or as JSON.

mod cells;
mod columns;
mod screen;
mod table;
#[cfg(test)]
mod tests;
mod view;

use std::{
    io::{IsTerminal as _, stdout},
    process::ExitCode,
    time::Duration,
};

use serde_json::Value;
use tokio::time::sleep;

pub(super) use self::view::Change;
use self::{
    screen::Screen,
    table::{Page, lines},
    view::{AuditView, HostView},
};
use super::ask::{AskError, Host};
use crate::{cli, console::say};

/// Between two looks at the host: what rates are counted over.
const PAUSE: Duration = Duration::from_secs(1);
/// The width of text that goes elsewhere than to a terminal.
const TEXT_WIDTH: usize = 100;

/// What was seen at one time.
#[derive(Debug, Default)]
struct Seen {
    host: HostView,
    changes: AuditView,
}

/// Shows a host.
///
/// # Errors
/// The system refuses sockets, or the terminal.
pub fn status(args: &cli::Status) -> anyhow::Result<ExitCode> {
    let shown = match Host::at(&args.at) {
        Ok(host) => super::runtime()?.block_on(show(args, &host))?,
        Err(error) => Err(error),
    };
    Ok(shown.map_or_else(|error| error.told(), |()| ExitCode::SUCCESS))
}

/// The inner error is that of the host, the outer one of this machine.
async fn show(args: &cli::Status, host: &Host) -> anyhow::Result<Result<(), AskError>> {
    if args.json {
        return Ok(host.get("/v1/status").await.map(|answer| say(format_args!("{answer:#}"))));
    }
    let first = match look(host).await {
        Ok(first) => first,
        Err(error) => return Ok(Err(error)),
    };
    let page = if stdout().is_terminal() && !args.once {
        live(host, first).await?
    } else {
        sleep(PAUSE).await;
        match look(host).await {
            Ok(now) => lines(&now, &first, None, &Page { width: text_width(), height: None, colours: false }),
            Err(error) => return Ok(Err(error)),
        }
    };
    page.into_iter().for_each(say);
    Ok(Ok(()))
}

fn text_width() -> usize {
    let columns = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    columns.or_else(|| Some(screen::size()?.0)).unwrap_or(TEXT_WIDTH)
}

async fn look(host: &Host) -> Result<Seen, AskError> {
    let strange = |error: serde_json::Error| AskError::Failed(format!("{}: strange answer: {error}", host.address));
    let of = |answer: Value| serde_json::from_value(answer).map_err(strange);
    let now = of(host.get("/v1/status").await?)?;
    let changes = serde_json::from_value(host.get("/v1/audit?last=10").await?).map_err(strange)?;
    Ok(Seen { host: now, changes })
}

/// Draws the table each second until somebody has seen enough; the last one stays on the terminal.
async fn live(host: &Host, first: Seen) -> anyhow::Result<Vec<String>> {
    let mut screen = Screen::open()?;
    let (mut before, mut now, mut trouble) = (Seen::default(), first, None);
    loop {
        let page = lines(&now, &before, trouble.as_deref(), &screen.page());
        screen.draw(&page);
        let looked = async {
            sleep(PAUSE).await;
            look(host).await
        };
        tokio::select! {
            seen = looked => match seen {
                Ok(seen) => (before, now, trouble) = (now, seen, None),
                // It may come back: a host that is started again is worth watching.
                Err(error) => trouble = Some(error.to_string()),
            },
            () = screen.enough() => return Ok(page),
        }
    }
}
