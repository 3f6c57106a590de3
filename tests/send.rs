//! `stompbox send` and its configuration: confirmed, bounded, and honest about what is not confirmed.

use std::{
    fs::{self, File},
    io::Write,
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
    time::Duration,
};

use serde_json::{Value, json};
use stompbox::{
    dev_broker::Faults,
    sender::{SendError, Sender},
};

use crate::{
    harness::process::program,
    harness::{
        messages::{texts, texts_in_order},
        peer::{Peer, Received},
        root,
        target::{Target, on_every_broker},
    },
};

on_every_broker! {
    lines_arrive_with_their_headers
    files_arrive_as_they_are
    the_documents_sender_configurations_work
}

/// A sender's configuration with one queue `q`, and where it sends.
fn config(target: &Target, extra: &Value) -> (Value, String) {
    let destination = Target::destination("send");
    let mut queue = json!({"server": "mb", "destination": destination});
    for (key, value) in extra.as_object().unwrap() {
        queue[key] = value.clone();
    }
    (json!({"mb_servers": {"mb": target.server()}, "queues": {"q": queue}}), destination)
}

fn write(dir: &Path, config: &Value) -> PathBuf {
    let file = dir.join("senders.json");
    fs::write(&file, config.to_string()).unwrap();
    file
}

/// Starts `stompbox send` with something to read.
fn start(config: &Path, args: &[&str], stdin: Stdio) -> Child {
    let mut command = program();
    command.args(["send", "--config"]).arg(config).args(args);
    command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn end(child: Child) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

/// Sends these bytes as standard input.
fn send(config: &Path, args: &[&str], input: &[u8]) -> (Option<i32>, String, String) {
    let mut child = start(config, args, Stdio::piped());
    // A command that ends before it has read everything is no failure of the test.
    let _ = child.stdin.take().unwrap().write_all(input);
    end(child)
}

/// Also shows that the queue's `send_headers` and `persistent` apply to what is sent.
fn lines_arrive_with_their_headers(target: &Target) {
    let dir = tempfile::tempdir().unwrap();
    let (config, destination) = config(target, &json!({"send_headers": {"vo": "atlas"}, "persistent": true}));
    let bodies: Vec<String> = (0..500).map(|number| format!("{{\"taskid\": {number:03}}}")).collect();
    let args = ["q", "--header", "origin:a:b", "--header", "kind:x", "--priority", "7", "--in-flight", "20"];
    let (code, out, err) = send(&write(dir.path(), &config), &args, bodies.join("\n").as_bytes());
    assert_eq!((code, out.as_str()), (Some(0), "500 message(s) confirmed for queue q\n"), "{err}");
    let got = target.drain(&destination);
    assert_eq!(texts(&got), bodies);
    for header in [("vo", "atlas"), ("origin", "a:b"), ("kind", "x"), ("priority", "7"), ("persistent", "true")] {
        assert!(got.iter().all(|message| message.header(header.0) == Some(header.1)), "{header:?} in {:?}", got[0]);
    }
}

fn files_arrive_as_they_are(target: &Target) {
    let dir = tempfile::tempdir().unwrap();
    let (config, destination) = config(target, &json!({}));
    let bodies = [&b"several\nlines\n"[..], b"\0\xff\xfe", b"{}"];
    let mut args = vec!["q".to_owned()];
    for (number, body) in bodies.iter().enumerate() {
        let file = dir.path().join(format!("body-{number}"));
        fs::write(&file, body).unwrap();
        args.push(file.display().to_string());
    }
    let missing = dir.path().join("missing").display().to_string();
    args.push(missing.clone());
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let (code, out, err) = send(&write(dir.path(), &config), &args, b"");
    assert_eq!((code, out.as_str()), (Some(1), "3 message(s) confirmed for queue q\n"), "{err}");
    assert!(err.contains(&format!("{missing}: cannot be read: ")), "{err}");
    let mut got: Vec<Vec<u8>> = target.drain(&destination).into_iter().map(|message| message.body).collect();
    got.sort();
    let mut bodies: Vec<Vec<u8>> = bodies.iter().map(|body| body.to_vec()).collect();
    bodies.sort();
    assert_eq!(got, bodies);
}

/// JEDI's and PanDA server's examples, unchanged but for where the broker is.
fn the_documents_sender_configurations_work(target: &Target) {
    let dir = tempfile::tempdir().unwrap();
    for (name, queue) in [("senders-jedi", "jedi_jobtaskstatus"), ("senders-server", "panda_jobstatus")] {
        let file = root().join(format!("host/tests/data/{name}.json"));
        let (code, _, err) = send(&file, &["jobstatus"], b"");
        assert_eq!(code, Some(64));
        assert!(err.contains("there is no queue \"jobstatus\""), "{err}");
        let mut config: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
        let here = target.server();
        for (key, value) in here.as_object().unwrap() {
            config["mb_servers"]["internal_mb"][key] = value.clone();
        }
        let destination = Target::destination(name);
        config["queues"][queue]["destination"] = json!(destination);
        let (code, _, err) = send(&write(dir.path(), &config), &[queue, "--strict"], b"one\ntwo\n");
        assert_eq!((code, err.as_str()), (Some(0), ""));
        assert_eq!(texts(&target.drain(&destination)), ["one", "two"]);
    }
}

#[test]
fn what_cannot_be_sent_is_refused_before_anything_is() {
    let dir = tempfile::tempdir().unwrap();
    let queue = |enable: bool| json!({"server": "mb", "destination": "/queue/x", "enable": enable, "send_headers": {"vo": "atlas"}});
    let config = json!({
        "mb_servers": {"mb": {"host_port_list": ["127.0.0.1:1"]}},
        "queues": {"panda_jobstatus": queue(true), "off": queue(false)}
    });
    let file = write(dir.path(), &config);
    for (args, said) in [
        (&["panda_jobstats"][..], "there is no queue \"panda_jobstats\"; did you mean \"panda_jobstatus\"?"),
        (&["off"], "queues.off.enable: the queue is disabled"),
        (&["panda_jobstatus", "--header", "destination:/queue/y"], "\"destination\": this header is set by the host"),
        (&["panda_jobstatus", "--header", "stompbox_id:1"], "\"stompbox_id\": this header is set by the host"),
        (&["panda_jobstatus", "--header", "vo:cms"], "\"vo\": the queue's send_headers set it already"),
        (&["panda_jobstatus", "--header", "a:1", "--header", "a:2"], "\"a\": given twice"),
        (&["panda_jobstatus", "--header", "priority:3", "--priority", "4"], "\"priority\": given twice"),
        (&["panda_jobstatus", "--header", "priority:high"], "\"priority\": must be a number from 0 to 9"),
        (&["panda_jobstatus", "--header", "a:b\nc:d"], "a header must not contain control characters"),
        (&["panda_jobstatus", "--header", "novalue"], "must be NAME:VALUE"),
        (&["panda_jobstatus", "--priority", "10"], "--priority"),
        (&["panda_jobstatus", "--in-flight", "0"], "--in-flight"),
    ] {
        let (code, out, err) = send(&file, args, b"x\n");
        assert_eq!((code, out.as_str()), (Some(64), ""), "{args:?}: {err}");
        assert!(err.contains(said), "{args:?}: {err}");
    }
}

/// A broker whose answers the test writes, and the configuration that leads to it.
fn scripted() -> (TcpListener, tempfile::TempDir, PathBuf) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let config = json!({
        "mb_servers": {"mb": {"host_port_list": [listener.local_addr().unwrap().to_string()]}},
        "queues": {"q": {"server": "mb", "destination": "/queue/x"}}
    });
    let file = write(dir.path(), &config);
    (listener, dir, file)
}

