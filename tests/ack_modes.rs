//! The three ack modes with many lanes, on every broker (`ack_mode`).

use std::time::{Duration, Instant};

use serde_json::json;
use stompbox::app::Drained;

use crate::harness::{
    host::{Host, LIMIT, One, wait_until},
    messages::{numbered, texts},
    proxy::Proxy,
    target::{Target, on_every_broker},
};

/// How long a test watches for something that must not come.
const QUIET: Duration = Duration::from_millis(700);

on_every_broker! {
    ack_mode_client_settles_everything_with_many_lanes
    ack_mode_client_individual_settles_everything_with_many_lanes
    ack_mode_auto_settles_everything_with_many_lanes
    ack_mode_client_keeps_no_retry_for_long
    ack_mode_client_gives_the_window_back_while_a_service_is_away
    a_drain_in_ack_mode_client_repeats_nothing
    after_a_crash_ack_mode_auto_repeats_nothing_that_was_read
    after_a_crash_ack_mode_client_repeats_all_from_the_first_that_was_not_settled
    after_a_crash_ack_mode_client_individual_repeats_what_was_not_settled
}

fn one(target: &Target, class: &str, ack_mode: &str, extra: serde_json::Value) -> One {
    let mut one = One::new(target, class, extra);
    one.config["queues"]["in"]["ack_mode"] = json!(ack_mode);
    one
}

fn ack_mode_client_settles_everything_with_many_lanes(target: &Target) {
    settles_everything(target, "client");
}

fn ack_mode_client_individual_settles_everything_with_many_lanes(target: &Target) {
    settles_everything(target, "client-individual");
}

fn ack_mode_auto_settles_everything_with_many_lanes(target: &Target) {
    settles_everything(target, "auto");
}

/// Each tenth message is tried again, so lanes settle out of order.
fn settles_everything(target: &Target, ack_mode: &str) {
    let mut one = one(target, "Stumble", ack_mode, json!({"n_threads": 6}));
    one.config["queues"]["in"]["max_buffer_len"] = json!(50);
    let host = Host::start(&one.config);
    target.client().send_all(&one.from, &numbered(1_000)).unwrap();
    host.wait_ended("one", 1_000);
    let did = host.did("one");
    assert_eq!(host.drain(), Drained::Clean);
    assert_eq!((did.received.get(), did.retried.get(), did.possible_duplicates.get()), (1_000, 100, 0));
    assert_eq!(texts(&target.drain(&one.to)), numbered(1_000));
    assert_eq!(texts(&target.drain(&one.from)), [""; 0], "every input was acknowledged");
}

/// The policy asks for ten minutes between attempts; in this mode all of them fit into seconds.
fn ack_mode_client_keeps_no_retry_for_long(target: &Target) {
    let slow = json!({"max_attempts": 4, "min_delay_ms": 600_000, "max_delay_ms": 600_000});
    let one = one(target, "RetryAlways", "client", json!({"retry": slow}));
    let host = Host::start(&one.config);
    target.client().send_all(&one.from, &numbered(3)).unwrap();
    host.wait_ended("one", 3);
    assert_eq!(host.drain(), Drained::Clean);
    let dead = target.drain(&one.dead);
    assert_eq!(texts(&dead), numbered(3));
    assert!(dead.iter().all(|letter| letter.header("stompbox_error_code") == Some("always")), "{dead:?}");
}

fn ack_mode_client_gives_the_window_back_while_a_service_is_away(target: &Target) {
    let one = one(target, "AwayTwice", "client", json!({}));
    let host = Host::start(&one.config);
    target.client().send_all(&one.from, &numbered(20)).unwrap();
    host.wait_ended("one", 20);
    let did = host.did("one");
    assert_eq!(host.drain(), Drained::Clean);
    assert!(did.received.get() > 20, "what is given back is received again");
    assert_eq!(texts(&target.drain(&one.to)), numbered(20));
    assert_eq!(target.drain(&one.from).len(), 0);
}

fn a_drain_in_ack_mode_client_repeats_nothing(target: &Target) {
    let one = one(target, "Stumble", "client", json!({"n_threads": 4}));
    let host = Host::start(&one.config);
    target.client().send_all(&one.from, &numbered(500)).unwrap();
    let did = host.did("one");
    wait_until("some are settled", || did.ended() > 20);
    let began = Instant::now();
    assert_eq!(host.drain(), Drained::Clean);
    assert!(began.elapsed().as_secs() < 30);
    let all = [target.drain(&one.to), target.drain(&one.from)].concat();
    assert_eq!(texts(&all), numbered(500), "settled or with the broker, never both");
}

fn after_a_crash_ack_mode_auto_repeats_nothing_that_was_read(target: &Target) {
    comes_again_after_a_crash(target, "auto", &[]);
}

fn after_a_crash_ack_mode_client_repeats_all_from_the_first_that_was_not_settled(target: &Target) {
    comes_again_after_a_crash(target, "client", &["1", "2", "3", "4", "sleep"]);
}

fn after_a_crash_ack_mode_client_individual_repeats_what_was_not_settled(target: &Target) {
    comes_again_after_a_crash(target, "client-individual", &["sleep"]);
}

/// The host dies while one lane is at the first message and the other has settled all behind it.
fn comes_again_after_a_crash(target: &Target, ack_mode: &str, expected: &[&str]) {
    // Its thread sleeps on until then, with the instance of a dead host.
    let limits = json!({"time_ms": 60_000});
    let mut one = one(target, "SleepOn", ack_mode, json!({"n_threads": 2, "limits": limits}));
    let proxy = Proxy::to(target.address);
    one.config["mb_servers"]["mb"] = target.server_by(proxy.address);
    let host = Host::start(&one.config);
    target.client().send_all(&one.from, &["sleep", "1", "2", "3", "4"]).unwrap();
    let did = host.did("one");
    wait_until("all but the first are settled", || (did.calls.get(), did.ended()) == (5, 4));
    if ack_mode == "client-individual" {
        wait_until("their ACKs are written", || proxy.count("ACK") == 4);
    }
    drop(host);
    let mut next = target.client();
    next.subscribe(&one.from, "client-individual", &[]).unwrap();
    let mut came = next.read(expected.len(), LIMIT).unwrap();
    came.extend(next.read(1, QUIET).unwrap());
    assert_eq!(texts(&came), expected);
}
