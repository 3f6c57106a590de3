//! The processors: which component runs between which queues.
//!
//! Read by [`super::Config::parse`] last: a processor refers to queues and a VO.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::budget::Budget;
use super::fields::{Fields, must_be};
use super::queue::{Queue, dead_letter};
use super::vo::Vo;
use super::{retry, rollout};
use crate::retry::RetryPolicy;
use crate::sandbox::limits::Limits;
use crate::trial::Rollout;

/// A component with its parameters, its queues and its limits.
#[derive(Debug, Clone, PartialEq)]
pub struct Processor {
    /// The key in `processors`.
    pub name: Arc<str>,
    /// Whether it is to run; see [`super::Config::active_processors`].
    pub enable: bool,
    /// The dotted name of the component.
    pub module: String,
    /// The digest that its component must have, in lower-case hexadecimal.
    pub sha256: Option<String>,
    /// The JSON key `name`: which processor of the component.
    pub class: String,
    /// Lanes, at least 1.
    pub n_threads: usize,
    /// The queue it reads; a source has none.
    pub in_queue: Option<Arc<str>>,
    /// The queue of outputs that name none.
    pub out_queue: Option<Arc<str>>,
    /// Further queues that an output may name.
    pub out_queues: Vec<Arc<str>>,
    /// Parameters for the component: an object, or null.
    pub params: Value,
    /// Whether to log the details.
    pub verbose: bool,
    /// The key of its VO in `vos`.
    pub vo: Option<Arc<str>>,
    /// Its own limits, else those of the VO, else those of the host, else the defaults.
    pub limits: Limits,
    /// Its own policy, else that of the queue it reads, else the default.
    pub retry: RetryPolicy,
    /// A destination on the server of the queue it reads; goes before that of the queue.
    pub dead_letter: Option<String>,
    /// How long an instance lives.
    pub instance: InstanceMode,
    /// How a new generation is tried out.
    pub rollout: Rollout,
    /// Time between two ticks of a source.
    pub interval: Duration,
    /// Bytes of unconfirmed outputs at which it takes nothing new.
    pub unconfirmed_bytes: usize,
}

/// How long an instance lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum InstanceMode {
    /// One instance per lane handles message after message.
    Warm,
    /// Each message gets a new instance.
    Fresh,
}

impl InstanceMode {
    const WORDS: [(&str, Self); 2] = [("warm", Self::Warm), ("fresh", Self::Fresh)];
}

/// What a processor can refer to.
pub(super) struct Known<'a> {
    pub(super) queues: &'a BTreeMap<Arc<str>, Arc<Queue>>,
    pub(super) vos: &'a BTreeMap<Arc<str>, Arc<Vo>>,
    /// The limits of the host.
    pub(super) host: &'a Budget,
}

impl Processor {
    pub(super) fn read(name: Arc<str>, fields: &Fields<'_>, known: &Known<'_>) -> Self {
        let vo = fields.reference("vo", "VO", known.vos);
        let ceiling = vo.as_ref().and_then(|vo| known.vos.get(vo)).map_or(known.host, |vo| &vo.budget);
        let in_queue = fields.reference("in_queue", "queue", known.queues);
        let read_from = in_queue.as_ref().and_then(|queue| known.queues.get(queue));
        let retry = fields.nested("retry", retry::read);
        let processor = Self {
            name,
            enable: fields.flag("enable", true),
            module: module(fields),
            sha256: sha256(fields),
            class: class(fields),
            n_threads: fields.count("n_threads", 1, 1..=256),
            out_queue: fields.reference("out_queue", "queue", known.queues),
            out_queues: fields.references("out_queues", "queue", known.queues).unwrap_or_default(),
            params: params(fields),
            verbose: fields.flag("verbose", false),
            limits: Budget::read(fields, ceiling).limits(),
            retry: retry.or_else(|| read_from?.retry.clone()).unwrap_or_default(),
            dead_letter: dead_letter(fields),
            instance: fields.choice("instance", &InstanceMode::WORDS).unwrap_or(InstanceMode::Warm),
            rollout: fields.nested("rollout", rollout::read).unwrap_or_default(),
            interval: fields.millis("interval_ms", 1_000, 1..=86_400_000),
            unconfirmed_bytes: fields.mebibytes("unconfirmed_mb", 64, 1..=65_536),
            in_queue,
            vo,
        };
        processor.check_in_queue(fields, known);
        processor.check_out_queues(fields, known);
        processor.check_vo(fields, known);
        processor
    }

    /// The queues that its outputs may go to.
    pub fn writes_to(&self) -> impl Iterator<Item = &Arc<str>> {
        self.out_queue.iter().chain(&self.out_queues)
    }

    /// Whether it is enabled, and the queue it reads as well.
    pub fn is_active(&self, queues: &BTreeMap<Arc<str>, Arc<Queue>>) -> bool {
        let in_queue = self.in_queue.as_ref().and_then(|queue| queues.get(queue));
        self.enable && in_queue.is_none_or(|queue| queue.enable)
    }

