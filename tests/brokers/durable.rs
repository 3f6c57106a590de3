//! What the brokers do with durable subscriptions, by plain clients: see `facts`.

use super::facts::{LIMIT, QUIET};
use crate::harness::{
    broker::{PASSCODE, USERNAME},
    client::Client,
    target::Target,
};

/// A topic of its own; its name is the client id, too.
fn topic() -> String {
    Target::destination("durable").replace("/queue/", "/topic/")
}

fn client(target: &Target, client_id: Option<&str>) -> Client {
    let headers: Vec<_> = client_id.map(|id| ("client-id", id)).into_iter().collect();
    Client::connect_with(target.address, Some((USERNAME, PASSCODE)), &headers).unwrap()
}

/// Subscribes as the broker wants it; all words at once, since each broker ignores those of the others.
fn subscribe(client: &mut Client, topic: &str) -> anyhow::Result<()> {
    let words = [
        ("activemq.subscriptionName", "test"),
        ("durable-subscription-name", "test"),
        ("durable", "true"),
        ("auto-delete", "false"),
    ];
    client.subscribe(topic, "client-individual", &words)
}

/// A topic with a durable subscription for which one message is kept.
fn kept(target: &Target) -> String {
    let topic = topic();
    let mut first = client(target, Some(&topic));
    subscribe(&mut first, &topic).unwrap();
    first.close().unwrap();
    target.client().send_all(&topic, &["kept"]).unwrap();
    topic
}

/// How often of twelve times the message comes that nobody acknowledges.
fn comes(target: &Target, unsubscribe: bool) -> usize {
    let topic = kept(target);
    let round = |_: &usize| {
        let mut client = client(target, Some(&topic));
        subscribe(&mut client, &topic).unwrap();
        let came = client.read(1, if unsubscribe { LIMIT } else { 3 * QUIET }).unwrap().len() == 1;
        if unsubscribe {
            client.exchange("UNSUBSCRIBE", &[("id", "test"), ("destination", &topic)], b"").unwrap();
        }
        client.close().unwrap();
        came
    };
    (0..12).take_while(round).count()
}

#[test]
fn unsubscribe_by_id_keeps_a_durable_subscription() {
    for target in [Target::activemq(), Target::rabbitmq(), Target::artemis(), Target::artemis_prefixed()] {
        assert_eq!(comes(&target, true), 12);
    }
}

#[test]
fn artemis_counts_deliveries_of_a_durable_subscription_that_just_disconnects() {
    assert_eq!(comes(&Target::artemis(), false), 10, "then it is in the dead letter address");
}

/// What becomes of a durable subscription without a client id.
#[test]
fn only_rabbitmq_keeps_a_durable_subscription_without_a_client_id() {
    let kept = |target: &Target| {
        let topic = topic();
        let mut first = client(target, None);
        subscribe(&mut first, &topic)?;
        first.close()?;
        target.client().send_all(&topic, &["kept"])?;
        let mut second = client(target, None);
        subscribe(&mut second, &topic)?;
        Ok::<_, anyhow::Error>(second.read(1, 3 * QUIET)?.len())
    };
    assert_eq!(kept(&Target::rabbitmq()).unwrap(), 1);
    assert_eq!(kept(&Target::activemq()).unwrap(), 0, "forgotten");
    assert!(kept(&Target::artemis()).unwrap_err().to_string().contains("Error creating subscription"));
}
