//! Dead letters on their way: confirmed by the broker, else spooled, then the original is acknowledged.

use std::{
    sync::Arc,
    time::{Instant, SystemTime},
};

use tracing::{error, warn};

use super::{
    Job, Next, Settler,
    answers::Pending,
    unconfirmed::{Weight, weigh},
};
use crate::{
    client::Rejected,
    dead_letter,
    delivery::Tally,
    outcome::{Happened, Reason},
    spool::Letter,
};

impl Settler {
    pub(super) fn dead_letter(self: &Arc<Self>, job: Job, reason: Reason) {
        let message = &job.delivery.message;
        if self.log_rate.allows(reason.detail.len()) {
            warn!(processor = %self.processor, id = message.id(), attempts = job.delivery.attempt,
                  fuel = job.delivery.fuel, code = reason.code, detail = reason.detail,
                  to = %self.dead_letters.destination, "dead letter");
        }
        let headers = dead_letter::headers(message, &job.by.origin, &reason, job.delivery.attempt, SystemTime::now());
        let (body, urgent) = (message.body.clone(), !job.more);
        // Text or bytes as it came: ActiveMQ marks bytes by a content-length.
        let as_bytes = message.headers.get("content-length").is_some();
        let weight = Weight::new(&self.unconfirmed, weigh(&headers, &body));
        let then = move |settler: &Arc<Self>, job: Job, answer: Result<(), Rejected>| {
            let happened = match answer {
                Ok(()) => Happened::DeadLetterConfirmed,
                Err(rejected) => {
                    error!(processor = %settler.processor, id = job.delivery.message.id(), error = %rejected, "dead letter refused");
                    settler.note_arrival(&rejected);
                    Happened::DeadLetterRefused { reason, spool: settler.spool.is_some() }
                }
            };
            settler.settle_later(job, happened);
        };
        let done = Pending { settler: self.clone(), job, weight, last: true, then };
        self.dead_letters.send(headers, body, as_bytes, urgent, Box::new(done));
    }

    /// The broker refused the dead letter: the disk takes it, and the message is acknowledged after fsync.
    pub(super) fn spool(self: &Arc<Self>, job: Job, reason: Reason) {
        let Some(spool) = &self.spool else { return self.keep_dead_letter(job) };
        let message = &job.delivery.message;
        let letter = Letter {
            queue: message.queue.clone(),
            destination: self.dead_letters.destination.clone(),
            headers: dead_letter::headers(message, &job.by.origin, &reason, job.delivery.attempt, SystemTime::now()),
            body: message.body.clone(),
            as_bytes: message.headers.get("content-length").is_some(),
        };
        let settler = self.clone();
        let done = move |written: Result<(), String>| {
            let happened = match written {
                Ok(()) => Happened::DeadLetterSpooled,
                Err(detail) => Happened::SpoolFailed(Reason::new("spool-failed", detail)),
            };
            settler.settle_later(job, happened);
        };
        spool.append(letter, Box::new(done));
    }

    /// Nobody took the dead letter: the message stays un-acked and goes the same way again later. In ack
    /// mode auto at the end of the host that is all that can be done; the log has it.
    pub(super) fn keep_dead_letter(&self, mut job: Job) {
        job.delivery.kept = Some(Tally::new(&self.kept));
        let reason = Reason::new("dead-letter-refused", "the broker refused the dead letter");
        let kept = self.hold_until(job, Instant::now() + self.retry.max_delay, reason);
        if let Next::RunAgain(job, _) = kept {
            self.lost(&job);
        }
    }

    /// The queue is left before the broker confirmed the outputs. What the broker has no more becomes a dead letter,
    /// although its outputs may have arrived.
    pub(super) fn abandoned(self: &Arc<Self>, job: Job) {
        self.give_up(
            job,
            Reason::new("not-confirmed", "the queue was left before the broker had confirmed the outputs"),
        );
    }

    /// Nothing is left to try. Where the broker has the message no more, the log is the last who has it.
    pub(super) fn lost(&self, job: &Job) {
        if self.buffer.must_finish() {
            let message = &job.delivery.message;
            error!(processor = %self.processor, id = message.id(), body = %String::from_utf8_lossy(&message.body),
                   "lost: ack mode auto, and the queue is left before its dead letter is confirmed");
        }
    }
}
