//! /metrics: the numbers of a [`Status`] and an audit log in the text format of Prometheus (OpenMetrics).
//!
//! One row of a table for each metric; its name, help and kind stand beside where it comes from. Labels are
//! names of the configuration, codes of the host, names of guest counters and addresses of brokers, all of them
//! bounded.

use std::{fmt, sync::Arc};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, NoLabelSet, text},
    metrics::MetricType,
    registry::Registry,
};

use super::Served;
use crate::{
    metrics::ProcessorMetrics,
    status::{Link, ProcessorStatus, QueueStatus, Status},
    version,
};

/// The page for now.
pub(super) fn render(served: &Served) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("stompbox");
    registry.register_collector(Box::new(Page(served.clone())));
    let mut page = String::new();
    text::encode(&mut page, &registry).map(|()| page)
}

#[derive(Debug)]
struct Page(Served);

/// Where a number comes from.
type Value<T> = fn(&T) -> u64;

/// Name, help, and where the number comes from.
type Row<T> = (&'static str, &'static str, Value<T>);

/// Counters of a processor; `_total` is added to their names.
const COUNTED: [Row<ProcessorMetrics>; 6] = [
    ("messages_received", "Deliveries given to the processor for the first time", |did| did.received.get()),
    ("messages_retried", "Deliveries held for another attempt or run again in a fresh instance", |did| {
        did.retried.get()
    }),
    ("outputs_confirmed", "Outputs that the broker has confirmed", |did| did.outputs.get()),
    ("outputs_unsent", "Outputs returned by a processor that has no out_queue", |did| did.unsent.get()),
    ("calls", "Calls of the component", |did| did.calls.get()),
    ("fuel", "Fuel used by all calls, about one unit for each WebAssembly instruction", |did| did.fuel.get()),
];

/// How a delivery can end.
const OUTCOMES: [(&str, Value<ProcessorMetrics>); 4] = [
    ("forwarded", |did| did.forwarded.get()),
    ("filtered", |did| did.filtered.get()),
    ("dead_lettered", |did| did.dead_lettered.get()),
    ("possible_duplicate", |did| did.possible_duplicates.get()),
];

/// Levels of a processor.
const LEVELS: [Row<ProcessorStatus>; 3] = [
    ("messages_in_flight", "Deliveries in work: taken by a lane and not settled", |p| p.in_work.len() as u64),
    ("unconfirmed_messages", "Deliveries whose outputs or dead letter the broker has not confirmed", |p| {
        p.unconfirmed.levels().0 as u64
    }),
    ("unconfirmed_bytes", "Bytes of outputs and dead letters that the broker has not confirmed", |p| {
        p.unconfirmed.levels().1 as u64
    }),
];

/// Levels of a queue that is read.
const BUFFERS: [Row<QueueStatus>; 5] = [
    ("buffer_waiting", "Deliveries waiting for a lane", |q| q.buffer.counts().0 as u64),
    ("buffer_held", "Deliveries held for a later attempt", |q| q.buffer.counts().1 as u64),
    ("buffer_bytes", "Bytes of the deliveries that wait or are held", |q| q.buffer.bytes() as u64),
    ("buffer_max_waiting", "Deliveries waiting at which the socket is no longer read (max_buffer_len)", |q| {
        q.buffer.options().max_len as u64
    }),
    ("buffer_max_bytes", "Bytes waiting at which the socket is no longer read (max_buffer_mb)", |q| {
        q.buffer.options().max_bytes as u64
    }),
];

impl Collector for Page {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let status = self.0.board.now();
        let Status { processors, queues, links, logs } = &*status;
        let mut page = Writer(&mut encoder);
        page.host(logs.as_ref().map(|logs| logs.dropped()))?;
        for (name, help, value) in COUNTED {
            page.counters(name, help, processors.iter().map(|p| (labels(p), value(&p.metrics))))?;
        }
        let ended = processors
            .iter()
            .flat_map(|p| OUTCOMES.map(|(outcome, value)| (with(p, "outcome", outcome), value(&p.metrics))));
        page.counters("messages_settled", "Deliveries that have ended, by how", ended)?;
        let failed = processors.iter().flat_map(|p| {
            let ends = ("terminate", p.guest.failed_terminates());
            p.metrics.failures.by_code().chain([ends]).map(|(code, count)| (with(p, "code", code), count))
        });
        page.counters("call_failures", "Failed calls, starts and farewells of instances, by kind", failed)?;
        for (name, help, value) in LEVELS {
            page.gauges(name, help, processors.iter().map(|p| (labels(p), value(p))))?;
        }
        page.latency(processors)?;
        page.fuel(processors)?;
        page.guests(processors)?;
        page.changes(processors, self.0.audit.counts())?;
        page.queues(queues)?;
        page.gauges(
            "connection_up",
            "Whether the connection is there: subscribed at this address, or ready to send",
            links.iter().flat_map(connections),
        )?;
        page.counters(
            "reconnects",
            "How often the connection, or one of those to several addresses, came back after a break",
            links.iter().map(|l| (of_link(l), l.reconnects())),
        )
    }
}

