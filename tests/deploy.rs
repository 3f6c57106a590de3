//! The files of `host/deploy`, as far as they can be checked without systemd and podman: they say what the
//! program understands.

use std::{collections::BTreeSet, fs, process::Command};

use crate::harness::{process::program, root};

fn read(name: &str) -> String {
    fs::read_to_string(root().join("host/deploy").join(name)).unwrap()
}

/// The values of a key of the unit.
fn values<'a>(unit: &'a str, key: &str) -> Vec<&'a str> {
    unit.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('=')).collect()
}

/// Fails unless the program knows this subcommand and all the options behind it.
fn understood(words: &[&str]) {
    let help = program().args([words[0], "--help"]).output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    assert!(help.contains(&format!("stompbox {}", words[0])), "{words:?}: {help}");
    for option in words.iter().filter(|word| word.starts_with("--")) {
        assert!(help.contains(&format!("{option} ")), "{option} of {words:?} is not in\n{help}");
    }
    // As it stands, but for the configuration, which is not there: understood, and refused for that.
    let tried = program().args(words).output().unwrap();
    let err = String::from_utf8(tried.stderr).unwrap();
    assert!(err.contains("there is no such file"), "{words:?}: {err}");
}

fn grace(words: &[&str]) -> u64 {
    let at = words.iter().position(|word| *word == "--grace").expect("--grace is given");
    words[at + 1].parse().unwrap()
}

#[test]
fn the_unit_starts_what_the_program_understands() {
    let unit = read("stompbox.service");
    let start = values(&unit, "ExecStart");
    let words: Vec<&str> = start[0].split(' ').skip(1).collect();
    understood(&words);
    for line in values(&unit, "ExecStartPre") {
        understood(&line.split(' ').skip(1).collect::<Vec<_>>());
    }
    let stop: u64 = values(&unit, "TimeoutStopSec")[0].trim_end_matches('s').parse().unwrap();
    assert!(stop > grace(&words) + 6, "systemd would kill a drain");
    assert_eq!(values(&unit, "KillSignal"), ["SIGTERM"]);
    assert_eq!((values(&unit, "Restart"), values(&unit, "RestartPreventExitStatus")), (vec!["on-failure"], vec!["64"]));
    let hardening =
        ["NoNewPrivileges", "ProtectSystem", "ProtectHome", "PrivateTmp", "SystemCallFilter", "DynamicUser"];
    let keys: BTreeSet<&str> = unit.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
    assert!(hardening.iter().all(|key| keys.contains(key)), "{keys:?}");
    assert!(!keys.contains("MemoryDenyWriteExecute"), "components are machine code");
}

/// Where systemd is, it has the last word about its own words.
#[test]
fn systemd_reads_the_unit() {
    let Ok(verified) =
        Command::new("systemd-analyze").arg("verify").arg(root().join("host/deploy/stompbox.service")).output()
    else {
        return eprintln!("there is no systemd-analyze on this machine: the words of the unit are not verified");
    };
    let said = String::from_utf8_lossy(&verified.stderr).into_owned();
    let complaints = said.lines().filter(|line| line.contains("stompbox.service:"));
    // That the program is not installed here is no fault of the unit.
    let complaints: Vec<&str> = complaints.filter(|line| !line.contains("is not executable")).collect();
    assert_eq!(complaints, Vec::<&str>::new());
}

#[test]
fn the_container_starts_what_the_program_understands() {
    let file = read("Containerfile");
    let command = file.lines().find_map(|line| line.strip_prefix("CMD ")).unwrap();
    let words: Vec<String> = serde_json::from_str(command).unwrap();
    understood(&words.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(file.lines().filter(|line| line.starts_with("FROM ")).count(), 2, "what builds stays behind");
    let user = file.lines().rfind(|line| line.starts_with("USER ")).expect("a user");
    assert_ne!(user, "USER root");
    assert!(file.contains("STOPSIGNAL SIGTERM"));
    assert!(!file.to_lowercase().contains("passcode"), "no secrets in images");
    let toolchain = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let wanted = toolchain.lines().find_map(|line| line.strip_prefix("rust-version = ")).unwrap().trim_matches('"');
    assert!(file.contains(&format!("rust:{wanted}-")), "the image builds with the version of Cargo.toml");
}
