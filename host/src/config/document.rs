//! From the text of a file to a JSON tree: duplicate keys are reported, and mistakes of syntax come
//! with the way out.
//!
//! Called by [`super::Config::parse`]. Never quotes a value: it could be a passcode.

use std::cell::RefCell;
use std::fmt;
use std::path::Path;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::problem::{ConfigError, Report, element, member};

/// Reads the text of `file` as one JSON document.
///
/// # Errors
/// [`ConfigError::Syntax`] when it is not JSON.
pub(super) fn read(text: &str, file: &Path, report: &RefCell<Report>) -> Result<Value, ConfigError> {
    // Editors on Windows put a byte order mark in front.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut source = serde_json::Deserializer::from_str(text);
    let root = Node { path: String::new(), report };
    let tree = root.deserialize(&mut source).and_then(|tree| source.end().map(|()| tree));
    tree.map_err(|error| {
        let (line, column) = place(text, &error);
        let message = explain(text, &error);
        ConfigError::Syntax { file: file.to_owned(), line, column, message }
    })
}

/// Line and column of a syntax error, from 1. The JSON reader puts the line break that ends a text
/// without closing quote in column 0 of the next line.
fn place(text: &str, error: &serde_json::Error) -> (usize, usize) {
    match (error.line(), error.column()) {
        (line @ 2.., 0) => (line - 1, text.lines().nth(line - 2).map_or(0, str::len) + 1),
        (line, column) => (line.max(1), column.max(1)),
    }
}

