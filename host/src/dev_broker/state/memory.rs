//! The memory cap: what is stored, and who waits for room.

use super::{super::refusal::Refusal, PeerId};

/// Counts the bytes of stored messages. Messages of open transactions are counted apart, up to the same
/// cap: were they to fill the cap itself, no consumer could ever make room for their COMMIT.
#[derive(Debug)]
pub(super) struct Memory {
    cap: usize,
    used: usize,
    staged: usize,
    held: Vec<PeerId>,
}

impl Memory {
    pub(super) fn new(cap: usize) -> Self {
        Self { cap, used: 0, staged: 0, held: Vec::new() }
    }

    /// Refuses a message that would not fit into an empty broker.
    pub(super) fn check(&self, size: usize) -> Result<(), Refusal> {
        if size > self.cap { Err(Refusal::TooLarge { size, cap: self.cap }) } else { Ok(()) }
    }

    /// Whether so much may be stored now. The empty broker takes anything that passed the check, also
    /// when a topic multiplies it.
    pub(super) fn fits(&self, bytes: usize) -> bool {
        bytes == 0 || self.used == 0 || self.used.saturating_add(bytes) <= self.cap
    }

    pub(super) fn take(&mut self, bytes: usize) {
        self.used += bytes;
    }

    /// Gives memory back; returns who waited for it.
    pub(super) fn release(&mut self, bytes: usize) -> Vec<PeerId> {
        self.used -= bytes;
        if bytes == 0 { Vec::new() } else { std::mem::take(&mut self.held) }
    }

    /// Counts a message of an open transaction.
    pub(super) fn stage(&mut self, bytes: usize) -> Result<(), Refusal> {
        if self.staged.saturating_add(bytes) > self.cap {
            return Err(Refusal::Protocol("open transactions hold as much as the memory cap".to_owned()));
        }
        self.staged += bytes;
        Ok(())
    }

    pub(super) fn unstage(&mut self, bytes: usize) {
        self.staged -= bytes;
    }

    /// Remembers who waits for room.
    pub(super) fn hold(&mut self, peer: PeerId) {
        if !self.held.contains(&peer) {
            self.held.push(peer);
        }
    }

    pub(super) fn forget_held(&mut self, peer: PeerId) {
        self.held.retain(|held| *held != peer);
    }

    pub(super) fn held(&self) -> usize {
        self.held.len()
    }

    pub(super) fn used(&self) -> usize {
        self.used
    }
}