    fn check_in_queue(&self, fields: &Fields<'_>, known: &Known<'_>) {
        let Some(queue) = self.in_queue.as_ref().and_then(|queue| known.queues.get(queue)) else {
            if self.n_threads > 1 {
                fields.warn("n_threads", "a processor without in_queue has one lane");
            }
            return;
        };
        if self.enable && !queue.enable {
            let message = format!("queue {:?} is disabled, and so is this processor", queue.name);
            fields.warn("in_queue", message);
        }
        if queue.is_fleeting() {
            let message = format!(
                "queue {:?} is a topic: what is sent while the host is not connected is lost, and its ack mode is auto; \
                 give the queue a durable \"subscription\"",
                queue.name
            );
            fields.warn("in_queue", message);
        }
    }

    fn check_out_queues(&self, fields: &Fields<'_>, known: &Known<'_>) {
        if !self.is_active(known.queues) {
            return;
        }
        let disabled = |name: &Arc<str>| known.queues.get(name).is_some_and(|queue| !queue.enable);
        for (key, name) in self.named_outputs().filter(|(_, name)| disabled(name)) {
            let message = format!(
                "queue {name:?} is disabled, so nothing can be written to it: \
                 enable it, or disable this processor too"
            );
            fields.error(key, message);
        }
    }

    fn check_vo(&self, fields: &Fields<'_>, known: &Known<'_>) {
        let Some(vo) = self.vo.as_ref().and_then(|vo| known.vos.get(vo)) else {
            return;
        };
        let in_queue = self.in_queue.iter().map(|name| ("in_queue", name));
        for (key, name) in in_queue.chain(self.named_outputs()) {
            if !vo.may_use(name) {
                let message = format!("queue {name:?} is not among the queues of VO {:?}", vo.name);
                fields.error(key, message);
            }
        }
    }

    fn named_outputs(&self) -> impl Iterator<Item = (&'static str, &Arc<str>)> {
        let out_queue = self.out_queue.iter().map(|name| ("out_queue", name));
        out_queue.chain(self.out_queues.iter().map(|name| ("out_queues", name)))
    }
}

/// Longest `module` and `name`, in bytes.
const MAX_NAME_BYTES: usize = 255;

/// The module becomes a path: only names with dots between them may pass.
fn module(fields: &Fields<'_>) -> String {
    let module = fields.required("module");
    let identifier =
        |part: &str| !part.is_empty() && part.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-'));
    let given = !module.is_empty();
    if given && (module.len() > MAX_NAME_BYTES || !module.split('.').all(identifier)) {
        let message = "must be names of letters, digits, _ and - with single dots between them, \
                       of at most 255 bytes in all";
        fields.error("module", message);
    }
    module
}

/// The pin of a component: what `sha256sum` and `stompbox inspect` print of its file.
fn sha256(fields: &Fields<'_>) -> Option<String> {
    let pin = fields.text("sha256")?.to_lowercase();
    if pin.len() == 64 && pin.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Some(pin);
    }
    fields.error("sha256", "must be the 64 hexadecimal digits that `sha256sum` prints for the component's file");
    None
}

fn class(fields: &Fields<'_>) -> String {
    let class = fields.required("name");
    if class.len() > MAX_NAME_BYTES {
        fields.error("name", "must be of at most 255 bytes");
    }
    class
}

fn params(fields: &Fields<'_>) -> Value {
    let params = fields.value("params").cloned().unwrap_or_default();
    if !params.is_null() && !params.is_object() {
        fields.error("params", must_be("an object {...}", &params));
    }
    params
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, reason = "a failed test is the answer")]
mod tests {
    use insta::assert_snapshot;
    use serde_json::json;

    use super::super::tests::{config, problems, warnings};
    use super::*;

    #[test]
    fn a_module_is_dotted_names_and_never_a_path() {
        let long = "a".repeat(256);
        let wrong = ["a/b", "a\\b", "..", "a..b", ".a", "a.", "/etc", "a\0", "a b", &long];
        for module in wrong {
            let problems = problems(&[("processors.p.module", json!(module))]);
            assert!(problems.starts_with("processors.p.module: must "), "{module:?}: {problems}");
        }
        for module in ["a", "pandajedi.jedimsgprocessor.a_b-c2", &"a".repeat(255)] {
            assert_eq!(config(&[("processors.p.module", json!(module))]).processors["p"].module, module);
        }
    }

    #[test]
    fn a_pin_is_64_digits() {
        let pin = |value: &str| [("processors.p.sha256", json!(value))];
        assert_eq!(config(&pin(&"aB".repeat(32))).processors["p"].sha256, Some("ab".repeat(32)));
        for wrong in ["", "ab", &"g0".repeat(32), &"ab".repeat(33)] {
            let problems = problems(&pin(wrong));
            assert!(problems.starts_with("processors.p.sha256: must be the 64 hexadecimal digits"), "{problems}");
        }
    }

