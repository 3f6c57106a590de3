//! What /v1/status and /v1/processors tell: numbers that are counted anyway, taken together.
//!
//! Called by [`super::api`]. Names of fields are a contract: `admin/openapi.json` describes them, the commands of
//! operators read them. No secret is among them.

use std::{
    collections::BTreeMap,
    time::{SystemTime, UNIX_EPOCH},
};

use serde::Serialize;

use super::Shared;
use crate::{
    stage::StageReport,
    status::{Link, ProcessorStatus, QueueStatus},
    version,
};

/// The host.
#[derive(Debug, Serialize)]
pub(super) struct HostReport {
    version: &'static str,
    wasmtime: &'static str,
    /// The host's clock, in milliseconds since 1970.
    now_ms: u64,
    uptime_ms: u64,
    ready: bool,
    missing: Vec<String>,
    /// What waits or is held in all queues.
    buffered_bytes: usize,
    log_lines_dropped: u64,
    servers: Vec<ServerReport>,
    queues: Vec<QueueReport>,
    processors: Vec<ProcessorReport>,
}

#[derive(Debug, Serialize)]
struct ServerReport {
    name: String,
    connections: Vec<ConnectionReport>,
}

#[derive(Debug, Serialize)]
struct ConnectionReport {
    purpose: &'static str,
    /// The queue it reads; null where it sends.
    queue: Option<String>,
    vo: String,
    up: bool,
    reconnects: u64,
    /// Where a queue is read from.
    addresses: Vec<AddressReport>,
}

#[derive(Debug, Serialize)]
struct AddressReport {
    address: String,
    up: bool,
}

#[derive(Debug, Serialize)]
struct QueueReport {
    name: String,
    server: String,
    vo: String,
    waiting: usize,
    held: usize,
    bytes: usize,
    max_waiting: usize,
    max_bytes: usize,
    dropped_stale: u64,
    oversized: u64,
    possible_repeats: u64,
}

/// One processor.
#[derive(Debug, Serialize)]
pub(super) struct ProcessorReport {
    name: String,
    vo: String,
    /// The queue it reads; null where it works by the clock.
    in_queue: Option<String>,
    #[serde(flatten)]
    stage: StageReport,
    messages: MessagesReport,
    latency: LatencyReport,
    calls: u64,
    fuel: u64,
    failures: BTreeMap<&'static str, u64>,
    guest: GuestReport,
}

#[derive(Debug, Serialize)]
struct MessagesReport {
    received: u64,
    forwarded: u64,
    filtered: u64,
    dead_lettered: u64,
    retried: u64,
    possible_duplicates: u64,
    outputs_confirmed: u64,
    outputs_unsent: u64,
    in_flight: usize,
    unconfirmed: usize,
    unconfirmed_bytes: usize,
}

/// From reading a message to settling it, since the start.
#[derive(Debug, Serialize)]
struct LatencyReport {
    p50_us: u64,
    p99_us: u64,
    max_us: u64,
}

#[derive(Debug, Serialize)]
struct GuestReport {
    counters: BTreeMap<String, u64>,
    counters_refused: u64,
    log_dropped_bytes: u64,
}

/// All that there is to tell.
pub(super) fn host(shared: &Shared) -> HostReport {
    let status = shared.served.board.now();
    let missing = status.missing();
    let queues: Vec<_> = status.queues.iter().map(|status| queue(status)).collect();
    let mut servers: BTreeMap<&str, Vec<ConnectionReport>> = BTreeMap::new();
    for link in &status.links {
        servers.entry(&link.server).or_default().push(connection(link));
    }
    let servers = servers.into_iter().map(|(name, connections)| ServerReport { name: name.to_owned(), connections });
    HostReport {
        version: version::STOMPBOX,
        wasmtime: version::WASMTIME,
        now_ms: millis(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()),
        uptime_ms: millis(shared.started.elapsed()),
        ready: missing.is_empty(),
        missing,
        buffered_bytes: queues.iter().map(|queue| queue.bytes).sum(),
        log_lines_dropped: status.logs.as_ref().map_or(0, |logs| logs.dropped()),
        servers: servers.collect(),
        queues,
        processors: status.processors.iter().map(|status| processor(status)).collect(),
    }
}

/// One processor.
pub(super) fn processor(processor: &ProcessorStatus) -> ProcessorReport {
    let (did, guest) = (&processor.metrics, &processor.guest);
    let latency = did.latency();
    ProcessorReport {
        name: processor.name.to_string(),
        vo: processor.vo.to_string(),
        in_queue: processor.in_queue.as_deref().map(str::to_owned),
        stage: processor.stage.report(),
        messages: messages(processor),
        latency: LatencyReport {
            p50_us: micros(latency.p50),
            p99_us: micros(latency.p99),
            max_us: micros(latency.max),
        },
        calls: did.calls.get(),
        fuel: did.fuel.get(),
        failures: did.failures.by_code().chain([("terminate", guest.failed_terminates())]).collect(),
        guest: GuestReport {
            counters: guest.snapshot().into_iter().collect(),
            counters_refused: guest.refused(),
            log_dropped_bytes: guest.dropped_log_bytes(),
        },
    }
}

fn messages(processor: &ProcessorStatus) -> MessagesReport {
    let did = &processor.metrics;
    let (unconfirmed, unconfirmed_bytes) = processor.unconfirmed.levels();
    MessagesReport {
        received: did.received.get(),
        forwarded: did.forwarded.get(),
        filtered: did.filtered.get(),
        dead_lettered: did.dead_lettered.get(),
        retried: did.retried.get(),
        possible_duplicates: did.possible_duplicates.get(),
        outputs_confirmed: did.outputs.get(),
        outputs_unsent: did.unsent.get(),
        in_flight: processor.in_work.len(),
        unconfirmed,
        unconfirmed_bytes,
    }
}

fn queue(queue: &QueueStatus) -> QueueReport {
    let (waiting, held, dropped_stale) = queue.buffer.counts();
    let options = queue.buffer.options();
    QueueReport {
        name: queue.name.to_string(),
        server: queue.server.to_string(),
        vo: queue.vo.clone(),
        waiting,
        held,
        bytes: queue.buffer.bytes(),
        max_waiting: options.max_len,
        max_bytes: options.max_bytes,
        dropped_stale,
        oversized: queue.buffer.oversized(),
        possible_repeats: queue.buffer.repeats(),
    }
}

fn connection(link: &Link) -> ConnectionReport {
    // Without an address it sends, from wherever it could be opened.
    let addresses = link.by_address().into_iter().filter(|(address, _)| !address.is_empty());
    ConnectionReport {
        purpose: link.purpose,
        queue: link.queue.as_deref().map(str::to_owned),
        vo: link.vo.to_string(),
        up: link.is_up(),
        reconnects: link.reconnects(),
        addresses: addresses.map(|(address, up)| AddressReport { address, up }).collect(),
    }
}

fn millis(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn micros(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
