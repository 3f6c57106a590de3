//! What an operator reads, at every width.

use insta::assert_snapshot;
use serde_json::{Value, json};

use super::*;

/// A host at noon: one processor on trial, one paused, one by the clock; a second ago and now.
fn seen(seconds: u64) -> Seen {
    let digest = |byte: u8| format!("{byte:02x}").repeat(32);
    let generation = |number: u64, standing: &str, byte| json!({"number": number, "digest": digest(byte), "standing": standing, "trial_percent": 33});
    let lanes = |generations: &[u64]| -> Value {
        generations.iter().map(|generation| json!({"generation": generation, "doing": "processing"})).collect()
    };
    let host = json!({
        "version": "0.1.0", "now_ms": 1_000_000_000, "uptime_ms": 260_000_000 + 1_000 * seconds, "ready": false,
        "missing": ["server mb is not connected for outputs of cms", "another"],
        "servers": [{"connections": [
            {"purpose": "outputs", "queue": null, "reconnects": 9, "addresses": []},
            {"purpose": "consume", "queue": "jedi", "reconnects": 2, "addresses": [{"up": true}, {"up": false}]}
        ]}],
        "queues": [{"name": "jedi", "server": "internal_mb", "waiting": 120, "held": 3, "bytes": 61_440}],
        "processors": [
            {
                "name": "push_jobtask_status", "vo": "atlas", "in_queue": "jedi", "paused": false,
                "generations": [generation(8, "on-trial", 0x3f), generation(7, "stable", 0x9a)],
                "lanes": lanes(&[8, 7, 7]),
                "messages": {
                    "received": 1_234_600, "forwarded": 900_000 + 800 * seconds, "filtered": 334_000 + 400 * seconds,
                    "dead_lettered": 12 + seconds, "retried": 40, "in_flight": 2, "unconfirmed": 1
                },
                "latency": {"p50_us": 420, "p99_us": 12_100}
            },
            {
                "name": "transform", "vo": "cms", "in_queue": "jedi", "paused": true,
                "generations": [generation(2, "stable", 0x11)], "lanes": lanes(&[2]), "messages": {"received": 7}
            },
            {"name": "clock", "vo": "", "in_queue": null, "calls": 100 + 2 * seconds}
        ]
    });
    let changes = json!({"entries": [
        {"time_ms": 999_990_000, "who": "file", "name": "push_jobtask_status", "what": "on-trial", "generation": 8, "digest": digest(0x3f)},
        {"time_ms": 999_000_000, "who": "admin", "name": "transform", "what": "paused"},
        {"time_ms": 900_000_000, "who": "file", "name": "transform", "what": "refused",
         "detail": "it imports wasi:sockets/tcp@0.2.0, \u{1b}[2Jwhich no grant of its VO allows: remove it, or ask for it"},
    ]});
    Seen { host: serde_json::from_value(host).unwrap(), changes: serde_json::from_value(changes).unwrap() }
}

fn picture(width: usize) -> String {
    lines(&seen(1), &seen(0), None, &Page { width, height: None, colours: false }).join("\n")
}

