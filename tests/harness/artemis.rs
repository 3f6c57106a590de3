//! ActiveMQ Artemis, with three acceptors: as generated, with prefixes, and one that is impatient.

use std::{net::SocketAddr, sync::OnceLock};

use super::broker::{Broker, Kind};

/// An Artemis; its address is that of the acceptor as generated.
pub type Artemis = Broker<Instance>;

impl Artemis {
    /// The acceptor with `anycastPrefix=/queue/` and `multicastPrefix=/topic/`.
    pub fn prefixed(&self) -> SocketAddr {
        self.address_of(1)
    }

    /// The acceptor that closes a silent connection after 2 s instead of 60.
    pub fn impatient(&self) -> SocketAddr {
        self.address_of(2)
    }
}

/// Which broker this is.
#[derive(Debug)]
pub struct Instance;

impl Kind for Instance {
    const NAME: &'static str = "Artemis";
    const SCRIPT: &'static str = "artemis.sh";
    const PORTS: usize = 3;

    fn cell() -> &'static OnceLock<Broker<Self>> {
        static SHARED: OnceLock<Artemis> = OnceLock::new();
        &SHARED
    }
}
