//! The host dies at random moments, under load, with every setting that settlement depends on: nothing is lost.

use std::{collections::BTreeSet, path::Path, thread, time::Duration};

use fastrand::Rng;
use serde_json::{Value, json};

use crate::harness::{
    guests,
    host::One,
    ledger::{Balance, Ledger, sorter},
    process::Process,
    results::{Row, seed},
    rounds,
    target::{Target, on_each_broker},
};

/// One way to set what settlement depends on.
#[derive(Debug, Clone, Copy)]
struct Setting {
    ack_mode: &'static str,
    n_threads: u32,
    max_buffer_len: u32,
    use_transaction: bool,
}

/// Each three of the four settings meet in every combination.
fn settings() -> Vec<Setting> {
    let mut all = Vec::new();
    for (ack_mode, other) in [("client-individual", false), ("client", true), ("auto", false)] {
        for (n_threads, max_buffer_len) in [(1, 1), (4, 999), (1, 999), (4, 1)] {
            let use_transaction = ((n_threads == 1) == (max_buffer_len == 1)) != other;
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
fn each_three_settings_meet() {
    let all = settings();
    assert!(all.len() <= 12);
    for left_out in 0..4 {
        let others = |setting: &Setting| {
            let Setting { ack_mode, n_threads, max_buffer_len, use_transaction } = setting;
            let mut values = vec![json!(ack_mode), json!(n_threads), json!(max_buffer_len), json!(use_transaction)];
            values.remove(left_out);
            json!(values).to_string()
        };
        let met: BTreeSet<String> = all.iter().map(others).collect();
        assert_eq!(met.len(), if left_out == 0 { 8 } else { 12 }, "{met:?}");
    }
}

on_each_broker! {
    the_host_is_killed_at_random_moments
}

/// How often the host is killed with each setting.
fn kills() -> u32 {
    rounds(3, 50)
}

/// Starts the host and kills it: on its way up, at work, or on its way down.
fn live_and_die(dir: &Path, config: &Value, random: &mut Rng) {
    let millis = |random: &mut Rng, most| thread::sleep(Duration::from_millis(random.u64(0..most)));
    let moment = random.u8(0..4);
    if moment == 0 {
        let host = Process::spawn(dir, config);
        millis(random, 600);
        return host.kill();
    }
    let host = Process::start(dir, config);
    millis(random, 250);
    if moment == 1 {
        host.signal();
        millis(random, 20);
    }
    host.kill();
}

fn killed_under_load(target: &Target, setting: Setting, random: &mut Rng) -> Balance {
    let one = setting.one(target);
    let dir = tempfile::tempdir().unwrap();
    guests::plugins_dir();
    let ledger = Ledger::open(target, &one);
    (0..kills()).for_each(|_| live_and_die(dir.path(), &one.config, random));
    let highest = ledger.highest();
    let host = Process::start(dir.path(), &one.config);
    let end = || assert!(host.terminate().success());
    if setting.ack_mode == "auto" {
        ledger.close_with_losses(highest, target, &one, end)
    } else {
        ledger.close(target, &one, end)
    }
}

/// SIGKILL of the host at random moments.
fn the_host_is_killed_at_random_moments(target: &Target) {
    let broker = target.name();
    let mut random = seed();
    for setting in settings() {
        let balance = killed_under_load(target, setting, &mut random);
        println!("{broker} {setting:?}: {balance}");
        if setting.ack_mode == "auto" {
            was_carried_out_at_most_once(target, &balance, setting.window());
        } else {
            balance.is_even();
            assert_eq!(balance.refused, [0; 0], "{balance}");
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
    let Balance { sent, forwarded, filtered, dead_lettered, lost, duplicated, refused, left, wrong, .. } = balance;
    let lost = lost.len() as u32;
    // Artemis takes its time to give back what a dead host had: some of it may be in the queue still.
    let left = left.len() as u32;
    assert_eq!(forwarded + filtered + dead_lettered + lost + left, *sent, "{balance}");
    assert_eq!((refused.len(), wrong.len()), (0, 0), "{balance}");
    assert!(left == 0 || target.is_artemis(), "{balance}");
    let in_the_host = if target.is_rabbitmq() || target.is_artemis() { 2 * window + ONE_READ } else { 0 };
    assert!(*duplicated <= in_the_host * kills(), "{balance}");
    assert!(in_the_host == 0 || lost <= in_the_host * kills(), "{balance}");
}
