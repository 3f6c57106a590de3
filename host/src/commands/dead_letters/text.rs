//! What strangers wrote, safe to print: nothing that a terminal would obey.

use std::borrow::Cow;

use crate::sandbox::text::one_line;

/// Bytes in a line of hexadecimal digits.
const HEX_LINE: usize = 16;

/// As one line, with everything else escaped.
pub(super) fn line(text: &str) -> Cow<'_, str> {
    one_line(text, usize::MAX)
}

/// At most so many characters, `...` for the rest.
pub(super) fn short(text: &str, max: usize) -> String {
    let text = line(text);
    if text.chars().count() <= max {
        return text.into_owned();
    }
    text.chars().take(max.saturating_sub(3)).chain("...".chars()).collect()
}

/// JSON of which no control character is left: serde_json escapes only those below the space.
pub(super) fn json(value: &serde_json::Value) -> String {
    let text = value.to_string();
    let mut safe = String::with_capacity(text.len());
    for char in text.chars() {
        if one_line(char.encode_utf8(&mut [0; 4]), usize::MAX).len() == char.len_utf8() {
            safe.push(char);
        } else {
            safe.push_str(&format!("\\u{:04x}", u32::from(char)));
        }
    }
    safe
}

/// A body: text in its lines, else in hexadecimal digits.
pub(super) fn body(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.contains('\0') => {
            let lines: Vec<_> = text.split('\n').map(line).collect();
            lines.join("\n")
        }
        _ => dump(bytes),
    }
}

fn dump(bytes: &[u8]) -> String {
    let shown = |byte: &u8| if byte.is_ascii_graphic() || *byte == b' ' { char::from(*byte) } else { '.' };
    let lines = bytes.chunks(HEX_LINE).enumerate().map(|(number, chunk)| {
        let digits: Vec<String> = chunk.iter().map(|byte| format!("{byte:02x}")).collect();
        let text: String = chunk.iter().map(shown).collect();
        format!("{:08x}  {:<47}  {text}", number * HEX_LINE, digits.join(" "))
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// A time in milliseconds since 1970, as date and time of day in UTC.
pub(super) fn utc(millis: u64) -> String {
    let (days, seconds) = (millis / 86_400_000, millis / 1_000 % 86_400);
    // After Howard Hinnant's `civil_from_days`, for days after 1970.
    let days = days.saturating_add(719_468);
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let (day, month) = (of_year - (153 * shifted + 2) / 5 + 1, if shifted < 10 { shifted + 3 } else { shifted - 9 });
    let year = year + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    const BAD: &str = "\u{1b}[31m\u{9b}1A\r\u{7f}\u{202e}";

    #[test]
    fn nothing_that_a_terminal_obeys_is_left() {
        let safe = |text: &str| !text.contains(|c: char| c.is_control() && c != '\n' || c == '\u{202e}');
        let json = json(&serde_json::json!({"a": BAD, "ü": "\n"}));
        assert!(safe(&line(BAD)) && safe(&short(BAD, 9)) && safe(&json));
        assert!(safe(&body(BAD.as_bytes())) && safe(&body(b"\x1b[31m\0")));
        assert_eq!(serde_json::from_str::<serde_json::Value>(&json).unwrap()["a"], BAD);
        assert_eq!(body("a\nb\tü".as_bytes()), "a\nb\\tü");
    }

    #[test]
    fn bytes_are_dumped() {
        assert_eq!(body(&[0, 159, b'x']), format!("00000000  {:<47}  ..x", "00 9f 78"));
        assert_eq!(body(&[0; 17]).lines().count(), 2);
    }

    #[test]
    fn long_text_is_cut() {
        assert_eq!((short("abcdef", 6), short("abcdefg", 6)), ("abcdef".into(), "abc...".into()));
    }

    #[test]
    fn times_are_those_of_the_calendar() {
        for (millis, text) in [
            (0, "1970-01-01 00:00:00Z"),
            (951_826_554_321, "2000-02-29 12:15:54Z"),
            (1_700_000_000_123, "2023-11-14 22:13:20Z"),
            (1_735_689_599_000, "2024-12-31 23:59:59Z"),
        ] {
            assert_eq!(utc(millis), text);
        }
        assert!(!utc(u64::MAX).is_empty(), "whatever a header says");
    }
}
