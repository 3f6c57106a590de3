//! What there is to know about a host at work, in one place.
//!
//! Posted on the [`Board`] by [`crate::wiring`] whenever units come or go, read by [`crate::admin`]. It only looks:
//! everything here is counted elsewhere, whether anybody asks or not.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use crate::{
    buffer::Buffer,
    metrics::{Counter, ProcessorMetrics},
    sandbox::Counters,
    settle::Unconfirmed,
    stage::Stage,
    telemetry::Logs,
};

/// The host at work.
#[derive(Debug, Default)]
pub struct Status {
    /// The processors that run.
    pub processors: Vec<Arc<ProcessorStatus>>,
    /// The queues that are read.
    pub queues: Vec<Arc<QueueStatus>>,
    /// The connections that must be there.
    pub links: Vec<Arc<Link>>,
    /// The log of the process, where it has one.
    pub logs: Option<Logs>,
}

/// Where the newest [`Status`] is.
#[derive(Debug, Default)]
pub struct Board(Mutex<Arc<Status>>);

impl Board {
    /// What is at work now.
    #[must_use]
    pub fn now(&self) -> Arc<Status> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Something else is at work.
    pub fn post(&self, status: Status) {
        let before = std::mem::replace(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner), Arc::new(status));
        drop(before); // After the lock: it may be the last one who knows of something large.
    }
}

/// One processor.
#[derive(Debug)]
pub struct ProcessorStatus {
    /// Its key in the configuration.
    pub name: Arc<str>,
    /// Its virtual organisation; empty where none is configured.
    pub vo: Arc<str>,
    /// The queue it reads; none where it works by the clock.
    pub in_queue: Option<Arc<str>>,
    /// What it did.
    pub metrics: Arc<ProcessorMetrics>,
    /// What its guest counted.
    pub guest: Arc<Counters>,
    /// Its deliveries in work: taken and neither settled nor held.
    pub in_work: TaskTracker,
    /// What it sent that the broker has not answered.
    pub unconfirmed: Arc<Unconfirmed>,
    /// The generations that its lanes run.
    pub stage: Arc<Stage>,
}

/// One queue that is read.
#[derive(Debug)]
pub struct QueueStatus {
    /// Its key in the configuration.
    pub name: Arc<str>,
    /// The server it is on.
    pub server: Arc<str>,
    /// The virtual organisation of the processors that read it. Where there are several their names are joined by
    /// commas: a series for each would count what waits several times in sums.
    pub vo: String,
    /// What waits in the host.
    pub buffer: Arc<Buffer>,
}

/// One connection, or the connections to all addresses that a queue is read from, and all their successors.
#[derive(Debug)]
pub struct Link {
    /// The server.
    pub server: Arc<str>,
    /// The queue it reads; none where it sends.
    pub queue: Option<Arc<str>>,
    /// What it is for: `consume`, `outputs` or `dead-letters`.
    pub purpose: &'static str,
    /// The virtual organisation that sends over it; empty where it reads, or where none is configured.
    pub vo: Arc<str>,
    up: AtomicBool,
    ups: Counter,
    addresses: Mutex<BTreeMap<String, bool>>,
}

impl Link {
    /// A connection that is not there yet.
    #[must_use]
    pub fn new(server: Arc<str>, queue: Option<Arc<str>>, purpose: &'static str, vo: Arc<str>) -> Arc<Self> {
        let (up, ups, addresses) = Default::default();
        Arc::new(Self { server, queue, purpose, vo, up, ups, addresses })
    }

    /// Follows the state of the connection to its end.
    pub async fn follow<T>(self: Arc<Self>, mut state: watch::Receiver<T>, is_up: fn(&T) -> bool) {
        loop {
            let up = is_up(&state.borrow_and_update());
            if up && !self.up.load(Ordering::Relaxed) {
                self.ups.add_one();
            }
            self.up.store(up, Ordering::Relaxed);
            if state.changed().await.is_err() {
                self.up.store(false, Ordering::Relaxed);
                return;
            }
        }
    }

