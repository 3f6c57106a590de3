//! The host dies at random moments, under load, with every setting that settlement depends on: nothing is lost.

use std::{thread, time::Duration};

use fastrand::Rng;
use serde_json::json;

use crate::harness::{
    guests,
    host::One,
    ledger::{Balance, Ledger, sorter},
    long,
    process::Process,
    results::{Row, seed},
    target::Target,
};

/// One way to set what settlement depends on.
#[derive(Debug, Clone, Copy)]
struct Setting {
    ack_mode: &'static str,
    n_threads: u32,
    max_buffer_len: u32,
    use_transaction: bool,
}

/// Each three of the four settings meet in every combination, so each pair does too.
fn settings() -> Vec<Setting> {
    let mut all = Vec::new();
    for ack_mode in ["client-individual", "client", "auto"] {
        for (n_threads, max_buffer_len) in [(1, 1), (4, 999), (1, 999), (4, 1)] {
            let use_transaction = (n_threads == 1) == (max_buffer_len == 1);
            all.push(Setting { ack_mode, n_threads, max_buffer_len, use_transaction });
        }
    }
    all
}

impl Setting {
    fn one(&self, target: &Target) -> One {
        let Self { ack_mode, n_threads, max_buffer_len, use_transaction } = self;
        let queue = json!({"ack_mode": ack_mode, "max_buffer_len": max_buffer_len, "use_transaction": use_transaction});
        sorter(target, &queue, json!({"n_threads": n_threads}))
    }

    /// How many deliveries the broker may have outstanding with us.
    fn window(&self) -> u32 {
        self.max_buffer_len + self.n_threads
    }
}

#[test]
fn the_settings_meet_in_pairs() {
    let all = settings();
    assert!(all.len() <= 12);
    let values = |setting: &Setting| {
        let Setting { ack_mode, n_threads, max_buffer_len, use_transaction } = setting;
        [json!(ack_mode), json!(n_threads), json!(max_buffer_len), json!(use_transaction)]
    };
    for first in 0..4 {
        for second in 0..first {
            let pairs: std::collections::BTreeSet<String> =
                all.iter().map(|setting| format!("{} {}", values(setting)[first], values(setting)[second])).collect();
            let count = |index: usize| if index == 0 { 3 } else { 2 };
            assert_eq!(pairs.len(), count(first) * count(second), "{pairs:?}");
        }
    }
}

/// How often the host is killed with each setting.
fn kills() -> u32 {
    if long() { 50 } else { 3 }
}

fn killed_under_load(target: &Target, setting: Setting, random: &mut Rng) -> Balance {
    let one = setting.one(target);
    let dir = tempfile::tempdir().unwrap();
    guests::plugins_dir();
    let ledger = Ledger::open(target, &one);
    for _ in 0..kills() {
        let host = Process::start(dir.path(), &one.config);
        thread::sleep(Duration::from_millis(random.u64(0..250)));
        host.kill();
    }
    let host = Process::start(dir.path(), &one.config);
    let end = || assert!(host.terminate().success());
    if setting.ack_mode == "auto" {
        ledger.close_with_losses(target, &one, end)
    } else {
        ledger.close(target, &one, end)
    }
}

/// SIGKILL of the host at random moments.
fn the_host_is_killed(target: &Target) {
    let broker = target.name();
    let mut random = seed();
    for setting in settings() {
        let balance = killed_under_load(target, setting, &mut random);
        println!("{broker} {setting:?}: {balance}");
        if setting.ack_mode == "auto" {
            was_carried_out_at_most_once(target, &balance, setting.window());
        } else {
            balance.is_even();
            let most = setting.window() * kills();
            assert!(balance.duplicated <= most, "more than window x kills ({most}): {balance}");
        }
        let Setting { ack_mode, n_threads, max_buffer_len, use_transaction } = setting;
        let fault = format!(
            "SIGKILL of the host: `{ack_mode}`, {n_threads} lanes, buffer {max_buffer_len}, transactions {use_transaction}"
        );
        Row::new(&fault, broker, kills(), &balance).write();
    }
}

/// The most messages that one read brings.
const ONE_READ: u32 = 400;

/// What ack mode auto promises when the host dies: the messages that the broker had sent (RabbitMQ, Artemis: that the
/// host had read) are gone with it, and none is carried out twice (RabbitMQ, Artemis: but those of which the host's own
/// ACKs were on the way). Everything else is settled.
fn was_carried_out_at_most_once(target: &Target, balance: &Balance, window: u32) {
    let Balance { sent, forwarded, filtered, dead_lettered, lost, duplicated, left, wrong, .. } = balance;
    let lost = lost.len() as u32;
    assert_eq!((forwarded + filtered + dead_lettered + lost, left.len(), wrong.len()), (*sent, 0, 0), "{balance}");
    let in_the_host = if target.is_rabbitmq() || target.is_artemis() { 2 * window + ONE_READ } else { 0 };
    assert!(*duplicated <= in_the_host * kills(), "{balance}");
    assert!(in_the_host == 0 || lost <= in_the_host * kills(), "{balance}");
}

#[test]
fn the_host_is_killed_on_the_embedded_broker() {
    the_host_is_killed(&Target::embedded());
}

#[test]
fn the_host_is_killed_on_activemq() {
    the_host_is_killed(&Target::activemq());
}

#[test]
fn the_host_is_killed_on_rabbitmq() {
    the_host_is_killed(&Target::rabbitmq());
}

#[test]
fn the_host_is_killed_on_artemis() {
    the_host_is_killed(&Target::artemis());
}
