//! The end of a host: everything that was taken is settled, in the order that loses nothing.

use std::{
    thread,
    time::{Duration, Instant},
};

use tokio::{
    task::AbortHandle,
    time::{sleep, timeout, timeout_at},
};
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

use super::{Drained, Running, wiring::Use};
use crate::client::{Phase, Producer, SessionState};

/// How long connections may take to close; each bounds its own goodbye below this.
const CLOSING_LIMIT: Duration = Duration::from_secs(6);

/// How long dead letters may take after the grace is over.
const LAST_LETTERS: Duration = Duration::from_secs(3);

impl Running {
    /// Ends without losing anything: no new deliveries, lanes finish, outputs are confirmed, ACKs are
    /// written, connections say goodbye.
    pub async fn drain(self, grace: Duration) -> Drained {
        let until = Instant::now() + grace;
        info!("draining, at most {} s", grace.as_secs_f64());
        // From here on nothing changes what runs.
        self.manager.iter().for_each(AbortHandle::abort);
        self.sources.stop();
        self.consume.send_replace(Phase::Drain);
        self.reach(SessionState::Quiet, until).await;
        self.buffers.iter().for_each(|buffer| buffer.close());
        let settled = self.settled(until).await;
        if !settled {
            self.rescue().await;
        }
        self.consume.send_replace(Phase::Finish);
        self.send.send_replace(Phase::Finish);
        self.tasks.close();
        // Sessions and producers bound their goodbyes themselves; what hangs longer is left behind.
        let _ = timeout(CLOSING_LIMIT, self.tasks.wait()).await;
        if let Some(admin) = &self.admin {
            admin.abort();
        }
        if settled && self.consumers.iter().all(|queue| *queue.borrow() == SessionState::Closed) {
            return Drained::Clean;
        }
        let in_work: usize = self.in_work.iter().map(TaskTracker::len).sum();
        warn!(
            in_work,
            "not everything was settled in time: the broker delivers it again, except in ack mode auto; outputs may have arrived"
        );
        Drained::Forced
    }

    /// The grace is over. What its broker forgot when it sent it (ack mode auto) is ours alone: what waits for
    /// confirmations becomes a dead letter, if that is quick; of the rest the log tells.
    async fn rescue(&self) {
        let of = |what: Use| self.producers.iter().filter(move |(of, _)| *of == what).map(|(_, producer)| producer);
        of(Use::Outputs).for_each(Producer::abandon);
        let until = Instant::now() + LAST_LETTERS;
        while of(Use::DeadLetters).any(|producer| producer.unconfirmed() > 0) && Instant::now() < until {
            sleep(Duration::from_millis(5)).await;
        }
        of(Use::DeadLetters).for_each(Producer::abandon);
        for buffer in self.buffers.iter().filter(|buffer| buffer.must_finish()) {
            let (waiting, held, _) = buffer.counts();
            if waiting + held > 0 {
                error!(waiting, held, "lost: read in ack mode auto and not processed within the grace");
            }
        }
    }

    /// Waits until every queue has come so far, or until the time is up.
    async fn reach(&self, wanted: SessionState, until: Instant) {
        for queue in &self.consumers {
            let reached = async { queue.clone().wait_for(|state| *state >= wanted).await.is_ok() };
            let _ = timeout_at(until.into(), reached).await;
        }
    }

    /// Whether lanes ended and everything they took is settled before `until`.
    async fn settled(&self, until: Instant) -> bool {
        for in_work in &self.in_work {
            in_work.close();
        }
        loop {
            if self.lanes.iter().all(thread::JoinHandle::is_finished) && self.in_work.iter().all(TaskTracker::is_empty)
            {
                return true;
            }
            if Instant::now() >= until {
                return false;
            }
            sleep(Duration::from_millis(5)).await;
        }
    }
}
