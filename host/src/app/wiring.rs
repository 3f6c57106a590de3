//! From configured names to connected parts: one buffer and its consumers per in queue, one producer per
//! server and VO for outputs and one for dead letters, one settler per processor.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::sync::watch;

use super::state::State;
use crate::{
    buffer::{Buffer, BufferOptions, HostBytes},
    client::{AckMode, ConnectOptions, Consumers, Phase, Producer, ProducerTask, ReadFrom, SessionState, Subscription},
    config::{self, Config, Processor},
    log_rate::LogRate,
    metrics::ProcessorMetrics,
    retry::RetryPolicy,
    settle::{Route, Settler},
    source::{Source, Stop},
    stage::Stage,
    status::Link,
};

/// A pause of all lanes that is longer gives everything back.
const MAX_REST: Duration = Duration::from_secs(30);

/// Parts made so far, and what makes the next.
pub(super) struct Wiring<'a> {
    config: &'a Config,
    consuming: watch::Receiver<Phase>,
    sending: watch::Receiver<Phase>,
    host_bytes: Arc<HostBytes>,
    state: &'a State,
    pub(super) by_queue: BTreeMap<Arc<str>, (Arc<Buffer>, usize)>,
    pub(super) by_server: BTreeMap<Sending, Producer>,
    /// What each connection for sending is, and its task.
    pub(super) producer_tasks: Vec<(Arc<Link>, ProducerTask)>,
    pub(super) consumers: Vec<(Arc<str>, Consumers, watch::Receiver<SessionState>)>,
}

/// Whose connection to which server, for what.
pub(super) type Sending = (Arc<str>, Use, Option<Arc<str>>);

/// Each VO sends over connections of its own, so that one VO's flow control does not stop another's outputs;
/// and dead letters have a connection of their own: a broker that stops taking outputs must still take them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Use {
    Outputs,
    DeadLetters,
}

impl<'a> Wiring<'a> {
    pub(super) fn new(
        config: &'a Config,
        consuming: watch::Receiver<Phase>,
        sending: watch::Receiver<Phase>,
        state: &'a State,
    ) -> Self {
        Self {
            config,
            consuming,
            sending,
            host_bytes: HostBytes::new(config.buffer_bytes),
            state,
            by_queue: BTreeMap::new(),
            by_server: BTreeMap::new(),
            producer_tasks: Vec::new(),
            consumers: Vec::new(),
        }
    }

    /// The settler of a processor, with all it needs.
    pub(super) fn settler(&mut self, processor: &Processor, log_rate: LogRate) -> Arc<Settler> {
        let in_queue = self.queue(processor.in_queue.as_ref());
        let (buffer, reader) = self.buffer(&in_queue);
        let quota = buffer.quota();
        let vo = processor.vo.as_ref();
        let (_, destination) = processor.dead_letters_of(&in_queue);
        let dead_letters = Route {
            producer: self.producer(&in_queue.server, Use::DeadLetters, vo),
            destination: destination.into(),
            headers: None,
            told_as: told_as(&in_queue),
        };
        Arc::new(Settler {
            max_unconfirmed: window(self.config, &in_queue),
            max_kept: quota,
            buffer,
            reader,
            routes: self.routes(processor),
            dead_letters,
            use_transaction: in_queue.use_transaction,
            processor: processor.name.clone(),
            retry: retry(processor, &in_queue),
            log_rate,
            metrics: Arc::new(ProcessorMetrics::default()),
            max_unconfirmed_bytes: processor.unconfirmed_bytes,
            unconfirmed: Arc::default(),
            spool: self.state.spool.clone(),
            slots: self.state.slots.clone(),
            kept: Arc::default(),
        })
    }