#[test]
fn the_page_at_100_columns() {
    assert_snapshot!(picture(100), @r"
    stompbox 0.1.0  up 3 d  not ready: server mb is not connected for outputs of cms, and 1 more

    processor           vo    gen                  /s  recv  fwd filt dead ret wait held   p50  p99 lane
    push_jobtask_status atlas 8 3f3f3f trial 33% 1201 1.23M 901k 334k   13  40  120    3 0.4ms 12ms  3/3
    transform           cms   2 111111 paused       0     7    0    0    0   0  120    3     -    -  1/1
    clock                     -                   2.0     0    0    0    0   0    -    -     -    -    -

    queue  server       waiting  held  bytes  addresses  reconnects
    jedi   internal_mb      120     3  61.4k     1/2 up           2

    last changes
      10 s ago  file  push_jobtask_status: on trial, generation 8 (3f3f3f3f3f3f)
    16 min ago  admin  transform: paused
      27 h ago  file  transform: refused: it imports wasi:sockets/tcp@0.2.0, \u{1b}[2Jwhich no grant of…
    ");
}

#[test]
fn the_page_at_80_columns() {
    assert_snapshot!(picture(80), @r"
    stompbox 0.1.0  up 3 d  not ready: server mb is not connected for outputs of cm…

    processor           gen                  /s  recv  fwd dead wait held  p99 lane
    push_jobtask_status 8 3f3f3f trial 33% 1201 1.23M 901k   13  120    3 12ms  3/3
    transform           2 111111 paused       0     7    0    0  120    3    -  1/1
    clock               -                   2.0     0    0    0    -    -    -    -

    queue  server       waiting  held  bytes  addresses  reconnects
    jedi   internal_mb      120     3  61.4k     1/2 up           2

    last changes
      10 s ago  file  push_jobtask_status: on trial, generation 8 (3f3f3f3f3f3f)
    16 min ago  admin  transform: paused
      27 h ago  file  transform: refused: it imports wasi:sockets/tcp@0.2.0, \u{1b}…
    ");
}

#[test]
fn the_page_with_room_for_all() {
    assert_snapshot!(picture(200), @r"
    stompbox 0.1.0  up 3 d  not ready: server mb is not connected for outputs of cms, and 1 more

    processor            vo     generation          rate/s  received  forwarded  filtered  dead  retried  waiting  held  in flight  unconfirmed  outputs    p50   p99  lanes
    push_jobtask_status  atlas  8 3f3f3f trial 33%    1201     1.23M       901k      334k    13       40      120     3          2            1        0  0.4ms  12ms    3/3
    transform            cms    2 111111 paused          0         7          0         0     0        0      120     3          0            0        0      -     -    1/1
    clock                       -                      2.0         0          0         0     0        0        -     -          0            0        0      -     -      -

    queue  server       waiting  held  bytes  addresses  reconnects
    jedi   internal_mb      120     3  61.4k     1/2 up           2

    last changes
      10 s ago  file  push_jobtask_status: on trial, generation 8 (3f3f3f3f3f3f)
    16 min ago  admin  transform: paused
      27 h ago  file  transform: refused: it imports wasi:sockets/tcp@0.2.0, \u{1b}[2Jwhich no grant of its VO allows: remove it, or ask for it
    ");
}

#[test]
fn no_line_is_wider_than_the_terminal() {
    for width in 64..220 {
        let picture = picture(width);
        let widest = picture.lines().map(|line| line.chars().count()).max().unwrap_or_default();
        assert!(widest <= width, "{width}: {widest}\n{picture}");
    }
}

#[test]
fn no_page_is_higher_than_the_terminal() {
    let many = |seconds: u64| {
        let mut seen = seen(seconds);
        for number in 0..100 {
            let mut one = seen.host.processors[2].clone();
            one.name = format!("p{number:02}");
            one.calls *= if number == 50 { 3 } else { 1 };
            seen.host.processors.push(one);
            let mut queue = seen.host.queues[0].clone();
            queue.name = format!("q{number:02}");
            seen.host.queues.push(queue);
        }
        seen
    };
    for height in 20..150 {
        let page =
            lines(&many(1), &many(0), Some("no answer"), &Page { width: 100, height: Some(height), colours: true });
        assert!(page.len() <= height, "{height}: {}", page.len());
        let page = page.join("\n");
        for name in ["no answer", "push_jobtask_status", "transform ", "jedi", "last changes"] {
            assert!(page.contains(name), "{name} at {height}:\n{page}");
        }
        assert!(height < 30 || page.contains("p50"), "the busiest at {height}:\n{page}");
        assert!(page.contains(" more\n"), "{page}");
    }
}

#[test]
fn nothing_of_a_host_s_words_is_obeyed_by_a_terminal() {
    assert!(!picture(200).contains('\u{1b}') && picture(200).contains("\\u{1b}[2Jwhich"), "{}", picture(200));
    let colours = lines(&seen(1), &seen(0), None, &Page { width: 100, height: None, colours: true }).join("\n");
    let mut parts = colours.split("\u{1b}[");
    let first = parts.next().map(str::to_owned);
    let plain: String =
        first.into_iter().chain(parts.map(|part| part.split_once('m').expect("a colour").1.to_owned())).collect();
    assert_eq!(plain, picture(100));
}

#[test]
fn a_host_that_was_started_again_has_no_rate_yet() {
    let again = lines(&seen(0), &seen(1), None, &Page { width: 200, height: None, colours: false }).join("\n");
    let row = again.lines().find(|line| line.starts_with("clock")).unwrap();
    assert_eq!(row.split_whitespace().nth(2), Some("-"), "{row}");
}
