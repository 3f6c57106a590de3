//! Where dead letters go, by configuration or by default.
//!
//! Asked by [`crate::app`] when it wires a processor and by `check --connect`. What stands in a dead letter is
//! decided in [`mod@crate::dead_letter`]; nothing here sends one.

use super::{Config, Problem, Processor, Queue};

impl Processor {
    /// Where its dead letters go when it reads this queue, and before that the key that says so or could.
    #[must_use]
    pub fn dead_letters_of(&self, in_queue: &Queue) -> (String, String) {
        let of_queue = format!("queues.{}.dead_letter", in_queue.name);
        match (&self.dead_letter, &in_queue.dead_letter) {
            (Some(own), _) => (format!("processors.{}.dead_letter", self.name), own.clone()),
            (None, Some(destination)) => (of_queue, destination.clone()),
            (None, None) => (of_queue, default_destination(&in_queue.destination)),
        }
    }
}

impl Config {
    /// The processors whose dead letters come back as input: they would go round for ever.
    pub fn dead_letter_loops(&self) -> impl Iterator<Item = Problem> {
        self.active_processors().filter_map(|processor| self.loop_of(processor))
    }

    fn loop_of(&self, processor: &Processor) -> Option<Problem> {
        let queue = self.queues.get(processor.in_queue.as_ref()?)?;
        let (path, configured) = processor.dead_letters_of(queue);
        let message =
            format!("{configured} is the queue that the processor reads: its dead letters would come back for ever");
        (configured == queue.destination).then_some(Problem { path, message })
    }
}

/// The destination for a queue without a configured `dead_letter`.
fn default_destination(in_destination: &str) -> String {
    // Always a queue that a SEND makes: a topic, an exchange and a missing /amq/queue/ confirm a message and
    // drop it while nobody listens.
    let known = ["/queue/", "/topic/", "/amq/queue/"].iter().find_map(|kind| in_destination.strip_prefix(kind));
    let name = known.map_or_else(|| in_destination.trim_start_matches('/').replace('/', "."), str::to_owned);
    let name = name.replace("::", "."); // Artemis: a queue of another address.
    if name.starts_with("Consumer.") {
        // Under its own name ActiveMQ would take it for the queue of a virtual topic.
        format!("/queue/DLQ.{name}")
    } else {
        format!("/queue/{name}.DLQ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations() {
        for (from, to) in [
            ("/queue/x", "/queue/x.DLQ"),
            ("/topic/x", "/queue/x.DLQ"),
            ("/queue/Consumer.jedi.atlas.idds", "/queue/DLQ.Consumer.jedi.atlas.idds"),
            ("/amq/queue/x", "/queue/x.DLQ"),
            ("/exchange/ex/key", "/queue/exchange.ex.key.DLQ"),
            ("/queue/address::queue", "/queue/address.queue.DLQ"),
            ("x", "/queue/x.DLQ"),
        ] {
            assert_eq!(default_destination(from), to);
        }
    }
}
