//! `status`, `reload`, `rollback`, `pause` and `resume`, as operators run them.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::mpsc,
    thread,
};

use serde_json::{Value, json};
use stompbox::control::{ControlError, Request, What};

use super::{Desk, change};
use crate::harness::{free_port, process::program, python};

type Said = (Option<i32>, String, String);

fn run(command: &mut Command) -> Said {
    let Output { status, stdout, stderr } = command.env_remove("STOMPBOX_CONFIG").output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

/// Runs a command on a desk.
fn on(desk: &Desk, args: &[&str]) -> Said {
    run(program().args(args).arg("--admin").arg(desk.address.to_string()))
}

/// A configuration with this `admin`; of the rest nothing is right.
fn config(dir: &Path, admin: &Value) -> PathBuf {
    let file = dir.join("config.json");
    let text = json!({"admin": admin, "mb_servers": {"mb": {"passcode": "${NOT_SET_HERE}"}}, "queues": 7});
    fs::write(&file, text.to_string()).unwrap();
    file
}

#[test]
fn commands_say_what_was_done() {
    let (sender, requests) = mpsc::channel();
    let desk = Desk::answering(&[], move |request| {
        sender.send(request.clone()).unwrap();
        Ok(match request {
            Request::Reload { processor: None } => vec![],
            _ => vec![change("one", What::Loaded, ""), change("one", What::OnTrial, "on 1 of 4 lanes")],
        })
    });
    let one = || "one".to_owned();
    for (args, request) in [
        (vec!["reload", "one"], Request::Reload { processor: Some(one()) }),
        (vec!["rollback", "one"], Request::RollBack { processor: one(), to: None }),
        (vec!["rollback", "one", "--to", "3"], Request::RollBack { processor: one(), to: Some(3) }),
        (vec!["pause", "one"], Request::Pause { processor: one() }),
        (vec!["resume", "one"], Request::Resume { processor: one() }),
        (vec!["pause", "../a b"], Request::Pause { processor: "../a b".to_owned() }),
    ] {
        let (code, out, err) = on(&desk, &args);
        assert_eq!((code, requests.recv().unwrap()), (Some(0), request), "{err}");
        let first = "one: loaded, generation 7 (0123456789ab)\n";
        assert_eq!(out, format!("{first}one: on trial, generation 7 (0123456789ab): on 1 of 4 lanes\n"));
    }
    assert_eq!(on(&desk, &["reload"]), (Some(0), "nothing to do\n".to_owned(), String::new()));
}

#[test]
fn what_is_refused_is_told_and_is_a_failure() {
    let refused = |name: &str| vec![change(name, What::Refused, "it imports \u{1b}[2J wasi:sockets")];
    let desk = Desk::answering(&[], move |_| Ok(refused("one")));
    let (code, out, _) = on(&desk, &["reload"]);
    assert_eq!(code, Some(1));
    assert_eq!(out, "one: refused, generation 7 (0123456789ab): it imports \\u{1b}[2J wasi:sockets\n");
    for error in [
        ControlError::Unknown("there is no processor \"oen\"; did you mean \"one\"?".into()),
        ControlError::Refused("there is no generation before 1".into()),
        ControlError::Busy,
    ] {
        let text = error.to_string();
        let desk = Desk::answering(&[], move |_| Err(error.clone()));
        assert_eq!(on(&desk, &["rollback", "oen"]), (Some(1), String::new(), format!("error: {text}\n")));
    }
}

#[test]
fn the_configuration_says_where_the_host_is_and_where_its_token() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("token"), "right\n").unwrap();
    let desk = Desk::open(&[], Some(dir.path().join("token")), |asked| {
        let _ = asked.answer.send(Ok(vec![change("", What::Unchanged, "")]));
    });
    let with_token = config(dir.path(), &json!({"listen": desk.address, "token_file": "token"}));
    let unchanged = (Some(0), "host: unchanged, generation 7 (0123456789ab)\n".to_owned(), String::new());
    assert_eq!(run(program().arg("reload").arg("--config").arg(&with_token)), unchanged);
    let mut by_environment = program();
    by_environment.arg("reload").env("STOMPBOX_CONFIG", &with_token);
    let Output { status, stdout, .. } = by_environment.output().unwrap();
    assert_eq!((status.code(), stdout), (unchanged.0, unchanged.1.clone().into_bytes()));
    let (code, _, err) = on(&desk, &["reload"]);
    assert!(code == Some(1) && err.contains("token") && err.contains("--token-file"), "{err}");
    let token = dir.path().join("token");
    assert_eq!(on(&desk, &["reload", "--token-file", token.to_str().unwrap()]), unchanged);
    fs::write(dir.path().join("other"), "wrong").unwrap();
    let (code, _, err) = on(&desk, &["reload", "--token-file", dir.path().join("other").to_str().unwrap()]);
    assert_eq!((code, err.as_str()), (Some(1), "error: this is not the token of this host\n"));
    let (code, _, err) = on(&desk, &["reload", "--token-file", dir.path().to_str().unwrap()]);
    assert!(code == Some(64) && err.contains("it is a directory"), "{err}");
}

