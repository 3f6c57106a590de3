//! One entry of `host_port_list`: the addresses behind its name, as far as they are known.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use tokio::time::Instant;
use tracing::{info, warn};

use super::{choice::Standing, member::Member};
use crate::client::{Address, Backoff, ClientError, address::one_family};

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) address: Address,
    /// What the last successful lookup said; a failing one changes nothing.
    found: Vec<SocketAddr>,
    /// Whether the last lookup failed; none before the first.
    failed: Option<bool>,
    /// When to look again; none while a lookup runs.
    due: Option<Instant>,
    /// No IPv4 address can be reached: those of IPv6 are tried too.
    both_families: bool,
    backoff: Backoff,
}

impl Entry {
    pub(super) fn new(address: Address, max_backoff: Duration) -> Self {
        Self {
            address,
            found: Vec::new(),
            failed: None,
            due: Some(Instant::now()),
            both_families: false,
            backoff: Backoff::new(max_backoff),
        }
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.due.is_some_and(|due| due <= now)
    }

    pub(super) fn next_look(&self) -> Option<Instant> {
        self.due.filter(|due| *due > Instant::now())
    }

    pub(super) fn looking_up(&mut self) -> Address {
        self.due = None;
        self.address.clone()
    }

    pub(super) fn was_looked_up(&self) -> bool {
        self.failed.is_some()
    }

    pub(super) fn found(&mut self, found: Result<Vec<SocketAddr>, ClientError>, now: Instant, again: Duration) {
        self.failed = Some(found.is_err());
        match found {
            Ok(found) => {
                self.due = Some(now + again);
                self.backoff.reset();
                if found != self.found {
                    info!(entry = %self.address, addresses = ?found, "addresses to consume from");
                    self.found = found;
                }
            }
            Err(error) => {
                let pause = if self.found.is_empty() { self.backoff.pause() } else { again };
                self.due = Some(now + pause);
                warn!(entry = %self.address, error = &error as &dyn std::error::Error, known = self.found.len(),
                      "the name cannot be resolved: the addresses known so far stay");
            }
        }
    }

    /// The addresses to read from: [`one_family`], or all where none of IPv4 can be reached.
    pub(super) fn targets(&self) -> Vec<SocketAddr> {
        if self.both_families { self.found.clone() } else { one_family(&self.found) }
    }

    /// Adds the addresses of IPv6 when all of IPv4 are down, and leaves them when one is back.
    pub(super) fn choose_family(&mut self, members: &BTreeMap<u64, Member>) {
        let ipv4: Vec<_> = self.found.iter().filter(|address| address.is_ipv4()).collect();
        let of = |address: &SocketAddr| members.values().find(|m| m.address == *address && !m.is_leaving());
        if ipv4.iter().any(|address| of(address).is_some_and(Member::is_up)) {
            self.both_families = false;
        } else if !ipv4.is_empty() && ipv4.iter().all(|address| of(address).is_some_and(Member::is_down)) {
            self.both_families = true;
        }
    }

    pub(super) fn standing(&self, members: &BTreeMap<u64, Member>) -> Standing {
        let targets = self.targets();
        let of = |address: &SocketAddr| members.values().find(|m| m.address == *address && !m.is_leaving());
        if targets.iter().any(|address| of(address).is_some_and(Member::is_up)) {
            return Standing::Up;
        }
        let down = |address| of(address).is_some_and(Member::is_down);
        match targets.is_empty() {
            true if self.failed == Some(true) => Standing::Down,
            false if targets.iter().all(down) => Standing::Down,
            _ => Standing::Trying,
        }
    }
}
