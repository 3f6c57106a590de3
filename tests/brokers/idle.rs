//! A host that has nothing to do.

use serde_json::json;
use stompbox::app::Drained;

use crate::{
    harness::{
        host::{Host, LIMIT, One, wait_until},
        target::Target,
    },
    operate::{admin, ask},
};

/// Artemis as generated closes what was silent for 60 s, heart-beats or not. A client that says nothing tells
/// when that is over; the host's three connections were silent for longer by then.
#[test]
fn an_idle_host_keeps_its_connections_to_artemis() {
    let (target, address) = (Target::artemis(), admin());
    let mut one = One::new(&target, "Echo", json!({}));
    one.config["admin"] = json!({"listen": address});
    for heartbeat in ["send_heartbeat_ms", "recv_heartbeat_ms"] {
        one.config["mb_servers"]["mb"][heartbeat] = json!(0);
    }
    let host = Host::start(&one.config);
    wait_until("all are connected", || ask(address, "/readyz").0 == 200);
    let mut silent = target.client();
    let closed = silent.read(1, 2 * LIMIT).unwrap_err().to_string();
    assert!(closed.contains("closed") || closed.contains("reset"), "{closed}");
    target.client().send_all(&one.from, &["after the silence"]).unwrap();
    host.wait_ended("one", 1);
    let page = ask(address, "/metrics").1;
    let reconnects: Vec<&str> = page.lines().filter(|line| line.starts_with("stompbox_reconnects_total{")).collect();
    assert_eq!(reconnects.len(), 3, "{page}");
    assert!(reconnects.iter().all(|line| line.ends_with(" 0")), "{reconnects:#?}");
    assert_eq!(host.drain(), Drained::Clean);
    assert_eq!(target.drain(&one.to).len(), 1);
}
