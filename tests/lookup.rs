//! What a `module` may not lead to, and a component may not want, through the program: refused by `check` and at the
//! start, each with its place in the configuration and what to do.

use std::{fs, os::unix::fs::symlink, process::Command};

use serde_json::{Map, json};

use crate::{compiling::importing, harness::process::program};

/// Modules that are refused, with what is said of each.
const REFUSED: [(&str, &str, &str); 12] = [
    ("up", "../secret", "must be names of letters"),
    ("dots", "..", "must be names of letters"),
    ("inner", "a..secret", "must be names of letters"),
    ("absolute", "/etc/passwd", "must be names of letters"),
    ("nul", "secret\0", "must not contain control characters"),
    ("backslash", "..\\secret", "must be names of letters"),
    ("empty", "", "must not be empty"),
    ("link", "link", "link.wasm cannot be read: a path led outside"),
    ("through", "up.secret", "up/secret.wasm cannot be read: a path led outside"),
    ("fifo", "fifo", "fifo.wasm is not a regular file"),
    ("folder", "folder", "folder.wasm is not a regular file"),
    ("greedy", "greedy", "wasi:http/outgoing-handler@0.2.0 (no configuration grants HTTP"),
];

#[test]
fn nothing_outside_is_reached_and_nothing_else_granted() {
    let dir = tempfile::tempdir().unwrap();
    let plugins = dir.path().join("plugins");
    fs::create_dir_all(plugins.join("folder.wasm")).unwrap();
    fs::write(dir.path().join("secret.wasm"), importing(&[])).unwrap();
    fs::write(plugins.join("greedy.wasm"), importing(&["wasi:http/outgoing-handler@0.2.0"])).unwrap();
    symlink("../secret.wasm", plugins.join("link.wasm")).unwrap();
    symlink("..", plugins.join("up")).unwrap();
    assert!(Command::new("mkfifo").arg(plugins.join("fifo.wasm")).status().unwrap().success());
    let file = dir.path().join("config.json");
    // What is wrong in the file itself is told before anything is looked up.
    for malformed in [true, false] {
        let of_this_kind = || REFUSED.iter().filter(|(.., told)| told.starts_with("must ") == malformed);
        let processor = |module: &str| json!({"module": module, "name": "Any", "in_queue": "in"});
        let processors: Map<_, _> =
            of_this_kind().map(|(key, module, _)| ((*key).to_owned(), processor(module))).collect();
        let config = json!({
            "plugins": [plugins],
            "mb_servers": {"mb": {"host_port_list": ["127.0.0.1:1"]}},
            "queues": {"in": {"server": "mb", "destination": "/queue/in"}},
            "processors": processors
        });
        fs::write(&file, config.to_string()).unwrap();
        for command in ["check", "run"] {
            let done = program().args([command, "--config"]).arg(&file).output().unwrap();
            let err = String::from_utf8(done.stderr).unwrap();
            assert_eq!(done.status.code(), Some(64), "{command}: {err}");
            for (key, _, told) in of_this_kind() {
                let line = err.lines().find(|line| line.contains(&format!("processors.{key}.module: ")));
                assert!(line.is_some_and(|line| line.contains(told)), "{command}, {key}: {err}");
            }
        }
    }
}