fn login(listener: &TcpListener) -> Peer {
    let mut peer = Peer::accept(listener).unwrap().greeting(&[("version", "1.2"), ("server", "ActiveMQ/6.3.1")]);
    peer.serve("CONNECT").unwrap();
    peer
}

fn sends(peer: &mut Peer, count: usize) -> Vec<Received> {
    (0..count).map(|_| peer.expect("SEND").unwrap()).collect()
}

#[test]
fn no_more_than_in_flight_are_on_their_way() {
    let (listener, _dir, file) = scripted();
    let mut child = start(&file, &["q", "--in-flight", "3"], Stdio::piped());
    child.stdin.take().unwrap().write_all(b"1\n2\n3\n4\n5\n").unwrap();
    let mut peer = login(&listener);
    let first = sends(&mut peer, 3);
    peer.stays_quiet(Duration::from_millis(300)).unwrap();
    peer.answer(&first[0]).unwrap();
    let fourth = sends(&mut peer, 1);
    assert_eq!(fourth[0].frame.text(), "4");
    peer.stays_quiet(Duration::from_millis(300)).unwrap();
    for received in first[1..].iter().chain(&fourth) {
        peer.answer(received).unwrap();
    }
    let fifth = sends(&mut peer, 1);
    peer.answer(&fifth[0]).unwrap();
    peer.serve("DISCONNECT").unwrap();
    assert_eq!(end(child), (Some(0), "5 message(s) confirmed for queue q\n".into(), String::new()));
}

