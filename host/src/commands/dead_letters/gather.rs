//! Reads the dead letters of all places, at the same time.
//!
//! Every address of a server is read, as the host reads them: a dead letter is where the host sent it. The connections
//! stay open until [`Gathered::close`], also those that are done: of two that lead to the same queue each letter
//! comes over one.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::Arc,
    time::Duration,
};

use tokio::{sync::Semaphore, task::JoinSet};
use tokio_util::sync::CancellationToken;

use super::{
    letter::{Found, Letter, Place},
    places::{BrokerPlace, Places, SpoolPlace},
};
use crate::{
    client::{ClientError, ConnectOptions, Look, Peek, Resolver, Seen, address::one_family},
    config::{Config, Connect, with_sources},
    spool::stored::StoredFile,
};

/// Letters that are read of one place.
const MAX_LETTERS: usize = 10_000;
/// Bytes of bodies that are read of all places together, and of one at least.
const MAX_BYTES: usize = 256 << 20;
const MIN_BYTES: usize = 8 << 20;
/// Deliveries of a message of a quorum queue from which on its limit is warned of.
const MANY_DELIVERIES: u64 = 5;
/// Connections that are opened at the same time.
const AT_ONCE: usize = 16;

/// What is to become of the letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// They are looked at.
    Look,
    /// Some are taken away.
    Take,
}

/// Letters, and what holds them.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    /// Oldest first.
    pub(super) letters: Vec<Letter>,
    /// What an operator should know.
    pub(super) notes: Vec<String>,
    /// What could not be read.
    pub(super) problems: Vec<String>,
    /// Whether there are more than were read.
    pub(super) more: bool,
    peeks: Vec<Peek>,
    files: Vec<StoredFile>,
}

/// One address of a server.
struct Way {
    options: ConnectOptions,
    /// Whether the host reads it only when others are away, so that it may well be away itself.
    spare: bool,
}

/// Reads what there is.
pub(super) async fn gather(places: &Places, purpose: Purpose, wait: Duration, stop: &CancellationToken) -> Gathered {
    let mut gathered = Gathered::default();
    gathered.read_brokers(places, purpose, wait, stop).await;
    for spool in &places.spools {
        gathered.read_spool(spool, purpose);
    }
    gathered.letters.sort_by_key(|letter| letter.number("failed_at"));
    gathered
}

impl Gathered {
    /// Gives back what was not taken.
    pub(super) async fn close(&mut self) {
        self.files.clear();
        let mut closing: JoinSet<()> = self.peeks.drain(..).map(Peek::close).collect();
        while closing.join_next().await.is_some() {}
    }

    /// Takes letters away from where they are; of each what went wrong, in their order.
    pub(super) async fn remove(&self, letters: &[&Letter]) -> Vec<Result<(), String>> {
        let mut answers = Vec::new();
        for letter in letters {
            answers.push(match letter.found {
                Found::Broker(index) => match self.peeks.get(index) {
                    Some(peek) => Some(peek.ack(&letter.headers).await),
                    None => None,
                },
                Found::Spool(..) => None,
            });
        }
        let mut results = Vec::new();
        for (letter, answer) in letters.iter().zip(answers) {
            results.push(match (letter.found, answer) {
                (Found::Spool(index, at), _) => self.settle(index, at),
                (_, Some(told)) => told.await.unwrap_or_else(|_| Err("the connection is gone".to_owned())),
                (_, None) => Err("the connection is gone".to_owned()),
            });
        }
        results
    }

    fn settle(&self, file: usize, at: u64) -> Result<(), String> {
        let file = self.files.get(file).ok_or("the file is closed")?;
        file.settle(at).map_err(|error| error.to_string())
    }

    async fn read_brokers(&mut self, places: &Places, purpose: Purpose, wait: Duration, stop: &CancellationToken) {
        let mut to_read = Vec::new();
        let ways = self.ways(&places.config, &places.brokers).await;
        for place in &places.brokers {
            match place.keeps_nothing() {
                Some(note) => self.notes.push(note),
                None => to_read.extend(ways.get(&place.server).into_iter().flatten().map(|way| (place, way))),
            }
        }
        let max_bytes = (MAX_BYTES / to_read.len().max(1)).max(MIN_BYTES);
        let (mut reading, permits) = (JoinSet::new(), Arc::new(Semaphore::new(AT_ONCE)));
        let take = purpose == Purpose::Take;
        for (index, (place, way)) in to_read.iter().enumerate() {
            let (destination, stop) = (place.destination.clone(), stop.clone());
            let look = Look { destination, take, wait, max_messages: MAX_LETTERS, max_bytes, stop };
            let (options, permits) = (way.options.clone(), permits.clone());
            reading.spawn(async move {
                let _permit = permits.acquire_owned().await;
                (index, Peek::open(&options, &look).await)
            });
        }
        let mut read: BTreeMap<usize, _> = reading.join_all().await.into_iter().collect();
        let mut known = BTreeSet::new();
        let (ok, to_read_at) = (|index: &usize| matches!(read.get(index), Some(Ok(_))), to_read.iter().enumerate());
        let reached: BTreeSet<_> = to_read_at
            .filter(|(index, _)| ok(index))
            .map(|(_, (place, _))| (&place.server, &place.destination))
            .collect();
        for (index, (place, way)) in to_read.iter().enumerate() {
            match read.remove(&index) {
                Some(Ok((peek, seen))) => self.take_in(place, peek, seen, &mut known),
                Some(Err(error)) => {
                    let spare = way.spare && reached.contains(&(&place.server, &place.destination));
                    self.failed(place, way, spare, &error);
                }
                None => {}
            }
        }
    }

