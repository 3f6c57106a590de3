//! The end of all units at once: everything that was taken is settled, in the order that loses nothing.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};
use tracing::{error, warn};

use super::{
    Wiring,
    senders::{Sender, Use},
    unit::{CLOSING_LIMIT, Unit},
};
use crate::client::Producer;

/// How long dead letters may take after the grace is over.
const LAST_LETTERS: Duration = Duration::from_secs(3);

/// How a drain ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drained {
    /// Everything taken was settled.
    Clean,
    /// The grace period ended first: what is left is un-acked, and the broker delivers it again.
    Forced,
}

impl Wiring {
    /// Ends without losing anything: no new deliveries, lanes finish, outputs are confirmed, ACKs are written, connections
    /// say goodbye. Nothing may be started from here on.
    pub(crate) async fn drain(&self, until: Instant) -> Drained {
        let (units, senders) = self.last();
        let settled = all_of(&units, |unit| async move { unit.settle(until).await }).await;
        if !settled {
            rescue(&units, &senders).await;
        }
        senders.iter().for_each(|sender| sender.finish());
        let parted = all_of(&units, |unit| async move { unit.part(until).await }).await;
        let tasks = self.lock().senders.tasks.clone();
        tasks.close();
        // Producers bound their goodbyes themselves; what hangs longer is left behind.
        let _ = timeout(CLOSING_LIMIT, tasks.wait()).await;
        if settled && parted {
            return Drained::Clean;
        }
        let in_work: usize =
            units.iter().flat_map(|unit| &unit.processors).map(|processor| processor.in_work.len()).sum();
        warn!(
            in_work,
            "not everything was settled in time: the broker delivers it again, except in ack mode auto; outputs may have arrived"
        );
        Drained::Forced
    }
}

/// Does it for all units at once; whether all say yes.
async fn all_of<F: Future<Output = bool> + Send + 'static>(units: &[Arc<Unit>], what: impl Fn(Arc<Unit>) -> F) -> bool {
    let tasks: JoinSet<bool> = units.iter().map(|unit| what(unit.clone())).collect();
    tasks.join_all().await.into_iter().all(|yes| yes)
}

/// The grace is over. What its broker forgot when it sent it (ack mode auto) is ours alone: what waits for
/// confirmations becomes a dead letter, if that is quick; of the rest the log tells.
async fn rescue(units: &[Arc<Unit>], senders: &[Arc<Sender>]) {
    let of = |what: Use| senders.iter().filter(move |sender| sender.what == what).map(|sender| &sender.producer);
    of(Use::Outputs).for_each(Producer::abandon);
    let until = Instant::now() + LAST_LETTERS;
    while of(Use::DeadLetters).any(|producer| producer.unconfirmed() > 0) && Instant::now() < until {
        sleep(Duration::from_millis(5)).await;
    }
    of(Use::DeadLetters).for_each(Producer::abandon);
    for buffer in units.iter().filter_map(|unit| unit.buffer()).filter(|buffer| buffer.must_finish()) {
        let (waiting, held, _) = buffer.counts();
        if waiting + held > 0 {
            error!(waiting, held, "lost: read in ack mode auto and not processed within the grace");
        }
    }
}