type Labels = Vec<(&'static str, String)>;

fn labels(processor: &ProcessorStatus) -> Labels {
    vec![("processor", processor.name.to_string()), ("vo", processor.vo.to_string())]
}

fn with(processor: &ProcessorStatus, name: &'static str, value: &str) -> Labels {
    let mut labels = labels(processor);
    labels.push((name, value.to_owned()));
    labels
}

fn of_queue(queue: &QueueStatus) -> Labels {
    vec![("queue", queue.name.to_string()), ("server", queue.server.to_string()), ("vo", queue.vo.clone())]
}

fn of_link(link: &Arc<Link>) -> Labels {
    let queue = link.queue.as_deref().unwrap_or_default().to_owned();
    let (server, purpose, vo) = (link.server.to_string(), link.purpose.to_owned(), link.vo.to_string());
    vec![("server", server), ("queue", queue), ("purpose", purpose), ("vo", vo)]
}

/// One for each address that a queue is read from, one that sends.
fn connections(link: &Arc<Link>) -> impl Iterator<Item = (Labels, u64)> {
    let labels = of_link(link);
    link.by_address().into_iter().map(move |(address, up)| {
        let mut labels = labels.clone();
        labels.push(("address", address));
        (labels, up.into())
    })
}

/// Writes metrics, each with its help.
struct Writer<'a, 'b>(&'a mut DescriptorEncoder<'b>);

impl Writer<'_, '_> {
    /// What waits in the host, and what sessions say of it.
    fn queues(&mut self, queues: &[Arc<QueueStatus>]) -> fmt::Result {
        for (name, help, value) in BUFFERS {
            self.gauges(name, help, queues.iter().map(|q| (of_queue(q), value(q))))?;
        }
        let stale = queues.iter().map(|q| (of_queue(q), q.buffer.counts().2));
        self.counters(
            "buffer_dropped_stale",
            "Deliveries that ended unprocessed: their session had died, or they came again and were settled before",
            stale,
        )?;
        self.counters(
            "oversized_messages",
            "How often a message came that exceeds a limit of frames, and was left un-acked with its broker",
            queues.iter().map(|q| (of_queue(q), q.buffer.oversized())),
        )?;
        self.counters(
            "possible_repeats",
            "Settled messages that may be processed again unrecognised: an ACK was lost with its connection, or \
             another reader has them",
            queues.iter().map(|q| (of_queue(q), q.buffer.repeats())),
        )
    }

    fn counters<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        values: impl Iterator<Item = (L, u64)>,
    ) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in values {
            metric.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&value, None)?;
        }
        Ok(())
    }

    fn gauges<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        values: impl Iterator<Item = (L, u64)>,
    ) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in values {
            metric.encode_family(&labels)?.encode_gauge(&i64::try_from(value).unwrap_or(i64::MAX))?;
        }
        Ok(())
    }

    fn host(&mut self, dropped_lines: Option<u64>) -> fmt::Result {
        let version = vec![("version", version::STOMPBOX), ("wasmtime", version::WASMTIME)];
        self.gauges("build_info", "Always 1; the versions are labels", std::iter::once((version, 1)))?;
        let Some(lines) = dropped_lines else { return Ok(()) };
        let help = "Log lines that nobody can read because the reader stalled or went away";
        let mut metric = self.0.encode_descriptor("log_lines_dropped", help, None, MetricType::Counter)?;
        metric.encode_counter::<NoLabelSet, _, u64>(&lines, None)
    }

    fn latency(&mut self, processors: &[Arc<ProcessorStatus>]) -> fmt::Result {
        let help = "Time from reading a message to settling it";
        let mut metric = self.0.encode_descriptor("settle_latency_seconds", help, None, MetricType::Histogram)?;
        for processor in processors {
            let latency = processor.metrics.latency_buckets();
            let labels = labels(processor);
            let mut family = metric.encode_family(&labels)?;
            family.encode_histogram::<NoLabelSet>(latency.sum, latency.count, &latency.buckets, None)?;
        }
        Ok(())
    }

    fn fuel(&mut self, processors: &[Arc<ProcessorStatus>]) -> fmt::Result {
        let help = "Fuel used by each call";
        let mut metric = self.0.encode_descriptor("call_fuel", help, None, MetricType::Histogram)?;
        for processor in processors {
            let fuel = &processor.metrics.fuel;
            let (labels, buckets) = (labels(processor), fuel.buckets());
            let calls = buckets.iter().map(|(_, calls)| calls).sum();
            let mut family = metric.encode_family(&labels)?;
            family.encode_histogram::<NoLabelSet>(fuel.get() as f64, calls, &buckets, None)?;
        }
        Ok(())
    }

    /// What runs, and what was changed.
    fn changes(&mut self, processors: &[Arc<ProcessorStatus>], counts: Vec<(&'static str, u64)>) -> fmt::Result {
        let stable = processors.iter().filter_map(|p| {
            let generations = p.stage.report().generations;
            Some((labels(p), generations.iter().find(|generation| generation.standing == "stable")?.number))
        });
        self.gauges("generation", "The number of the stable generation", stable)?;
        let changes = counts.into_iter().map(|(what, count)| (vec![("what", what)], count));
        self.counters("changes", "Entries of the audit log, by what was done", changes)
    }

    /// What guests count, and what they were not allowed to.
    fn guests(&mut self, processors: &[Arc<ProcessorStatus>]) -> fmt::Result {
        let counted = processors
            .iter()
            .flat_map(|p| p.guest.snapshot().into_iter().map(|(name, value)| (with(p, "name", &name), value)));
        self.counters("guest_counter", "What the processor counts by itself", counted)?;
        let refused = processors.iter().map(|p| (labels(p), p.guest.refused()));
        self.counters(
            "guest_counter_refused",
            "Counter calls of the processor with a bad name or one too many",
            refused,
        )?;
        let dropped = processors.iter().map(|p| (labels(p), p.guest.dropped_log_bytes()));
        self.counters("guest_log_dropped_bytes", "Log text of the processor beyond its log_kb or log_kb_s", dropped)
    }
}