    /// The ways to all addresses of the servers.
    async fn ways(&mut self, config: &Config, places: &[BrokerPlace]) -> BTreeMap<Arc<str>, Vec<Way>> {
        let (mut ways, resolver) = (BTreeMap::new(), Resolver::default());
        let servers: BTreeSet<&Arc<str>> = places.iter().map(|place| &place.server).collect();
        for (name, server) in servers.into_iter().filter_map(|name| Some((name, config.servers.get(name)?))) {
            let (mut of_server, mut seen) = (Vec::new(), BTreeSet::new());
            let spare = server.addresses.len() > 1 && server.connect != Some(Connect::All);
            for entry in &server.addresses {
                let found = match resolver.resolve(entry).await {
                    Ok(found) => one_family(&found),
                    Err(error) => {
                        self.problems.push(format!("{name}: {}", with_sources(&error)));
                        continue;
                    }
                };
                let way = |at| {
                    let options = config.connect_options(name);
                    Way {
                        options: ConnectOptions { addresses: vec![entry.clone()], pinned: Some(at), ..options },
                        spare,
                    }
                };
                of_server.extend(found.into_iter().filter(|at| seen.insert(*at)).map(way));
            }
            ways.insert(name.clone(), of_server);
        }
        ways
    }

    fn take_in(&mut self, place: &BrokerPlace, peek: Peek, seen: Seen, known: &mut BTreeSet<(String, String)>) {
        let (index, Seen { messages, more, oversized, flavour }) = (self.peeks.len(), seen);
        self.peeks.push(peek);
        let common = Place {
            queue: place.queues.join(",").into(),
            server: place.server.clone(),
            name: place.destination.as_str().into(),
        };
        let counts = messages.iter().filter_map(|frame| flavour.counted_deliveries(&frame.headers));
        if let Some(count) = counts.max().filter(|count| *count >= MANY_DELIVERIES) {
            self.notes.push(format!(
                "{}: is a quorum queue, which counts each look as a delivery, {count} so far, and drops a message beyond \
                 its delivery-limit (20 by default since RabbitMQ 4.0): replay or drop what is there, or raise the limit",
                place.destination
            ));
        }
        for frame in messages {
            // A browser shows the same letter to everybody, over each address of one broker.
            let id = frame.headers.get("message-id").and_then(|id| flavour.stable_id(id));
            let key = id.filter(|_| flavour.browser().is_some()).map(|id| (place.destination.clone(), id.to_owned()));
            if key.is_none_or(|key| known.insert(key)) {
                self.letters.push(Letter::of_broker(&common, index, flavour, frame));
            }
        }
        self.note_bounds(&place.destination, more);
        if oversized > 0 {
            self.notes.push(format!("{}: {oversized} message(s) are too large to be read", place.destination));
        }
    }

    fn note_bounds(&mut self, place: &str, more: bool) {
        self.more |= more;
        if more {
            self.notes
                .push(format!("{place}: holds more than is read at once: {MAX_LETTERS} letters, or so many bytes"));
        }
    }

    fn failed(&mut self, place: &BrokerPlace, way: &Way, spare: bool, error: &ClientError) {
        let at = way.options.addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let (queues, why) = (place.queues.join(", "), with_sources(error));
        let text = format!("{queues}: cannot read {} on {} at {at}: {why}", place.destination, place.server);
        if spare { self.notes.push(text) } else { self.problems.push(text) }
    }

    fn read_spool(&mut self, spool: &SpoolPlace, purpose: Purpose) {
        let path = spool.path.display();
        let read = StoredFile::open(&spool.path, purpose == Purpose::Take).and_then(|file| {
            let read = file.map(|file| Ok::<_, io::Error>((file.read(MAX_LETTERS, MAX_BYTES)?, file)));
            read.transpose()
        });
        let (contents, file) = match read {
            Ok(Some(read)) => read,
            Ok(None) => return,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return self
                    .problems
                    .push(format!("{path}: another replay or drop is at work on it: wait for its end"));
            }
            Err(error) => return self.problems.push(format!("{path}: cannot be read: {error}")),
        };
        let index = self.files.len();
        self.files.push(file);
        let place = Place { queue: spool.queue.clone(), server: spool.server.clone(), name: "spool".into() };
        self.letters.extend(contents.letters.into_iter().map(|stored| Letter::of_spool(&place, index, stored)));
        self.note_bounds(&path.to_string(), contents.more);
        if contents.torn > 0 {
            self.notes.push(format!("{path}: {} line(s) were torn and cannot be read", contents.torn));
        }
    }
}
