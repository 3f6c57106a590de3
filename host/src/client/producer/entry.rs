//! One thing in an outbox: a single message, or the outputs of one input that stand or fall together.
//!
//! A group holds all its messages until the last is confirmed, since the broker is known only when it is
//! encoded and may be another one after a break. Where the broker can, it becomes a transaction: BEGIN,
//! SENDs, COMMIT with a receipt, in one piece. Elsewhere, and where a COMMIT is not to be trusted, each SEND has a
//! receipt of its own.

use bytes::BytesMut;

use super::{
    OnDone, Rejected,
    outgoing::{Outgoing, Peer, Tie},
};
use crate::stomp::{Command, EncodeError, encode};

/// What was given to the outbox, with whom to tell.
pub(super) struct Entry {
    pub(super) load: Load,
    pub(super) done: Box<dyn OnDone>,
    /// It was on a connection that died without an answer: sent again marked, and one at a time, so
    /// that one poison message cannot take the others with it again.
    pub(super) suspect: bool,
    /// It counts as refused, but nobody said so.
    pub(super) may_have_arrived: bool,
}

pub(super) enum Load {
    One(Outgoing),
    Group(Group),
}

/// Several messages, of which all are confirmed or none counts.
pub(super) struct Group {
    parts: Vec<Part>,
    /// Whether a transaction is wanted (`use_transaction`).
    transaction: bool,
    /// Whether it is in one on this connection.
    pub(super) in_transaction: bool,
    /// Whether each message has a receipt of its own on this connection.
    each: bool,
    /// Whether no COMMIT is awaited.
    committed: bool,
    /// What the broker said to the first part that it refused.
    refused: Option<String>,
}

struct Part {
    outgoing: Outgoing,
    answered: bool,
}

/// What an answer means for its entry.
pub(super) enum Fate {
    /// Nothing: it answers nothing that was asked.
    Unknown,
    /// Other parts are not answered yet.
    Waits,
    /// The fate of the whole.
    Done(Result<(), String>),
}

/// The numbers in a receipt id: `7` is entry 7, `7.2` the third message of it.
pub(super) fn parse_receipt(receipt_id: &str) -> Option<(u64, Option<usize>)> {
    match receipt_id.split_once('.') {
        None => Some((receipt_id.parse().ok()?, None)),
        Some((id, part)) => Some((id.parse().ok()?, Some(part.parse().ok()?))),
    }
}

impl Entry {
    /// Appends its frames; on an error nothing of them.
    pub(super) fn encode(&mut self, output: &mut BytesMut, peer: Peer<'_>, id: u64) -> Result<(), EncodeError> {
        let start = output.len();
        let encoded = match &mut self.load {
            Load::One(outgoing) => outgoing.encode(output, peer, Tie::Receipt(&id.to_string()), self.suspect),
            Load::Group(group) => group.encode(output, peer, id, self.suspect),
        };
        if encoded.is_err() {
            output.truncate(start);
        }
        encoded
    }

    /// Whether any of it goes to this destination.
    pub(super) fn goes_to(&self, destination: &str) -> bool {
        match &self.load {
            Load::One(outgoing) => *outgoing.request.destination == *destination,
            Load::Group(group) => group.parts.iter().any(|part| *part.outgoing.request.destination == *destination),
        }
    }

    /// Whether no broker has seen any of it.
    pub(super) fn is_unseen(&self) -> bool {
        let confirmed = matches!(&self.load, Load::Group(group) if group.parts.iter().any(|part| part.answered));
        !self.suspect && !confirmed
    }

    pub(super) fn in_transaction(&self) -> bool {
        matches!(&self.load, Load::Group(group) if group.in_transaction)
    }

    pub(super) fn answer(&mut self, part: Option<usize>, result: Result<(), String>) -> Fate {
        match (&mut self.load, part) {
            (Load::One(_), None) => Fate::Done(result),
            (Load::One(_), Some(_)) => Fate::Unknown,
            (Load::Group(group), part) => group.answer(part, result),
        }
    }

    /// The connection is gone: why it is refused now, if it is; else it is sent again, as a suspect.
    pub(super) fn cut(&mut self, why: &str, said_no: bool) -> Option<String> {
        if let Load::Group(group) = &mut self.load {
            if std::mem::take(&mut group.in_transaction) && group.each {
                // Without its COMMIT that was worth nothing.
                group.parts.iter_mut().for_each(|part| part.answered = false);
            }
            // What is left of it would be sent for nothing.
            if let Some(refused) = group.refused.take() {
                return Some(refused);
            }
        }
        if std::mem::replace(&mut self.suspect, true) {
            self.may_have_arrived = !said_no;
            return Some(format!(
                "the connection died twice while it was in flight, the second time alone; last: {why}"
            ));
        }
        None
    }

