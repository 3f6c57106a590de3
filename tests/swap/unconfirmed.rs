//! Outputs that no broker has confirmed yet when their generation goes: they are kept, and it is freed.

use std::net::TcpListener;

use serde_json::{Value, json};
use stompbox::{
    app::Drained,
    control::{Request, What},
};

use super::whats;
use crate::harness::{
    host::{Host, wait_until},
    ledger::sorter,
    peer::{Peer, Received},
    target::Target,
    versions::Versions,
};

/// Messages of each generation.
const EACH: usize = 20;

/// The next sends, without an answer; each makes one output.
fn unanswered(peer: &mut Peer) -> Vec<Received> {
    (0..EACH).map(|_| peer.expect("SEND").unwrap()).collect()
}

fn bodies(of: char) -> Vec<String> {
    (0..EACH).map(|number| format!("{of} {number:05}1")).collect()
}

fn outputs(sends: &[Received]) -> Vec<String> {
    let mut outputs: Vec<String> = sends.iter().map(|send| send.frame.text()).collect();
    outputs.sort();
    outputs
}

fn expected(of: char) -> Vec<String> {
    bodies(of).iter().map(|body| format!("{body}/0")).collect()
}

/// The old generation is of this kind; how many of its two instances fail at their farewell.
fn outlive_their_generation(kind: &str, failed: u64) {
    let (target, versions) = (Target::embedded(), Versions::new());
    versions.put(kind, 0);
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let mut one = sorter(&target, &Value::Null, json!({"n_threads": 2, "rollout": {"messages": 0}}));
    one.config["plugins"] = json!([versions.dir()]);
    one.send_to(json!({"host_port_list": [listener.local_addr().unwrap().to_string()]}));
    let host = Host::start(&one.config);
    host.ask(Request::Reload { processor: Some("one".to_owned()) }).unwrap();
    let mut peer = Peer::accept(&listener).unwrap();
    peer.serve("CONNECT").unwrap();
    let (did, mut client) = (host.did("one"), target.client());
    client.send_all(&one.from, &bodies('a')).unwrap();
    let old = unanswered(&mut peer);
    versions.put("good", 1);
    let changes = host.ask(Request::Reload { processor: Some("one".to_owned()) }).unwrap();
    assert_eq!(whats(&changes), [What::Loaded, What::OnTrial]);
    // Its instances say farewell while its outputs wait.
    let guest = host.status().processors[0].guest.clone();
    let farewells = || guest.snapshot().iter().find(|(name, _)| name == "farewells").map_or(0, |(_, count)| *count);
    wait_until("the old generation is gone", || farewells() == 2 && guest.failed_terminates() == failed);
    wait_until("the new one is the stable one", || host.stage("one").generations[0].standing == "stable");
    client.send_all(&one.from, &bodies('b')).unwrap();
    let new = unanswered(&mut peer);
    assert_eq!((outputs(&old), outputs(&new)), (expected('a'), expected('b')), "each once");
    assert_eq!((did.ended(), target.handle().queue_depth(&one.from).unacked), (0, 2 * EACH), "none is settled");
    for send in old.iter().chain(&new) {
        peer.answer(send).unwrap();
    }
    host.wait_ended("one", 2 * u64::try_from(EACH).unwrap());
    let served = std::thread::spawn(move || {
        let mut more = Vec::new();
        while let Ok(Some(command)) = peer.serve_one() {
            more.push(command);
        }
        more
    });
    assert_eq!(host.drain(), Drained::Clean);
    assert_eq!(served.join().unwrap(), ["DISCONNECT"], "nothing is sent twice");
    assert!(target.drain(&one.from).is_empty());
}

#[test]
fn unconfirmed_outputs_outlive_their_generation() {
    outlive_their_generation("good", 0);
}

#[test]
fn a_terminate_that_traps_or_hangs_keeps_no_outputs_back() {
    for kind in ["bursts", "lingers"] {
        outlive_their_generation(kind, 2);
    }
}
