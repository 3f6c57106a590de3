//! Headers of files, words that must not stay, links, scripts, paths of somebody's machine.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use super::{File, Findings, files, rust_files, source};

#[test]
fn every_rust_file_says_what_it_is_for() {
    let mut findings = Findings::default();
    for (path, text) in rust_files() {
        if !text.starts_with("//!") {
            findings.add(&path, 1, "the file does not begin with //!");
        }
        if path.ends_with("/mod.rs") {
            findings.add(&path, 1, "mod.rs: name the file after its module, beside the folder");
        }
    }
    findings.none("Begin each file with //!: its role, who calls it, what it must never do.");
}

#[test]
fn nothing_is_left_undone() {
    let mut findings = Findings::default();
    for (path, text) in rust_files() {
        let code = source::code(&text);
        for word in ["todo!", "unimplemented!", "dbg!", "#[ignore"] {
            for (at, _) in code.match_indices(word) {
                findings.add(&path, source::line_of(&code, at), word);
            }
        }
    }
    findings.none("Finish it or take it out; a test that cannot run is an error that says what it needs.");
}

#[test]
fn links_lead_somewhere() {
    let mut findings = Findings::default();
    for file in files() {
        let Some(text) = file.text.as_deref().filter(|_| file.path.ends_with(".md")) else { continue };
        for (at, link) in links(text) {
            if let Err(why) = resolve(&file, link) {
                findings.add(&file.path, source::line_of(text, at), format!("{link}: {why}"));
            }
        }
    }
    findings.none("Correct the link: it is relative to the file it stands in.");
}

/// The targets of `[text](target)` that are no addresses.
fn links(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.match_indices("](").filter_map(|(at, open)| {
        let rest = &text[at + open.len()..];
        let target = rest[..rest.find(')')?].split_whitespace().next()?;
        (!target.contains("://") && !target.starts_with("mailto:")).then_some((at, target))
    })
}

/// `path`, `path#L10` or `#heading`.
fn resolve(file: &File, link: &str) -> Result<(), String> {
    let (path, anchor) = link.split_once('#').map_or((link, None), |(path, anchor)| (path, Some(anchor)));
    let folder = file.full.parent().unwrap_or(Path::new(""));
    let target = if path.is_empty() { file.full.clone() } else { folder.join(path) };
    if !target.exists() {
        return Err("no such file".into());
    }
    let Some(anchor) = anchor else { return Ok(()) };
    let text = fs::read_to_string(&target).map_err(|error| error.to_string())?;
    if let Some(line) = anchor.strip_prefix('L').and_then(|line| line.parse::<usize>().ok()) {
        let lines = text.lines().count();
        return if line <= lines { Ok(()) } else { Err(format!("the file has {lines} lines")) };
    }
    let found = text.lines().filter(|line| line.starts_with('#')).any(|line| heading_anchor(line) == anchor);
    if found { Ok(()) } else { Err("no such heading".into()) }
}

/// The anchor of a heading, as forges make it.
fn heading_anchor(line: &str) -> String {
    let kept = line.trim_start_matches('#').trim().to_lowercase();
    kept.chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

#[test]
fn scripts_can_be_run_and_name_no_registry() {
    // In two parts, so that this file does not find itself.
    let hosts =
        [("crates", ".io"), ("pypi", ".org"), ("repo.maven", ".apache"), ("repo1", ".maven"), ("deb", ".debian")];
    let mut findings = Findings::default();
    for file in files() {
        let Some(text) = file.text.as_deref().filter(|text| text.starts_with("#!/")) else { continue };
        if fs::metadata(&file.full).is_ok_and(|metadata| metadata.permissions().mode() & 0o111 == 0) {
            findings.add(&file.path, 1, "not executable: git update-index --chmod=+x");
        }
        for (host, rest) in hosts {
            if let Some(at) = text.find(&[host, rest].concat()) {
                findings.add(&file.path, source::line_of(text, at), format!("{host}{rest}: let the client find it"));
            }
        }
    }
    findings.none("Scripts run as they are, with the package clients as the machine has set them up.");
}

#[test]
fn no_file_names_a_path_of_some_machine() {
    let folders = [("/wo", "rk/"), ("/ro", "ot/"), ("/ho", "me/")].map(|(first, rest)| [first, rest].concat());
    let mut findings = Findings::default();
    for file in files() {
        let text = file.text.unwrap_or_default();
        for (number, line) in text.lines().enumerate() {
            if let Some(folder) = folders.iter().find(|folder| line.contains(folder.as_str())) {
                findings.add(&file.path, number + 1, format!("{folder} is a folder of one machine"));
            }
        }
    }
    findings.none("Use a path relative to the repository, or a variable of the environment.");
}

const DOCUMENTS: [&str; 3] = ["host/docs/brokers.md", "host/docs/reliability.md", "host/docs/security.md"];

/// Some documents name the tests that show what they say: each is there.
#[test]
fn the_tests_that_a_document_names_exist() {
    let mut findings = Findings::default();
    let code: String = rust_files().into_iter().map(|(_, text)| text).collect();
    for file in files().into_iter().filter(|file| DOCUMENTS.contains(&&*file.path)) {
        for (number, line) in file.text.unwrap_or_default().lines().enumerate().filter(|(_, l)| l.starts_with('|')) {
            let named = line.rsplit('|').nth(1).unwrap_or_default().split('`').skip(1).step_by(2);
            for test in named.filter(|test| !code.contains(&format!("fn {test}("))) {
                findings.add(&file.path, number + 1, format!("there is no test {test}"));
            }
        }
    }
    findings.none("Name the test as it is called now, or write it.");
}
