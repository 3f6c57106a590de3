//! What `check --connect` makes of a broker's answers.

use std::thread;

use stompbox::client::{Probe, Right};
use tokio::runtime::Runtime;

use super::listen;
use crate::harness::peer::Peer;

/// A queue that is not empty: RabbitMQ has sent a message when UNSUBSCRIBE comes, and says so in an ERROR.
#[test]
fn a_delivery_that_crosses_the_unsubscribe_of_a_check_is_no_missing_right() {
    let (listener, options) = listen();
    let check = thread::spawn(|| {
        Runtime::new().unwrap().block_on(async {
            let mut probe = Probe::open(options).await.unwrap();
            let tested = probe.test(Right::Subscribe, "/queue/in", &[]).await;
            probe.close().await;
            tested
        })
    });
    let mut peer = Peer::accept(&listener).unwrap().greeting(&[("version", "1.2"), ("server", "RabbitMQ/3.10.8")]);
    peer.serve("CONNECT").unwrap();
    peer.serve("SUBSCRIBE").unwrap();
    let unsubscribe = peer.expect("UNSUBSCRIBE").unwrap();
    peer.send("ERROR", &[("message", "Subscription not found")], b"There is no current subscription").unwrap();
    peer.answer(&unsubscribe).unwrap();
    peer.serve("DISCONNECT").unwrap();
    let tested = check.join().unwrap();
    assert!(tested.refused.is_none() && tested.undeclared.is_none() && !tested.absent, "{tested:?}");
}
