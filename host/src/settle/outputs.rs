//! The outputs of one message on their way: a group for each server, settled when all are answered.
//!
//! A single output, the common case, goes alone and without any of this machinery. The broker's
//! answers come to [`super::answers`].

use std::sync::Arc;

use super::{
    Job, Settler,
    answers::{Part, Pending, Waiting},
    unconfirmed::{Weight, weigh},
};
use crate::{
    client::{Outgoing, Producer, Rejected},
    outcome::{Happened, Output, Reason},
};

impl Settler {
    /// Sends the outputs; the last answer settles the input.
    pub(super) fn send(self: &Arc<Self>, job: Job, outputs: Vec<Output>) {
        let bytes = outputs.iter().map(|output| weigh(&output.headers, &output.body)).sum();
        let weight = Weight::new(&self.unconfirmed, bytes);
        match self.addressed(&job, outputs) {
            Err(detail) => self.settle_later(job, refused(detail)),
            Ok(Addressed::One(producer, outgoing)) => {
                let urgent = !job.more;
                let then = |settler: &Arc<Self>, job, answer| settler.sent(job, 1, answer);
                producer.send(
                    outgoing,
                    urgent,
                    Box::new(Pending { settler: self.clone(), job, weight, last: false, then }),
                );
            }
            Ok(Addressed::Many(groups)) => self.send_groups(job, groups, weight),
        }
    }

    /// Where each output goes; an error names a queue that the processor has not.
    fn addressed(&self, job: &Job, outputs: Vec<Output>) -> Result<Addressed, String> {
        let ids = job.by.ids.of(&job.delivery.message);
        let single = outputs.len() == 1;
        let mut groups: Vec<(Producer, Vec<Outgoing>)> = Vec::new();
        for (index, output) in outputs.into_iter().enumerate() {
            let Some(route) = self.routes.get(&output.queue) else {
                return Err(format!("queue {} is not one this processor may send to", output.queue));
            };
            let id = ids.as_ref().map(|ids| ids.id(index, &output));
            let outgoing = route.outgoing(output.headers, output.body, id);
            if single {
                return Ok(Addressed::One(route.producer.clone(), outgoing));
            }
            match groups.iter_mut().find(|(producer, _)| producer.is_same(&route.producer)) {
                Some((_, group)) => group.push(outgoing),
                None => groups.push((route.producer.clone(), vec![outgoing])),
            }
        }
        Ok(Addressed::Many(groups))
    }

    fn send_groups(self: &Arc<Self>, job: Job, groups: Vec<(Producer, Vec<Outgoing>)>, weight: Weight) {
        let urgent = !job.more;
        let outputs = groups.iter().map(|(_, group)| group.len()).sum();
        let waiting = Waiting::new(job, groups.len(), outputs, weight);
        for (producer, group) in groups {
            let part = Part::new(self, &waiting);
            producer.send_group(group, self.use_transaction, urgent, Box::new(part));
        }
    }

    /// All outputs of a delivery are answered. Where one was refused none of them counts as sent.
    pub(super) fn sent(self: &Arc<Self>, job: Job, outputs: usize, answer: Result<(), Rejected>) {
        let happened = match answer {
            Ok(()) => {
                self.metrics.outputs.add(outputs as u64);
                Happened::OutputsConfirmed
            }
            Err(rejected) => {
                self.note_arrival(&rejected);
                refused(rejected.to_string())
            }
        };
        self.settle_later(job, happened);
    }

    /// What counts as refused without a word of the broker may be there, and comes once more with the next attempt.
    pub(super) fn note_arrival(&self, rejected: &Rejected) {
        if rejected.may_have_arrived {
            self.metrics.possible_duplicates.add_one();
        }
    }
}

fn refused(detail: String) -> Happened {
    Happened::OutputRefused(Reason::new("output-refused", detail))
}

/// Outputs with the connections they go over.
enum Addressed {
    One(Producer, Outgoing),
    /// A group for each server.
    Many(Vec<(Producer, Vec<Outgoing>)>),
}
