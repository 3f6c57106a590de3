//! The README's table of parameters and the code that reads them say the same: every key, its default,
//! where it acts, and the test that shows it.

use std::{collections::BTreeSet, fs};

use serde_json::{Map, Value, json};
use stompbox::config::Config;

use super::{Findings, rust_files, source};
use crate::harness::root;

/// One row of the table, with the object that its key stands in.
#[derive(Debug)]
struct Row {
    line: usize,
    /// The objects, such as `queues.NAME.`; limits and retry stand in several.
    objects: Vec<String>,
    key: String,
    default: String,
    /// The file and what in it acts on the key.
    acts: (String, String),
    /// The file and the name of the test.
    shown: (String, String),
}

/// The rows of the section "Every parameter". A heading names the objects in backticks.
fn rows() -> Vec<Row> {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let (mut inside, mut objects, mut rows) = (false, Vec::new(), Vec::new());
    for (index, line) in readme.lines().enumerate() {
        if let Some(heading) = line.strip_prefix("## ") {
            inside = heading == "Every parameter";
        } else if let Some(heading) = line.strip_prefix("### ") {
            objects = quoted(heading).into_iter().map(str::to_owned).collect();
            // No object: the top of the file.
            if objects.is_empty() {
                objects.push(String::new());
            }
        } else if inside && line.starts_with("| `") {
            let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
            let &[key, default, _, acts, shown] = cells.as_slice() else {
                panic!("README.md:{}: five cells", index + 1)
            };
            let unquoted = |cell: &str| cell.trim_matches('`').to_owned();
            let (acts, shown) = (linked(acts), linked(shown));
            let (key, default) = (unquoted(key), unquoted(default));
            rows.push(Row { line: index + 1, objects: objects.clone(), key, default, acts, shown });
        }
    }
    assert!(rows.len() > 60, "only {} rows", rows.len());
    rows
}

/// What stands in backticks.
fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// The target and the name of a link: [`name`](target).
fn linked(cell: &str) -> (String, String) {
    let target = cell.rsplit_once("](").map(|(_, rest)| rest.trim_end_matches(')')).unwrap_or_default();
    (target.to_owned(), quoted(cell).first().copied().unwrap_or_default().to_owned())
}

/// The least that is a configuration, with one of everything.
fn least() -> Value {
    json!({
        "admin": {"listen": "127.0.0.1:9613"},
        "mb_servers": {"NAME": {"host_port_list": ["localhost:1"], "client_id": "c"}},
        "queues": {"NAME": {"server": "NAME", "destination": "/queue/q"}},
        "vos": {"NAME": {}},
        "processors": {"NAME": {"module": "m", "name": "n", "in_queue": "NAME", "vo": "NAME"}}
    })
}

fn parse(config: &Value) -> Result<Config, String> {
    let loaded = Config::parse(&config.to_string(), "test.json".as_ref(), true, &|_| None);
    loaded.map(|loaded| loaded.config).map_err(|error| error.to_string())
}

/// The object at a path such as `queues.NAME.retry.`, made where it is not there.
fn at<'a>(config: &'a mut Value, path: &str) -> &'a mut Map<String, Value> {
    let steps = path.split('.').filter(|step| !step.is_empty());
    let object = steps.fold(config, |value, step| value.as_object_mut().unwrap().entry(step).or_insert(json!({})));
    object.as_object_mut().unwrap()
}

/// Whether the code does with this key what the table says: nothing else when the default is given, and an
/// error when a mandatory one is missing.
fn disagreement(object: &str, row: &Row) -> Option<String> {
    let plain = parse(&least()).unwrap();
    let mut changed = least();
    let members = at(&mut changed, object);
    match row.default.as_str() {
        "mandatory" => {
            members.remove(&row.key);
            let error = parse(&changed).err().filter(|error| error.contains("mandatory"));
            error.is_none().then(|| "is not mandatory".to_owned())
        }
        "none" => {
            members.insert(row.key.clone(), Value::Null);
            let mut without = changed.clone();
            at(&mut without, object).remove(&row.key);
            match (parse(&changed), parse(&without)) {
                (Ok(null), Ok(none)) => (null != none).then(|| "null is not as if it were left out".to_owned()),
                (null, none) => null.err().or(none.err()),
            }
        }
        default => {
            let Ok(value) = serde_json::from_str::<Value>(default) else {
                return Some("the default is not JSON".into());
            };
            members.insert(row.key.clone(), value);
            match parse(&changed) {
                Ok(config) if config == plain => None,
                // Limits and retries are kept as given, for messages; what counts is what a processor gets.
                Ok(config) if inherited(object) && config.processors == plain.processors => None,
                Ok(_) => Some(format!("its default is not {default}")),
                Err(error) => Some(error),
            }
        }
    }
}

