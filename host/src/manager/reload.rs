//! What is to be done when a configuration takes the place of another.
//!
//! Asked by [`super::Manager`]; pure. What a processor runs as (its component, parameters, limits, rollout) is taken up as a
//! new generation. Units ([`crate::wiring::plan`]) come, go, and are started anew where anything else that they are made of
//! has changed. The rest stays as it is until a restart of the host, and is named.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    config::{Config, Processor},
    wiring::plan::{Key, Plan, units},
};

/// What comes of comparing two configurations.
#[derive(Debug)]
pub(super) struct Compared {
    /// What the host runs with from now on.
    pub(super) config: Config,
    /// The processors that are to run as something else.
    pub(super) processors: Vec<Arc<str>>,
    /// The units that go, or start anew.
    pub(super) leave: Vec<Key>,
    /// The units that come, or start anew: for those the places of the configuration that are others.
    pub(super) start: BTreeMap<Key, Vec<String>>,
    /// What stays as it is until a restart, by its place in the file.
    pub(super) later: Vec<&'static str>,
}

/// Compares what runs with what is wanted. `at_work` says whether a unit is: one that could not be started is tried again.
pub(super) fn compare(running: &Config, mut wanted: Config, at_work: impl Fn(&Key) -> bool) -> Compared {
    let later = later(running, &wanted);
    wanted.state_dir.clone_from(&running.state_dir);
    wanted.admin.clone_from(&running.admin);
    (wanted.buffer_bytes, wanted.max_instances) = (running.buffer_bytes, running.max_instances);
    let (before, after) = (units(running), units(&wanted));
    let same = |key: &Key, plan: &Plan, others: &BTreeMap<Key, Plan>| others.get(key) == Some(plan) && at_work(key);
    let leave = before.iter().filter(|(key, plan)| at_work(key) && !same(key, plan, &after));
    let start = after.iter().filter(|(key, plan)| !same(key, plan, &before));
    let differences = |key: &Key, plan: &Plan| before.get(key).map_or_else(Vec::new, |old| old.differences(plan));
    Compared {
        leave: leave.map(|(key, _)| key.clone()).collect(),
        start: start.map(|(key, plan)| (key.clone(), differences(key, plan))).collect(),
        processors: changed(running, &wanted),
        config: wanted,
        later,
    }
}

/// Processors that run before and after, and are made of something else.
fn changed(running: &Config, wanted: &Config) -> Vec<Arc<str>> {
    let both = wanted.active_processors().filter_map(|new| {
        let old = running.processors.get(&new.name).filter(|old| old.is_active(&running.queues))?;
        (old != new).then(|| new.name.clone())
    });
    both.collect()
}

/// Whether what runs as the old one can run as the new one: both read a queue, or both work by the clock.
pub(super) fn is_same_kind(old: &Processor, new: &Processor) -> bool {
    old.in_queue.is_some() == new.in_queue.is_some()
}

/// Whether it may send to the same queues, for the same VO.
pub(super) fn is_same_place(old: &Processor, new: &Processor) -> bool {
    old.vo == new.vo && old.out_queue == new.out_queue && old.writes_to().eq(new.writes_to())
}

