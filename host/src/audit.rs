//! The audit log: each load, swap, refusal and rollback, and what operators asked for.
//!
//! [`crate::manager`] records, [`crate::admin`] shows the last ones, and with a `state_dir` all are lines of JSON in
//! its `audit.jsonl`. Recording never waits and never fails: a disk that is full or hangs costs lines of that file,
//! and the log of the process says so.

mod file;

use std::{
    collections::{BTreeMap, VecDeque},
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use serde::Serialize;
use tracing::{info, warn};

use self::file::AuditFile;
use crate::{
    control::{Change, What},
    sandbox::one_line,
};

/// How many are kept in memory.
pub const MAX_KEPT: usize = 1_000;
/// The longest name, in bytes.
const MAX_NAME: usize = 200;
/// The longest detail, in bytes: it may repeat what a component says.
const MAX_DETAIL: usize = 1_000;

/// One line of the audit log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// When, in milliseconds since 1970.
    pub time_ms: u64,
    /// Who wanted it: `admin`, `SIGHUP`, `file` where a file has changed, `trial` for the verdict over a candidate, `start`.
    pub who: &'static str,
    /// What was done.
    #[serde(flatten)]
    pub change: Change,
}

/// What was changed in a host at work.
#[derive(Debug, Default)]
pub struct Audit {
    kept: Mutex<Kept>,
    file: Option<AuditFile>,
}

#[derive(Debug, Default)]
struct Kept {
    last: VecDeque<Entry>,
    counts: BTreeMap<&'static str, u64>,
}

impl Audit {
    /// Begins an audit log; with a `state_dir`, which must be there, also a file in it.
    #[must_use]
    pub fn open(state_dir: Option<&Path>) -> Self {
        Self { kept: Mutex::default(), file: state_dir.and_then(AuditFile::start) }
    }

    /// Records a change. Texts become one line, and are cut where they are long.
    pub fn record(&self, who: &'static str, change: &Change) {
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let time_ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let entry = Entry { time_ms, who, change: bounded(change) };
        tell(&entry);
        if let (Some(file), Ok(line)) = (&self.file, serde_json::to_vec(&entry)) {
            file.append(line);
        }
        let mut kept = self.lock();
        *kept.counts.entry(entry.change.what.word()).or_default() += 1;
        if kept.last.len() >= MAX_KEPT {
            kept.last.pop_front();
        }
        kept.last.push_back(entry);
    }

    /// The last ones, the newest first.
    #[must_use]
    pub fn last(&self, count: usize) -> Vec<Entry> {
        self.lock().last.iter().rev().take(count).cloned().collect()
    }

    /// How many there were of each kind since the start.
    #[must_use]
    pub fn counts(&self) -> Vec<(&'static str, u64)> {
        let kept = self.lock();
        What::ALL.map(|what| (what.word(), kept.counts.get(what.word()).copied().unwrap_or_default())).to_vec()
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn bounded(change: &Change) -> Change {
    Change {
        name: one_line(&change.name, MAX_NAME).into_owned(),
        what: change.what,
        generation: change.generation,
        digest: change.digest.as_deref().map(|digest| one_line(digest, MAX_NAME).into_owned()),
        detail: one_line(&change.detail, MAX_DETAIL).into_owned(),
    }
}

/// One line in the log of the process; a warning where something was not taken.
fn tell(entry: &Entry) {
    let Entry { who, change: Change { name, what, generation, digest, detail }, .. } = entry;
    let (what, generation, digest) = (what.word(), generation.unwrap_or_default(), digest.as_deref());
    let digest = digest.unwrap_or_default();
    if matches!(entry.change.what, What::Refused | What::RolledBack) {
        warn!(target: "audit", who, name, generation, digest, detail, "{what}");
    } else {
        info!(target: "audit", who, name, generation, digest, detail, "{what}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(name: &str, what: What, detail: &str) -> Change {
        Change { name: name.to_owned(), what, generation: Some(2), digest: None, detail: detail.to_owned() }
    }

    #[test]
    fn the_last_thousand_are_kept_and_all_are_counted() {
        let audit = Audit::default();
        for number in 0..1_500 {
            audit.record("file", &change(&number.to_string(), What::Loaded, ""));
        }
        audit.record("admin", &change("last", What::RolledBack, "it traps"));
        let last = audit.last(2);
        assert_eq!((last[0].change.name.as_str(), last[0].who), ("last", "admin"));
        assert_eq!(last[1].change.name, "1499");
        assert_eq!(audit.last(usize::MAX).len(), MAX_KEPT);
        let counted: Vec<_> = audit.counts().into_iter().filter(|(_, count)| *count > 0).collect();
        assert_eq!(counted, [("loaded", 1_500), ("rolled-back", 1)]);
        assert_eq!(audit.counts().len(), 12, "those that never happened are zeros");
    }

    #[test]
    fn text_of_a_component_is_one_line_and_bounded() {
        let audit = Audit::default();
        let long = format!("a\nb\u{1b}[2J\u{2028}{}", "x".repeat(10_000));
        audit.record("file", &change("one\r\n", What::Refused, &long));
        let Change { name, detail, .. } = &audit.last(1)[0].change;
        assert_eq!(name, "one\\r\\n");
        assert!(detail.starts_with("a\\nb\\u{1b}[2J\\u{2028}xxx") && detail.len() == MAX_DETAIL, "{detail}");
    }

    #[test]
    fn each_is_a_line_of_json_in_the_state_dir() {
        let dir = tempfile::tempdir().unwrap();
        for round in 0..2 {
            let audit = Audit::open(Some(dir.path()));
            audit.record("SIGHUP", &change("one", What::Stable, &format!("round {round} \"quoted\"")));
            audit.record("admin", &change("one", What::Paused, ""));
        }
        let text = std::fs::read_to_string(dir.path().join("audit.jsonl")).unwrap();
        let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 4, "a restart appends: {text}");
        assert_eq!((&lines[2]["who"], &lines[2]["what"]), (&"SIGHUP".into(), &"stable".into()));
        assert_eq!((&lines[2]["generation"], &lines[2]["detail"]), (&2.into(), &"round 1 \"quoted\"".into()));
        assert!(lines[3]["time_ms"].as_u64().unwrap() > 1_700_000_000_000 && lines[3].get("detail").is_none());
    }

    #[test]
    fn a_disk_that_takes_nothing_is_not_the_end() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("audit.jsonl")).unwrap();
        let audit = Audit::open(Some(dir.path()));
        audit.record("file", &change("one", What::Loaded, ""));
        assert_eq!(audit.last(10).len(), 1);
    }
}
