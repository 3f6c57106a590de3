//! Under which name a queue is subscribed to.
//!
//! A session has one [`QueueName`] and asks it on each connection; it tells it how the connection ended.

use std::borrow::Cow;

use super::{Flavour, as_existing};
use crate::client::ClientError;

/// By which of its two names RabbitMQ is asked for the queue of a subscription: `/amq/queue/x` takes it as it
/// is, `/queue/x` declares it. Each answer teaches the session what to try next.
#[derive(Debug, Default)]
pub struct QueueName {
    declares: bool,
    /// Whether the name that was asked for last was one of two.
    chosen: bool,
}

impl QueueName {
    /// The destination for SUBSCRIBE on this connection.
    pub fn of<'a>(&mut self, flavour: Flavour, destination: &'a str) -> Cow<'a, str> {
        self.chosen = flavour == Flavour::RabbitMq && destination.starts_with("/queue/");
        if self.chosen && !self.declares { as_existing(destination) } else { destination.into() }
    }

    /// Learns from how a connection ended; true where the other name is to be tried at once. Only a missing
    /// queue is: two refusals in turn must not go round without a pause.
    pub fn learn(&mut self, error: &ClientError) -> bool {
        let ClientError::Broker(text) = error else { return false };
        let missing = self.chosen && !self.declares && text.contains("NOT_FOUND");
        let otherwise = self.chosen && self.declares && text.contains("PRECONDITION_FAILED");
        self.declares = self.declares && !otherwise || missing;
        missing
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{OTHERWISE, broker_says};
    use super::*;

    #[test]
    fn a_missing_queue_is_declared_and_one_of_other_arguments_taken_as_it_is() {
        let (missing, otherwise) = (broker_says("not_found: NOT_FOUND - no queue 'x'"), broker_says(OTHERWISE));
        let mut name = QueueName::default();
        assert_eq!(name.of(Flavour::RabbitMq, "/queue/x"), "/amq/queue/x");
        assert!(!name.learn(&otherwise) && !name.learn(&ClientError::Closed));
        assert!(name.learn(&missing), "at once");
        assert_eq!(name.of(Flavour::RabbitMq, "/queue/x"), "/queue/x");
        assert!(!name.learn(&missing), "declared already");
        assert!(!name.learn(&otherwise), "not at once, or two refusals would go round");
        assert_eq!(name.of(Flavour::RabbitMq, "/queue/x"), "/amq/queue/x");
    }

    #[test]
    fn other_brokers_and_other_destinations_have_one_name() {
        for (flavour, destination) in [(Flavour::ActiveMq, "/queue/x"), (Flavour::RabbitMq, "/topic/x")] {
            let mut name = QueueName::default();
            assert_eq!(name.of(flavour, destination), destination);
            assert!(!name.learn(&broker_says("not_found: NOT_FOUND - no exchange 'x'")));
        }
    }
}
