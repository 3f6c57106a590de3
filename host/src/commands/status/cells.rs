//! Numbers and times in few characters, and what is coloured.

use std::{borrow::Cow, fmt::Display};

/// What a text is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    Plain,
    Title,
    Good,
    Notice,
    Bad,
}

/// A text of a table.
#[derive(Debug, Clone)]
pub(super) struct Cell {
    pub(super) text: String,
    pub(super) style: Style,
}

impl Cell {
    pub(super) fn new(text: impl Display, style: Style) -> Self {
        Self { text: text.to_string(), style }
    }

    pub(super) fn plain(text: impl Display) -> Self {
        Self::new(text, Style::Plain)
    }

    /// A number that should be zero.
    pub(super) fn unwanted(count: u64) -> Self {
        Self::new(number(count), if count == 0 { Style::Plain } else { Style::Notice })
    }
}

/// The text as a terminal shows it in its style.
pub(super) fn paint(text: &str, style: Style, colours: bool) -> Cow<'_, str> {
    let code = match style {
        Style::Plain => return text.into(),
        _ if !colours => return text.into(),
        Style::Title => "1",
        Style::Good => "32",
        Style::Notice => "33",
        Style::Bad => "31",
    };
    format!("\x1b[{code}m{text}\x1b[0m").into()
}

/// At most that many characters.
pub(super) fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let kept: String = text.chars().take(width.saturating_sub(1)).collect();
    format!("{kept}\u{2026}")
}

/// Five characters at most: 9999, 12.3k, 4.56M.
pub(super) fn number(count: u64) -> String {
    if count < 10_000 {
        return count.to_string();
    }
    let (mut value, mut units) = (count as f64, ["k", "M", "G", "T", "P", "E"].into_iter());
    let mut unit = "";
    while value >= 999.5 {
        value /= 1e3;
        unit = units.next().unwrap_or(unit);
    }
    let digits = if value < 9.995 { 2 } else { usize::from(value < 99.95) };
    format!("{value:.digits$}{unit}")
}

/// A number in a second.
pub(super) fn rate(count: f64) -> String {
    if count > 0.0 && count < 9.95 { format!("{count:.1}") } else { number(count.round() as u64) }
}

/// A latency; a dash where there was none.
pub(super) fn latency(micros: u64) -> String {
    let millis = micros as f64 / 1e3;
    match micros {
        0 => "-".to_owned(),
        1..9_950 => format!("{millis:.1}ms"),
        9_950..999_500 => format!("{millis:.0}ms"),
        999_500..99_950_000 => format!("{:.1}s", millis / 1e3),
        _ => format!("{:.0}s", millis / 1e3),
    }
}

/// A time in its largest unit.
pub(super) fn age(millis: u64) -> String {
    let seconds = millis / 1_000;
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min", seconds / 60),
        3_600..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_take_five_characters() {
        for (count, text) in [
            (0, "0"),
            (9_999, "9999"),
            (10_000, "10.0k"),
            (99_949, "99.9k"),
            (99_950, "100k"),
            (999_499, "999k"),
            (999_500, "1.00M"),
            (12_345_678, "12.3M"),
            (u64::MAX, "18.4E"),
        ] {
            assert_eq!(number(count), text);
        }
        assert_eq!([0.0, 0.04, 9.9, 9.96, 12_345.6].map(rate), ["0", "0.0", "9.9", "10", "12.3k"]);
    }

    #[test]
    fn times_take_few_characters() {
        let told = [0, 40, 1_234, 9_950, 999_499, 1_234_567, 600_000_000].map(latency);
        assert_eq!(told, ["-", "0.0ms", "1.2ms", "10ms", "999ms", "1.2s", "600s"]);
        let ages = [0, 59_999, 60_000, 3_599_000, 3_600_000, 172_799_000, 172_800_000].map(age);
        assert_eq!(ages, ["0 s", "59 s", "1 min", "59 min", "1 h", "47 h", "2 d"]);
    }

    #[test]
    fn what_is_too_long_is_cut() {
        assert_eq!((cut("abc", 3).as_str(), cut("äbcd", 3).as_str(), cut("abc", 0).as_str()), ("abc", "äb…", "…"));
    }
}