#[test]
fn a_refused_line_is_named_and_the_others_are_sent() {
    let (listener, _dir, file) = scripted();
    let mut child = start(&file, &["q"], Stdio::piped());
    child.stdin.take().unwrap().write_all(b"good\n\nbad\nfine\n").unwrap();
    let mut peer = login(&listener);
    for received in sends(&mut peer, 3) {
        if received.frame.text() == "bad" {
            let receipt = received.header("receipt").unwrap();
            peer.send("ERROR", &[("receipt-id", receipt), ("message", "no right to send")], b"").unwrap();
        } else {
            peer.answer(&received).unwrap();
        }
    }
    peer.serve("DISCONNECT").unwrap();
    let (code, out, err) = end(child);
    assert_eq!((code, out.as_str()), (Some(1), "2 message(s) confirmed for queue q\n"));
    assert!(err.contains("line 3: the broker refused the message for /queue/x: no right to send\n"), "{err}");
    assert!(!err.contains("line 1:") && !err.contains("line 4:"), "{err}");
}

#[test]
fn what_is_not_confirmed_in_time_is_named() {
    let (listener, _dir, file) = scripted();
    let mut child = start(&file, &["q", "--timeout", "1", "--in-flight", "3"], Stdio::piped());
    child.stdin.take().unwrap().write_all(b"1\n2\n3\n4\n").unwrap();
    let mut peer = login(&listener);
    let received = sends(&mut peer, 3);
    peer.answer(&received[1]).unwrap();
    let (code, out, err) = end(child);
    assert_eq!((code, out.as_str()), (Some(1), "1 message(s) confirmed for queue q\n"), "{err}");
    for line in ["line 1: not confirmed within 1 s\n", "line 3: not confirmed within 1 s\n", "line 4: not sent"] {
        assert!(err.contains(line), "{err}");
    }
    assert!(!err.contains("line 2:"), "{err}");
}

#[test]
fn a_broker_that_is_away_fails_files_by_name() {
    let (listener, dir, file) = scripted();
    drop(listener);
    let bodies = ["a", "b", "c"].map(|name| dir.path().join(name));
    bodies.iter().for_each(|body| fs::write(body, "x").unwrap());
    let names = bodies.each_ref().map(|body| body.to_str().unwrap());
    let args = [&["q", "--timeout", "0.5", "--in-flight", "1"], &names[..]].concat();
    let (code, _, err) = send(&file, &args, b"");
    assert_eq!(code, Some(1));
    assert!(names.iter().all(|name| err.contains(&format!("{name}: not "))), "{err}");
    assert!(err.contains("cannot connect to 127.0.0.1:"), "{err}");
}

