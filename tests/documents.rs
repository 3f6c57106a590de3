//! The documents' own configuration, unchanged but for where the broker is, fed by PanDA's own sender.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use stompbox::app::Drained;

use crate::harness::{
    activemq::ActiveMq,
    artemis::Artemis,
    host::{Host, One, wait_until},
    messages::{Expected, status_cases},
    python,
    rabbitmq::RabbitMq,
    target::Target,
};

const DOCUMENT: &str = include_str!("../host/tests/data/message-processors.json");

/// The example of the document, pointed at this broker. The login and TLS belong to where the broker is;
/// nothing else changes. The processors that are not written yet are stand-ins that acknowledge.
fn document(target: &Target) -> Value {
    let mut config: Value = serde_json::from_str(DOCUMENT).unwrap();
    let here = target.server();
    for server in config["mb_servers"].as_object_mut().unwrap().values_mut() {
        for key in ["host_port_list", "username", "passcode"] {
            server[key] = here[key].clone();
        }
        server["use_ssl"] = json!(false);
        let tls = ["cert_file", "key_file"];
        server.as_object_mut().unwrap().retain(|key, _| !tls.contains(&key.as_str()));
    }
    config
}

/// An Artemis of the test's own, by the acceptor that plain clients need.
fn prefixed(broker: &Artemis) -> Target {
    let mut target = Target::real(broker);
    target.address = broker.prefixed();
    target
}

#[test]
fn the_documents_configuration_works_on_activemq_with_pandas_sender() {
    the_documents_configuration_works(&Target::real(&ActiveMq::own().unwrap()));
}

#[test]
fn the_documents_configuration_works_on_rabbitmq_with_pandas_sender() {
    the_documents_configuration_works(&Target::real(&RabbitMq::own().unwrap()));
}

#[test]
fn the_documents_configuration_works_on_artemis_with_pandas_sender() {
    let broker = Artemis::own().unwrap();
    the_documents_configuration_works(&prefixed(&broker));
}

/// Its names are fixed, so the broker must be the test's own.
fn the_documents_configuration_works(target: &Target) {
    let host = Host::start(&document(target));
    let statuses: Vec<_> = status_cases(300, 5);
    let mut lines: Vec<String> = statuses.iter().map(|case| String::from_utf8(case.body.clone()).unwrap()).collect();
    lines.push("this is not JSON".into());
    python::send("send_panda.py", target.address, "/queue/jedi_jobtaskstatus", &lines).unwrap();
    python::send(
        "send_stomp.py",
        target.address,
        "/queue/jedi_contents_feeder",
        &[json!({"msg_type": "jedi_contents_feeder", "taskid": 5}).to_string()],
    )
    .unwrap();
    python::send(
        "send_stomp.py",
        target.address,
        "/queue/Consumer.jedi.atlas.idds",
        &[json!({"msg_type": "work_processing"}).to_string()],
    )
    .unwrap();
    host.wait_ended("push_jobtask_status", 301);
    host.wait_ended("jedi-contents-feeder", 1);
    host.wait_ended("atlas-idds", 1);
    let did = host.did("push_jobtask_status");
    assert_eq!(host.drain(), Drained::Clean);
    assert_eq!(
        (did.filtered.get(), did.dead_lettered.get()),
        (300, 1),
        "no out_queue in the document: nothing is sent"
    );
    let dead = target.drain("/queue/jedi_jobtaskstatus.DLQ");
    assert_eq!(dead.iter().map(|letter| letter.text()).collect::<Vec<_>>(), ["this is not JSON"]);
    assert_eq!(dead[0].header("stompbox_error_code"), Some("invalid-json"));
    assert_eq!(target.drain("/queue/jedi_jobtaskstatus").len(), 0);
}

#[test]
fn with_an_out_queue_the_outputs_arrive_on_activemq() {
    with_an_out_queue_the_outputs_arrive(&Target::activemq());
}