    /// Tells the sender.
    pub(super) fn tell(self, result: Result<(), String>) {
        let Self { load, done, may_have_arrived, .. } = self;
        load.log_answer(&result);
        let rejected = |detail| Rejected { destination: load.destination(), detail, may_have_arrived };
        done.done(result.map_err(rejected));
    }
}

impl Load {
    /// Logs what the broker said, where that is wanted.
    fn log_answer(&self, answer: &Result<(), String>) {
        match self {
            Self::One(outgoing) => outgoing.log_answer(answer),
            Self::Group(group) => group.parts.iter().for_each(|part| part.outgoing.log_answer(answer)),
        }
    }

    /// Where it goes; of a group all its destinations, each once.
    fn destination(&self) -> std::sync::Arc<str> {
        match self {
            Self::One(outgoing) => outgoing.request.destination.clone(),
            Self::Group(group) => {
                let mut names: Vec<&str> = group.parts.iter().map(|part| &*part.outgoing.request.destination).collect();
                names.sort_unstable();
                names.dedup();
                names.join(", ").into()
            }
        }
    }
}

impl Group {
    pub(super) fn new(messages: Vec<Outgoing>, transaction: bool) -> Self {
        let parts = messages.into_iter().map(|outgoing| Part { outgoing, answered: false }).collect();
        Self { parts, transaction, in_transaction: false, each: false, committed: false, refused: None }
    }

    /// What an earlier connection confirmed is not sent again.
    fn encode(&mut self, output: &mut BytesMut, peer: Peer<'_>, id: u64, resent: bool) -> Result<(), EncodeError> {
        let missing = self.parts.iter().filter(|part| !part.answered).count();
        self.in_transaction = self.transaction && peer.link.flavour.transactions() && missing > 1;
        self.each = !self.in_transaction || peer.link.flavour.receipts_in_transactions();
        self.committed = !self.in_transaction;
        let name = id.to_string();
        let control = |output: &mut BytesMut, command, receipt: Option<&str>| {
            let headers = [("transaction", name.as_str())].into_iter().chain(receipt.map(|id| ("receipt", id)));
            encode(output, peer.link.version, command, headers, b"")
        };
        if self.in_transaction {
            control(output, Command::Begin, None)?;
        }
        for (index, part) in self.parts.iter().enumerate().filter(|(_, part)| !part.answered) {
            let receipt = self.each.then(|| format!("{name}.{index}"));
            let tie = match &receipt {
                None => Tie::Transaction(&name),
                Some(receipt) if self.in_transaction => Tie::Both(&name, receipt),
                Some(receipt) => Tie::Receipt(receipt),
            };
            part.outgoing.encode(output, peer, tie, resent)?;
        }
        if self.in_transaction { control(output, Command::Commit, Some(&name)) } else { Ok(()) }
    }

    /// Without a number it is the COMMIT that is answered.
    fn answer(&mut self, part: Option<usize>, result: Result<(), String>) -> Fate {
        let answered = match part {
            None => Some(&mut self.committed),
            Some(part) => self.parts.get_mut(part).filter(|_| self.each).map(|part| &mut part.answered),
        };
        match answered {
            Some(answered) if !*answered => *answered = true,
            _ => return Fate::Unknown,
        }
        if let Err(detail) = result {
            self.refused.get_or_insert(detail);
        }
        if !self.committed || self.each && self.parts.iter().any(|part| !part.answered) {
            return Fate::Waits;
        }
        Fate::Done(self.refused.take().map_or(Ok(()), Err))
    }
}

#[cfg(test)]
impl std::hash::Hash for Entry {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        // When a dead letter failed tells no states apart.
        let told = |(name, value): &(String, String)| name != "stompbox_failed_at" && !value.is_empty();
        let body = |outgoing: &Outgoing| {
            let headers = outgoing.request.headers.iter().filter(|header| told(header));
            (outgoing.request.body.clone(), headers.cloned().collect::<Vec<_>>())
        };
        self.suspect.hash(state);
        match &self.load {
            Load::One(outgoing) => body(outgoing).hash(state),
            Load::Group(group) => {
                (group.in_transaction, group.each, group.committed, group.refused.is_some()).hash(state);
                group.parts.iter().for_each(|part| (body(&part.outgoing), part.answered).hash(state));
            }
        }
    }
}
