//! Files and functions that fit into a head.

use super::{Findings, rust_files, source};

const FILE_LINES: usize = 400;
const FUNCTION_LINES: usize = 40;

/// Longer files, each with the reason: tables and generated code.
const LONG_FILES: &[(&str, &str)] = &[];

#[test]
fn files_are_short() {
    let mut findings = Findings::default();
    for (path, text) in rust_files() {
        let lines = text.lines().count();
        let excused = is_test_module(&path) || LONG_FILES.iter().any(|(long, _)| *long == path);
        if lines > FILE_LINES && !excused {
            findings.add(&path, FILE_LINES, format!("{lines} lines; a file has at most {FILE_LINES}"));
        }
    }
    findings.none("Split the file by what it does; a table or generated code goes to LONG_FILES with its reason.");
}

#[test]
fn functions_are_short() {
    let mut findings = Findings::default();
    for (path, text) in rust_files() {
        if is_test_module(&path) || is_suite(&path) {
            continue;
        }
        for function in source::functions(&source::without_tests(&source::code(&text))) {
            if function.lines > FUNCTION_LINES {
                let what = format!(
                    "`{}` has {} lines; a function has at most {FUNCTION_LINES}",
                    function.name, function.lines
                );
                findings.add(&path, function.line, what);
            }
        }
    }
    findings.none("Split the function where a comment would say what the next part does.");
}

fn is_test_module(path: &str) -> bool {
    path.contains("/src/")
        && (path.ends_with("/tests.rs") || path.contains("/tests/"))
        && !path.starts_with("tests/guests/")
}

/// A suite of the end-to-end tests; the harness is code like any other.
fn is_suite(path: &str) -> bool {
    path.starts_with("tests/") && !path.starts_with("tests/harness") && !path.starts_with("tests/guests/")
}
