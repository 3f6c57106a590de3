//! What `status` reads of a host's answers. What is not there is empty: the host may be older or newer.

use std::fmt;

use serde::Deserialize;

/// /v1/status.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct HostView {
    pub(super) version: String,
    pub(super) now_ms: u64,
    pub(super) uptime_ms: u64,
    pub(super) ready: bool,
    pub(super) missing: Vec<String>,
    pub(super) servers: Vec<ServerView>,
    pub(super) queues: Vec<QueueView>,
    pub(super) processors: Vec<ProcessorView>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct ServerView {
    pub(super) connections: Vec<ConnectionView>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct ConnectionView {
    pub(super) queue: Option<String>,
    pub(super) reconnects: u64,
    pub(super) addresses: Vec<AddressView>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct AddressView {
    pub(super) up: bool,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct QueueView {
    pub(super) name: String,
    pub(super) server: String,
    pub(super) waiting: u64,
    pub(super) held: u64,
    pub(super) bytes: u64,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct ProcessorView {
    pub(super) name: String,
    pub(super) vo: String,
    pub(super) in_queue: Option<String>,
    pub(super) paused: bool,
    pub(super) generations: Vec<GenerationView>,
    pub(super) lanes: Vec<LaneView>,
    pub(super) messages: MessagesView,
    pub(super) latency: LatencyView,
    pub(super) calls: u64,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct GenerationView {
    pub(super) number: u64,
    pub(super) digest: String,
    pub(super) standing: String,
    pub(super) trial_percent: u64,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct LaneView {
    pub(super) generation: u64,
    pub(super) doing: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct MessagesView {
    pub(super) received: u64,
    pub(super) forwarded: u64,
    pub(super) filtered: u64,
    pub(super) dead_lettered: u64,
    pub(super) retried: u64,
    pub(super) possible_duplicates: u64,
    pub(super) outputs_confirmed: u64,
    pub(super) in_flight: u64,
    pub(super) unconfirmed: u64,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct LatencyView {
    pub(super) p50_us: u64,
    pub(super) p99_us: u64,
}

/// /v1/audit.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct AuditView {
    pub(super) entries: Vec<EntryView>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct EntryView {
    pub(super) time_ms: u64,
    pub(super) who: String,
    #[serde(flatten)]
    pub(super) change: Change,
}

/// One thing that was done, or refused.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(in crate::commands) struct Change {
    name: String,
    pub(in crate::commands) what: String,
    generation: Option<u64>,
    digest: Option<String>,
    detail: String,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = if self.name.is_empty() { "host" } else { &self.name };
        write!(f, "{name}: {}", self.what.replace('-', " "))?;
        if let Some(number) = self.generation {
            write!(f, ", generation {number}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, " ({})", digest.chars().take(12).collect::<String>())?;
        }
        if self.detail.is_empty() { Ok(()) } else { write!(f, ": {}", self.detail) }
    }
}
