//! The modules of the host know each other in one direction only.

use std::collections::BTreeSet;

use super::{Findings, rust_files, source};

/// What each module of the host may use. A star: everything.
const TABLE: &[(&str, &[&str])] = &[
    ("stomp", &[]),
    ("outcome", &[]),
    ("delivery", &["stomp"]),
    ("client", &["stomp", "delivery"]),
    ("retry", &["delivery"]),
    ("buffer", &["delivery", "retry"]),
    ("log_rate", &[]),
    ("sandbox", &["delivery", "log_rate", "outcome", "stomp"]),
    ("config", &["client", "retry", "sandbox", "stomp", "trial"]),
    ("generation", &["config", "sandbox", "outcome", "delivery", "retry"]),
    ("stage", &["dead_letter", "delivery", "generation", "sandbox", "settle", "trial"]),
    ("trial", &["outcome"]),
    (
        "lane",
        &[
            "buffer",
            "dead_letter",
            "sandbox",
            "outcome",
            "delivery",
            "settle",
            "metrics",
            "slots",
            "stage",
            "retry",
            "trial",
        ],
    ),
    ("source", &["log_rate", "outcome", "retry", "settle", "metrics", "stage", "trial"]),
    (
        "settle",
        &["client", "log_rate", "outcome", "retry", "buffer", "delivery", "dead_letter", "metrics", "slots", "spool"],
    ),
    ("dead_letter", &["outcome", "delivery", "stomp"]),
    ("spool", &["state_dir"]),
    ("slots", &["delivery"]),
    ("state_dir", &[]),
    ("metrics", &[]),
    ("status", &["buffer", "metrics", "sandbox", "settle", "stage", "telemetry"]),
    ("audit", &["control", "sandbox", "spool"]),
    ("control", &[]),
    ("admin", &["audit", "control", "metrics", "sandbox", "stage", "status", "version"]),
    ("sender", &["client", "config", "stomp"]),
    ("console", &[]),
    ("cli", &["version"]),
    ("telemetry", &["cli", "console"]),
    ("shutdown", &[]),
    ("version", &[]),
    ("dev_broker", &["stomp"]),
    ("app", &["*"]),
    (
        "manager",
        &[
            "audit",
            "client",
            "config",
            "control",
            "generation",
            "outcome",
            "sandbox",
            "stage",
            "state_dir",
            "status",
            "trial",
            "wiring",
        ],
    ),
    (
        "wiring",
        &[
            "buffer",
            "client",
            "config",
            "lane",
            "log_rate",
            "metrics",
            "retry",
            "sandbox",
            "settle",
            "slots",
            "source",
            "spool",
            "stage",
            "status",
            "telemetry",
            "trial",
        ],
    ),
    ("seeds", &[]),
    ("model", &["*"]),
    ("commands", &["*"]),
    ("main", &["*"]),
    ("lib", &["*"]),
];

#[test]
fn modules_import_in_one_direction() {
    let files: Vec<_> = rust_files().into_iter().filter(|(path, _)| path.starts_with("host/src/")).collect();
    let modules: BTreeSet<&str> = files.iter().map(|(path, _)| module(path)).collect();
    let mut findings = Findings::default();
    for (path, text) in &files {
        let Some((_, allowed)) = TABLE.iter().find(|(name, _)| *name == module(path)) else {
            findings.add(
                path,
                1,
                format!("the module `{}` is not in the table of tests/tidy/imports.rs", module(path)),
            );
            continue;
        };
        if is_test(path) || allowed.contains(&"*") {
            continue;
        }
        let code = source::without_tests(&source::code(text));
        for (line, used) in uses(&code, is_top(path)) {
            let known = modules.contains(used.as_str()) && used != module(path);
            if known && !allowed.contains(&used.as_str()) {
                findings.add(path, line, format!("`{}` must not use `{used}`", module(path)));
            }
        }
    }
    findings.none("Move the code to where it may be, or hand the thing in from outside; the table is the design.");
}

/// `host/src/client/session.rs` and `host/src/client.rs` belong to `client`.
fn module(path: &str) -> &str {
    let path = path.trim_start_matches("host/src/");
    path.split_once('/').map_or_else(|| path.trim_end_matches(".rs"), |(folder, _)| folder)
}

fn is_test(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.contains("/tests/")
}

/// Whether `super` is the root of the crate here.
fn is_top(path: &str) -> bool {
    !path.trim_start_matches("host/src/").contains('/')
}

/// The names that follow `crate::`, with their lines, also in braces.
fn uses(code: &str, top: bool) -> Vec<(usize, String)> {
    let roots: &[&str] = if top { &["crate::", "super::"] } else { &["crate::"] };
    let mut found = Vec::new();
    for root in roots {
        for (at, _) in code.match_indices(root) {
            let line = source::line_of(code, at);
            let rest = &code[at + root.len()..];
            found.extend(first_names(rest).into_iter().map(|name| (line, name)));
        }
    }
    found
}

/// `a::b` gives a; `{a::{b, c}, d}` gives a and d.
fn first_names(rest: &str) -> Vec<String> {
    let name = |text: &str| text.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let Some(group) = rest.strip_prefix('{') else { return vec![name(rest)] };
    let (mut depth, mut start, mut names) = (0_usize, 0, Vec::new());
    for (at, char) in group.char_indices() {
        match char {
            '{' => depth += 1,
            '}' | ',' if depth == 0 => {
                names.push(name(&group[start..at]));
                start = at + 1;
                if char == '}' {
                    break;
                }
            }
            '}' => depth -= 1,
            _ => {}
        }
    }
    names
}

#[test]
fn uses_are_found() {
    let code = "use crate::{\n    a::{b, c},\n    d,\n};\nfn x() { crate::e::f(); }\nuse super::g;\n";
    let names: Vec<_> = uses(code, true).into_iter().map(|(_, name)| name).filter(|name| !name.is_empty()).collect();
    assert_eq!(names, ["a", "d", "e", "g"]);
    assert_eq!((module("host/src/client/producer/outbox.rs"), module("host/src/app.rs")), ("client", "app"));
}
