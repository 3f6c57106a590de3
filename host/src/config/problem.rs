//! What can be wrong with a configuration file, and how it is said.
//!
//! [`Report`] collects while the file is read; [`ConfigError`] is what the caller of
//! [`super::Config::load`] gets. No text here may ever hold a passcode: messages name keys, types,
//! numbers and references, never the text of a value that could be a secret.

use std::fmt;
use std::path::PathBuf;

/// One thing that is wrong, or doubtful, at one place of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where in the JSON document, such as `queues.idds.server`.
    pub path: String,
    /// What is wrong and what would be right.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}

/// An error and all its causes in one line.
#[must_use]
pub fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}

/// Why a configuration was not loaded.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("cannot read the configuration {}: {reason}", .file.display())]
    Read {
        /// The file that was asked for.
        file: PathBuf,
        /// The cause in the user's words.
        reason: String,
        /// The cause in the system's words.
        source: std::io::Error,
    },
    /// The file is not UTF-8.
    #[error("{}: line {line} is not UTF-8: save the file as UTF-8", .file.display())]
    NotUtf8 {
        /// The file that was read.
        file: PathBuf,
        /// The line of the first byte that is not UTF-8, from 1.
        line: usize,
    },
    /// The file is not JSON.
    #[error("{}: line {line}, column {column}: {message}", .file.display())]
    Syntax {
        /// The file that was read.
        file: PathBuf,
        /// The line of the mistake, from 1.
        line: usize,
        /// The column of the mistake in bytes, from 1.
        column: usize,
        /// What is wrong and the way out.
        message: String,
    },
    /// The file is JSON, but not a valid configuration.
    #[error("{}{}{}", headline(.file, .problems), list("", .problems), list("warning: ", .warnings))]
    Invalid {
        /// The file that was read.
        file: PathBuf,
        /// Everything that must be put right.
        problems: Vec<Problem>,
        /// What is doubtful, such as unknown keys: often the cause of a missing one.
        warnings: Vec<Problem>,
    },
}

fn headline(file: &std::path::Path, problems: &[Problem]) -> String {
    let plural = if problems.len() == 1 { "" } else { "s" };
    format!("{}: {} problem{plural}", file.display(), problems.len())
}

fn list(prefix: &str, problems: &[Problem]) -> String {
    problems.iter().map(|problem| format!("\n  {prefix}{problem}")).collect()
}

/// Collects the problems of one file while it is read.
#[derive(Debug, Default)]
pub(super) struct Report {
    /// With it, what [`Report::suspect`] gets is an error.
    pub(super) strict: bool,
    pub(super) problems: Vec<Problem>,
    pub(super) warnings: Vec<Problem>,
}

impl Report {
    /// Records what must be put right before the configuration can be used.
    pub(super) fn error(&mut self, path: String, message: String) {
        self.problems.push(Problem { path, message });
    }

    /// Records what works, but probably not as meant.
    pub(super) fn warn(&mut self, path: String, message: String) {
        self.warnings.push(Problem { path, message });
    }

    /// Records what is ignored: a warning, or an error when the user asked for strictness.
    pub(super) fn suspect(&mut self, path: String, message: String) {
        if self.strict { self.error(path, message) } else { self.warn(path, message) }
    }
}

/// The path of a member of the object at `path`.
pub(super) fn member(path: &str, key: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-');
    if key.is_empty() || !key.chars().all(plain) {
        format!("{path}[{key:?}]")
    } else if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}

/// The path of an element of the list at `path`.
pub(super) fn element(path: &str, index: usize) -> String {
    format!("{path}[{index}]")
}

/// Most words that a message lists when none is near.
const MAX_LISTED: usize = 12;

/// The end of a message about an unknown word: the nearest right one, or all of them.
#[must_use]
pub fn hint<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> String {
    let mut known: Vec<&str> = known.collect();
    known.sort_unstable();
    if let Some(near) = nearest(word, &known) {
        return format!("; did you mean {near:?}?");
    }
    let more = if known.len() > MAX_LISTED { ", ..." } else { "" };
    let listed: Vec<String> = known.iter().take(MAX_LISTED).map(|word| format!("{word:?}")).collect();
    if listed.is_empty() {
        return "; there are none".to_owned();
    }
    format!("; known: {}{more}", listed.join(", "))
}

fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let word = word.to_lowercase();
    let tolerance = (word.chars().count() / 3).max(2);
    known
        .iter()
        .map(|right| (strsim::damerau_levenshtein(&word, &right.to_lowercase()), *right))
        .filter(|(distance, right)| *distance <= tolerance && *distance < right.chars().count())
        .min()
        .map(|(_, right)| right)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hint_names_the_nearest_word_whatever_its_case() {
        let known = ["idds", "rucio-events"];
        assert_eq!(hint("IDSD", known.into_iter()), "; did you mean \"idds\"?");
        assert_eq!(hint("rucio_event", known.into_iter()), "; did you mean \"rucio-events\"?");
    }

    #[test]
    fn hint_lists_all_words_when_none_is_near() {
        let known = ["idds", "rucio-events"];
        assert_eq!(hint("something", known.into_iter()), "; known: \"idds\", \"rucio-events\"");
        assert_eq!(hint("something", std::iter::empty()), "; there are none");
    }

    #[test]
    fn unusual_keys_are_quoted_in_paths() {
        assert_eq!(member("queues", "idds"), "queues.idds");
        assert_eq!(member("queues", "a.b\n"), "queues[\"a.b\\n\"]");
        assert_eq!(member("", "queues"), "queues");
    }
}