    #[test]
    fn a_name_is_not_empty_nor_long() {
        for name in [json!(""), json!("a".repeat(256)), json!(null)] {
            let problems = problems(&[("processors.p.name", name)]);
            assert!(problems.starts_with("processors.p.name: m"), "{problems}");
        }
    }

    #[test]
    fn a_disabled_queue_disables_what_reads_it() {
        let disabled = [("queues.q.enable", json!(false))];
        assert_snapshot!(warnings(&disabled), @r#"processors.p.in_queue: queue "q" is disabled, and so is this processor"#);
        assert_eq!(config(&disabled).active_processors().count(), 0);
        assert_eq!(config(&[]).active_processors().count(), 1);
        let both = [("queues.q.enable", json!(false)), ("processors.p.enable", json!(false))];
        assert_eq!(warnings(&both), "");
        assert_eq!(config(&[("processors.p.in_queue", json!(null))]).active_processors().count(), 1);
    }

    #[test]
    fn a_disabled_queue_refuses_what_writes_it() {
        let out = json!({"server": "mb", "destination": "/queue/out", "enable": false});
        let mut changes = vec![
            ("queues.out", out),
            ("processors.p.out_queue", json!("out")),
            ("processors.p.out_queues", json!(["out", "out", "q"])),
        ];
        assert_snapshot!(problems(&changes), @r#"
        processors.p.out_queue: queue "out" is disabled, so nothing can be written to it: enable it, or disable this processor too
        processors.p.out_queues: queue "out" is disabled, so nothing can be written to it: enable it, or disable this processor too
        "#);
        changes.push(("processors.p.enable", json!(false)));
        let config = config(&changes);
        let queues: Vec<&str> = config.processors["p"].writes_to().map(AsRef::as_ref).collect();
        assert_eq!(queues, ["out", "out", "q"]);
    }

    #[test]
    fn a_topic_without_a_durable_subscription_gives_a_warning() {
        let topic = ("queues.q.destination", json!("/topic/doma.panda_idds"));
        assert_snapshot!(warnings(std::slice::from_ref(&topic)), @r#"processors.p.in_queue: queue "q" is a topic: what is sent while the host is not connected is lost, and its ack mode is auto; give the queue a durable "subscription""#);
        let durable = [("queues.q.subscription", json!("panda")), ("mb_servers.mb.client_id", json!("me"))];
        assert_eq!(warnings(&[vec![topic.clone()], durable.to_vec()].concat()), "");
        assert_eq!(warnings(&[topic, ("processors", json!({}))]), "");
    }

    #[test]
    fn retry_comes_from_the_processor_else_its_queue() {
        let queue = ("queues.q.retry", json!({"max_attempts": 2}));
        let own = ("processors.p.retry", json!({"max_attempts": 3}));
        let attempts = |changes: &[_]| config(changes).processors["p"].retry.max_attempts;
        assert_eq!(attempts(&[]), 5);
        assert_eq!(attempts(std::slice::from_ref(&queue)), 2);
        assert_eq!(attempts(&[queue, own]), 3);
    }

    #[test]
    fn wrong_values_name_the_right_ones() {
        assert_snapshot!(problems(&[
            ("processors.p.n_threads", json!(257)),
            ("processors.p.in_queue", json!("Q")),
            ("processors.p.out_queue", json!(1)),
            ("processors.p.out_queues", json!(["nothing-like-it"])),
            ("processors.p.vo", json!("atlas")),
            ("processors.p.instance", json!("hot")),
            ("processors.p.interval_ms", json!(-1)),
            ("processors.p.dead_letter", json!("q")),
            ("processors.p.params", json!([1])),
            ("processors.p.limits", json!(1)),
        ]), @r#"
        processors.p.vo: there is no VO "atlas"; there are none
        processors.p.in_queue: there is no queue "Q"; did you mean "q"?
        processors.p.n_threads: must be a whole number from 1 to 256, not 257
        processors.p.out_queue: must be a text in quotes, not a number
        processors.p.out_queues[0]: there is no queue "nothing-like-it"; known: "q"
        processors.p.params: must be an object {...}, not a list
        processors.p.limits: must be an object {...}, not a number
        processors.p.dead_letter: must be a destination, such as "/queue/idds.DLQ"
        processors.p.instance: "hot" is not a choice here; known: "fresh", "warm"
        processors.p.interval_ms: must be a whole number from 1 to 86400000, not -1
        "#);
    }

    #[test]
    fn a_source_has_one_lane() {
        let changes = [("processors.p.in_queue", json!(null)), ("processors.p.n_threads", json!(2))];
        assert_snapshot!(warnings(&changes), @"processors.p.n_threads: a processor without in_queue has one lane");
    }

    #[test]
    fn a_fresh_instance_is_asked_for_by_name() {
        let config = config(&[("processors.p.instance", json!("fresh"))]);
        assert_eq!(config.processors["p"].instance, InstanceMode::Fresh);
    }
}