/// The places that differ where nothing can be taken up.
fn later(running: &Config, wanted: &Config) -> Vec<&'static str> {
    let places = [
        ("state_dir", running.state_dir != wanted.state_dir),
        ("admin", running.admin != wanted.admin),
        ("buffer_mb", running.buffer_bytes != wanted.buffer_bytes),
        ("max_instances", running.max_instances != wanted.max_instances),
    ];
    places.into_iter().filter(|(_, differs)| *differs).map(|(place, _)| place).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn config(changes: &[(&str, Value)]) -> Config {
        let mut tree = json!({
            "mb_servers": {"mb": {"host_port_list": ["a.example.org:1"]}},
            "queues": {
                "q": {"server": "mb", "destination": "/queue/q"}, "r": {"server": "mb", "destination": "/queue/r"}
            },
            "vos": {"atlas": {}, "belle": {}},
            "processors": {
                "p": {"module": "a.b", "name": "P", "in_queue": "q", "vo": "atlas"},
                "s": {"module": "a.b", "name": "P", "in_queue": "r"},
                "off": {"module": "a.b", "name": "P", "in_queue": "q", "enable": false}
            }
        });
        for (place, value) in changes {
            let (parent, key) = place.rsplit_once('/').unwrap();
            tree.pointer_mut(parent).unwrap()[key] = value.clone();
        }
        Config::parse(&tree.to_string(), "/etc/stompbox/config.json".as_ref(), false, &|_| None).unwrap().config
    }

    /// What goes, what starts, what runs as something else.
    fn compared(changes: &[(&str, Value)]) -> (Vec<String>, Vec<String>, Vec<String>) {
        let wanted = config(changes);
        let found = compare(&config(&[]), wanted.clone(), |_| true);
        assert_eq!(found.config, wanted, "all of it is taken up");
        assert_eq!(found.later, [""; 0]);
        let text = |keys: Vec<&Key>| keys.into_iter().map(ToString::to_string).collect();
        let processors = found.processors.iter().map(ToString::to_string).collect();
        (text(found.leave.iter().collect()), text(found.start.keys().collect()), processors)
    }

    fn strings(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn what_a_processor_runs_as_touches_no_unit() {
        let p = (vec![], vec![], strings(&["p"]));
        assert_eq!(compared(&[]), (vec![], vec![], vec![]));
        for (key, value) in [
            ("params", json!({"a": 1})),
            ("module", json!("c.d")),
            ("name", json!("Q")),
            ("sha256", json!("ab".repeat(32))),
            ("limits", json!({"time_ms": 5})),
            ("instance", json!("fresh")),
            ("rollout", json!({"messages": 3})),
        ] {
            assert_eq!(compared(&[(&format!("/processors/p/{key}"), value)]), p, "{key}");
        }
    }

    #[test]
    fn units_come_go_and_start_anew() {
        let (q, r) = (strings(&["queue q"]), strings(&["queue r"]));
        assert_eq!(compared(&[("/processors/p/n_threads", json!(3))]), (q.clone(), q.clone(), strings(&["p"])));
        assert_eq!(compared(&[("/queues/r/max_buffer_len", json!(3))]), (r.clone(), r.clone(), vec![]));
        assert_eq!(compared(&[("/processors/s/enable", json!(false))]), (r.clone(), vec![], vec![]));
        assert_eq!(compared(&[("/processors/off/enable", json!(true))]), (q.clone(), q.clone(), vec![]));
        let new = json!({"module": "a.b", "name": "P", "in_queue": "r"});
        assert_eq!(compared(&[("/processors/new", new)]), (r.clone(), r, vec![]));
        let clock = json!({"module": "a.b", "name": "P"});
        assert_eq!(compared(&[("/processors/clock", clock)]), (vec![], strings(&["source clock"]), vec![]));
    }

    #[test]
    fn what_is_not_at_work_is_started_whatever_has_changed() {
        let found = compare(&config(&[]), config(&[]), |key| *key != Key::Queue("r".into()));
        assert_eq!((found.leave, Vec::from_iter(found.start.keys().cloned())), (vec![], vec![Key::Queue("r".into())]));
    }

    #[test]
    fn what_only_a_restart_takes_up_stays_and_is_named() {
        for (place, value) in [
            ("/state_dir", json!("state")),
            ("/admin", json!({"listen": "127.0.0.1:1"})),
            ("/buffer_mb", json!(7)),
            ("/max_instances", json!(700)),
        ] {
            let found = compare(&config(&[]), config(&[(place, value)]), |_| true);
            assert_eq!((found.later, &found.config), (vec![&place[1..]], &config(&[])));
        }
    }

    #[test]
    fn the_differences_that_matter_for_what_runs() {
        let both = |changes: &[_]| {
            let (old, new) = (config(&[]).processors["p"].clone(), config(changes).processors["p"].clone());
            (is_same_kind(&old, &new), is_same_place(&old, &new))
        };
        assert_eq!(both(&[("/processors/p/n_threads", json!(3))]), (true, true));
        assert_eq!(both(&[("/processors/p/in_queue", json!("r"))]), (true, true));
        assert_eq!(both(&[("/processors/p/out_queue", json!("r"))]), (true, false));
        assert_eq!(both(&[("/processors/p/out_queues", json!(["r"]))]), (true, false));
        assert_eq!(both(&[("/processors/p/vo", json!("belle"))]), (true, false));
        assert_eq!(both(&[("/processors/p/in_queue", Value::Null)]), (false, true));
    }
}
