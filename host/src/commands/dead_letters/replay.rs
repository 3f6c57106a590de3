//! Sends the originals of dead letters again, each confirmed, each as a message of its own.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use tokio::{
    sync::{oneshot, watch},
    task::JoinHandle,
    time::{Instant, timeout_at},
};

use super::{letter::Letter, text};
use crate::{
    cli::ReplayLetters,
    client::{Outgoing, OutputId, Phase, Producer, Rejected, SendRequest},
    config::Config,
    console::complain,
    dead_letter::{REPLAY_GENERATION, original_headers},
};

/// Which replay a message comes from: what fails again is known by it.
const REPLAY: &str = "stompbox_replay";

type Answer = oneshot::Receiver<Result<(), Rejected>>;

/// One replay at work.
pub(super) struct Replay<'a> {
    config: &'a Config,
    args: &'a ReplayLetters,
    /// The name of this replay, unlike that of any other.
    name: String,
    producers: BTreeMap<Arc<str>, (Producer, JoinHandle<()>)>,
    phase: watch::Sender<Phase>,
    /// Topics that were warned of.
    warned: BTreeSet<String>,
    silent: bool,
}

impl<'a> Replay<'a> {
    pub(super) fn new(config: &'a Config, args: &'a ReplayLetters) -> Self {
        Self {
            config,
            args,
            name: format!("{:016x}", fastrand::u64(..)),
            producers: BTreeMap::new(),
            phase: watch::Sender::new(Phase::Run),
            warned: BTreeSet::new(),
            silent: false,
        }
    }

    /// Whether a letter is of a message that this replay has sent.
    pub(super) fn has_sent(&self, letter: &Letter) -> bool {
        letter.headers.get(REPLAY) == Some(&self.name)
    }

    /// Whether the broker has left something unconfirmed: sending more makes no sense.
    pub(super) fn is_silent(&self) -> bool {
        self.silent
    }

    /// Sends the originals; of each why it is not confirmed, in their order.
    pub(super) async fn send(&mut self, letters: &[&Letter]) -> Vec<Result<(), String>> {
        let until = Instant::now() + self.args.timeout;
        let sent: Vec<Result<Answer, String>> = letters.iter().map(|letter| self.put(letter)).collect();
        let mut results = Vec::new();
        for answer in sent {
            results.push(match answer {
                Err(why) => Err(why),
                Ok(answer) => self.confirmed(answer, until).await,
            });
        }
        results
    }

    async fn confirmed(&mut self, answer: Answer, until: Instant) -> Result<(), String> {
        match timeout_at(until, answer).await {
            Ok(Ok(Ok(()))) => Ok(()),
            Ok(Ok(Err(rejected))) => Err(format!("{rejected}; the dead letter stays")),
            Ok(Err(_)) | Err(_) => {
                self.silent = true;
                let limit = self.args.timeout.as_secs_f64();
                Err(format!("not confirmed within {limit} s: it may have arrived, and the dead letter stays"))
            }
        }
    }

    /// Leaves in good order; what is not confirmed by now is not sent any more.
    pub(super) async fn finish(self) {
        for (producer, task) in self.producers.into_values() {
            producer.abandon();
            self.phase.send_replace(Phase::Finish);
            let _ = task.await;
        }
    }

    fn put(&mut self, letter: &Letter) -> Result<Answer, String> {
        let destination = self.target(letter)?;
        self.warn_of_topic(&destination);
        let all = letter.headers.iter();
        let (run, generation) = (self.name.clone(), self.args.generation.map(|number| number.to_string()));
        let own = [("persistent", Some("true".to_owned())), (REPLAY, Some(run)), (REPLAY_GENERATION, generation)];
        let own = own.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
        let request = SendRequest {
            destination: destination.into(),
            headers: own.chain(original_headers(all)).collect(),
            body: letter.body.clone(),
            as_bytes: letter.as_bytes,
        };
        // An id of its own: under the old one it would be taken for what was processed already.
        let id = Some(OutputId::new(fastrand::u128(..)));
        let (tell, told) = oneshot::channel();
        let done = move |answer| drop(tell.send(answer));
        let outgoing = Outgoing { id, ..Outgoing::from(request) };
        self.producer(&letter.server).send(outgoing, true, Box::new(done));
        Ok(told)
    }

    /// Where a letter goes. RabbitMQ confirms a SEND to a missing `/amq/queue/x` and forgets it; one to `/queue/x` makes
    /// the queue, or finds it.
    fn target(&self, letter: &Letter) -> Result<String, String> {
        let target = self.wanted(letter)?;
        Ok(target.strip_prefix("/amq/queue/").map_or(target.clone(), |name| format!("/queue/{name}")))
    }

    /// Who may write dead letters must not choose among all that the operator's login may write.
    fn wanted(&self, letter: &Letter) -> Result<String, String> {
        if let Some(to) = &self.args.to {
            return Ok(to.clone());
        }
        let original = letter.story("original_destination").ok_or(
            "it has no stompbox_original_destination, so it is no dead letter of a Stompbox: say --to DESTINATION",
        )?;
        let queues = self.config.queues.values().filter(|queue| queue.server == letter.server);
        if queues.into_iter().any(|queue| may_come_from(original, &queue.destination)) {
            Ok(original.to_owned())
        } else {
            Err(format!(
                "its original destination {original} is that of no queue of the configuration on {}: if it is right, \
                 say --to {original}",
                letter.server
            ))
        }
    }

    fn warn_of_topic(&mut self, destination: &str) {
        let topic = ["/topic/", "/exchange/"].iter().any(|kind| destination.starts_with(kind));
        if topic && self.warned.insert(destination.to_owned()) {
            complain(format_args!(
                "warning: {} is a topic: every subscriber gets what is replayed, also those who processed it before, and \
                 who is away without a durable subscription does not; --to sends it elsewhere",
                text::line(destination)
            ));
        }
    }

    fn producer(&mut self, server: &Arc<str>) -> &Producer {
        let (config, phase) = (self.config, &self.phase);
        let (producer, _) = self.producers.entry(server.clone()).or_insert_with(|| {
            let (producer, task) = Producer::new(config.connect_options(server), phase.subscribe());
            (producer, tokio::spawn(task.run()))
        });
        producer
    }
}

/// Whether a message that was read from this destination of the configuration may say that it is from there.
fn may_come_from(original: &str, configured: &str) -> bool {
    let pattern =
        configured.starts_with("/exchange/") || configured.contains(['*', '>', '#']) || configured.contains("::");
    let name = |destination: &str| {
        let kinds = ["/queue/", "/amq/queue/"];
        kinds.iter().find_map(|kind| destination.strip_prefix(kind)).unwrap_or(destination).to_owned()
    };
    pattern || name(original) == name(configured)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_original_is_replayed_to_where_the_configuration_reads() {
        for (original, configured, may) in [
            ("/queue/q", "/queue/q", true),
            ("/queue/q", "/amq/queue/q", true),
            ("/queue/other", "/queue/q", false),
            ("/topic/q", "/queue/q", false),
            ("/queue/a.b", "/queue/a.*", true),
            ("/exchange/ex/key.1", "/exchange/ex/key.#", true),
        ] {
            assert_eq!(may_come_from(original, configured), may, "{original} {configured}");
        }
    }
}
