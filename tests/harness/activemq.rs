//! ActiveMQ Classic.

use std::sync::OnceLock;

use super::broker::{Broker, Kind};
pub use super::broker::{PASSCODE, USERNAME};

/// An ActiveMQ.
pub type ActiveMq = Broker<Classic>;

/// Which broker this is.
#[derive(Debug)]
pub struct Classic;

impl Kind for Classic {
    const NAME: &'static str = "ActiveMQ";
    const SCRIPT: &'static str = "activemq.sh";
    const PORTS: usize = 1;

    fn cell() -> &'static OnceLock<Broker<Self>> {
        static SHARED: OnceLock<ActiveMq> = OnceLock::new();
        &SHARED
    }
}
