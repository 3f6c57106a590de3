//! Where fuzzers of the configuration enter: the text of a file.
//!
//! Called by the target of `host/fuzz`, and by the tests below with the files of `host/fuzz/seeds` and with changed
//! ones. A panic, or a promise that is broken, is a finding. Not part of the host.
#![allow(clippy::panic, reason = "a finding is a panic")]

use std::path::Path;

use serde_json::Value;

use super::{Config, ConfigError, Problem, with_sources};

/// What a file of the seeds writes where a secret stands: no message may hold it.
const SECRET: &str = "s3cr3t";

/// Bytes of a file: a configuration, or an error that names its place. Returns whether it is a configuration.
pub fn document(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let env = |name: &str| match name {
        "UNSET" => None,
        "HOSTS" => Some("one.example.org:1, [::1]:2".to_owned()),
        _ => Some("of the environment".to_owned()),
    };
    let lenient = Config::parse(&text, Path::new("/etc/stompbox/config.json"), false, &env);
    let strict = Config::parse(&text, Path::new("/etc/stompbox/config.json"), true, &env);
    assert!(lenient.is_ok() || strict.is_err(), "strictness only finds more");
    for error in [&lenient, &strict].into_iter().filter_map(|parsed| parsed.as_ref().err()) {
        is_told(error, &text);
    }
    if let Ok(loaded) = &lenient {
        has_places(&loaded.warnings);
    }
    if serde_json::from_str(&text).is_ok_and(|tree| keeps_secrets(&tree)) {
        let told = [&lenient, &strict].map(|parsed| match parsed {
            Ok(loaded) => format!("{loaded:?}"),
            Err(error) => format!("{error:?} {}", with_sources(error)),
        });
        told.iter().for_each(|told| assert!(!told.contains(SECRET), "{told}"));
    }
    lenient.is_ok()
}

fn is_told(error: &ConfigError, text: &str) {
    match error {
        ConfigError::Syntax { line, column, message, .. } => {
            let lines = text.split('\n').count();
            assert!((1..=lines).contains(line) && *column >= 1, "line {line}, column {column} of {lines} lines");
            assert!(!message.is_empty());
        }
        ConfigError::Invalid { problems, warnings, .. } => {
            assert!(!problems.is_empty());
            has_places(problems);
            has_places(warnings);
        }
        other => panic!("{other:?} is no error of a text"),
    }
}

fn has_places(problems: &[Problem]) {
    for Problem { path, message } in problems {
        assert!(!path.is_empty() && !path.contains('\n') && !message.is_empty(), "{path:?}: {message:?}");
    }
}

/// Whether a secret stands nowhere but where one belongs: elsewhere, messages may name it.
fn keeps_secrets(tree: &Value) -> bool {
    match tree {
        Value::Object(object) => object.iter().all(|(key, value)| {
            let is_place = key == "passcode" && !value.is_object();
            !key.contains(SECRET) && (is_place || keeps_secrets(value))
        }),
        Value::Array(list) => list.iter().all(keeps_secrets),
        Value::String(text) => !text.contains(SECRET),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use fastrand::Rng;
    use serde_json::{Value, json};

    use super::document;
    use crate::seeds::{files, mutated};

    #[test]
    fn any_text_is_a_configuration_or_an_error_with_its_place() {
        let (seeds, mut rng) = (files("config"), Rng::with_seed(6));
        assert!(seeds.iter().filter(|bytes| document(bytes)).count() > 3, "the whole ones are valid");
        (0..5_000).for_each(|_| {
            document(&mutated(&mut rng, &seeds));
        });
    }

    #[test]
    fn a_mistake_beside_a_secret_is_told_without_it() {
        let told = files("config").into_iter().filter_map(|bytes| {
            let text = String::from_utf8_lossy(&bytes);
            let error = super::Config::parse(&text, super::Path::new("c.json"), true, &|_| None).err()?;
            text.contains(super::SECRET).then(|| super::with_sources(&error))
        });
        let told: Vec<String> = told.collect();
        assert!(told.len() > 4 && told.iter().all(|told| !told.contains(super::SECRET)), "{told:#?}");
    }

    #[test]
    fn any_value_at_any_place_is_told_by_its_path() {
        let mut rng = Rng::with_seed(6);
        let trees: Vec<Value> = files("config").iter().filter_map(|bytes| serde_json::from_slice(bytes).ok()).collect();
        let valid = (0..10_000)
            .filter(|_| {
                let mut tree = trees[rng.usize(..trees.len())].clone();
                (0..=rng.usize(..2)).for_each(|_| change(&mut rng, &mut tree));
                document(tree.to_string().as_bytes())
            })
            .count();
        assert!((100..9_000).contains(&valid), "{valid} of 10,000 are valid: neither all nor none");
    }

    /// Changes one node, by a random way down.
    fn change(rng: &mut Rng, tree: &mut Value) {
        if rng.u8(..6) > 0 {
            match tree {
                Value::Object(object) if !object.is_empty() => {
                    let at = rng.usize(..object.len());
                    let key = object.keys().nth(at).cloned().unwrap();
                    return match rng.u8(..10) {
                        0 => drop(object.remove(&key)),
                        1 => {
                            let value = object.remove(&key).unwrap();
                            drop(object.insert(odd_text(rng), value));
                        }
                        _ => change(rng, object.get_mut(&key).unwrap()),
                    };
                }
                Value::Array(list) if !list.is_empty() => {
                    let at = rng.usize(..list.len());
                    return change(rng, &mut list[at]);
                }
                _ => {}
            }
        }
        *tree = odd_value(rng);
    }

    fn odd_value(rng: &mut Rng) -> Value {
        let odd = [
            json!(null),
            json!(true),
            json!(0),
            json!(-1),
            json!(u64::MAX),
            json!(1e300),
            json!([]),
            json!({}),
            json!([[]]),
        ];
        match rng.usize(..odd.len() + 3) {
            at if at < odd.len() => odd[at].clone(),
            _ => json!(odd_text(rng)),
        }
    }

    fn odd_text(rng: &mut Rng) -> String {
        let odd = [
            "",
            " ",
            "auto",
            "client",
            "a:b\nc",
            "\0",
            "${UNSET}",
            "${HOME}",
            "host:0",
            "[::1]:61613",
            "/queue/x",
            "../..",
            "é\u{202e}",
            "9".repeat(400).leak(),
        ];
        odd[rng.usize(..odd.len())].to_owned()
    }

    #[test]
    fn a_large_document_is_read_in_bounded_time() {
        let names = |prefix: &str, count: usize| (0..count).map(|n| format!("{prefix}{n}")).collect::<Vec<_>>();
        let unknown: Value = names("unknown_key_", 3_000).into_iter().map(|key| (key, json!(1))).collect();
        let queues: Value = names("q", 300)
            .into_iter()
            .map(|name| (name, json!({"server": "nowhere", "destination": "/queue/x"})))
            .collect();
        let processors: Value = names("p", 300)
            .into_iter()
            .map(|name| (name, json!({"module": "m", "name": "n", "in_queue": "nobody"})))
            .collect();
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        let wide = json!({"mb_servers": unknown, "queues": queues, "processors": processors}).to_string();
        assert!(!document(deep.as_bytes()) && !document(wide.as_bytes()));
        assert!(!document(json!({"x".repeat(1 << 20): 1}).to_string().as_bytes()));
    }
}