#[test]
fn a_host_that_cannot_be_asked_is_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let nobody = format!("127.0.0.1:{}", free_port());
    let file = config(dir.path(), &Value::Null);
    let missing = dir.path().join("missing.json");
    let wrong = dir.path().join("wrong.json");
    fs::write(&wrong, json!({"admin": {"listen": "here"}}).to_string()).unwrap();
    for (args, code, word) in [
        (vec!["pause", "one"], 64, "--config, or its address with --admin"),
        (vec!["pause", "one", "--admin", "localhost"], 64, "an address and a port, such as 127.0.0.1:9613"),
        (
            vec!["pause", "one", "--config", file.to_str().unwrap()],
            64,
            "add \"admin\": {\"listen\": \"127.0.0.1:9613\"}",
        ),
        (vec!["pause", "one", "--config", missing.to_str().unwrap()], 64, "there is no such file"),
        (vec!["pause", "one", "--config", wrong.to_str().unwrap()], 64, "admin.listen: must be address:port"),
        (vec!["pause", "one", "--admin", &nobody], 1, "nobody listens on 127.0.0.1:"),
        (vec!["status", "--json", "--admin", &nobody], 1, "is the host running"),
        (vec!["status", "--admin", &nobody], 1, "is the host running"),
        (vec!["status", "--config", file.to_str().unwrap()], 64, "has no \"admin\""),
        (vec!["pause"], 64, "PROCESSOR"),
        (vec!["rollback", "one", "--to", "last"], 64, "--to"),
    ] {
        let (status, out, err) = run(program().args(&args));
        assert!(status == Some(code) && out.is_empty() && err.contains(word), "{args:?}: {status:?} {out} {err}");
        assert!(!err.contains("mb_servers") && !err.contains("NOT_SET_HERE"), "only admin is read: {err}");
    }
}

/// Something else listens there.
#[test]
fn an_answer_that_is_no_host_s_is_told() {
    for (unasked, answer, word) in [
        (false, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "is not JSON: is this a host of Stompbox?"),
        (
            false,
            "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
            "HTTP 404 Not Found: is this a host of Stompbox?",
        ),
        (true, "SSH-2.0-OpenSSH_9.2\r\n", "is this a host of Stompbox?"),
    ] {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let other = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let begun = if unasked { 0 } else { stream.read(&mut [0; 1]).unwrap() };
            assert_eq!(begun, usize::from(!unasked));
            stream.write_all(answer.as_bytes()).unwrap();
            // Until the command has enough.
            let _ = std::io::copy(&mut stream, &mut std::io::sink());
        });
        let (code, out, err) = run(program().args(["status", "--json", "--admin", &address]));
        assert!(code == Some(1) && out.is_empty() && err.contains(word), "{code:?} {out} {err}");
        other.join().unwrap();
    }
}

#[test]
fn status_is_text_where_it_is_piped_and_json_where_it_is_wanted() {
    let desk = Desk::answering(&["push_status", "transform"], |_| Ok(vec![]));
    desk.audit.record("file", &change("transform", What::Refused, "it traps"));
    let (code, out, err) = on(&desk, &["status"]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(!out.contains('\u{1b}') && out.starts_with("stompbox 0.") && out.contains("  ready\n"), "{out}");
    for name in ["push_status", "transform"] {
        let row = out.lines().find(|line| line.starts_with(name)).unwrap();
        assert!(row.contains("atlas"), "{out}");
    }
    assert!(out.contains("file  transform: refused, generation 7 (0123456789ab): it traps\n"), "{out}");
    assert!(out.lines().all(|line| line.chars().count() <= 100), "{out}");
    let (code, out, _) = on(&desk, &["status", "--json"]);
    let (mut told, mut asked): (Value, Value) =
        (serde_json::from_str(&out).unwrap(), super::ask(desk.address, "GET /v1/status", "").1);
    for answer in [&mut told, &mut asked] {
        let clocks = ["/now_ms", "/uptime_ms", "/processors/0/lanes/0/for_ms", "/processors/1/lanes/0/for_ms"];
        clocks.iter().for_each(|clock| *answer.pointer_mut(clock).unwrap() = Value::Null);
    }
    assert_eq!((code, told), (Some(0), asked));
}

/// In a terminal the table is drawn again and again, ends with q, and leaves the terminal as it was; `picture.py`
/// checks that. What it makes of it is the picture of the README.
#[test]
fn status_in_a_terminal_is_a_live_table_until_q() {
    let desk = Desk::answering(&["push_status"], |_| Ok(vec![]));
    desk.audit.record("file", &change("push_status", What::RolledBack, "it traps"));
    let dir = tempfile::tempdir().unwrap();
    let picture = dir.path().join("status.svg");
    let address = desk.address.to_string();
    let built = crate::harness::built().join("stompbox");
    let command = [built.to_str().unwrap(), "status", "--admin", &address];
    let args = ["--size", "100x30", "--pictures", "2", picture.to_str().unwrap()];
    python::run("picture.py", &[&args[..], &command].concat()).unwrap();
    let svg = fs::read_to_string(picture).unwrap();
    assert!(svg.len() < 60_000, "{}", svg.len());
    for text in [">push_status", "class=\"good\">ready<", "class=\"bad\">", "rolled back", "class=\"title\">"] {
        assert!(svg.contains(text), "{text} in {svg}");
    }
}
