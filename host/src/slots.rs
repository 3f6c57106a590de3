//! What each lane works on, kept where it outlives the host: a message found here at start killed it.
//!
//! A file of slots of one cache line each, mapped into memory: a lane writes the key of its message before
//! a call and clears it after, without a system call. At start what is still there is counted; the counts
//! stay in the file until their message is settled. Whatever does not carry its checksum is a free slot.
//! The file belongs to this host alone ([`crate::state_dir`] locks the directory).

use std::{
    collections::HashMap,
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
};

use memmap2::MmapRaw;
use sha2::{Digest as _, Sha256};
use tracing::warn;

use crate::delivery::Message;

/// The first word of the file: a name and the version of its layout.
const MAGIC: u64 = u64::from_be_bytes(*b"stmpslt1");
/// Words of the header and of a slot: 64 bytes.
const SLOT: usize = 8;
/// Messages that are remembered over restarts; beyond these the oldest is forgotten.
const REMEMBERED: usize = 1_024;
/// The most lanes that are read from an old file.
const MAX_LANES: usize = 100_000;

/// What names a message: a hash of its queue and its stable id, else of its body.
type Key = [u64; 4];

/// The mapped file.
pub struct Slots {
    map: MmapRaw,
    lanes: usize,
    /// Messages that killed a host before: how often, and the slot that says so.
    crashes: Mutex<HashMap<Key, (u32, usize)>>,
    /// Their number, so that nothing is locked while there are none.
    remembered: AtomicUsize,
    /// Lanes whose slots nobody has.
    free: Mutex<Vec<usize>>,
    /// The host ends in good order: what still runs did not kill it.
    ended: AtomicBool,
}

impl std::fmt::Debug for Slots {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Slots").field("lanes", &self.lanes).finish_non_exhaustive()
    }
}

impl Slots {
    /// Reads what the last host left, counts it, and maps a new file for that many lanes.
    ///
    /// # Errors
    /// The file cannot be written or mapped.
    pub fn open(path: &Path, lanes: usize) -> io::Result<Self> {
        // A pipe or a device would never end.
        let is_file = fs::metadata(path).is_ok_and(|found| found.is_file());
        let found = if is_file { fs::read(path).map(|bytes| read(&bytes)).unwrap_or_default() } else { read(&[]) };
        let (mut records, killed) = found.counted();
        if killed > 0 {
            warn!(messages = killed, "the last host died in the middle of a call: these messages are watched");
        }
        records.drain(..records.len().saturating_sub(REMEMBERED));
        let map = MmapRaw::map_raw(&write(path, lanes, &records)?)?;
        let crashes: HashMap<_, _> =
            records.iter().enumerate().map(|(index, (key, times))| (*key, (*times, lanes + index))).collect();
        let remembered = AtomicUsize::new(crashes.len());
        let free = Mutex::new((0..lanes).rev().collect());
        Ok(Self { map, lanes, crashes: Mutex::new(crashes), remembered, free, ended: AtomicBool::new(false) })
    }

    /// A slot for a lane; none where all are in use.
    #[must_use]
    pub fn take(self: &Arc<Self>) -> Option<Slot> {
        let lane = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        if lane.is_none() {
            warn!("no slot for a lane: a message that kills the host there is not recognised; a restart makes room");
        }
        lane.map(|lane| Slot { slots: self.clone(), lane })
    }

    /// How often this message was found in a slot of a dead host.
    #[must_use]
    pub fn crashes_of(&self, message: &Message) -> u32 {
        if self.remembered.load(Ordering::Relaxed) == 0 {
            return 0;
        }
        let crashes = self.crashes.lock().unwrap_or_else(PoisonError::into_inner);
        crashes.get(&key(message)).map_or(0, |(times, _)| *times)
    }

