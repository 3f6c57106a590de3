//! RabbitMQ with its STOMP plugin.

use std::sync::OnceLock;

use super::broker::{Broker, Kind};

/// A RabbitMQ.
pub type RabbitMq = Broker<Rabbit>;

/// Which broker this is.
#[derive(Debug)]
pub struct Rabbit;

impl Kind for Rabbit {
    const NAME: &'static str = "RabbitMQ";
    const SCRIPT: &'static str = "rabbitmq.sh";
    /// STOMP, and two of Erlang's.
    const PORTS: usize = 3;

    fn cell() -> &'static OnceLock<Broker<Self>> {
        static SHARED: OnceLock<RabbitMq> = OnceLock::new();
        &SHARED
    }
}
