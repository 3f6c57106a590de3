//! The connections for sending, shared by the units that need them: each lives as long as one of these.
//!
//! Used by [`super::Wiring`]. A server whose configuration has changed gets new ones; what was sent over the old ones is
//! answered there.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::sync::watch;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, info_span};

use crate::{
    client::{Phase, Producer},
    config::{Config, Server},
    status::Link,
};

/// What is sent over a connection. Each VO sends over connections of its own, so that one VO's flow control does not stop
/// another's outputs; and dead letters have a connection of their own: a broker that stops taking outputs must still take
/// them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    Outputs,
    DeadLetters,
}

/// A connection for sending, and all its successors; it says goodbye when the last unit that holds it is gone.
#[derive(Debug)]
pub(super) struct Sender {
    pub(super) what: Use,
    pub(super) producer: Producer,
    pub(super) link: Arc<Link>,
    vo: Option<Arc<str>>,
    made_for: MadeFor,
    phase: watch::Sender<Phase>,
}

/// All that its options come from.
#[derive(Debug, Clone, PartialEq)]
struct MadeFor {
    server: Arc<Server>,
    guard_period: Duration,
}

impl Sender {
    /// Whether it can be had for another unit of this configuration.
    fn is(&self, made_for: &MadeFor, what: Use, vo: Option<&Arc<str>>) -> bool {
        self.what == what && self.vo.as_ref() == vo && self.made_for == *made_for
    }

    /// Nothing more is sent: it says goodbye.
    pub(super) fn finish(&self) {
        self.phase.send_replace(Phase::Finish);
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.finish();
    }
}

/// All that there are.
#[derive(Debug, Default)]
pub(super) struct Senders {
    made: Vec<Weak<Sender>>,
    pub(super) tasks: TaskTracker,
}

impl Senders {
    /// The one for this use, opened if there is none yet; must be called within a tokio runtime.
    pub(super) fn get(
        &mut self,
        config: &Config,
        server: &Arc<Server>,
        what: Use,
        vo: Option<&Arc<str>>,
    ) -> Arc<Sender> {
        let made_for = MadeFor { server: server.clone(), guard_period: config.guard_period };
        let known = self.all().into_iter().find(|sender| sender.is(&made_for, what, vo));
        known.unwrap_or_else(|| self.open(config, made_for, what, vo))
    }

    fn open(&mut self, config: &Config, made_for: MadeFor, what: Use, vo: Option<&Arc<str>>) -> Arc<Sender> {
        let server = made_for.server.name.clone();
        let (phase, sending) = watch::channel(Phase::Run);
        let (producer, task) = Producer::new(config.connect_options(&server), sending);
        let purpose = match what {
            Use::Outputs => "outputs",
            Use::DeadLetters => "dead-letters",
        };
        let link = Link::new(server.clone(), None, purpose, vo.cloned().unwrap_or_default());
        tokio::spawn(link.clone().follow(task.connected(), |connected| *connected));
        self.tasks.spawn(task.run().instrument(info_span!("producer", %server)));
        let sender = Arc::new(Sender { what, producer, link, vo: vo.cloned(), made_for, phase });
        self.made.retain(|made| made.strong_count() > 0);
        self.made.push(Arc::downgrade(&sender));
        sender
    }

    /// Those that are held.
    pub(super) fn all(&self) -> Vec<Arc<Sender>> {
        self.made.iter().filter_map(Weak::upgrade).collect()
    }
}
