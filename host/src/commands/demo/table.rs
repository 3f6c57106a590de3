//! The demo's last word: what happened to every message.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{console::say, dev_broker::BrokerHandle, metrics::ProcessorMetrics};

/// One processor of the demo.
pub(super) struct Row {
    name: &'static str,
    /// Messages sent to it.
    pub(super) sent: u64,
    /// What it did.
    pub(super) did: Arc<ProcessorMetrics>,
    elapsed: Option<Duration>,
}

impl Row {
    pub(super) fn new(name: &'static str, sent: u64, did: Arc<ProcessorMetrics>) -> Self {
        Self { name, sent, did, elapsed: None }
    }

    /// Notes the moment when all its messages have ended.
    pub(super) fn note_end(&mut self, began: Instant) {
        if self.did.ended() >= self.sent {
            self.elapsed.get_or_insert_with(|| began.elapsed());
        }
    }

    pub(super) fn is_finished(&self) -> bool {
        self.elapsed.is_some()
    }

    fn cells(&self) -> [String; 11] {
        let (did, latency) = (&self.did, self.did.latency());
        let seconds = self.elapsed.unwrap_or_default().as_secs_f64();
        [
            self.name.to_owned(),
            self.sent.to_string(),
            did.received.get().to_string(),
            did.forwarded.get().to_string(),
            did.filtered.get().to_string(),
            did.dead_lettered.get().to_string(),
            did.retried.get().to_string(),
            format!("{:.0}", did.ended() as f64 / seconds),
            millis(latency.p50),
            millis(latency.p99),
            (did.fuel.get() / did.calls.get().max(1)).to_string(),
        ]
    }
}

const TITLES: [&str; 11] = [
    "processor",
    "sent",
    "received",
    "forwarded",
    "filtered",
    "dead-lettered",
    "retried",
    "messages/s",
    "p50",
    "p99",
    "fuel/message",
];

/// Prints the table and checks it against what lies in the broker's queues; true where every message is
/// accounted for.
pub(super) fn print(rows: &[Row; 2], broker: &BrokerHandle) -> bool {
    let mut lines = vec![TITLES.map(str::to_owned)];
    lines.extend(rows.iter().map(Row::cells));
    say("");
    for line in &lines {
        let text: Vec<String> = line.iter().enumerate().map(|(column, cell)| pad(&lines, column, cell)).collect();
        say(format_args!("{}", text.join("  ")));
    }
    say("");
    let balanced = rows
        .iter()
        .all(|row| row.sent == row.did.forwarded.get() + row.did.filtered.get() + row.did.dead_lettered.get());
    let queues = queues(rows, broker);
    if balanced && queues {
        say(format_args!(
            "Every message is accounted for: forwarded, filtered or dead-lettered, and each output is in its queue."
        ));
    } else {
        say(format_args!(
            "The numbers do not agree: a message is missing or doubled. This is a bug, please report it."
        ));
    }
    balanced && queues
}

/// Names to the left, numbers to the right, each column as wide as its widest cell.
fn pad(lines: &[[String; 11]], column: usize, cell: &str) -> String {
    let width = lines.iter().filter_map(|line| line.get(column)).map(String::len).max().unwrap_or_default();
    if column == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
}

/// Compares the counters with the broker's queues.
fn queues([status, spinner]: &[Row; 2], broker: &BrokerHandle) -> bool {
    let expected = [
        ("/queue/doma.panda_idds", status.did.forwarded.get()),
        ("/queue/jedi_jobtaskstatus.DLQ", status.did.dead_lettered.get()),
        ("/queue/spin.DLQ", spinner.did.dead_lettered.get()),
        ("/queue/jedi_jobtaskstatus", 0),
        ("/queue/spin", 0),
    ];
    let mut right = true;
    for (queue, expected) in expected {
        let depth = broker.queue_depth(queue);
        let found = (depth.waiting + depth.unacked) as u64;
        say(format_args!(
            "{queue:<32} holds {found:>8}, {}",
            if found == expected { "as counted" } else { "NOT as counted" }
        ));
        right &= found == expected;
    }
    say("");
    right
}

fn millis(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1e3)
}