    /// References were checked by the configuration: a missing queue cannot happen, and is one that
    /// nobody feeds.
    fn queue(&self, name: Option<&Arc<str>>) -> Arc<config::Queue> {
        #[expect(
            clippy::expect_used,
            reason = "Generation::load refuses handlers without in_queue, Config unknown queues"
        )]
        name.and_then(|name| self.config.queues.get(name)).cloned().expect("a checked in_queue")
    }

    /// The buffer of a queue and the number of this reader in it; opens the consumers with the first.
    fn buffer(&mut self, queue: &config::Queue) -> (Arc<Buffer>, usize) {
        if let Some((buffer, readers)) = self.by_queue.get_mut(&queue.name) {
            *readers += 1;
            return (buffer.clone(), *readers - 1);
        }
        let window = window(self.config, queue);
        let readers = self.config.active_processors().filter(|p| p.in_queue.as_ref() == Some(&queue.name)).count();
        let options = BufferOptions {
            max_len: queue.max_buffer_len,
            max_bytes: queue.max_buffer_bytes,
            window,
            readers,
            finish_all: queue.ack_mode_in_effect() == AckMode::Auto,
            finish_held: queue.ack_mode_in_effect() == AckMode::Client,
            lanes: window - queue.max_buffer_len,
            order_by: queue.order_by.as_deref().map(Arc::from),
            max_hold: self.config.max_hold,
            // In ack mode client nothing is kept from others for long.
            max_rest: if queue.ack_mode_in_effect() == AckMode::Client {
                Duration::ZERO
            } else {
                MAX_REST.min(self.config.max_hold)
            },
        };
        let buffer = Buffer::new(options, self.host_bytes.clone());
        let connect = consuming_options(self.config, queue);
        let server = self.config.servers.get(&queue.server);
        let all = server.is_some_and(|server| server.connect == Some(config::Connect::All));
        let from = ReadFrom { all, ..ReadFrom::default() };
        let (consumers, state) =
            Consumers::new(connect, from, subscription(queue, window), buffer.clone(), self.consuming.clone());
        self.consumers.push((queue.name.clone(), consumers, state));
        self.by_queue.insert(queue.name.clone(), (buffer.clone(), 1));
        (buffer, 0)
    }

    /// A processor that works by the clock, with all it needs.
    pub(super) fn source(
        &mut self,
        processor: &Processor,
        stage: &Arc<Stage>,
        log_rate: LogRate,
        stop: &Arc<Stop>,
    ) -> Source {
        Source {
            name: processor.name.clone(),
            stage: stage.clone(),
            log_rate,
            interval: processor.interval,
            routes: self.routes(processor),
            retry: processor.retry.clone(),
            metrics: Arc::new(ProcessorMetrics::default()),
            verbose: processor.verbose,
            stop: stop.clone(),
        }
    }

    fn routes(&mut self, processor: &Processor) -> BTreeMap<Arc<str>, Route> {
        let vo = processor.vo.as_ref();
        processor.writes_to().filter_map(|name| Some((name.clone(), self.route(name, vo)?))).collect()
    }

    fn route(&mut self, queue: &Arc<str>, vo: Option<&Arc<str>>) -> Option<Route> {
        let queue = self.config.queues.get(queue)?.clone();
        let headers = queue.headers_to_send();
        let producer = self.producer(&queue.server, Use::Outputs, vo);
        Some(Route {
            producer,
            destination: queue.destination.as_str().into(),
            headers: Some(headers.into()),
            told_as: told_as(&queue),
        })
    }

    fn producer(&mut self, server: &Arc<str>, what: Use, vo: Option<&Arc<str>>) -> Producer {
        let key = (server.clone(), what, vo.cloned());
        if let Some(producer) = self.by_server.get(&key) {
            return producer.clone();
        }
        let (producer, task) = Producer::new(self.config.connect_options(server), self.sending.clone());
        let purpose = match what {
            Use::Outputs => "outputs",
            Use::DeadLetters => "dead-letters",
        };
        let vo = vo.cloned().unwrap_or_default();
        self.producer_tasks.push((Link::new(server.clone(), None, purpose, vo), task));
        self.by_server.insert(key, producer.clone());
        producer
    }
}