    /// Forgets what was counted of a message: it is settled.
    pub fn settled(&self, message: &Message) {
        if self.remembered.load(Ordering::Relaxed) == 0 {
            return;
        }
        let mut crashes = self.crashes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, slot)) = crashes.remove(&key(message)) {
            self.clear(slot);
            self.remembered.store(crashes.len(), Ordering::Relaxed);
        }
    }

    /// Clears the lanes' slots for good: the host ends in good order, whatever may still run.
    pub fn end(&self) {
        self.ended.store(true, Ordering::SeqCst);
        (0..self.lanes).for_each(|lane| self.clear(lane));
    }

    fn put(&self, slot: usize, key: Key) {
        let Some((words, check)) = self.slot(slot) else { return };
        for (word, value) in words.iter().zip(key) {
            word.store(value, Ordering::Relaxed);
        }
        // Last: a slot without its checksum is free.
        check.store(checksum(&key, 0), Ordering::Release);
    }

    fn clear(&self, slot: usize) {
        if let Some((_, check)) = self.slot(slot) {
            check.store(0, Ordering::Release);
        }
    }

    /// The words of a key, and the checksum.
    fn slot(&self, index: usize) -> Option<(&[AtomicU64], &AtomicU64)> {
        let words = self.words().get((index + 1) * SLOT..(index + 2) * SLOT)?;
        Some((words.get(..4)?, words.get(5)?))
    }

    #[expect(unsafe_code, reason = "the one place where mapped memory becomes words: see SAFETY")]
    fn words(&self) -> &[AtomicU64] {
        // SAFETY: the mapping is of pages, so aligned for u64, lives as long as self and has len bytes; the
        // directory is locked and this user's alone, so the file is not cut short under it. It is only ever
        // accessed through these atomics, by whatever thread.
        unsafe { std::slice::from_raw_parts(self.map.as_ptr().cast::<AtomicU64>(), self.map.len() / 8) }
    }
}

/// The slot of one lane, until it is dropped.
#[derive(Debug)]
pub struct Slot {
    /// The file.
    pub slots: Arc<Slots>,
    lane: usize,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.slots.free.lock().unwrap_or_else(PoisonError::into_inner).push(self.lane);
    }
}

impl Slot {
    /// Says that a call with this message runs, until the value is dropped.
    #[must_use]
    pub fn enter(&self, message: &Message) -> Running<'_> {
        if !self.slots.ended.load(Ordering::Relaxed) {
            self.slots.put(self.lane, key(message));
        }
        Running(self)
    }
}

/// A call that runs.
#[derive(Debug)]
pub struct Running<'a>(&'a Slot);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.slots.clear(self.0.lane);
    }
}

/// What a file held.
#[derive(Default)]
struct Found {
    running: Vec<Key>,
    remembered: Vec<(Key, u32)>,
}

impl Found {
    /// All records, the newest last, and how many of them are of the last host.
    fn counted(self) -> (Vec<(Key, u32)>, usize) {
        let Self { mut running, mut remembered } = self;
        running.sort_unstable();
        running.dedup();
        for key in &running {
            let before = remembered.iter().position(|(known, _)| known == key).map(|at| remembered.remove(at).1);
            remembered.push((*key, before.unwrap_or(0).saturating_add(1)));
        }
        (remembered, running.len())
    }
}

/// Reads a file, whatever it is.
fn read(bytes: &[u8]) -> Found {
    let words: Vec<u64> = bytes.as_chunks::<8>().0.iter().map(|word| u64::from_ne_bytes(*word)).collect();
    let mut chunks = words.chunks_exact(SLOT);
    let Some([MAGIC, lanes, ..]) = chunks.next() else { return Found::default() };
    let lanes = usize::try_from(*lanes).unwrap_or(MAX_LANES).min(MAX_LANES);
    let mut found = Found::default();
    for (index, slot) in chunks.enumerate() {
        let [a, b, c, d, times, check, ..] = slot else { continue };
        let (key, times) = ([*a, *b, *c, *d], u32::try_from(*times).unwrap_or(0));
        match index < lanes {
            _ if *check != checksum(&key, times.into()) => {}
            true => found.running.push(key),
            false => found.remembered.push((key, times)),
        }
    }
    found
}

/// Writes a new file beside the old one and puts it in its place.
fn write(path: &Path, lanes: usize, records: &[(Key, u32)]) -> io::Result<File> {
    let mut words = vec![0_u64; (1 + lanes) * SLOT];
    words.splice(..2, [MAGIC, lanes as u64]);
    for (key, times) in records {
        words.extend(key.iter().copied().chain([u64::from(*times), checksum(key, (*times).into()), 0, 0]));
    }
    words.resize((1 + lanes + REMEMBERED) * SLOT, 0);
    let new = path.with_extension("new");
    let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(&words.iter().flat_map(|word| word.to_ne_bytes()).collect::<Vec<u8>>())?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    Ok(file)
}

