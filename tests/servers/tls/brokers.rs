//! TLS with a client certificate on real brokers.

use serde_json::json;
use stompbox::{app::Drained, client::ConnectOptions};

use super::{Us, at, open, path};
use crate::harness::{
    activemq::{PASSCODE, USERNAME},
    certificates::Authority,
    client::Msg,
    host::{Host, One},
    target::Target,
    tls_broker::TlsBroker,
};

/// Consumes, sends and settles inside TLS; without a certificate of ours the broker lets nobody in.
fn takes_messages_inside_tls(script: &str, more_ports: usize) {
    let (authority, us) = (Authority::make(), Us::new());
    let broker = TlsBroker::start(script, more_ports, &authority, &authority.issue(&["localhost"]));
    let tls = us.being(&authority.pem(), &authority.issue(&["stompbox"]));
    let [ca, cert, key] = [&tls.ca_file, &tls.cert_file, &tls.key_file].map(|file| path(file.as_ref().unwrap()));
    let mut one = One::new(&Target::embedded(), "Echo", json!({}));
    one.config["mb_servers"]["mb"] = json!({
        "host_port_list": [at("localhost", broker.secure)], "username": USERNAME, "passcode": PASSCODE,
        "use_ssl": true, "ca_file": ca, "cert_file": cert, "key_file": key,
    });
    let host = Host::start(&one.config);
    let bodies: Vec<String> = (0..300).map(|number| format!("{number} {}", "x".repeat(2_000))).collect();
    broker.client().send_all(&one.from, &bodies).unwrap();
    host.wait_ended("one", 300);
    assert_eq!(host.drain(), Drained::Clean);
    let out: Vec<String> = broker.client().drain_queue(&one.to).unwrap().iter().map(Msg::text).collect();
    assert_eq!(out, bodies);
    assert_eq!(broker.client().drain_queue(&one.from).unwrap(), []);

    let mut anonymous = ConnectOptions::new(
        "mb",
        vec![stompbox::client::Address { host: "localhost".into(), port: broker.secure.port() }],
    );
    (anonymous.username, anonymous.passcode) = (Some(USERNAME.into()), Some(PASSCODE.into()));
    anonymous.tls = Some(us.trusting(&authority.pem()));
    let told = open(&anonymous).unwrap_err();
    assert!(told.contains("certificate"), "{told}");
}

#[test]
fn activemq_takes_messages_inside_tls() {
    takes_messages_inside_tls("activemq", 0);
}

#[test]
fn rabbitmq_takes_messages_inside_tls() {
    takes_messages_inside_tls("rabbitmq", 2);
}
