//! What of a configuration a unit is made of, so that two configurations can be compared unit by unit.
//!
//! Asked by [`super::Wiring`] and by [`crate::manager`]; pure. A unit is the smallest thing that is restarted: a queue that
//! is read, with its processors, or a source.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use serde_json::Value;

use crate::{
    config::{Config, InstanceMode, Processor, Queue, Server},
    sandbox::limits::Limits,
    trial::Rollout,
};

/// Names a unit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key {
    /// A queue that is read, with its processors.
    Queue(Arc<str>),
    /// A processor that works by the clock.
    Source(Arc<str>),
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Queue(name) => write!(f, "queue {name}"),
            Self::Source(name) => write!(f, "source {name}"),
        }
    }
}

/// Everything that a unit is made of but what its processors run as, by place in the configuration.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Plan {
    processors: BTreeMap<Arc<str>, Processor>,
    queues: BTreeMap<Arc<str>, Arc<Queue>>,
    servers: BTreeMap<Arc<str>, Arc<Server>>,
    guard_period: Duration,
    max_hold: Duration,
}

impl Key {
    /// The unit of a processor.
    pub(crate) fn of(processor: &Processor) -> Self {
        processor.in_queue.clone().map_or_else(|| Self::Source(processor.name.clone()), Self::Queue)
    }

    /// The processors of this unit.
    pub(crate) fn processors<'a>(&'a self, config: &'a Config) -> impl Iterator<Item = &'a Arc<Processor>> {
        config.active_processors().filter(move |processor| Self::of(processor) == *self)
    }
}

/// The units of a configuration.
pub(crate) fn units(config: &Config) -> BTreeMap<Key, Plan> {
    let mut units = BTreeMap::new();
    for processor in config.active_processors() {
        let key = Key::of(processor);
        let plan: &mut Plan = units.entry(key).or_default();
        (plan.guard_period, plan.max_hold) = (config.guard_period, config.max_hold);
        plan.processors.insert(processor.name.clone(), place_of(processor));
        for name in processor.in_queue.iter().chain(processor.writes_to()) {
            let Some(queue) = config.queues.get(name) else { continue };
            plan.queues.insert(name.clone(), queue.clone());
            let server = config.servers.get(&queue.server);
            plan.servers.extend(server.map(|server| (queue.server.clone(), server.clone())));
        }
    }
    units
}

/// A processor without what its generations are made of.
fn place_of(processor: &Processor) -> Processor {
    let rollout = Rollout { replay: processor.rollout.replay, ..Default::default() };
    Processor {
        module: String::new(),
        sha256: None,
        class: String::new(),
        params: Value::Null,
        limits: Limits::default(),
        instance: InstanceMode::Warm,
        rollout,
        ..processor.clone()
    }
}

impl Plan {
    /// The places of the configuration at which two plans of a unit differ.
    pub(crate) fn differences(&self, other: &Self) -> Vec<String> {
        let mut places = Vec::new();
        differing("mb_servers", &self.servers, &other.servers, &mut places);
        differing("queues", &self.queues, &other.queues, &mut places);
        differing("processors", &self.processors, &other.processors, &mut places);
        let others = [
            ("guard_period", self.guard_period == other.guard_period),
            ("max_hold_s", self.max_hold == other.max_hold),
        ];
        places.extend(others.iter().filter(|(_, same)| !same).map(|(place, _)| (*place).to_owned()));
        places
    }
}

