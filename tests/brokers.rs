//! The ground under the other suites: the brokers start and die as they should, each sender reaches them,
//! and the host's own client keeps its word.

mod durable;
mod facts;
mod host_client;
mod idle;
mod routing;
mod sends;

use std::{
    collections::HashSet,
    net::TcpStream,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use crate::harness::{
    activemq::{ActiveMq, Classic},
    artemis::{Artemis, Instance},
    broker::{self, Broker, Kind},
    client::Client,
    free_port,
    malformed::malformed,
    messages::{status_messages, texts_in_order},
    python,
    rabbitmq::{Rabbit, RabbitMq},
    target::Target,
};

#[test]
fn activemq_starts_and_round_trips() {
    let broker = ActiveMq::shared();
    let mut client = broker.connect().unwrap();
    client.send("/queue/e2e.round-trip", &[("persistent", "true"), ("vo", "a:b\\c")], b"one").unwrap();
    client.subscribe("/queue/e2e.round-trip", "client-individual", &[]).unwrap();
    let got = client.read(1, Duration::from_secs(10)).unwrap();
    assert_eq!(texts_in_order(&got), ["one"]);
    assert_eq!(got[0].header("vo"), Some("a:b\\c"));
    client.ack(&got[0]).unwrap();
    client.close().unwrap();
    assert_eq!(broker.connect().unwrap().drain_queue("/queue/e2e.round-trip").unwrap(), []);
}

#[test]
fn brokers_want_a_login() {
    for target in [Target::activemq(), Target::rabbitmq(), Target::artemis()] {
        assert!(Client::connect(target.address, None).is_err());
        assert!(Client::connect(target.address, Some((broker::USERNAME, "wrong"))).is_err());
    }
}

#[test]
fn activemq_carries_bodies_of_any_bytes() {
    let broker = ActiveMq::shared();
    let sent: Vec<Vec<u8>> = malformed(100).into_iter().map(|case| case.body).collect();
    broker.connect().unwrap().send_all("/queue/e2e.bytes", &sent).unwrap();
    let got = broker.connect().unwrap().drain_queue("/queue/e2e.bytes").unwrap();
    assert_eq!(got.into_iter().map(|message| message.body).collect::<Vec<_>>(), sent);
}

#[test]
fn activemq_copies_topics_to_consumer_queues() {
    let broker = ActiveMq::shared();
    let mut reader = broker.connect().unwrap();
    reader.subscribe("/queue/Consumer.jedi.e2e.idds", "auto", &[]).unwrap();
    broker.connect().unwrap().send("/topic/e2e.idds", &[], b"copied").unwrap();
    assert_eq!(texts_in_order(&reader.read(1, Duration::from_secs(10)).unwrap()), ["copied"]);
}

#[test]
fn activemq_keeps_messages_over_a_crash() {
    keeps_messages_over_a_crash(&mut ActiveMq::own().unwrap());
}

#[test]
fn rabbitmq_keeps_messages_over_a_crash() {
    keeps_messages_over_a_crash(&mut RabbitMq::own().unwrap());
}

#[test]
fn artemis_keeps_messages_over_a_crash() {
    keeps_messages_over_a_crash(&mut Artemis::own().unwrap());
}

fn keeps_messages_over_a_crash<K: Kind>(broker: &mut Broker<K>) {
    // The queue is older than the start that crashes: RabbitMQ was seen to come back without one, and without its
    // 500 confirmed messages, that it had declared a second before.
    broker.connect().unwrap().send_all("/queue/e2e.crash", &["declared"]).unwrap();
    assert_eq!(broker.connect().unwrap().drain_queue("/queue/e2e.crash").unwrap().len(), 1);
    broker.stop().unwrap();
    broker.start().unwrap();
    let sent = status_messages(500, 1);
    broker.connect().unwrap().send_all("/queue/e2e.crash", &sent).unwrap();
    broker.kill().unwrap();
    assert!(broker.connect().is_err());
    broker.start().unwrap();
    assert_eq!(texts_in_order(&broker.connect().unwrap().drain_queue("/queue/e2e.crash").unwrap()), sent);
    broker.stop().unwrap();
}

#[test]
fn activemq_dies_with_its_owner() {
    dies_with_its_owner::<Classic>();
}

#[test]
fn rabbitmq_dies_with_its_owner() {
    dies_with_its_owner::<Rabbit>();
}

#[test]
fn artemis_dies_with_its_owner() {
    dies_with_its_owner::<Instance>();
}

fn dies_with_its_owner<K: Kind>() {
    // This process stands for a test run: it holds the pipe, and is killed before it can clean up.
    let mut owner = Command::new("sleep").arg("600").stdout(Stdio::piped()).spawn().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let ports: Vec<u16> = (0..K::PORTS).map(|_| free_port()).collect();
    let dir = folder.path().join("broker");
    let pipe = owner.stdout.take().unwrap().into();
    let mut script = broker::start_script::<K>(&dir, &ports, "always", pipe).unwrap();
    let limit = Instant::now() + Duration::from_secs(180);
    while TcpStream::connect(("127.0.0.1", ports[0])).is_err() {
        assert!(Instant::now() < limit && script.try_wait().unwrap().is_none(), "the broker does not start");
        std::thread::sleep(Duration::from_millis(50));
    }
    owner.kill().unwrap();
    owner.wait().unwrap();
    broker::wait(&mut script).unwrap();
    // None of its ports is served any more: no helper stays behind either.
    assert!(ports.iter().all(|port| TcpStream::connect(("127.0.0.1", *port)).is_err()));
    assert!(!dir.exists());
}

#[test]
fn stomp_py_reaches_activemq() {
    sends_all("send_stomp.py", "/queue/e2e.stomp-py");
}

#[test]
fn panda_sender_reaches_activemq() {
    sends_all("send_panda.py", "/queue/e2e.panda");
}

fn sends_all(script: &str, destination: &str) {
    let broker = ActiveMq::shared();
    let sent = status_messages(200, 3);
    python::send(script, broker.address(), destination, &sent).unwrap();
    let got = texts_in_order(&broker.connect().unwrap().drain_queue(destination).unwrap());
    assert_eq!(got.iter().collect::<HashSet<_>>(), sent.iter().collect(), "{script}");
    assert_eq!(got.len(), sent.len());
}
