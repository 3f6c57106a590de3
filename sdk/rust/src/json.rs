//! Reads JSON into borrowed, typed fields and explains in one line what is wrong with it.
//!
//! Used by [`Message::json`](crate::Message::json) and [`Context::params`](crate::Context::params). The
//! good path parses once; only a failed parse is repeated to find the path of the wrong field.

use std::fmt;

use serde::Deserialize;
use serde_json::error::Category;

/// How many characters of a bad body are shown.
const EXCERPT_CHARS: usize = 60;

/// How many characters of the parser's own words are kept: they may quote a whole string of the body.
const REASON_CHARS: usize = 300;

/// Says what is wrong with a body, and where: line, column, field, and how the body starts.
///
/// `?` makes an [`Error::reject`](crate::Error::reject) of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonError {
    code: &'static str,
    detail: String,
}

impl JsonError {
    /// The code of the rejection: `invalid-json` for what is not JSON, `invalid-message` for JSON in
    /// which a field is missing or has the wrong type.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.code
    }
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl std::error::Error for JsonError {}

/// Parses a body, borrowing from it.
pub(crate) fn from_body<'de, T: Deserialize<'de>>(body: &'de [u8]) -> Result<T, JsonError> {
    serde_json::from_slice(body).map_err(|error| {
        let code = match error.classify() {
            Category::Data => "invalid-message",
            Category::Syntax | Category::Eof | Category::Io => "invalid-json",
        };
        let detail = format!("{}; {}", explain::<T>(body, &error), excerpt(body));
        JsonError { code, detail }
    })
}

/// Parses the parameters of a processor, borrowing from them; `null` also stands for an empty object.
pub(crate) fn from_params<'de, T: Deserialize<'de>>(params: &'de str) -> Result<T, String> {
    let parsed = match serde_json::from_str(params) {
        Err(_) if params.trim() == "null" => from_object("{}"),
        Err(error) => Err(explain::<T>(params.as_bytes(), &error)),
        Ok(value) => Ok(value),
    };
    parsed.map_err(|error| format!("params: {error}"))
}

fn from_object<'de, T: Deserialize<'de>>(text: &'de str) -> Result<T, String> {
    serde_json::from_str(text).map_err(|error| explain::<T>(text.as_bytes(), &error))
}

/// Says what the parser found wrong, with the path of the field where there is one.
#[cold]
fn explain<'de, T: Deserialize<'de>>(text: &'de [u8], error: &serde_json::Error) -> String {
    let words = error.to_string();
    let words = match shorten(&words, REASON_CHARS) {
        // The place stands at the end of the parser's words, where a cut would lose it.
        Some(cut) => format!("{cut}... at line {} column {}", error.line(), error.column()),
        None => words,
    };
    match path::<T>(text) {
        Some(path) if error.is_data() => format!("`{path}`: {words}"),
        _ => words,
    }
}

/// Finds the field that a failed parse stopped at.
fn path<'de, T: Deserialize<'de>>(text: &'de [u8]) -> Option<String> {
    let mut parser = serde_json::Deserializer::from_slice(text);
    let error = serde_path_to_error::deserialize::<_, T>(&mut parser).err()?;
    let path = error.path().to_string();
    (path != ".").then_some(path)
}

/// Shows how a body starts, in printable characters.
fn excerpt(body: &[u8]) -> String {
    if body.is_empty() {
        return "the body is empty".to_owned();
    }
    // Four bytes hold any character, so that a long body is not read to its end.
    let head = body.get(..EXCERPT_CHARS * 4 + 4).unwrap_or(body);
    let text = String::from_utf8_lossy(head);
    match shorten(&text, EXCERPT_CHARS) {
        Some(start) => format!("the body starts with: {}...", printable(start)),
        None => format!("the body starts with: {}", printable(&text)),
    }
}

/// Escapes control characters.
fn printable(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            line.extend(c.escape_default());
        } else {
            line.push(c);
        }
    }
    line
}

/// Cuts a text after so many characters; none if it is not longer.
fn shorten(text: &str, chars: usize) -> Option<&str> {
    let (end, _) = text.char_indices().nth(chars)?;
    text.get(..end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::borrow::Cow;

    #[derive(Debug, Deserialize, PartialEq)]
    struct Task<'a> {
        taskid: i64,
        #[serde(borrow)]
        status: Cow<'a, str>,
    }

    fn wrong(body: &[u8]) -> (&'static str, String) {
        let error = from_body::<Task>(body).unwrap_err();
        (error.code(), error.to_string())
    }

    #[test]
    fn fields_borrow_from_the_body() {
        let task: Task = from_body(br#"{"taskid": 5, "status": "done", "more": []}"#).unwrap();
        assert!(matches!(task.status, Cow::Borrowed("done")));
    }

    #[test]
    fn what_is_not_json_is_invalid_json() {
        let empty = "EOF while parsing a value at line 1 column 0; the body is empty";
        assert_eq!(wrong(b""), ("invalid-json", empty.into()));
        let cut = "EOF while parsing a value at line 1 column 11; the body starts with: {\"taskid\": ";
        assert_eq!(wrong(br#"{"taskid": "#), ("invalid-json", cut.into()));
        let raw = "expected value at line 1 column 1; the body starts with: \\u{1}\\n\u{fffd}";
        assert_eq!(wrong(b"\x01\n\xff"), ("invalid-json", raw.into()));
    }

    #[test]
    fn a_wrong_field_is_named() {
        let (code, detail) = wrong(br#"{"taskid": "5", "status": "done"}"#);
        assert_eq!(code, "invalid-message");
        assert!(
            detail.starts_with("`taskid`: invalid type: string \"5\", expected i64 at line 1 column 14; "),
            "{detail}"
        );
        let (_, detail) = wrong(br#"{"taskid": 5}"#);
        assert!(detail.starts_with("missing field `status` at line 1 column 13; "), "{detail}");
    }

    #[test]
    fn long_bodies_are_cut_at_a_character() {
        let (_, detail) = wrong("\u{1d11e}".repeat(1_000).as_bytes());
        assert!(detail.ends_with(&format!(": {}...", "\u{1d11e}".repeat(60))), "{detail}");
        let body = format!(r#"{{"taskid": "{}"}}"#, "x".repeat(10_000));
        let (_, detail) = wrong(body.as_bytes());
        assert!(detail.len() < 500 && detail.contains("... at line 1 column 10013"), "{detail}");
    }

    #[test]
    fn null_params_are_no_params() {
        #[derive(Debug, Deserialize, PartialEq)]
        struct Params {
            #[serde(default)]
            ms: u64,
        }
        assert_eq!(from_params("null"), Ok(Params { ms: 0 }));
        assert_eq!(from_params::<Option<Params>>("null"), Ok(None));
        assert_eq!(from_params::<Task>("null").unwrap_err(), "params: missing field `taskid` at line 1 column 2");
        let wrong = "params: `ms`: invalid type: string \"5\", expected u64 at line 1 column 9";
        assert_eq!(from_params::<Params>(r#"{"ms":"5"}"#).unwrap_err(), wrong);
    }
}