/// An input without end and a broker that confirms nothing: the command neither reads on nor hangs.
#[test]
fn an_endless_input_is_not_read_ahead() {
    let (listener, _dir, file) = scripted();
    let mut endless = Command::new("yes").stdout(Stdio::piped()).spawn().unwrap();
    let stdin = endless.stdout.take().unwrap().into();
    let child = start(&file, &["q", "--timeout", "1", "--in-flight", "2"], stdin);
    let mut peer = login(&listener);
    sends(&mut peer, 2);
    let (code, _, err) = end(child);
    assert_eq!(code, Some(1));
    assert!(err.contains("line 1: not confirmed") && err.contains("nothing behind it"), "{err}");
    // Its pipe is gone with its reader.
    endless.wait().unwrap();
}

/// Nobody reads what is printed: the exit code still tells.
#[test]
fn a_reader_that_is_gone_is_no_failure() {
    let (listener, _dir, file) = scripted();
    let peer = thread::spawn(move || {
        let mut peer = login(&listener);
        peer.serve("SEND").unwrap();
        peer.serve("DISCONNECT").unwrap();
    });
    let full = File::options().write(true).open("/dev/full").unwrap();
    let mut command = program();
    command.args(["send", "q", "--config"]).arg(&file).stdin(Stdio::piped()).stdout(full).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"x\n").unwrap();
    assert_eq!(end(child), (Some(0), String::new(), String::new()));
    peer.join().unwrap();
}

/// The parameters of the queue apply to what is sent to it, and stand before what the command line adds.
#[test]
fn persistent_and_send_headers_of_the_queue_apply() {
    let (listener, dir, file) = scripted();
    let mut config: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    config["queues"]["q"]["persistent"] = json!(false);
    config["queues"]["q"]["send_headers"] = json!({"vo": "atlas"});
    let mut child = start(&write(dir.path(), &config), &["q", "--header", "kind:x"], Stdio::piped());
    child.stdin.take().unwrap().write_all(b"x\n").unwrap();
    let mut peer = login(&listener);
    let received = peer.serve("SEND").unwrap();
    assert_eq!(received.lines_but_receipt(), ["destination:/queue/x", "kind:x", "persistent:false", "vo:atlas"]);
    peer.serve("DISCONNECT").unwrap();
    assert_eq!(end(child).0, Some(0));
}

/// What a Rust program does with the API, as its documentation shows it.
#[test]
fn the_api_for_rust_tells_what_became_of_each_message() {
    let (target, dir) = (Target::embedded(), tempfile::tempdir().unwrap());
    let (config, destination) = config(&target, &json!({}));
    let file = write(dir.path(), &config);
    let faults = |faults| target.handle().set_faults(faults);
    stompbox::commands::runtime().unwrap().block_on(async {
        assert!(Sender::load(&file, "no such queue").is_err());
        let sender = Sender::load(&file, "q").unwrap().in_flight(2);
        let mut confirmations = Vec::new();
        for number in 0..5 {
            confirmations.push(sender.send(number.to_string(), &[("priority".into(), "7".into())]).await.unwrap());
        }
        for confirmation in confirmations {
            confirmation.await.unwrap();
        }
        faults(Faults { refuse_destinations: vec![destination.clone()], ..Faults::default() });
        let refused = sender.send("refused", &[]).await.unwrap().await;
        assert!(matches!(refused, Err(SendError::Refused(_))), "{refused:?}");
        faults(Faults { drop_receipts: true, ..Faults::default() });
        let mut waiting = sender.send("5", &[]).await.unwrap();
        target.handle().wait_for(|broker| broker.queue_depth(&destination).waiting == 6).await;
        assert!(waiting.now().is_none(), "it arrived, but nobody has said so");
        faults(Faults::default());
        target.handle().cut_all();
        sender.finish().await;
        assert!(matches!(waiting.now(), Some(Ok(()))), "finish waits for all");
    });
    let mut sent = target.drain(&destination);
    assert_eq!(sent[0].header("priority"), Some("7"));
    sent.dedup_by_key(|message| message.text());
    assert_eq!(texts_in_order(&sent), ["0", "1", "2", "3", "4", "5"]);
}