#[test]
fn with_an_out_queue_the_outputs_arrive_on_rabbitmq() {
    with_an_out_queue_the_outputs_arrive(&Target::rabbitmq());
}

#[test]
fn with_an_out_queue_the_outputs_arrive_on_artemis() {
    with_an_out_queue_the_outputs_arrive(&Target::artemis_prefixed());
}

/// The same with an `out_queue`, and in the document's default ack mode: outputs are read back.
fn with_an_out_queue_the_outputs_arrive(target: &Target) {
    let (from, to) = (Target::destination("jobtaskstatus"), Target::destination("panda_idds"));
    let mut config = document(target);
    config["queues"] = json!({
        "jedi_jobtaskstatus": {"server": "internal_mb", "destination": from},
        "out": {"server": "internal_mb", "destination": to}
    });
    config["processors"] = json!({"push_jobtask_status": config["processors"]["push_jobtask_status"]});
    config["processors"]["push_jobtask_status"]["out_queue"] = json!("out");
    let host = Host::start(&config);
    let cases = status_cases(400, 6);
    for (script, half) in [("send_panda.py", &cases[..200]), ("send_stomp.py", &cases[200..])] {
        let lines: Vec<String> = half.iter().map(|case| String::from_utf8(case.body.clone()).unwrap()).collect();
        python::send(script, target.address, &from, &lines).unwrap();
    }
    host.wait_ended("push_jobtask_status", 400);
    assert_eq!(host.drain(), Drained::Clean);
    let mut expected: BTreeMap<Vec<u8>, i32> = BTreeMap::new();
    for case in cases.iter().filter(|case| case.expected == Expected::Forwarded) {
        *expected.entry(case.body.clone()).or_default() += 1;
    }
    for output in target.drain(&to) {
        *expected.entry(output.body).or_default() -= 1;
    }
    assert!(expected.values().all(|left| *left == 0), "each forwarded once, nothing else");
}

#[test]
fn a_host_that_starts_before_its_broker_waits_for_it() {
    let mut broker = ActiveMq::own().unwrap();
    let target = Target::real(&broker);
    let one = One::new(&target, "Echo", json!({}));
    let mut config = one.config.clone();
    config["guard_period"] = json!(1);
    let host = Host::start(&config);
    broker.stop().unwrap();
    broker.start().unwrap();
    target.client().send(&one.from, &[("persistent", "true")], b"after the restart").unwrap();
    let did = host.did("one");
    wait_until("the message", || did.forwarded.get() == 1);
    assert_eq!(host.drain(), Drained::Clean);
    assert_eq!(target.drain(&one.to).len(), 1);
}

/// PanDA's own classes on both sides of the host. They know nothing of Artemis's routing types, so there they need
/// the acceptor with prefixes.
fn pandas_classes_exchange_messages(target: &Target) {
    let one = One::new(target, "Echo", json!({}));
    let host = Host::start(&one.config);
    let mut lines: Vec<String> =
        (0..60).map(|number| json!({"taskid": number, "site": "h\u{e4}lt"}).to_string()).collect();
    python::send("send_panda.py", target.address, &one.from, &lines).unwrap();
    host.wait_ended("one", 60);
    let mut read = python::listen(target.address, &one.to, 60).unwrap();
    assert_eq!(host.drain(), Drained::Clean);
    read.sort();
    lines.sort();
    assert_eq!(read, lines);
    assert_eq!(target.drain(&one.to), [], "acknowledged");
}

#[test]
fn pandas_sender_and_listener_on_activemq() {
    pandas_classes_exchange_messages(&Target::activemq());
}

#[test]
fn pandas_sender_and_listener_on_rabbitmq() {
    pandas_classes_exchange_messages(&Target::rabbitmq());
}

#[test]
fn pandas_sender_and_listener_on_artemis() {
    pandas_classes_exchange_messages(&Target::artemis_prefixed());
}
