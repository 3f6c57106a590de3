//! How a list of dead letters looks: a table for people, an object a line for programs.

use std::collections::BTreeMap;

use serde_json::json;

use super::{letter::Letter, text};
use crate::console::say;

const TITLES: [&str; 10] =
    ["#", "id", "queue", "where", "code", "processor", "generation", "failed at", "bytes", "detail"];
/// The widest that a column becomes.
const WIDEST: usize = 40;
const DETAIL: usize = 60;

/// Prints so many of them, and the totals of all.
pub(super) fn print(letters: &[Letter], limit: usize) {
    let shown = letters.get(..limit.min(letters.len())).unwrap_or_default();
    let rows: Vec<_> = shown.iter().enumerate().map(|(index, letter)| cells(index + 1, letter)).collect();
    if !rows.is_empty() {
        let titles = TITLES.map(str::to_owned);
        let widths: Vec<usize> = (0..TITLES.len())
            .map(|column| {
                let of_column = |row: &[String; 10]| row.get(column).map_or(0, |cell| cell.chars().count());
                rows.iter().chain([&titles]).map(of_column).max().unwrap_or_default()
            })
            .collect();
        for row in std::iter::once(&titles).chain(&rows) {
            let cells: Vec<_> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
            say(cells.join("  ").trim_end());
        }
    }
    if shown.len() < letters.len() {
        say(format_args!("... and {} more: --limit shows more, --code and others fewer", letters.len() - shown.len()));
    }
    say(totals(letters));
}

fn cells(number: usize, letter: &Letter) -> [String; 10] {
    let story = |name| text::short(letter.story(name).unwrap_or("-"), WIDEST);
    [
        number.to_string(),
        letter.id().to_owned(),
        text::short(&letter.queue, WIDEST),
        text::line(&letter.place).into_owned(),
        story("error_code"),
        story("processor"),
        story("generation"),
        letter.number("failed_at").map_or_else(|| "-".to_owned(), text::utc),
        letter.body.len().to_string(),
        text::short(letter.story("error_detail").unwrap_or("-"), DETAIL),
    ]
}

fn totals(letters: &[Letter]) -> String {
    let mut by_place: BTreeMap<(&str, &str, &str), usize> = BTreeMap::new();
    for letter in letters {
        *by_place.entry((&letter.queue, &letter.place, &letter.server)).or_default() += 1;
    }
    let parts = by_place.into_iter().map(|((queue, place, server), count)| match place {
        "spool" => format!("{count} of {queue} in the spool"),
        _ => format!("{count} of {queue} in {place} on {server}"),
    });
    let parts: Vec<String> = parts.collect();
    let colon = if parts.is_empty() { "" } else { ": " };
    format!("{} dead letter(s){colon}{}", letters.len(), text::line(&parts.join(", ")))
}

/// One letter as an object on one line.
pub(super) fn json(letter: &Letter) -> String {
    let story = |name| letter.story(name);
    let object = json!({
        "id": letter.id(),
        "queue": &*letter.queue,
        "server": &*letter.server,
        "where": &*letter.place,
        "error_code": story("error_code"),
        "error_detail": story("error_detail"),
        "processor": story("processor"),
        "module": story("module"),
        "generation": letter.number("generation"),
        "attempts": letter.number("attempts"),
        "original_destination": story("original_destination"),
        "original_message_id": story("original_message_id"),
        "failed_at_ms": letter.number("failed_at"),
        "bytes": letter.body.len(),
    });
    text::json(&object)
}
