//! What a valid configuration still cannot run with: files that cannot be used, dead letters that go round.
//!
//! Asked by [`crate::app`] at start and by [`super::Manager`] before it takes up another one; it reads the files that are named, and uses nothing
//! of them.

use std::collections::BTreeMap;

use crate::{
    client,
    config::{self, Config, Problem},
};

/// What would fail later for sure: files that cannot be used, dead letters that go round.
pub(crate) fn problems(config: &Config) -> Vec<Problem> {
    let named = config.active_processors().flat_map(|processor| processor.in_queue.iter().chain(processor.writes_to()));
    let queues: BTreeMap<_, _> = named.filter_map(|name| Some((name, config.queues.get(name)?))).collect();
    let servers = queues.values().filter_map(|queue| Some((&queue.server, config.servers.get(&queue.server)?)));
    let servers: BTreeMap<_, _> = servers.collect();
    let files: Vec<Problem> = servers.values().flat_map(|server| file_problems(server)).collect();
    config.dead_letter_loops().chain(files).collect()
}

/// Files of TLS and logins that cannot be used: better known at the start than at the first connect.
fn file_problems(server: &config::Server) -> Vec<Problem> {
    let passcode = server.passcode_file.as_deref().and_then(|file| client::read_passcode(file).err());
    let tls = server.tls.iter().flat_map(client::Tls::problems);
    let problems = passcode.into_iter().chain(tls);
    let message = |error: &client::FileError| format!("{}: {}", error.file.display(), error.message);
    problems
        .map(|error| Problem { path: format!("mb_servers.{}.{}", server.name, error.key), message: message(&error) })
        .collect()
}
