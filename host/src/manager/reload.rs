//! What of a changed configuration can be taken up while the host runs.
//!
//! Asked by [`super::Manager`]; pure. What a processor runs as (its component, parameters, limits, rollout) is taken up as a
//! new generation. Everything else stays as it is until a restart, and is named: nothing changes by halves.

use std::{collections::BTreeMap, sync::Arc};

use crate::config::{Config, Processor};

/// What comes of comparing two configurations.
#[derive(Debug)]
pub(super) struct Compared {
    /// What the host runs with from now on.
    pub(super) config: Config,
    /// The processors that are to run as something else.
    pub(super) processors: Vec<Arc<Processor>>,
    /// What stays as it is until a restart, by its place in the file.
    pub(super) later: Vec<String>,
}

/// Compares what runs with what is wanted.
pub(super) fn compare(running: &Config, wanted: Config) -> Compared {
    let mut later = later(running, &wanted);
    let mut config = running.clone();
    (config.plugins, config.vos, config.limits) = (wanted.plugins.clone(), wanted.vos.clone(), wanted.limits.clone());
    let mut processors = Vec::new();
    for (name, new) in &wanted.processors {
        let Some(old) = running.processors.get(name) else { continue };
        if old == new || !old.is_active(&running.queues) {
            continue;
        }
        if same_wiring(old, new) {
            config.processors.insert(name.clone(), new.clone());
            processors.push(new.clone());
        } else {
            later.push(format!("processors.{name}"));
        }
    }
    later.sort();
    Compared { config, processors, later }
}

/// Whether nothing has changed but what a generation is made of.
fn same_wiring(old: &Processor, new: &Processor) -> bool {
    let Processor { module, sha256, class, params, limits, instance, rollout, .. } = new.clone();
    Processor { module, sha256, class, params, limits, instance, rollout, ..old.clone() } == *new
        // The stage keeps as many as it was made for.
        && old.rollout.replay == new.rollout.replay
}

/// The places that differ where nothing can be taken up.
fn later(running: &Config, wanted: &Config) -> Vec<String> {
    let mut places = Vec::new();
    differing("mb_servers", &running.servers, &wanted.servers, &mut places);
    differing("queues", &running.queues, &wanted.queues, &mut places);
    let come_or_gone = running.processors.keys().filter(|name| !wanted.processors.contains_key(*name));
    let come_or_gone =
        come_or_gone.chain(wanted.processors.keys().filter(|name| !running.processors.contains_key(*name)));
    places.extend(come_or_gone.map(|name| format!("processors.{name}")));
    // A processor that does not run keeps its place in the file, whatever becomes of it.
    let idle = wanted.processors.iter().filter(|(name, new)| {
        running.processors.get(*name).is_some_and(|old| old != *new && !old.is_active(&running.queues))
    });
    places.extend(idle.map(|(name, _)| format!("processors.{name}")));
    for (place, changed) in [
        ("state_dir", running.state_dir != wanted.state_dir),
        ("guard_period", running.guard_period != wanted.guard_period),
        ("admin", running.admin != wanted.admin),
        ("buffer_mb", running.buffer_bytes != wanted.buffer_bytes),
        ("max_hold_s", running.max_hold != wanted.max_hold),
        ("max_instances", running.max_instances != wanted.max_instances),
    ] {
        if changed {
            places.push(place.to_owned());
        }
    }
    places
}

fn differing<T: PartialEq>(
    what: &str,
    running: &BTreeMap<Arc<str>, Arc<T>>,
    wanted: &BTreeMap<Arc<str>, Arc<T>>,
    places: &mut Vec<String>,
) {
    let gone = running.keys().filter(|name| !wanted.contains_key(*name));
    let other = wanted.iter().filter(|(name, new)| running.get(*name) != Some(*new)).map(|(name, _)| name);
    places.extend(gone.chain(other).map(|name| format!("{what}.{name}")));
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn config(changes: &[(&str, Value)]) -> Config {
        let mut tree = json!({
            "mb_servers": {"mb": {"host_port_list": ["a.example.org:1"]}},
            "queues": {"q": {"server": "mb", "destination": "/queue/q"}},
            "vos": {"atlas": {}},
            "processors": {
                "p": {"module": "a.b", "name": "P", "in_queue": "q", "vo": "atlas"},
                "off": {"module": "a.b", "name": "P", "in_queue": "q", "enable": false}
            }
        });
        for (place, value) in changes {
            let (parent, key) = place.rsplit_once('/').unwrap();
            tree.pointer_mut(parent).unwrap()[key] = value.clone();
        }
        Config::parse(&tree.to_string(), "/etc/stompbox/config.json".as_ref(), false, &|_| None).unwrap().config
    }

    fn compared(changes: &[(&str, Value)]) -> (Vec<String>, Vec<String>) {
        let wanted = config(changes);
        let Compared { config: next, processors, later } = compare(&config(&[]), wanted.clone());
        for processor in &processors {
            assert_eq!(next.processors[&processor.name], wanted.processors[&processor.name]);
        }
        (processors.iter().map(|processor| processor.name.to_string()).collect(), later)
    }

    fn list(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_a_processor_runs_as_is_taken_up() {
        assert_eq!(compared(&[]), (vec![], vec![]));
        for (key, value) in [
            ("params", json!({"a": 1})),
            ("limits", json!({"fuel": 5})),
            ("instance", json!("fresh")),
            ("module", json!("c")),
            ("name", json!("Q")),
            ("rollout", json!({"messages": 5})),
        ] {
            assert_eq!(compared(&[(&format!("/processors/p/{key}"), value)]), (list(&["p"]), vec![]), "{key}");
        }
        let limits = json!({"fuel": 1_000});
        assert_eq!(compared(&[("/limits", limits.clone())]), (list(&["p"]), list(&["processors.off"])), "of the host");
        assert_eq!(compared(&[("/vos/atlas/limits", limits)]).0, list(&["p"]), "of its VO");
    }

    #[test]
    fn what_needs_a_restart_is_named() {
        for (place, value, told) in [
            ("/processors/p/n_threads", json!(2), "processors.p"),
            ("/processors/p/retry", json!({"max_attempts": 1}), "processors.p"),
            ("/processors/p/rollout", json!({"replay": 7}), "processors.p"),
            ("/processors/off/enable", json!(true), "processors.off"),
            ("/processors/new", json!({"module": "a", "name": "P", "in_queue": "q"}), "processors.new"),
            ("/queues/q/destination", json!("/queue/r"), "queues.q"),
            ("/queues/new", json!({"server": "mb", "destination": "/queue/n"}), "queues.new"),
            ("/mb_servers/mb/username", json!("u"), "mb_servers.mb"),
            ("/guard_period", json!(5), "guard_period"),
            ("/state_dir", json!("state"), "state_dir"),
        ] {
            assert_eq!(compared(&[(place, value)]), (vec![], list(&[told])), "{place}");
        }
    }
}
