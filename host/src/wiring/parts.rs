//! From configured names to connected parts: the buffer and the consumers of a queue, senders for outputs and dead letters,
//! a settler for each processor.
//!
//! Made by [`super::unit`], one for each unit; everything here is new with it but the senders, which units share.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::sync::watch;

use super::{
    Common,
    senders::{Sender, Senders, Use},
};
use crate::{
    buffer::{Buffer, BufferOptions},
    client::{AckMode, ConnectOptions, Consumers, Phase, Producer, ReadFrom, SessionState, Subscription},
    config::{self, Config, Processor},
    log_rate::LogRate,
    metrics::ProcessorMetrics,
    retry::RetryPolicy,
    settle::{Route, Settler},
    source::{Source, Stop},
    stage::Stage,
};

/// A pause of all lanes that is longer gives everything back.
const MAX_REST: Duration = Duration::from_secs(30);

/// What makes the parts of one unit.
pub(super) struct Parts<'a> {
    pub(super) config: &'a Config,
    pub(super) common: &'a Common,
    pub(super) senders: &'a mut Senders,
    /// Those that it uses.
    pub(super) used: Vec<Arc<Sender>>,
}

/// A queue that is read: what waits, who reads it, and where they stand.
pub(super) struct Reading {
    pub(super) buffer: Arc<Buffer>,
    pub(super) consumers: Consumers,
    pub(super) state: watch::Receiver<SessionState>,
}

impl Parts<'_> {
    /// The settler of a processor, with all it needs.
    pub(super) fn settler(
        &mut self,
        (processor, in_queue): (&Processor, &config::Queue),
        (buffer, reader): (&Arc<Buffer>, usize),
        metrics: Arc<ProcessorMetrics>,
        log_rate: LogRate,
    ) -> Arc<Settler> {
        let vo = processor.vo.as_ref();
        let (_, destination) = processor.dead_letters_of(in_queue);
        let dead_letters = Route {
            producer: self.producer(&in_queue.server, Use::DeadLetters, vo),
            destination: destination.into(),
            headers: None,
            told_as: told_as(in_queue),
        };
        Arc::new(Settler {
            max_unconfirmed: window(self.config, in_queue),
            max_kept: buffer.quota(),
            buffer: buffer.clone(),
            reader,
            routes: self.routes(processor),
            dead_letters,
            use_transaction: in_queue.use_transaction,
            processor: processor.name.clone(),
            retry: retry(processor, in_queue),
            log_rate,
            metrics,
            max_unconfirmed_bytes: processor.unconfirmed_bytes,
            unconfirmed: Arc::default(),
            spool: self.common.spool.clone(),
            slots: self.common.slots.clone(),
            kept: Arc::default(),
        })
    }

    /// The buffer of a queue and its consumers, which fill it once they run.
    pub(super) fn reading(&self, queue: &config::Queue, consuming: watch::Receiver<Phase>) -> Reading {
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
        let buffer = Buffer::new(options, self.common.host_bytes.clone());
        let connect = consuming_options(self.config, queue);
        let server = self.config.servers.get(&queue.server);
        let all = server.is_some_and(|server| server.connect == Some(config::Connect::All));
        let from = ReadFrom { all, ..ReadFrom::default() };
        let (consumers, state) = Consumers::new(connect, from, subscription(queue, window), buffer.clone(), consuming);
        Reading { buffer, consumers, state }
    }

    /// A processor that works by the clock, with all it needs.
    pub(super) fn source(
        &mut self,
        processor: &Processor,
        stage: &Arc<Stage>,
        metrics: Arc<ProcessorMetrics>,
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
            metrics,
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
        #[expect(clippy::expect_used, reason = "Config refuses queues on unknown servers")]
        let server = self.config.servers.get(server).expect("a checked server");
        let sender = self.senders.get(self.config, server, what, vo);
        let producer = sender.producer.clone();
        if !self.used.iter().any(|used| Arc::ptr_eq(used, &sender)) {
            self.used.push(sender);
        }
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