fn differing<T: PartialEq>(
    what: &str,
    before: &BTreeMap<Arc<str>, T>,
    after: &BTreeMap<Arc<str>, T>,
    places: &mut Vec<String>,
) {
    let gone = before.keys().filter(|name| !after.contains_key(*name));
    let other = after.iter().filter(|(name, new)| before.get(*name) != Some(*new)).map(|(name, _)| name);
    places.extend(gone.chain(other).map(|name| format!("{what}.{name}")));
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn config(changes: &[(&str, Value)]) -> Config {
        let queue = |server: &str, name: &str| json!({"server": server, "destination": format!("/queue/{name}")});
        let mut tree = json!({
            "mb_servers": {
                "mb": {"host_port_list": ["a.example.org:1"]}, "far": {"host_port_list": ["b.example.org:1"]},
                "idle": {"host_port_list": ["c.example.org:1"]}
            },
            "queues": {
                "q": queue("mb", "q"), "r": queue("mb", "r"), "out": queue("far", "out"), "idle": queue("idle", "idle")
            },
            "processors": {
                "one": {"module": "a.b", "name": "P", "in_queue": "q", "out_queue": "out"},
                "two": {"module": "a.b", "name": "P", "in_queue": "q"},
                "three": {"module": "a.b", "name": "P", "in_queue": "r"},
                "clock": {"module": "a.b", "name": "P", "out_queue": "out", "interval_ms": 100},
                "off": {"module": "a.b", "name": "P", "in_queue": "idle", "enable": false}
            }
        });
        for (place, value) in changes {
            let (parent, key) = place.rsplit_once('/').unwrap();
            tree.pointer_mut(parent).unwrap()[key] = value.clone();
        }
        Config::parse(&tree.to_string(), "/etc/stompbox/config.json".as_ref(), false, &|_| None).unwrap().config
    }

    /// The units that differ, and where.
    fn changed(changes: &[(&str, Value)]) -> Vec<(String, Vec<String>)> {
        let (before, after) = (units(&config(&[])), units(&config(changes)));
        let both = before.iter().filter_map(|(key, plan)| Some((key.to_string(), plan.differences(after.get(key)?))));
        let gone = before.keys().filter(|key| !after.contains_key(*key)).map(|key| (format!("-{key}"), Vec::new()));
        let come = after.keys().filter(|key| !before.contains_key(*key)).map(|key| (format!("+{key}"), Vec::new()));
        both.filter(|(_, places)| !places.is_empty()).chain(gone).chain(come).collect()
    }

    fn only(unit: &str, place: &str) -> Vec<(String, Vec<String>)> {
        vec![(unit.to_owned(), vec![place.to_owned()])]
    }

    #[test]
    fn what_processors_run_as_is_no_part_of_a_unit() {
        for (key, value) in [
            ("module", json!("c.d")),
            ("name", json!("Q")),
            ("params", json!({"a": 1})),
            ("limits", json!({"time_ms": 5})),
            ("instance", json!("fresh")),
            ("rollout", json!({"messages": 3})),
        ] {
            assert_eq!(changed(&[(&format!("/processors/one/{key}"), value)]), [], "{key}");
        }
        assert_eq!(changed(&[("/mb_servers/idle/host_port_list", json!(["d.example.org:1"]))]), [], "nobody uses it");
    }

    #[test]
    fn only_the_units_that_use_what_changed_are_others() {
        let far = changed(&[("/mb_servers/far/host_port_list", json!(["d.example.org:1"]))]);
        let (queue, source) = ("queue q".to_owned(), "source clock".to_owned());
        let places = vec!["mb_servers.far".to_owned()];
        assert_eq!(far, [(queue, places.clone()), (source, places)]);
        assert_eq!(changed(&[("/queues/r/max_buffer_len", json!(7))]), only("queue r", "queues.r"));
        assert_eq!(changed(&[("/processors/three/n_threads", json!(3))]), only("queue r", "processors.three"));
        assert_eq!(changed(&[("/processors/clock/interval_ms", json!(3))]), only("source clock", "processors.clock"));
        let places = ["mb_servers.far", "queues.out", "processors.one"].map(str::to_owned).to_vec();
        assert_eq!(changed(&[("/processors/one/out_queue", Value::Null)]), [("queue q".to_owned(), places)]);
    }

    #[test]
    fn units_come_and_go() {
        assert_eq!(changed(&[("/processors/off/enable", json!(true))]), [("+queue idle".to_owned(), vec![])]);
        assert_eq!(changed(&[("/queues/r/enable", json!(false))]), [("-queue r".to_owned(), vec![])]);
        assert_eq!(changed(&[("/processors/two/enable", json!(false))]), only("queue q", "processors.two"));
    }
}
