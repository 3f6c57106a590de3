//! One dead letter, whole.

use super::{letter::Letter, text};
use crate::console::say;

/// Prints where it is, its headers and its body.
pub(super) fn print(letter: &Letter) {
    let place = match &*letter.place {
        "spool" => format!("the spool of {}", letter.queue),
        place => format!("{place} on {}", letter.server),
    };
    say(format_args!("dead letter {} in {}", letter.id(), text::line(&place)));
    if let Some(failed_at) = letter.number("failed_at") {
        say(format_args!("failed at {}", text::utc(failed_at)));
    }
    for (name, value) in letter.headers.iter() {
        say(format_args!("{}: {}", text::line(name), text::line(value)));
    }
    say(format_args!("\n{}", text::body(&letter.body)));
}
