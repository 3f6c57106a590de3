//! `check --connect`: does each server let us in, and may we do there what the configuration asks for?
//!
//! Logs in to every address of each server that is used and tests each right there, so that what is missing
//! is known before the first message. Leaves nothing behind; [`Probe`] knows how.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::{
    app,
    client::{Address, ClientError, Flavour, Probe, Right},
    config::{Config, Problem, Processor, Queue},
    console::say,
};

/// A right that something in the configuration needs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Need {
    right: Right,
    destination: String,
    headers: Vec<(String, String)>,
}

/// What is needed on each server, and the places in the configuration that need it.
type Needs = BTreeMap<Arc<str>, BTreeMap<Need, BTreeSet<String>>>;

/// Tests all servers, one after the other; what is missing, all of it.
pub(super) async fn connect(config: &Config) -> Vec<Problem> {
    let mut missing = Vec::new();
    for (server, needs) in needs(config) {
        let addresses = config.servers.get(&server).map(|server| server.addresses.as_slice()).unwrap_or_default();
        for (index, address) in addresses.iter().enumerate() {
            let path = format!("mb_servers.{server}.host_port_list[{index}]");
            let mut options = app::connect_options(config, &server);
            options.addresses = vec![Address { host: address.host.clone(), port: address.port }];
            let (before, tested) = (missing.len(), needs.len());
            match Probe::open(options).await {
                Err(error) => {
                    missing.push(Problem { path, message: told(&error) });
                    say(format_args!("  {server} at {address}: no login"));
                }
                Ok(probe) => {
                    let broker = probe.flavour();
                    test(probe, &needs, &format!("{server} at {address}"), &mut missing).await;
                    let failed = missing.len() - before;
                    say(format_args!(
                        "  {server} at {address}: {broker:?}, {tested} right(s) tested, {failed} problem(s)"
                    ));
                }
            }
        }
    }
    missing
}

async fn test(mut probe: Probe, needs: &BTreeMap<Need, BTreeSet<String>>, place: &str, missing: &mut Vec<Problem>) {
    for (need, paths) in needs {
        let Err(error) = probe.test(need.right, &need.destination, &need.headers).await else { continue };
        if absent_yet(probe.flavour(), &error) {
            say(format_args!("  {place}: {} does not exist yet; the host will declare it", need.destination));
            continue;
        }
        let verb = if need.right == Right::Subscribe { "subscribe" } else { "send" };
        let message = format!("cannot {verb} to {} on {place}: {}", need.destination, told(&error));
        missing.extend(paths.iter().map(|path| Problem { path: path.clone(), message: message.clone() }));
    }
    probe.close().await;
}

/// A queue that nobody has declared is no missing right.
fn absent_yet(broker: Flavour, error: &ClientError) -> bool {
    matches!(error, ClientError::Broker(text) if broker.says_absent(text))
}

/// What active processors need; without processors, what senders need.
fn needs(config: &Config) -> Needs {
    let mut needs = Needs::new();
    for processor in config.active_processors() {
        of_processor(config, processor, &mut needs);
    }
    if config.processors.is_empty() {
        for queue in config.queues.values().filter(|queue| queue.enable) {
            sends(queue, format!("queues.{}.destination", queue.name), &mut needs);
        }
    }
    needs
}

fn of_processor(config: &Config, processor: &Processor, needs: &mut Needs) {
    for queue in processor.writes_to().filter_map(|name| config.queues.get(name)) {
        sends(queue, format!("queues.{}.destination", queue.name), needs);
    }
    let Some(queue) = processor.in_queue.as_ref().and_then(|name| config.queues.get(name)) else { return };
    // Never a durable one: leaving it would delete what it holds.
    let own = ["activemq.subscriptionName", "durable-subscription-name", "durable", "auto-delete"];
    let given = queue.headers.iter().filter(|(name, _)| !own.contains(&name.as_str())).cloned();
    let selector = queue.selector.iter().map(|selector| ("selector".to_owned(), selector.clone()));
    let headers = selector.chain(given).collect();
    let need = Need { right: Right::Subscribe, destination: queue.destination.clone(), headers };
    add(needs, queue, need, format!("queues.{}.destination", queue.name));
    let (path, destination) = app::dead_letter_of(processor, queue);
    let need = Need { right: Right::Send, destination, headers: Vec::new() };
    add(needs, queue, need, path);
}

fn sends(queue: &Queue, path: String, needs: &mut Needs) {
    let need = Need { right: Right::Send, destination: queue.destination.clone(), headers: app::send_headers(queue) };
    add(needs, queue, need, path);
}

fn add(needs: &mut Needs, queue: &Queue, need: Need, path: String) {
    needs.entry(queue.server.clone()).or_default().entry(need).or_default().insert(path);
}

/// An error and its causes in one line.
fn told(error: &ClientError) -> String {
    let mut text = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}
