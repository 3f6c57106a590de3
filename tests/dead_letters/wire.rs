//! How a queue is looked into, frame by frame: in the words of each broker, to its end, and in good order.

use std::{
    net::{Ipv4Addr, TcpListener},
    process::{Child, Output, Stdio},
};

use serde_json::json;

use super::Letters;
use crate::harness::{peer::Peer, process::program};

/// A queue `q` of a broker whose answers the test writes.
fn scripted() -> (TcpListener, Letters) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let config = json!({
        "mb_servers": {"mb": {"host_port_list": [listener.local_addr().unwrap().to_string()]}},
        "queues": {"q": {"server": "mb", "destination": "/queue/q"}}
    });
    (listener, Letters::of(&config))
}

fn list(letters: &Letters, wait: &str) -> Child {
    let mut command = program();
    command.args(["dead-letters", "list", "q", "--wait", wait, "--config"]).arg(&letters.file);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn end(child: Child) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

fn login(listener: &TcpListener, server: &str) -> Peer {
    let mut peer = Peer::accept(listener).unwrap().greeting(&[("version", "1.2"), ("server", server)]);
    peer.serve("CONNECT").unwrap();
    peer
}

fn letter(peer: &mut Peer, id: &str, more: &[(&str, &str)]) {
    let own = [("message-id", id), ("ack", id), ("subscription", "stompbox-look"), ("destination", "/queue/q.DLQ")];
    peer.send("MESSAGE", &[&own[..], more].concat(), id.as_bytes()).unwrap();
}

/// It leaves like this alone: otherwise Artemis counts what it gives back.
fn goodbye(peer: &mut Peer) {
    peer.serve("UNSUBSCRIBE").unwrap();
    peer.serve("DISCONNECT").unwrap();
}

#[test]
fn activemq_is_asked_to_show_the_queue_and_tells_its_end() {
    let (listener, letters) = scripted();
    let child = list(&letters, "0.1");
    let mut peer = login(&listener, "ActiveMQ/6.3.1");
    let subscribe = peer.serve("SUBSCRIBE").unwrap();
    let asked =
        ["ack:auto", "activemq.prefetchSize:10001", "browser:true", "destination:/queue/q.DLQ", "id:stompbox-look"];
    assert_eq!(subscribe.lines_but_receipt(), asked);
    letter(&mut peer, "ID:1", &[]);
    letter(&mut peer, "ID:2", &[("browser", "end")]);
    letter(&mut peer, "ID:3", &[]);
    peer.send("MESSAGE", &[("browser", "end"), ("message-id", "0"), ("subscription", "stompbox-look")], b"").unwrap();
    goodbye(&mut peer);
    let (code, out, err) = end(child);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(out.ends_with("\n3 dead letter(s): 3 of q in /queue/q.DLQ on mb\n"), "{out}");
}

/// A silence is the end only when the broker then answers and has sent nothing before.
#[test]
fn other_brokers_have_said_all_when_they_answer_a_question_after_a_silence() {
    for (server, asked) in [
        ("ActiveMQ-Artemis/2.44.0", &["consumer-window-size:537919488", "subscription-type:ANYCAST"][..]),
        ("RabbitMQ/3.10.8", &["prefetch-count:10001"]),
        ("another", &[]),
    ] {
        let (listener, letters) = scripted();
        let child = list(&letters, "0.1");
        let mut peer = login(&listener, server);
        let subscribe = peer.serve("SUBSCRIBE").unwrap();
        let place = if server.starts_with("RabbitMQ") { "/amq/queue/q.DLQ" } else { "/queue/q.DLQ" };
        let place = format!("destination:{place}");
        let mut all = [&["ack:client-individual", &*place, "id:stompbox-look"], asked].concat();
        all.sort_unstable();
        assert_eq!(subscribe.lines_but_receipt(), all);
        letter(&mut peer, "1,1", &[]);
        peer.expect("BEGIN").unwrap();
        let question = peer.expect("ABORT").unwrap();
        letter(&mut peer, "1,2", &[]);
        peer.answer(&question).unwrap();
        peer.expect("BEGIN").unwrap();
        peer.serve("ABORT").unwrap();
        goodbye(&mut peer);
        let (code, out, err) = end(child);
        assert_eq!((code, err.as_str()), (Some(0), ""));
        assert!(out.contains("\n2 dead letter(s): "), "{server}: {out}");
    }
}

#[test]
fn a_signal_ends_it_in_good_order() {
    for signal in ["TERM", "INT", "HUP"] {
        let (listener, letters) = scripted();
        let child = list(&letters, "600");
        let mut peer = login(&listener, "ActiveMQ-Artemis/2.44.0");
        peer.serve("SUBSCRIBE").unwrap();
        letter(&mut peer, "1,1", &[]);
        let sent = std::process::Command::new("kill").args(["-s", signal, &child.id().to_string()]).status();
        assert!(sent.unwrap().success());
        goodbye(&mut peer);
        let (code, _, err) = end(child);
        assert_eq!((code, err.as_str()), (Some(1), "error: stopped by a signal\n"), "{signal}");
    }
}