/// By which name the log tells what is sent to a queue, or as a dead letter of one, where it is `verbose`. The
/// connection cannot, since other queues send over it too.
fn told_as(queue: &config::Queue) -> Option<Arc<str>> {
    queue.verbose.then(|| queue.name.clone())
}

/// How a queue's consumers log in: the client id goes with a durable subscription and with nothing else, since a
/// broker gives it to one connection at a time.
fn consuming_options(config: &Config, queue: &config::Queue) -> ConnectOptions {
    let options = config.connect_options(&queue.server);
    let server = config.servers.get(&queue.server).filter(|_| queue.subscription.is_some());
    let client_id = server.and_then(|server| server.client_id.clone());
    ConnectOptions { client_id, verbose: options.verbose || queue.verbose, ..options }
}

/// What the broker may have outstanding: what waits, and one for each lane.
fn window(config: &Config, queue: &config::Queue) -> usize {
    let readers = config.active_processors().filter(|processor| processor.in_queue.as_ref() == Some(&queue.name));
    queue.max_buffer_len + readers.map(|processor| processor.n_threads).sum::<usize>()
}

fn subscription(queue: &config::Queue, window: usize) -> Subscription {
    let selector = queue.selector.iter().map(|selector| ("selector".to_owned(), selector.clone()));
    Subscription {
        queue: queue.name.clone(),
        destination: queue.destination.clone(),
        ack_mode: queue.ack_mode_in_effect(),
        window,
        report_blocked: queue.buffer_block,
        headers: selector.chain(queue.headers.iter().cloned()).collect(),
        durable: queue.subscription.as_deref().map(Arc::from),
        ordered: queue.order_by.is_some(),
    }
}

/// In ack mode client nothing behind a message can be acknowledged before it.
fn retry(processor: &Processor, in_queue: &config::Queue) -> RetryPolicy {
    let policy = processor.retry.clone();
    if in_queue.ack_mode_in_effect() == AckMode::Client { policy.hurried() } else { policy }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn config(server: Value, queue: Value) -> Config {
        let mut tree = json!({
            "mb_servers": {"mb": {"host_port_list": ["a.example.org:1", "[::1]:2"]}},
            "queues": {"q": {"server": "mb", "destination": "/queue/q"}},
            "processors": {"p": {"module": "a.b", "name": "P", "in_queue": "q"}}
        });
        for (place, changes) in [("/mb_servers/mb", server), ("/queues/q", queue)] {
            for (key, value) in changes.as_object().unwrap() {
                tree.pointer_mut(place).unwrap()[key] = value.clone();
            }
        }
        let file = "/etc/stompbox/config.json".as_ref();
        Config::parse(&tree.to_string(), file, false, &|_| None).unwrap().config
    }

    #[test]
    fn client_id_goes_with_a_durable_subscription_and_with_nothing_else() {
        let (id, durable) =
            (json!({"client_id": "host-1"}), json!({"subscription": "all-of-it", "destination": "/topic/q"}));
        let config = config(id, durable);
        let mut queue = config.queues["q"].as_ref().clone();
        assert_eq!(consuming_options(&config, &queue).client_id.as_deref(), Some("host-1"));
        queue.subscription = None;
        assert_eq!(consuming_options(&config, &queue).client_id, None);
        assert_eq!(config.connect_options(&"mb".into()).client_id, None, "senders");
    }

    #[test]
    fn ack_mode_is_that_of_the_subscription() {
        for (word, mode) in
            [("auto", AckMode::Auto), ("client", AckMode::Client), ("client-individual", AckMode::ClientIndividual)]
        {
            let config = config(json!({}), json!({"ack_mode": word}));
            assert_eq!(subscription(&config.queues["q"], 1).ack_mode, mode);
        }
    }

    #[test]
    fn verbose_of_a_queue_is_verbose_of_its_connections() {
        let config = config(json!({}), json!({"verbose": true}));
        assert!(consuming_options(&config, &config.queues["q"]).verbose);
        assert!(!config.connect_options(&"mb".into()).verbose, "others send over that as well");
    }
}