    /// Follows the addresses that a queue is read from, as they come and go. One that comes back while others are
    /// there is a reconnect as well; when none is there, [`Link::follow`] counts it.
    pub async fn follow_addresses(self: Arc<Self>, mut addresses: watch::Receiver<BTreeMap<String, bool>>) {
        let mut known = BTreeSet::new();
        loop {
            let now = addresses.borrow_and_update().clone();
            let before = std::mem::replace(&mut *self.lock(), now.clone());
            known.retain(|address| now.contains_key(address));
            for (address, _) in now.into_iter().filter(|(_, up)| *up) {
                let came = before.get(&address) != Some(&true);
                let again = !known.insert(address);
                if came && again && before.values().any(|up| *up) {
                    self.ups.add_one();
                }
            }
            if addresses.changed().await.is_err() {
                self.lock().values_mut().for_each(|up| *up = false);
                return;
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, bool>> {
        self.addresses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Each address with whether it is there. A connection that sends has none: it is wherever it could be opened.
    #[must_use]
    pub fn by_address(&self) -> Vec<(String, bool)> {
        let addresses = self.lock();
        if addresses.is_empty() {
            return vec![(String::new(), self.is_up())];
        }
        addresses.iter().map(|(address, up)| (address.clone(), *up)).collect()
    }

    /// Whether it is there: subscribed at one address at least, or ready to send.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.up.load(Ordering::Relaxed)
    }

    /// How often it came back.
    #[must_use]
    pub fn reconnects(&self) -> u64 {
        self.ups.get().saturating_sub(1)
    }
}

impl Status {
    /// What keeps the host from doing its work, in words; nothing when it is ready.
    #[must_use]
    pub fn missing(&self) -> Vec<String> {
        let down = self.links.iter().filter(|link| !link.is_up());
        let words = |link: &Arc<Link>| match &link.queue {
            Some(queue) => format!("queue {queue} on server {} is not subscribed", link.server),
            None if link.vo.is_empty() => format!("server {} is not connected for {}", link.server, link.purpose),
            None => format!("server {} is not connected for {} of {}", link.server, link.purpose, link.vo),
        };
        down.map(words).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_link_that_comes_back_is_a_reconnect() {
        let link = Link::new("mb".into(), Some("in".into()), "consume", "".into());
        let status = Status { links: vec![link.clone()], ..Status::default() };
        let (state, watched) = watch::channel(false);
        let following = tokio::spawn(link.clone().follow(watched, |up| *up));
        for (up, reconnects, missing) in [(false, 0, 1), (true, 0, 0), (false, 0, 1), (true, 1, 0)] {
            state.send_replace(up);
            tokio::task::yield_now().await;
            assert_eq!((link.is_up(), link.reconnects(), status.missing().len()), (up, reconnects, missing));
        }
        drop(state);
        following.await.unwrap();
        assert_eq!(status.missing(), ["queue in on server mb is not subscribed"], "a connection that has ended");
    }

    #[tokio::test]
    async fn addresses_come_and_go_and_one_that_comes_back_is_a_reconnect() {
        let link = Link::new("mb".into(), Some("in".into()), "consume", "".into());
        assert_eq!(link.by_address(), [(String::new(), false)]);
        let (state, watched) = watch::channel(BTreeMap::new());
        tokio::spawn(link.clone().follow_addresses(watched));
        link.ups.add_one(); // The first time.
        let (a, b) = (("a", true), ("b", true));
        let (a_down, b_down) = (("a", false), ("b", false));
        for (addresses, reconnects) in [
            (vec![a], 0),
            (vec![a, b], 0),
            (vec![a, b_down], 0),
            (vec![a, b], 1),
            (vec![a], 1),
            (vec![a, b], 1),
            (vec![a_down, b_down], 1),
            (vec![a, b], 1),
        ] {
            let now: BTreeMap<_, _> = addresses.iter().map(|(name, up)| ((*name).to_owned(), *up)).collect();
            state.send_replace(now.clone());
            tokio::task::yield_now().await;
            let told: BTreeMap<_, _> = link.by_address().into_iter().collect();
            assert_eq!((told, link.reconnects()), (now, reconnects), "{addresses:?}");
        }
        drop(state);
        tokio::task::yield_now().await;
        assert!(link.by_address().iter().all(|(_, up)| !up), "of connections that have ended");
    }
}
