//! Where the dead letters of a configuration may be: destinations on its brokers, files of its spool.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use crate::{
    config::{Config, Queue},
    spool::stored,
};

/// A destination for dead letters.
#[derive(Debug, Clone)]
pub(super) struct BrokerPlace {
    pub(super) server: Arc<str>,
    pub(super) destination: String,
    /// The queues whose dead letters go there.
    pub(super) queues: Vec<Arc<str>>,
}

/// A file of the spool, which exists or not.
#[derive(Debug, Clone)]
pub(super) struct SpoolPlace {
    /// The server of its queue.
    pub(super) server: Arc<str>,
    pub(super) queue: Arc<str>,
    pub(super) path: PathBuf,
}

/// All of them.
#[derive(Debug)]
pub(super) struct Places {
    pub(super) config: Config,
    pub(super) brokers: Vec<BrokerPlace>,
    pub(super) spools: Vec<SpoolPlace>,
}

/// Those of one queue, or of all that a processor reads.
///
/// # Errors
/// There is no such queue, or none at all.
pub(super) fn places(config: Config, queue: Option<&str>) -> Result<Places, String> {
    let queues: Vec<Arc<Queue>> = match queue {
        Some(name) => vec![config.queue(name)?.clone()],
        None => {
            let is_read = |queue: &&Arc<Queue>| {
                config.processors.values().any(|processor| processor.in_queue.as_ref() == Some(&queue.name))
            };
            config.queues.values().filter(is_read).cloned().collect()
        }
    };
    if queues.is_empty() {
        return Err("no processor reads a queue: name the one whose dead letters you look for".to_owned());
    }
    let mut brokers: BTreeMap<(Arc<str>, String), Vec<Arc<str>>> = BTreeMap::new();
    for queue in &queues {
        for destination in config.dead_letters_of(queue) {
            brokers.entry((queue.server.clone(), destination)).or_default().push(queue.name.clone());
        }
    }
    let brokers = brokers.into_iter();
    let brokers = brokers.map(|((server, destination), queues)| BrokerPlace { server, destination, queues }).collect();
    let spools = config.state_dir.iter().flat_map(|dir| {
        queues.iter().map(|queue| SpoolPlace {
            server: queue.server.clone(),
            queue: queue.name.clone(),
            path: stored::path_of(dir, &queue.name),
        })
    });
    Ok(Places { spools: spools.collect(), brokers, config })
}

impl BrokerPlace {
    /// Why nothing can be read there, if so.
    pub(super) fn keeps_nothing(&self) -> Option<String> {
        let kinds = ["/topic/", "/exchange/", "/temp-", "/remote-temp-"];
        let fleeting = kinds.iter().any(|kind| self.destination.starts_with(kind));
        fleeting.then(|| {
            format!(
                "{} on {}, where the dead letters of {} go, keeps nothing that could be read later; \"dead_letter\" \
                 should be a queue",
                self.destination,
                self.server,
                self.queues.join(", ")
            )
        })
    }
}
