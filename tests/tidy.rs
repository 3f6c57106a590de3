//! The rules of the source tree that no compiler checks. Each test reports all violations at once, each
//! with its place and what to do about it.

mod dependencies;
mod imports;
mod parameters;
mod sizes;
mod source;
mod text;

use std::{
    collections::BTreeSet,
    fmt::Write,
    path::{Path, PathBuf},
    process::Command,
};

use crate::harness::root;

/// A file of the repository, and its path in it.
#[derive(Debug)]
struct File {
    path: String,
    full: PathBuf,
    /// None if it is not text.
    text: Option<String>,
}

impl File {
    fn is_rust(&self) -> bool {
        Path::new(&self.path).extension().is_some_and(|extension| extension == "rs")
    }
}

/// All files that are in the repository, or would be after `git add -A`.
fn files() -> Vec<File> {
    let listed = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .expect("git lists the files of the repository");
    let listed = String::from_utf8(listed.stdout).expect("file names are UTF-8");
    let paths: BTreeSet<&str> = listed.split('\0').filter(|path| !path.is_empty()).collect();
    assert!(!paths.is_empty(), "git lists no files: are the tests run in a clone of the repository?");
    let file = |path: &str| {
        let full = root().join(path);
        let text = String::from_utf8(std::fs::read(&full).ok()?).ok();
        Some(File { path: path.to_owned(), full, text })
    };
    paths.into_iter().filter_map(file).collect()
}

/// The Rust files with their text.
fn rust_files() -> Vec<(String, String)> {
    let rust = files().into_iter().filter(File::is_rust);
    rust.filter_map(|file| Some((file.path, file.text?))).collect()
}

/// What is wrong, where.
#[derive(Debug, Default)]
struct Findings(Vec<String>);

impl Findings {
    fn add(&mut self, path: &str, line: usize, what: impl std::fmt::Display) {
        self.0.push(format!("{path}:{line}: {what}"));
    }

    /// Fails with all findings; `remedy` tells what to do.
    #[track_caller]
    fn none(self, remedy: &str) {
        let mut all = String::new();
        for finding in &self.0 {
            let _ = writeln!(all, "  {finding}");
        }
        assert!(self.0.is_empty(), "{} findings:\n{all}{remedy}", self.0.len());
    }
}
