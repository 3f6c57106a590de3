//! `check --connect`: does each server let us in, and may we do there what the configuration asks for?
//!
//! Logs in to every address of each server that is used, also behind names, and tests each right there, so that
//! what is missing is known before the first message. Leaves nothing behind; [`Probe`] knows how.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::{
    client::{ConnectOptions, Probe, Resolver, Right, address::one_family, flavour::DURABLE},
    config::{Config, Problem, Processor, Queue, with_sources},
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
pub(super) async fn connect(config: &Config, resolver: &Resolver) -> Vec<Problem> {
    let mut missing = Vec::new();
    for (server, needs) in needs(config) {
        let entries = config.servers.get(&server).map(|server| server.addresses.as_slice()).unwrap_or_default();
        for (index, entry) in entries.iter().enumerate() {
            let path = format!("mb_servers.{server}.host_port_list[{index}]");
            let options = ConnectOptions {
                addresses: vec![entry.clone()],
                resolver: resolver.clone(),
                ..config.connect_options(&server)
            };
            match resolver.resolve(entry).await {
                Ok(found) => {
                    for address in one_family(&found) {
                        let options = ConnectOptions { pinned: Some(address), ..options.clone() };
                        at(options, &path, &needs, &entry.at(address), &mut missing).await;
                    }
                }
                Err(error) => {
                    say(format_args!("  {server} at {entry}: no address"));
                    missing.push(Problem { path, message: with_sources(&error) });
                }
            }
        }
    }
    missing
}

/// Tests all rights at one address of a server.
async fn at(
    options: ConnectOptions,
    path: &str,
    needs: &BTreeMap<Need, BTreeSet<String>>,
    place: &str,
    missing: &mut Vec<Problem>,
) {
    let place = format!("{} at {place}", options.server);
    match Probe::open(options).await {
        Err(error) => {
            missing.push(Problem { path: path.to_owned(), message: with_sources(&error) });
            say(format_args!("  {place}: no login"));
        }
        Ok(probe) => {
            let (before, broker, tested) = (missing.len(), probe.flavour(), needs.len());
            test(probe, needs, &place, missing).await;
            let failed = missing.len() - before;
            say(format_args!("  {place}: {broker:?}, {tested} right(s) tested, {failed} problem(s)"));
        }
    }
}

async fn test(mut probe: Probe, needs: &BTreeMap<Need, BTreeSet<String>>, place: &str, missing: &mut Vec<Problem>) {
    for (need, paths) in needs {
        let tested = probe.test(need.right, &need.destination, &need.headers).await;
        if tested.absent {
            say(format_args!("  {place}: {} does not exist yet; the host will declare it", need.destination));
        }
        let verb = if need.right == Right::Subscribe { "subscribe to" } else { "send to" };
        for (verb, error) in [(verb, tested.refused), ("declare", tested.undeclared)] {
            let Some(error) = error else { continue };
            let message = format!("cannot {verb} {} on {place}: {}", need.destination, with_sources(&error));
            missing.extend(paths.iter().map(|path| Problem { path: path.clone(), message: message.clone() }));
        }
    }
    probe.close().await;
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
    // Never a durable one: coming would create it or take it from a host at work, leaving would delete it with
    // what it holds. Reading the topic for a moment wants the same right (Artemis: `createNonDurableQueue` instead
    // of `createDurableQueue`). For the same reason no client id goes with the login.
    let given = queue.headers.iter().filter(|(name, _)| !DURABLE.contains(&name.as_str())).cloned();
    let selector = queue.selector.iter().map(|selector| ("selector".to_owned(), selector.clone()));
    let headers = selector.chain(given).collect();
    let need = Need { right: Right::Subscribe, destination: queue.destination.clone(), headers };
    add(needs, queue, need, format!("queues.{}.destination", queue.name));
    let (path, destination) = processor.dead_letters_of(queue);
    let need = Need { right: Right::Send, destination, headers: Vec::new() };
    add(needs, queue, need, path);
}

fn sends(queue: &Queue, path: String, needs: &mut Needs) {
    let need = Need { right: Right::Send, destination: queue.destination.clone(), headers: queue.headers_to_send() };
    add(needs, queue, need, path);
}

fn add(needs: &mut Needs, queue: &Queue, need: Need, path: String) {
    needs.entry(queue.server.clone()).or_default().entry(need).or_default().insert(path);
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use serde_json::json;

    use super::*;
    use crate::dev_broker::{BrokerOptions, DevBroker, Faults};

    /// Two nodes behind one name, of which the second lets nobody send, and a third that is not there.
    #[tokio::test]
    async fn every_address_behind_a_name_is_asked() {
        let first = DevBroker::bind("127.0.0.1:0".parse().unwrap(), BrokerOptions::default()).await.unwrap();
        let port = first.local_addr().port();
        let second = DevBroker::bind(SocketAddr::from(([127, 0, 0, 2], port)), BrokerOptions::default()).await.unwrap();
        second.handle().set_faults(Faults { refuse_destinations: vec!["/queue/q".into()], ..Faults::default() });
        for broker in [first, second] {
            tokio::spawn(broker.run(std::future::pending::<()>()));
        }
        let tree = json!({
            "mb_servers": {"mb": {"host_port_list": [format!("nodes.example.org:{port}")]}},
            "queues": {"q": {"server": "mb", "destination": "/queue/q"}}
        });
        let config = Config::parse(&tree.to_string(), "x.json".as_ref(), false, &|_| None).unwrap().config;
        let nodes = [1, 2, 3].map(|last| SocketAddr::from(([127, 0, 0, last], port)));
        let resolver = Resolver::of(move |_| Ok(nodes.into_iter().chain(["[::1]:1".parse().unwrap()]).collect()));
        let told: Vec<String> = connect(&config, &resolver).await.iter().map(ToString::to_string).collect();
        let place = |last| format!("nodes.example.org:{port} (127.0.0.{last}:{port})");
        assert_eq!(told.len(), 2, "not the one of IPv6: {told:?}");
        assert!(told[0].starts_with(&format!("queues.q.destination: cannot send to /queue/q on mb at {}", place(2))));
        assert!(told[1].starts_with(&format!("mb_servers.mb.host_port_list[0]: cannot connect to {}", place(3))));
    }
}
