//! The virtual organisations: what the processors of each may load, use and reach.
//!
//! Read by [`super::Config::parse`] after the queues.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use super::budget::Budget;
use super::fields::Fields;
use super::queue::Queue;
use crate::sandbox::limits::Limits;

/// A virtual organisation whose processors share grants and ceilings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vo {
    /// The key in `vos`.
    pub name: Arc<str>,
    /// Directories of its components; when empty, those of the host are used.
    pub plugins: Vec<PathBuf>,
    /// What its processors get; what is given here is also their ceiling.
    pub limits: Limits,
    /// The queues that its processors may name; all of them when not given.
    pub queues: Option<BTreeSet<Arc<str>>>,
    /// The given limits and their places, to check the processors.
    pub(super) budget: Budget,
}

impl Vo {
    pub(super) fn read(
        name: Arc<str>,
        fields: &Fields<'_>,
        queues: &BTreeMap<Arc<str>, Arc<Queue>>,
        host: &Budget,
    ) -> Self {
        let budget = Budget::read(fields, host);
        Self {
            name,
            plugins: fields.files("plugins").unwrap_or_default(),
            limits: budget.limits(),
            queues: fields.references("queues", "queue", queues).map(BTreeSet::from_iter),
            budget,
        }
    }

    /// Whether its processors may read or write a queue.
    #[must_use]
    pub fn may_use(&self, queue: &str) -> bool {
        self.queues.as_ref().is_none_or(|queues| queues.contains(queue))
    }
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, reason = "a failed test is the answer")]
mod tests {
    use std::path::Path;

    use insta::assert_snapshot;
    use serde_json::json;

    use super::super::tests::{config, problems};

    #[test]
    fn the_processors_of_a_vo_use_its_queues_alone() {
        let mut changes = vec![
            ("queues.out", json!({"server": "mb", "destination": "/queue/out"})),
            ("vos.atlas", json!({"queues": ["out", "o"], "plugins": ["atlas"]})),
            ("processors.p.vo", json!("atlas")),
            ("processors.p.out_queues", json!(["out"])),
        ];
        assert_snapshot!(problems(&changes), @r#"
        vos.atlas.queues[1]: there is no queue "o"; did you mean "out"?
        processors.p.in_queue: queue "q" is not among the queues of VO "atlas"
        "#);
        changes[1].1 = json!({"queues": ["out", "q"], "plugins": ["atlas"]});
        let config = config(&changes);
        assert_eq!(config.vos["atlas"].plugins, [Path::new("/etc/stompbox/atlas")]);
        assert!(!config.vos["atlas"].may_use("other"));
    }
}
