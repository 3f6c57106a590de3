//! Bugs that were found once, each with the test that found it.

use std::{net::TcpListener, sync::Arc, time::Duration};

use stompbox::{
    client::{AckMode, Address, ConnectOptions, Phase, Session, SessionState, Subscription},
    delivery::{Delivery, Intake},
};
use tokio::sync::{Notify, watch};

use crate::harness::peer::Peer;

/// An intake for sessions that are sent nothing.
#[derive(Default)]
struct Nothing(Notify);

impl Intake for Nothing {
    fn push(&self, deliveries: &mut Vec<Delivery>) {
        assert!(deliveries.is_empty());
    }
    fn has_room(&self) -> bool {
        true
    }
    fn room(&self) -> &Notify {
        &self.0
    }
}

/// A session that was told to finish, or to drain and at once to finish, left by DISCONNECT alone: Artemis
/// then raises the delivery count of the oldest delivery, and removes a message after ten such rounds.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_unsubscribes_before_it_disconnects() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let (phase, is_phase) = watch::channel(Phase::Run);
    let (session, mut subscribed) = Session::new(options(port), subscription(), Arc::new(Nothing::default()), is_phase);
    let session = tokio::spawn(session.run());
    let broker = tokio::task::spawn_blocking(move || {
        let mut peer = Peer::accept(&listener).unwrap();
        std::iter::from_fn(|| peer.serve_one().unwrap()).collect::<Vec<_>>()
    });
    subscribed.wait_for(|state| *state == SessionState::Subscribed).await.unwrap();
    phase.send_replace(Phase::Finish);
    session.await.unwrap();
    assert_eq!(broker.await.unwrap(), ["CONNECT", "SUBSCRIBE", "UNSUBSCRIBE", "DISCONNECT"]);
}

fn options(port: u16) -> ConnectOptions {
    let address = Address { host: "127.0.0.1".into(), port };
    ConnectOptions { max_backoff: Duration::from_secs(1), ..ConnectOptions::new("fake", vec![address]) }
}

fn subscription() -> Subscription {
    Subscription {
        queue: "in".into(),
        destination: "/queue/in".into(),
        ack_mode: AckMode::ClientIndividual,
        window: 10,
        report_blocked: Duration::from_secs(10),
        headers: Vec::new(),
        durable: None,
        ordered: false,
    }
}
