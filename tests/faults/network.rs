//! What networks do: they cut, delay, split, freeze and vanish.

use std::{
    thread,
    time::{Duration, Instant},
};

use serde_json::json;

use super::trial::Trial;
use crate::harness::{
    host::{One, wait_until},
    proxy::{Proxy, To, Way},
    results::seed,
    rounds,
    target::{Target, at_once, on_each_broker},
};

on_each_broker! {
    cuts_at_random_moments_lose_nothing
    cuts_in_ack_mode_client_lose_nothing
    cuts_in_ack_mode_auto_lose_only_what_was_on_the_wire
    delays_lose_and_double_nothing
    frames_split_at_every_byte_lose_and_double_nothing
    with_heart_beats_a_frozen_direction_is_noticed
}

/// Cuts what the host reads, its outputs, or both.
fn cuts(mut trial: Trial, ack_mode: &str, may_lose: bool) {
    let mut random = seed();
    let (count, before) = (rounds(5, 50), trial.reconnects());
    for _ in 0..count {
        thread::sleep(Duration::from_millis(random.u64(0..300)));
        let which = random.u8(0..3);
        if which != 0 {
            trial.inward.cut_all();
        }
        if which != 1 {
            trial.outward.cut_all();
        }
        if may_lose {
            trial.may_lose();
        }
        trial.recovers();
    }
    assert!(trial.reconnects() >= before + u64::from(count), "{} reconnects", trial.reconnects());
    let balance = trial.finish(&format!("network cut, ack mode `{ack_mode}`"), count);
    assert!(balance.left.is_empty() && balance.wrong.is_empty() && balance.refused.is_empty(), "{balance}");
}

fn cuts_at_random_moments_lose_nothing(target: &Target) {
    cuts(Trial::start(target), "client-individual", false);
}

fn cuts_in_ack_mode_client_lose_nothing(target: &Target) {
    cuts(Trial::start_with(target, json!({"ack_mode": "client"}), |_| {}), "client", false);
}

/// Where the host acknowledges in the broker's place (RabbitMQ, Artemis) not even that.
fn cuts_in_ack_mode_auto_lose_only_what_was_on_the_wire(target: &Target) {
    let stands_in = target.is_rabbitmq() || target.is_artemis();
    cuts(Trial::start_with(target, json!({"ack_mode": "auto"}), |_| {}), "auto", !stands_in);
}

fn everywhere(trial: &Trial, to: To, way: Way) {
    [&trial.inward, &trial.outward].into_iter().for_each(|proxy| proxy.set(to, way));
}

fn delays_lose_and_double_nothing(target: &Target) {
    let mut trial = Trial::start(target);
    for to in [To::Client, To::Broker] {
        everywhere(&trial, to, Way::Delay(30));
    }
    trial.recovers();
    thread::sleep(Duration::from_secs(2).saturating_mul(rounds(1, 20)));
    for to in [To::Client, To::Broker] {
        everywhere(&trial, to, Way::Pass);
    }
    assert_eq!(trial.finish("each segment delayed by up to 30 ms", 1).duplicated, 0);
}

fn frames_split_at_every_byte_lose_and_double_nothing(target: &Target) {
    let mut trial = Trial::start(target);
    for to in [To::Client, To::Broker] {
        everywhere(&trial, to, Way::Bytes);
        trial.recovers();
        thread::sleep(Duration::from_secs(1).saturating_mul(rounds(1, 20)));
        everywhere(&trial, to, Way::Pass);
    }
    assert_eq!(trial.finish("each byte a segment of its own", 1).duplicated, 0);
}

fn with_beats(one: &mut One) {
    for server in ["mb", "other"] {
        one.config["mb_servers"][server]["send_heartbeat_ms"] = json!(500);
        one.config["mb_servers"][server]["recv_heartbeat_ms"] = json!(500);
    }
}

/// One direction of a connection carries nothing more: what the broker says does not come, or what the host says does
/// not arrive. Each side notices the other's silence by its heart-beats.
fn with_heart_beats_a_frozen_direction_is_noticed(target: &Target) {
    let mut trial = Trial::start_with(target, json!({}), with_beats);
    let mut random = seed();
    for to in [To::Client, To::Broker] {
        for round in 0..rounds(2, 10) {
            thread::sleep(Duration::from_millis(random.u64(0..300)));
            let proxy = if round % 2 == 0 { &trial.inward } else { &trial.outward };
            proxy.freeze(to);
            trial.recovers();
        }
    }
    trial.finish("one direction frozen, heart-beats of 500 ms", 2 * rounds(2, 10));
}

/// How long a dead peer may go unnoticed with the documented default, `recv_heartbeat_ms` 0.
const UNNOTICED: Duration = Duration::from_secs(100);

/// The machine with the broker is gone without a word: what is sent is never acknowledged, not even by its kernel.
fn the_peer_vanishes(target: &Target) {
    let mut trial = Trial::start(target);
    trial.set_rate(50);
    trial.inward.vanish();
    trial.outward.vanish();
    trial.recovers_within(UNNOTICED);
    // Until then the broker keeps what those connections have for them.
    trial.inward.bury();
    trial.finish("peer vanished (half-open), default heart-beats", 1);
}

#[test]
fn with_default_heart_beats_a_peer_that_vanished_is_noticed() {
    at_once(&[Target::embedded, Target::activemq, Target::rabbitmq, Target::artemis], the_peer_vanishes);
}

/// A broker that takes the connection and answers nothing, then one that answers.
#[test]
fn a_mute_broker_is_left_and_tried_again_at_the_pace_of_the_back_off() {
    let target = Target::embedded();
    let mut trial = Trial::start(&target);
    trial.set_rate(50);
    [&trial.inward, &trial.outward].into_iter().for_each(|proxy| proxy.mute(true));
    let (began, before) = (Instant::now(), connects(&trial.inward));
    trial.inward.cut_all();
    trial.outward.cut_all();
    wait_until("a second try of each of the two connections", || connects(&trial.inward) >= before + 4);
    [&trial.inward, &trial.outward].into_iter().for_each(|proxy| proxy.mute(false));
    // Each try waits 15 s for CONNECTED; two connections.
    let (tries, most) = (connects(&trial.inward) - before, 4 + 2 * began.elapsed().as_secs() / 15);
    assert!(tries as u64 <= most, "{tries} tries in {:?}", began.elapsed());
    trial.recovers();
    trial.finish("broker mute after CONNECT", 1);
}

fn connects(proxy: &Proxy) -> usize {
    proxy.count("CONNECT")
}
