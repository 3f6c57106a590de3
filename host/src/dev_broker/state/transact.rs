//! Transactions: SENDs and ACKs that happen at COMMIT, or not at all.
//!
//! Like ActiveMQ, a transaction with a refused SEND fails as a whole at its COMMIT, and ABORT redelivers
//! nothing: what was to be acknowledged stays un-acked until the connection ends.

use std::collections::HashMap;

use super::{
    super::{queue::Message, refusal::Refusal},
    Delivered, PeerId, State, Step, Verdict,
};
use crate::stomp::Frame;

/// Open transactions of one connection.
const MAX_OPEN: usize = 100;
/// ACKs and SENDs of one transaction.
const MAX_STEPS: usize = 100_000;

/// The open transactions of one connection.
#[derive(Debug, Default)]
pub(super) struct Transactions {
    open: HashMap<String, Transaction>,
}

#[derive(Debug, Default)]
struct Transaction {
    sends: Vec<(String, Message)>,
    settled: Vec<(Delivered, Verdict)>,
    failed: bool,
}

impl Transaction {
    fn bytes(&self) -> usize {
        self.sends.iter().map(|(_, message)| message.size).sum()
    }
}

impl Transactions {
    /// What their messages take.
    pub(super) fn bytes(&self) -> usize {
        self.open.values().map(Transaction::bytes).sum()
    }
}

impl State {
    fn transaction(&mut self, peer: PeerId, name: &str) -> Result<&mut Transaction, Refusal> {
        let unknown = || Refusal::UnknownTransaction(name.to_owned());
        let found = self.peers.get_mut(&peer).and_then(|peer| peer.transactions.open.get_mut(name));
        let found = found.ok_or_else(unknown)?;
        if found.sends.len() + found.settled.len() >= MAX_STEPS {
            return Err(Refusal::Protocol(format!("a transaction has more than {MAX_STEPS} steps")));
        }
        Ok(found)
    }

    fn close_transaction(&mut self, peer: PeerId, name: &str) -> Result<Transaction, Refusal> {
        let found = self.peers.get_mut(&peer).and_then(|peer| peer.transactions.open.remove(name));
        let found = found.ok_or_else(|| Refusal::UnknownTransaction(name.to_owned()))?;
        self.memory.unstage(found.bytes());
        Ok(found)
    }

    /// Opens a transaction.
    pub(in crate::dev_broker) fn begin(&mut self, peer: PeerId, name: &str) -> Result<(), Refusal> {
        let Some(peer) = self.peers.get_mut(&peer) else { return Ok(()) };
        let open = &mut peer.transactions.open;
        if open.contains_key(name) || open.len() >= MAX_OPEN {
            return Err(Refusal::Protocol(format!("transaction {name} is open, or {MAX_OPEN} others are")));
        }
        open.insert(name.to_owned(), Transaction::default());
        Ok(())
    }

    /// Adds a SEND to a transaction.
    pub(in crate::dev_broker) fn stage_send(
        &mut self,
        peer: PeerId,
        name: &str,
        destination: &str,
        frame: &Frame,
    ) -> Result<(), Refusal> {
        self.transaction(peer, name)?;
        let size = Message::size_of(frame);
        self.memory.check(size)?;
        self.memory.stage(size)?;
        let message = (destination.to_owned(), Message::from_frame(frame));
        self.transaction(peer, name)?.sends.push(message);
        Ok(())
    }

    /// Adds an ACK or NACK to a transaction.
    pub(in crate::dev_broker) fn stage_settle(
        &mut self,
        peer: PeerId,
        name: &str,
        delivered: Delivered,
        verdict: Verdict,
    ) -> Result<(), Refusal> {
        self.transaction(peer, name)?.settled.push((delivered, verdict));
        Ok(())
    }

    /// Marks a transaction so that its COMMIT fails.
    pub(in crate::dev_broker) fn fail_transaction(&mut self, peer: PeerId, name: &str) {
        if let Ok(transaction) = self.transaction(peer, name) {
            transaction.failed = true;
        }
    }

    /// Carries a transaction out, or holds its sender back until all of it fits.
    pub(in crate::dev_broker) fn commit(&mut self, peer: PeerId, name: &str) -> Result<Step, Refusal> {
        let open = self.peers.get(&peer).and_then(|peer| peer.transactions.open.get(name));
        let sends = open.filter(|open| !open.failed).map_or(&[][..], |open| open.sends.as_slice());
        let bytes = sends.iter().map(|(destination, message)| message.size.saturating_mul(self.copies(destination)));
        if !self.memory.fits(bytes.fold(0, usize::saturating_add)) {
            self.memory.hold(peer);
            return Ok(Step::Held);
        }
        let transaction = self.close_transaction(peer, name)?;
        if transaction.failed {
            return Err(Refusal::TransactionFailed(name.to_owned()));
        }
        for (destination, message) in transaction.sends {
            self.publish(&destination, message);
        }
        for (delivered, verdict) in transaction.settled {
            self.settle(delivered, verdict);
        }
        Ok(Step::Done)
    }

    /// Forgets a transaction.
    pub(in crate::dev_broker) fn abort(&mut self, peer: PeerId, name: &str) -> Result<(), Refusal> {
        self.close_transaction(peer, name).map(|_| ())
    }
}
