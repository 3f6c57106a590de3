//! What is in the dependency tree: licences, sources and bans as `deny.toml` says.

use std::{collections::BTreeSet, fs, process::Command};

use serde_json::Value;

use super::{Findings, source};
use crate::harness::root;

/// The quoted words of a list in `deny.toml`; its lists hold nothing else.
fn list(section: &str, key: &str) -> BTreeSet<String> {
    let text = fs::read_to_string(root().join("deny.toml")).expect("deny.toml is there");
    let (_, rest) = text.split_once(&format!("[{section}]\n")).expect("a section of deny.toml");
    let (_, rest) =
        rest.split_once(&format!("\n{key} = [")).or_else(|| rest.split_once(&format!("{key} = ["))).expect("a list");
    let (words, _) = rest.split_once(']').expect("the end of the list");
    words.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

/// All packages that are built for this machine or for components.
fn packages() -> Vec<Value> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--locked", "--format-version", "1", "--filter-platform", "wasm32-wasip2"])
        .args(["--filter-platform", &host_triple(), "--manifest-path"])
        .arg(root().join("Cargo.toml"))
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo speaks JSON");
    let nodes = metadata["resolve"]["nodes"].as_array().expect("a resolved tree");
    let used: BTreeSet<String> = nodes.iter().filter_map(|node| Some(node["id"].as_str()?.to_owned())).collect();
    let Value::Array(all) = metadata["packages"].take() else { panic!("no packages") };
    all.into_iter().filter(|package| package["id"].as_str().is_some_and(|id| used.contains(id))).collect()
}

fn host_triple() -> String {
    let output = Command::new("rustc").arg("-vV").output().expect("rustc runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().find_map(|line| line.strip_prefix("host: ")).expect("rustc names its host").to_owned()
}

#[test]
fn dependencies_are_allowed() {
    let (licences, banned) = (list("licenses", "allow"), list("bans", "deny"));
    let mut findings = Findings::default();
    let lock = fs::read_to_string(root().join("Cargo.lock")).expect("Cargo.lock is there");
    let packages = packages();
    assert!(packages.len() > 50, "only {} packages", packages.len());
    for package in &packages {
        let name = package["name"].as_str().unwrap_or_default();
        let version = package["version"].as_str().unwrap_or_default();
        let at = lock.find(&format!("name = \"{name}\"\nversion = \"{version}\"")).unwrap_or(0);
        let mut find =
            |what| findings.add("Cargo.lock", source::line_of(&lock, at), format!("{name} {version} {what}"));
        let licence = package["license"].as_str().unwrap_or("none");
        if !allowed(licence, &licences) {
            find(format!("has a licence that is not in deny.toml: {licence}"));
        }
        if package["source"].as_str().is_some_and(|source| !source.ends_with("rust-lang/crates.io-index")) {
            find(format!("comes from {}", package["source"]));
        }
        if banned.contains(name) {
            find("is banned by deny.toml".to_owned());
        }
    }
    findings.none("Choose another crate, or allow it in deny.toml and say why in the commit.");
}

/// Whether an SPDX expression can be fulfilled: "(MIT OR Apache-2.0) AND Unicode-3.0", the old "MIT/X11".
fn allowed(expression: &str, licences: &BTreeSet<String>) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ").replace(" WITH ", "_WITH_");
    let mut words = spaced.split_whitespace().peekable();
    any(&mut words, licences) && words.peek().is_none()
}

type Words<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

fn any(words: &mut Words, licences: &BTreeSet<String>) -> bool {
    let mut fulfilled = all(words, licences);
    while words.next_if_eq(&"OR").is_some() {
        fulfilled |= all(words, licences);
    }
    fulfilled
}

fn all(words: &mut Words, licences: &BTreeSet<String>) -> bool {
    let mut fulfilled = one(words, licences);
    while words.next_if_eq(&"AND").is_some() {
        fulfilled &= one(words, licences);
    }
    fulfilled
}

fn one(words: &mut Words, licences: &BTreeSet<String>) -> bool {
    match words.next() {
        Some("(") => {
            let fulfilled = any(words, licences);
            words.next() == Some(")") && fulfilled
        }
        Some(licence) => licences.contains(&licence.replace("_WITH_", " WITH ")),
        None => false,
    }
}

#[test]
fn licence_expressions_are_understood() {
    let licences = ["MIT", "Unicode-3.0", "Apache-2.0 WITH LLVM-exception"].map(str::to_owned).into();
    for good in [
        "MIT",
        "MIT/Apache-2.0",
        "GPL-3.0 OR MIT",
        "(MIT OR GPL-3.0) AND Unicode-3.0",
        "Apache-2.0 WITH LLVM-exception",
    ] {
        assert!(allowed(good, &licences), "{good}");
    }
    for bad in ["GPL-3.0", "MIT AND GPL-3.0", "Apache-2.0", "no licence", "", "MIT MIT", "(MIT"] {
        assert!(!allowed(bad, &licences), "{bad}");
    }
}
