//! Where dead letters go, by configuration or by default.
//!
//! Asked by [`crate::wiring`] when it wires a processor, by `check --connect` and by `dead-letters`. What stands in a dead
//! letter is decided in [`mod@crate::dead_letter`]; nothing here sends one.

use std::collections::BTreeSet;

use super::{Config, Problem, Processor, Queue};

impl Processor {
    /// Where its dead letters go when it reads this queue, and before that the key that says so or could.
    #[must_use]
    pub fn dead_letters_of(&self, in_queue: &Queue) -> (String, String) {
        match &self.dead_letter {
            Some(own) => (format!("processors.{}.dead_letter", self.name), own.clone()),
            None => (format!("queues.{}.dead_letter", in_queue.name), of_queue(in_queue)),
        }
    }
}

impl Config {
    /// Everywhere that dead letters of a queue may be: of each processor that reads it, also of one that is disabled now.
    #[must_use]
    pub fn dead_letters_of(&self, queue: &Queue) -> BTreeSet<String> {
        let readers = self.processors.values().filter(|processor| processor.in_queue.as_ref() == Some(&queue.name));
        let places: BTreeSet<String> = readers.map(|reader| reader.dead_letters_of(queue).1).collect();
        if places.is_empty() { BTreeSet::from([of_queue(queue)]) } else { places }
    }

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

fn of_queue(queue: &Queue) -> String {
    queue.dead_letter.clone().unwrap_or_else(|| default_destination(&queue.destination))
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
    use serde_json::json;

    use super::super::tests::config;
    use super::*;

    #[test]
    fn places_of_a_queue_are_those_of_all_its_readers() {
        let places = |changes: &[_]| Vec::from_iter(config(changes).dead_letters_of(&config(changes).queues["q"]));
        assert_eq!(places(&[]), ["/queue/q.DLQ"]);
        let second =
            json!({"module": "a.b", "name": "P", "in_queue": "q", "enable": false, "dead_letter": "/queue/own"});
        assert_eq!(places(&[("processors.r", second)]), ["/queue/own", "/queue/q.DLQ"]);
        assert_eq!(places(&[("processors", json!({})), ("queues.q.dead_letter", json!("/queue/d"))]), ["/queue/d"]);
    }

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