/// Builds the value at one path. Of duplicate keys the last one wins, as in PanDA.
struct Node<'a> {
    path: String,
    report: &'a RefCell<Report>,
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, source: D) -> Result<Value, D::Error> {
        source.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut source: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        loop {
            let node = Node { path: element(&self.path, list.len()), report: self.report };
            match source.next_element_seed(node)? {
                Some(value) => list.push(value),
                None => return Ok(Value::Array(list)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut source: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = source.next_key::<String>()? {
            let path = member(&self.path, &key);
            let value = source.next_value_seed(Node { path: path.clone(), report: self.report })?;
            if object.insert(key, value).is_some() {
                let message = "given twice in the same object: only the last one counts";
                self.report.borrow_mut().suspect(path, message.to_owned());
            }
        }
        Ok(Value::Object(object))
    }
}

/// Says what is wrong at the place of a syntax error, and how to put it right.
fn explain(text: &str, error: &serde_json::Error) -> String {
    if text.trim().is_empty() {
        return "the file is empty: it must hold a JSON object".to_owned();
    }
    if error.is_eof() {
        return "the file ends too early: a closing `}`, `]` or quote is missing".to_owned();
    }
    let line = text.lines().nth(error.line().saturating_sub(1)).unwrap_or_default();
    let column = error.column().saturating_sub(1);
    let at = line.as_bytes().get(column).copied().unwrap_or(b'\n');
    let said = error.to_string();
    let said = said.split(" at line ").next().unwrap_or_default();
    if at == b'<' && said == "expected value" {
        return explain_placeholder(text, error.line(), line.get(..column).unwrap_or_default());
    }
    match known_mistake(at, said) {
        Some(way_out) => format!("{said}: {way_out}"),
        None => said.to_owned(),
    }
}

fn explain_placeholder(text: &str, number: usize, before: &str) -> String {
    let is_placeholder = |line: &str| line.split_once("\":").is_some_and(|(_, v)| v.trim_start().starts_with('<'));
    let others: Vec<String> = text
        .lines()
        .zip(1..)
        .filter(|(line, n)| *n > number && is_placeholder(line))
        .map(|(_, n)| n.to_string())
        .collect();
    let also = match others.len() {
        0 => String::new(),
        _ => format!(" (the same on line {})", others.join(", ")),
    };
    // The reader accepted all that stands before, so this is a key and not a secret.
    let key = before.trim_end().strip_suffix(':').and_then(|b| b.trim_end().rsplit('"').nth(1));
    let what = key.map_or("this".to_owned(), |key| format!("the value of {key:?}"));
    format!(
        "{what} is a placeholder without quotes: replace it by the real value in quotes{also}, \
         or by \"${{NAME}}\" to take it from the environment"
    )
}

/// The way out of a mistake, by the offending byte and by the words of the JSON reader.
fn known_mistake(at: u8, said: &str) -> Option<&'static str> {
    let way_out = match (at, said) {
        (b'/' | b'#', _) => "JSON has no comments: remove it",
        (_, "trailing comma") => "remove the comma before the closing bracket",
        (_, "trailing characters") => "the document ended before this: is a bracket too many?",
        (_, "recursion limit exceeded") => "the document is nested too deeply",
        (_, "number out of range") => "write a smaller number",
        (_, s) if s.starts_with("control character") => "a closing quote is missing before the end of the line",
        (b'\'', _) => "JSON wants double quotes",
        (b'T' | b'F' | b'N', "expected value") => "JSON writes true, false and null",
        (_, "expected value" | "expected ident") => "a text must stand in double quotes",
        (_, "key must be a string") => "a key must stand in double quotes",
        (_, s) if s.starts_with("expected `,`") => {
            "a comma is missing before this, or a quote inside a text lacks its backslash"
        }
        _ => return None,
    };
    Some(way_out)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed test is the answer")]
mod tests {
    use insta::assert_snapshot;

    use super::super::tests::{parse, text};

    const WORKING_WITH_IDDS: &str = include_str!("../../tests/data/working-with-idds.json");

    fn syntax_error(text: &str) -> String {
        parse(text, false).unwrap_err().to_string()
    }

    #[test]
    fn a_placeholder_without_quotes_names_its_line_and_the_way_out() {
        assert_snapshot!(syntax_error(WORKING_WITH_IDDS), @r#"/etc/stompbox/config.json: line 6, column 25: the value of "username" is a placeholder without quotes: replace it by the real value in quotes (the same on line 7), or by "${NAME}" to take it from the environment"#);
        let quoted = WORKING_WITH_IDDS.replace("<user_name>", "\"me\"").replace("<password>", "\"x\"");
        let super::super::Loaded { config, warnings } = parse(&quoted, true).unwrap();
        assert_eq!(warnings, []);
        assert_eq!(config.servers["iDDS_mb"].username.as_deref(), Some("me"));
    }

    #[test]
    fn syntax_errors_name_the_place_and_the_way_out() {
        let texts = [
            "",
            "{",
            "{\"a\": 1,}",
            "{\n  \"a\": True}",
            "{\"a\": 's3cret'}",
            "{\"a\": s3cret}",
            "{\"a\": \"s3cret}\n",
            "{a: 1}",
            "{\"a\": 1 \"b\": 2}",
            "{\"a\": 1} }",
            "{} // comment",
            "# comment\n{}",
            "{\"a\": 1e999}",
            "{\"a\": <s3cret>}",
        ];
        let errors: Vec<String> = texts.into_iter().map(syntax_error).collect();
        let errors = errors.join("\n");
        assert!(!errors.contains("s3cret"));
        assert_snapshot!(errors, @r#"
        /etc/stompbox/config.json: line 1, column 1: the file is empty: it must hold a JSON object
        /etc/stompbox/config.json: line 1, column 1: the file ends too early: a closing `}`, `]` or quote is missing
        /etc/stompbox/config.json: line 1, column 9: trailing comma: remove the comma before the closing bracket
        /etc/stompbox/config.json: line 2, column 8: expected value: JSON writes true, false and null
        /etc/stompbox/config.json: line 1, column 7: expected value: JSON wants double quotes
        /etc/stompbox/config.json: line 1, column 7: expected value: a text must stand in double quotes
        /etc/stompbox/config.json: line 1, column 15: control character (\u0000-\u001F) found while parsing a string: a closing quote is missing before the end of the line
        /etc/stompbox/config.json: line 1, column 2: key must be a string: a key must stand in double quotes
        /etc/stompbox/config.json: line 1, column 9: expected `,` or `}`: a comma is missing before this, or a quote inside a text lacks its backslash
        /etc/stompbox/config.json: line 1, column 10: trailing characters: the document ended before this: is a bracket too many?
        /etc/stompbox/config.json: line 1, column 4: trailing characters: JSON has no comments: remove it
        /etc/stompbox/config.json: line 1, column 1: expected value: JSON has no comments: remove it
        /etc/stompbox/config.json: line 1, column 11: number out of range: write a smaller number
        /etc/stompbox/config.json: line 1, column 7: the value of "a" is a placeholder without quotes: replace it by the real value in quotes, or by "${NAME}" to take it from the environment
        "#);
    }

    #[test]
    fn deep_nesting_is_an_error_and_not_a_crash() {
        assert_snapshot!(syntax_error(&"[".repeat(100_000)), @"/etc/stompbox/config.json: line 1, column 128: recursion limit exceeded: the document is nested too deeply");
    }

    #[test]
    fn a_byte_order_mark_is_accepted() {
        assert!(parse(&format!("\u{feff}{}", text(&[])), true).is_ok());
    }

    #[test]
    fn of_duplicate_keys_the_last_one_counts() {
        let text = text(&[]).replace("\"in_queue\"", "\"enable\": false, \"enable\": true, \"in_queue\"");
        let super::super::Loaded { config, warnings } = parse(&text, false).unwrap();
        assert!(config.processors["p"].enable);
        assert_eq!(warnings[0].path, "processors.p.enable");
    }
}
