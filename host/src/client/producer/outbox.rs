//! What a producer has been given and the broker has not yet answered.
//!
//! Entries stand in the order of their receipt ids, so an answer finds its entry by subtraction.
//! Encoding happens in the caller's thread under the lock; the socket's task only moves bytes.

use std::{
    collections::{HashSet, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::BytesMut;

use super::{
    OnDone,
    entry::{Entry, Fate, Group, Load, parse_receipt},
    outgoing::{Link, Outgoing, Peer},
    transactions::Transactions,
};
use crate::client::doorbell::Doorbell;

/// This much encoded output is written at once, whoever may follow.
const FULL: usize = 32 << 10;
/// So many queues are remembered as declared otherwise.
const MAX_DECLARED_OTHERWISE: usize = 1_000;

#[derive(Debug, Default)]
pub(super) struct Outbox {
    state: Mutex<State>,
    bell: Doorbell,
}

#[derive(Default)]
struct State {
    /// Answered entries are none until all before them are answered too.
    entries: VecDeque<Option<Entry>>,
    /// The receipt id of the first entry.
    first_id: u64,
    /// The index of the first entry that is not encoded on this connection.
    next: usize,
    /// The index of the first entry whose bytes the connection was not given.
    given: usize,
    /// Entries that are not answered.
    unconfirmed: usize,
    link: Option<Link>,
    /// Queues that RabbitMQ has with other arguments than a SEND to them would declare.
    declared_otherwise: HashSet<String>,
    encoded: BytesMut,
    /// Those of this connection.
    transactions: Transactions,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").field("unconfirmed", &self.unconfirmed).finish_non_exhaustive()
    }
}

impl Outbox {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn send(&self, outgoing: Outgoing, urgent: bool, done: Box<dyn OnDone>) {
        self.add(Load::One(outgoing), urgent, done);
    }

    /// Sends messages that stand or fall together; one alone needs no transaction.
    pub(super) fn send_group(
        &self,
        mut messages: Vec<Outgoing>,
        transaction: bool,
        urgent: bool,
        done: Box<dyn OnDone>,
    ) {
        match (messages.pop(), messages.is_empty()) {
            (None, _) => done.done(Ok(())),
            (Some(only), true) => self.send(only, urgent, done),
            (Some(last), false) => {
                messages.push(last);
                self.add(Load::Group(Group::new(messages, transaction)), urgent, done);
            }
        }
    }

    fn add(&self, load: Load, urgent: bool, done: Box<dyn OnDone>) {
        let mut state = self.lock();
        state.entries.push_back(Some(Entry { load, done, suspect: false, may_have_arrived: false }));
        state.unconfirmed += 1;
        let refused = state.encode_next();
        let (full, something) = (state.encoded.len() >= FULL, !state.encoded.is_empty());
        drop(state);
        if something {
            self.bell.ring(urgent || full);
        }
        report(refused);
    }

    /// Takes back what waits too long and was never on a wire; returns how much that was.
    pub(super) fn withdraw_overdue(&self) -> usize {
        let mut state = self.lock();
        let next = state.next;
        let mut withdrawn = Vec::new();
        for (index, slot) in state.entries.iter_mut().enumerate() {
            let Some(entry) = slot.as_mut().filter(|entry| entry.done.is_overdue()) else { continue };
            if index >= next && entry.is_unseen() {
                withdrawn.extend(slot.take());
            } else {
                entry.done.overdue();
            }
        }
        state.unconfirmed -= withdrawn.len();
        state.forget_answered();
        drop(state);
        let count = withdrawn.len();
        withdrawn.into_iter().for_each(|entry| entry.done.withdrawn());
        count
    }

    /// Lets go of everything that is not answered.
    pub(super) fn abandon(&self) {
        let mut state = self.lock();
        let entries = std::mem::take(&mut state.entries);
        state.first_id += entries.len() as u64;
        (state.next, state.given, state.unconfirmed) = (0, 0, 0);
        state.encoded.clear();
        drop(state);
        entries.into_iter().flatten().for_each(|entry| entry.done.abandoned());
    }

    pub(super) fn unconfirmed(&self) -> usize {
        self.lock().unconfirmed
    }

    pub(super) async fn staged(&self) {
        self.bell.answer().await;
    }

    /// Moves what is encoded to the connection.
    pub(super) fn take_into(&self, output: &mut BytesMut) {
        let mut state = self.lock();
        if output.is_empty() {
            std::mem::swap(output, &mut state.encoded);
        } else {
            output.extend_from_slice(&state.encoded);
        }
        state.encoded.clear();
        state.given = state.next;
    }

    pub(super) fn connected(&self, link: Link) {
        let mut state = self.lock();
        state.link = Some(link);
        let refused = state.encode_next();
        drop(state);
        self.bell.ring(true);
        report(refused);
    }

    /// From now on messages for this queue go there without declaring it. Those that met with the refusal
    /// are as good as others: nothing is wrong with them. False where that was known before, or where nothing
    /// for it was in flight: then it was not this that ended the connection.
    pub(super) fn take_as_existing(&self, queue: &str) -> bool {
        let mut state = self.lock();
        let (destination, sent) = (format!("/queue/{queue}"), state.given);
        if !state.entries.iter().take(sent).flatten().any(|entry| entry.goes_to(&destination)) {
            return false;
        }
        let entries = state.entries.iter_mut().flatten();
        entries.filter(|entry| entry.goes_to(&destination)).for_each(|entry| entry.suspect = false);
        if state.declared_otherwise.len() >= MAX_DECLARED_OTHERWISE {
            state.declared_otherwise.clear(); // Those still in use are learnt again.
        }
        state.declared_otherwise.insert(destination)
    }

    /// What was in flight goes back to be sent again; what the socket never got, as if nothing had been.
    /// Only something that was sent again already, alone, and took the connection with it a second time
    /// counts as refused, and a group of which the broker had refused a part.
    /// `said_no` tells that the broker ended the connection with an ERROR.
    pub(super) fn disconnected(&self, why: &str, said_no: bool) {
        let mut state = self.lock();
        state.link = None;
        state.encoded.clear();
        state.transactions = Transactions::default();
        let sent = state.given;
        let mut refused = Vec::new();
        for slot in state.entries.iter_mut().take(sent) {
            if let Some(reason) = slot.as_mut().and_then(|entry| entry.cut(why, said_no)) {
                refused.extend(slot.take().map(|entry| (entry, reason)));
            }
        }
        state.unconfirmed -= refused.len();
        (state.next, state.given) = (0, 0);
        state.forget_answered();
        drop(state);
        report(refused);
    }

    /// Passes an answer to the sender; false where the id belongs to nothing that is in flight.
    pub(super) fn answer(&self, receipt_id: &str, result: Result<(), String>) -> bool {
        let mut state = self.lock();
        let (entry, result) = match state.answer(receipt_id, result) {
            Answered::Unknown => return false,
            Answered::Waits => return true,
            Answered::Done(entry, result) => (entry, result),
        };
        let refused = state.encode_next();
        let something = !state.encoded.is_empty();
        drop(state);
        if something {
            self.bell.ring(true);
        }
        entry.tell(result);
        report(refused);
        true
    }

    /// Takes an ERROR that names no receipt, of a SEND in a transaction: all others have one. Returns false
    /// where there was no transaction on this connection.
    pub(super) fn complain(&self, text: String) -> bool {
        self.lock().transactions.complain(text)
    }
}

/// What became of an answer.
enum Answered {
    Unknown,
    Waits,
    Done(Entry, Result<(), String>),
}

impl State {
    fn answer(&mut self, receipt_id: &str, result: Result<(), String>) -> Answered {
        let found = parse_receipt(receipt_id).and_then(|(id, part)| Some((self.index(id)?, part)));
        let Some((index, part)) = found else { return Answered::Unknown };
        let Some(slot) = self.entries.get_mut(index) else { return Answered::Unknown };
        let Some(entry) = slot.as_mut() else { return Answered::Unknown };
        let result = match entry.answer(part, result) {
            Fate::Unknown => return Answered::Unknown,
            Fate::Waits => return Answered::Waits,
            Fate::Done(result) => result,
        };
        let Some(entry) = slot.take() else { return Answered::Unknown };
        self.unconfirmed -= 1;
        let result = if entry.in_transaction() { self.transactions.close(result) } else { result };
        self.forget_answered();
        Answered::Done(entry, result)
    }

    /// The place of an entry that was sent on this connection: a broker must not confirm the future.
    fn index(&self, id: u64) -> Option<usize> {
        let index = usize::try_from(id.checked_sub(self.first_id)?).ok()?;
        (index < self.next).then_some(index)
    }

    fn forget_answered(&mut self) {
        while let Some(None) = self.entries.front() {
            self.entries.pop_front();
            self.first_id += 1;
            self.next = self.next.saturating_sub(1);
            self.given = self.given.saturating_sub(1);
        }
    }

    /// Encodes as many entries as may be in flight; returns those that cannot be expressed.
    fn encode_next(&mut self) -> Vec<(Entry, String)> {
        let mut refused = Vec::new();
        let Some(link) = self.link else { return refused };
        while self.next < self.entries.len() {
            let in_flight = self.next > 0; // Answered entries at the front are forgotten.
            let suspect_in_flight = self.suspect_in_flight();
            let id = self.first_id + self.next as u64;
            let Some(slot) = self.entries.get_mut(self.next) else { break };
            let Some(entry) = slot else {
                self.next += 1;
                continue;
            };
            if in_flight && entry.suspect || suspect_in_flight {
                break;
            }
            self.next += 1;
            let peer = Peer { link, declared_otherwise: &self.declared_otherwise };
            match entry.encode(&mut self.encoded, peer, id) {
                Ok(()) if entry.in_transaction() => self.transactions.open(),
                Ok(()) => {}
                Err(error) => {
                    self.unconfirmed -= 1;
                    refused.extend(slot.take().map(|entry| (entry, error.to_string())));
                    self.forget_answered();
                }
            }
        }
        refused
    }

    /// A suspect is only ever alone in flight, so it is the first entry.
    fn suspect_in_flight(&self) -> bool {
        self.next > 0 && self.entries.front().is_some_and(|entry| entry.as_ref().is_some_and(|entry| entry.suspect))
    }
}

fn report(refused: Vec<(Entry, String)>) {
    for (entry, detail) in refused {
        entry.tell(Err(detail));
    }
}

#[cfg(test)]
impl Outbox {
    pub(super) fn has_encoded(&self) -> bool {
        !self.lock().encoded.is_empty()
    }

    /// Feeds everything that its future depends on, except for whom it answers: bodies tell these apart.
    pub(super) fn hash(&self, hasher: &mut impl std::hash::Hasher) {
        use std::hash::Hash as _;
        let state = self.lock();
        (state.next, state.given, state.unconfirmed, state.link.is_some(), state.encoded.is_empty()).hash(hasher);
        state.transactions.hash(hasher);
        state.entries.iter().for_each(|entry| entry.hash(hasher));
    }
}
