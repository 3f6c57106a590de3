//! Makes what came from a guest safe to show: one line, bounded, nothing a terminal obeys; bytes as digits.
//!
//! Called wherever guest text becomes a log line, an error or a header of a dead letter. It never
//! decides whether text is valid: that is the business of `output`.

use std::{borrow::Cow, fmt::Write as _};

/// Cuts `text` to at most `max` bytes, never inside a character.
pub(crate) fn clamp(text: &str, max: usize) -> &str {
    text.get(..text.floor_char_boundary(max)).unwrap_or_default()
}

/// Writes bytes as lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether a character must not reach a log as it is: control characters, line separators, and marks
/// that reorder what follows them on a terminal.
fn is_unsafe(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Returns at most `max` bytes of `text` as one line, unsafe characters escaped as in `\n`, `\u{1b}`.
pub(crate) fn one_line(text: &str, max: usize) -> Cow<'_, str> {
    if !text.contains(is_unsafe) {
        return Cow::Borrowed(clamp(text, max));
    }
    let mut line = String::with_capacity(text.len().min(max));
    for c in text.chars() {
        let before = line.len();
        if is_unsafe(c) {
            // `escape_default` gives `\n` and `\u{..}`; writing to a String cannot fail.
            let _ = write!(line, "{}", c.escape_default());
        } else {
            line.push(c);
        }
        if line.len() > max {
            line.truncate(before);
            break;
        }
    }
    Cow::Owned(line)
}

/// Returns the known word nearest to `word`, where one is near enough to be a slip of the pen.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = word.to_lowercase();
    known
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(&wanted, &candidate.to_lowercase()), candidate))
        .filter(|(score, _)| *score >= 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::{clamp, nearest, one_line};

    #[test]
    fn clamp_keeps_characters_whole() {
        assert_eq!(clamp("abc", 10), "abc");
        assert_eq!(clamp("aé", 2), "a");
        assert_eq!(clamp("", 0), "");
    }

    #[test]
    fn one_line_escapes_what_a_terminal_obeys() {
        assert_eq!(one_line("plain ü", 100), "plain ü");
        assert_eq!(one_line("a\nb\r\x1b[31m\u{202e}", 100), "a\\nb\\r\\u{1b}[31m\\u{202e}");
    }

    #[test]
    fn one_line_never_exceeds_its_bound_nor_cuts_an_escape() {
        assert_eq!(one_line("ab\n", 3), "ab");
        assert_eq!(one_line("ab\n", 4), "ab\\n");
        assert_eq!(one_line("abcdef", 3), "abc");
    }

    #[test]
    fn nearest_finds_slips_and_refuses_strangers() {
        let known = ["ForwardingMsgProcPlugin", "StatusReportMsgProcPlugin"];
        assert_eq!(nearest("ForwardMsgProcPlugin", known), Some("ForwardingMsgProcPlugin"));
        assert_eq!(nearest("statusreportmsgprocplugin", known), Some("StatusReportMsgProcPlugin"));
        assert_eq!(nearest("xyz", known), None);
    }
}