fn inherited(object: &str) -> bool {
    object.ends_with("limits.") || object.ends_with("retry.")
}

#[test]
fn the_table_of_parameters_says_what_the_code_does() {
    let mut findings = Findings::default();
    for row in rows() {
        for object in &row.objects {
            if let Some(what) = disagreement(object, &row) {
                findings.add("README.md", row.line, format!("{object}{}: {what}", row.key));
            }
        }
        for (what, (file, name), pattern) in
            [("acts", &row.acts, row.acts.1.clone()), ("shown", &row.shown, format!("fn {}(", row.shown.1))]
        {
            let text = fs::read_to_string(root().join(file)).unwrap_or_default();
            if name.is_empty() || !text.contains(&pattern) {
                findings.add("README.md", row.line, format!("{}: {what}: no `{pattern}` in {file:?}", row.key));
            }
        }
    }
    findings.none("Mend the table, or the code.");
}

/// The keys that a file of the configuration asks for: what stands in quotes behind `fields`.
fn asked(text: &str) -> BTreeSet<String> {
    let code = source::without_tests(text);
    let mut keys = BTreeSet::new();
    for (at, _) in code.match_indices("fields") {
        let rest = &code[at + "fields".len()..];
        let rest =
            rest.trim_start_matches(|c: char| c == '.' || c == '_' || c.is_ascii_lowercase() || c.is_whitespace());
        let Some(rest) = rest.strip_prefix("(\"").or_else(|| rest.strip_prefix(", \"")) else { continue };
        keys.extend(rest.split_once('"').map(|(key, _)| key.to_owned()));
    }
    // The limits stand in a table.
    let table = code.lines().filter_map(|line| line.trim().strip_prefix("(\"")?.split_once("\", "));
    keys.extend(table.map(|(key, _)| key.to_owned()));
    keys
}

/// The objects of which each file of the configuration reads the keys.
const READ_IN: &[(&str, &[&str])] = &[
    ("config.rs", &["", "admin."]),
    ("config/server.rs", &["mb_servers.NAME."]),
    ("config/queue.rs", &["queues.NAME."]),
    ("config/vo.rs", &["vos.NAME."]),
    ("config/processor.rs", &["processors.NAME."]),
    ("config/retry.rs", &["queues.NAME.retry.", "processors.NAME.retry."]),
    ("config/rollout.rs", &["processors.NAME.rollout."]),
    ("config/budget.rs", &["limits.", "vos.NAME.limits.", "processors.NAME.limits."]),
];

#[test]
fn every_parameter_is_in_the_table() {
    let rows = rows();
    // Objects, whose members have rows of their own; `limits`, `retry` and `rollout` are headings.
    let objects = ["mb_servers", "queues", "processors", "vos", "limits", "retry", "rollout", "admin"];
    let mut findings = Findings::default();
    let mut seen = 0;
    for (path, text) in rust_files() {
        if !path.starts_with("host/src/config") || path.ends_with("tests.rs") {
            continue;
        }
        let file = path.trim_start_matches("host/src/");
        let read = READ_IN.iter().find(|(name, _)| *name == file).map_or(&[][..], |(_, objects)| objects);
        let has_row = |key: &str| {
            rows.iter().any(|row| row.key == key && row.objects.iter().any(|object| read.contains(&object.as_str())))
        };
        for key in asked(&text) {
            seen += 1;
            if !has_row(&key) && !objects.contains(&key.as_str()) {
                findings.add(
                    &path,
                    1,
                    format!("{key:?} of {read:?} has no row in the README's section \"Every parameter\""),
                );
            }
        }
    }
    assert!(seen > 50, "only {seen} keys found in the code");
    findings
        .none("Add a row: key, default, what it does, where it acts, the test that shows it; or the file to READ_IN.");
}
