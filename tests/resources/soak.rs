//! Many messages, and out queues that are slow: memory that does not grow, and nothing lost or doubled.

use std::{
    collections::HashSet,
    thread,
    time::{Duration, Instant},
};

use serde_json::json;
use stompbox::dev_broker::Faults;

use crate::{
    harness::{
        client::Client,
        host::{LIMIT, One, wait_until},
        long,
        process::Process,
        target::Target,
    },
    operate::{admin, metric},
};

/// So many are on their way at once.
const CHUNK: usize = 5_000;

fn bodies(from: usize, count: usize) -> Vec<String> {
    (from..from + count).map(|number| format!("{number:07} {}", "x".repeat(500))).collect()
}

/// Reads that many messages and notes their numbers; none may come twice.
fn read(client: &mut Client, count: usize, seen: &mut HashSet<u32>) {
    let messages = client.read(count, LIMIT).unwrap();
    assert_eq!(messages.len(), count, "all of them come");
    for message in messages {
        let number = std::str::from_utf8(&message.body[..7]).unwrap().parse().unwrap();
        assert!(seen.insert(number), "{number} came twice");
    }
}

/// 100,000 messages, or with `--long` 1,000,000: what the host has taken of memory at half of them is enough for
/// the rest.
#[test]
fn memory_is_flat() {
    let messages = if long() { 1_000_000 } else { 100_000 };
    let target = Target::embedded();
    let one = One::new(&target, "Echo", json!({"n_threads": 2}));
    let dir = tempfile::tempdir().unwrap();
    let host = Process::start(dir.path(), &one.config);
    let mut out = target.client();
    out.subscribe(&one.to, "auto", &[]).unwrap();
    let (mut client, mut seen) = (target.client(), HashSet::new());
    let (start, began) = (host.resident_kib(), Instant::now());
    let mut middle = 0;
    for chunk in 0..messages / CHUNK {
        client.send_all(&one.from, &bodies(chunk * CHUNK, CHUNK)).unwrap();
        read(&mut out, CHUNK, &mut seen);
        if chunk * CHUNK < messages / 2 {
            middle = host.resident_kib();
        }
    }
    let end = host.resident_kib();
    println!("{messages} messages in {:?}: resident {start} KiB, half-way {middle}, at the end {end}", began.elapsed());
    assert_eq!(seen.len(), messages);
    assert!(end <= middle + middle / 10, "memory grows: {middle} KiB half-way, {end} at the end");
    assert!(host.terminate().success());
    assert_eq!(target.drain(&one.from).len() + target.drain(&one.dead).len(), 0);
}

/// 50,000 messages wait at a broker whose neighbour takes outputs slowly: the host has only its window of them.
#[test]
fn a_slow_out_queue_pushes_back() {
    const MESSAGES: usize = 50_000;
    /// Of `max_buffer_len` and one for each lane.
    const WINDOW: usize = 202;
    let (target, slow, address) = (Target::embedded(), Target::embedded(), admin());
    let mut one = One::new(&target, "Echo", json!({"n_threads": 2}));
    one.send_to(slow.server());
    one.config["queues"]["in"]["max_buffer_len"] = json!(200);
    one.config["admin"] = json!({"listen": address});
    target.client().send_all(&one.from, &bodies(0, MESSAGES)).unwrap();
    slow.handle().set_faults(Faults { delay: Duration::from_millis(500), ..Faults::default() });
    let dir = tempfile::tempdir().unwrap();
    let host = Process::start(dir.path(), &one.config);
    let start = host.resident_kib();
    let (waiting, unconfirmed) =
        (|| target.handle().queue_depth(&one.from), || slow.handle().queue_depth(&one.to).waiting);
    let series = |name: &str| format!("stompbox_{name}{{processor=\"one\",vo=\"\"}}");
    let (mut most, mut most_bytes, mut most_kib) = (0.0_f64, 0.0_f64, start);
    let until = Instant::now() + LIMIT;
    while unconfirmed() < 2_000 {
        assert!(Instant::now() < until, "the slow broker gets nothing");
        most = most.max(metric(address, &series("unconfirmed_messages")));
        most_bytes = most_bytes.max(metric(address, &series("unconfirmed_bytes")));
        most_kib = most_kib.max(host.resident_kib());
        thread::sleep(Duration::from_millis(20));
    }
    println!(
        "unconfirmed at most {most} messages, {most_bytes} bytes; resident {start} KiB at first, at most {most_kib}"
    );
    assert!(waiting().waiting > MESSAGES / 2, "the rest stays with its broker: {:?}", waiting());
    assert!(waiting().unacked <= WINDOW, "{:?}", waiting());
    assert!(most >= 1.0 && most <= (2 * WINDOW) as f64 && most_bytes < 1e6, "{most} messages, {most_bytes} bytes");
    assert!(most_kib < start + (32 << 10), "{start} KiB at first, then {most_kib}");
    slow.handle().set_faults(Faults::default());
    let (mut out, mut seen) = (slow.client(), HashSet::new());
    out.subscribe(&one.to, "auto", &[]).unwrap();
    read(&mut out, MESSAGES, &mut seen);
    wait_until("all are acknowledged", || waiting().waiting + waiting().unacked == 0);
    assert!(host.terminate().success());
}