/// Never zero, which is a free slot.
fn checksum(key: &Key, times: u64) -> u64 {
    let mix = |sum: u64, word: u64| (sum ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    key.iter().copied().chain([times]).fold(MAGIC, mix) | 1
}

fn key(message: &Message) -> Key {
    let (kind, what) = message.stable_id().map_or((b'b', &*message.body), |id| (b'i', id.as_bytes()));
    let queue = message.queue.as_bytes();
    let hash = Sha256::new_with_prefix((queue.len() as u64).to_be_bytes());
    let hash = hash.chain_update(queue).chain_update([kind]).chain_update(what).finalize();
    let mut key = [0; 4];
    for (word, bytes) in key.iter_mut().zip(hash.as_chunks::<8>().0) {
        *word = u64::from_be_bytes(*bytes);
    }
    key
}

#[cfg(test)]
mod tests {
    use std::{mem, time::SystemTime};

    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    fn message(id: &str, body: &'static str) -> Message {
        let headers = [("message-id", id)].into_iter().filter(|(_, id)| !id.is_empty()).collect();
        let (body, received_at) = (Bytes::from_static(body.as_bytes()), SystemTime::now());
        Message { queue: "in".into(), headers, body, received_at, stable_from: Some(0) }
    }

    /// A host with two lanes.
    fn host(path: &Path) -> Arc<Slots> {
        Arc::new(Slots::open(path, 2).unwrap())
    }

    /// Dies in the middle of a call.
    fn die(slots: &Arc<Slots>, lane: usize, message: &Message) {
        let slot = Slot { slots: slots.clone(), lane };
        mem::forget(slot.enter(message));
    }

    #[test]
    fn what_ran_when_the_host_died_is_counted_until_it_is_settled() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("slots");
        let (bad, good, finished) = (message("m1", "a"), message("m2", "a"), message("m3", "a"));
        let first = host(&path);
        drop(Slot { slots: first.clone(), lane: 1 }.enter(&finished));
        die(&first, 0, &bad);
        assert_eq!(first.crashes_of(&bad), 0, "not dead yet");
        let second = host(&path);
        assert_eq!([&bad, &good, &finished].map(|message| second.crashes_of(message)), [1, 0, 0]);
        // A start without a crash changes nothing, also with other lanes.
        let third = Arc::new(Slots::open(&path, 5).unwrap());
        assert_eq!(third.crashes_of(&bad), 1);
        die(&third, 4, &bad);
        let fourth = host(&path);
        assert_eq!(fourth.crashes_of(&bad), 2);
        fourth.settled(&bad);
        fourth.settled(&good);
        assert_eq!((fourth.crashes_of(&bad), host(&path).crashes_of(&bad)), (0, 0));
    }

    #[test]
    fn an_end_in_good_order_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("slots");
        let (running, late) = (message("m1", "a"), message("m2", "a"));
        let first = host(&path);
        die(&first, 0, &running);
        first.end();
        die(&first, 1, &late);
        let second = host(&path);
        assert_eq!((second.crashes_of(&running), second.crashes_of(&late)), (0, 0));
    }

    #[test]
    fn without_a_stable_id_the_body_names_the_message() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("slots");
        die(&host(&path), 0, &message("", "the body"));
        let second = host(&path);
        assert_eq!((second.crashes_of(&message("", "the body")), second.crashes_of(&message("", "another"))), (1, 0));
    }

    #[test]
    fn only_so_many_are_remembered_and_the_newest_stay() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("slots");
        let lanes = REMEMBERED + 10;
        let first = Arc::new(Slots::open(&path, lanes).unwrap());
        (0..lanes).for_each(|lane| die(&first, lane, &message(&lane.to_string(), "a")));
        die(&host(&path), 0, &message("last", "a"));
        let last = host(&path);
        assert_eq!((last.crashes_of(&message("last", "a")), last.remembered.load(Ordering::Relaxed)), (1, REMEMBERED));
    }

    proptest! {
        #[test]
        fn garbage_is_no_message(bytes in proptest::collection::vec(any::<u8>(), 0..2_000), honest in any::<bool>()) {
            let mut bytes = bytes;
            if honest {
                bytes.splice(..bytes.len().min(16), MAGIC.to_ne_bytes().into_iter().chain(7_u64.to_ne_bytes()));
            }
            let (records, killed) = read(&bytes).counted();
            prop_assert_eq!((records.len(), killed), (0, 0));
        }
    }
}
