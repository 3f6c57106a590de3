//! What the spool has on disk, read and settled from outside while a host may append to it.
//!
//! For `stompbox dead-letters`. A host appends and never looks back, so its file is never rewritten under it: a letter
//! is settled in place, by writing the key `done_ms` over the key `time_ms` of its line, which changes no length. The
//! next host that starts leaves such lines out ([`compact_all`]). Who settles holds a lock on the file, so that no
//! letter is replayed by two at once; a host takes no part in it.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{self, BufRead as _, BufReader, Seek as _, Write as _},
    os::unix::fs::{FileExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use serde::Deserialize;
use tracing::warn;

use super::file_name;

/// No text within a line can hold it: a quote there has a backslash before it.
const LIVE: &[u8] = b"\"time_ms\":";
const DONE: &[u8] = b"\"done_ms\":";

/// A dead letter on disk.
#[derive(Debug)]
pub struct Stored {
    /// Where in the file it is settled.
    pub at: u64,
    /// Its headers.
    pub headers: Vec<(String, String)>,
    /// The original's body.
    pub body: Bytes,
    /// Whether it came as bytes.
    pub as_bytes: bool,
}

/// What a file holds.
#[derive(Debug, Default)]
pub struct Contents {
    /// The letters that are not settled, oldest first.
    pub letters: Vec<Stored>,
    /// Lines that cannot be read: they were torn when a host was killed.
    pub torn: usize,
    /// Whether there are more than were read.
    pub more: bool,
}

/// An open file of the spool.
#[derive(Debug)]
pub struct StoredFile {
    file: File,
}

#[derive(Deserialize)]
struct Line {
    headers: Vec<(String, String)>,
    #[serde(default)]
    body: String,
    body_base64: Option<String>,
    #[serde(default)]
    as_bytes: bool,
}

/// The file of a queue in a `state_dir`.
#[must_use]
pub fn path_of(state_dir: &Path, queue: &str) -> PathBuf {
    state_dir.join("dead-letters").join(file_name(queue))
}

impl StoredFile {
    /// Opens a file, none where there is none; with `settle` nobody else may settle its letters meanwhile.
    ///
    /// # Errors
    /// It cannot be read, or another settles its letters ([`io::ErrorKind::WouldBlock`]).
    pub fn open(path: &Path, settle: bool) -> io::Result<Option<Self>> {
        loop {
            let file = match OpenOptions::new().read(true).write(settle).open(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                opened => opened?,
            };
            if settle {
                file.try_lock().map_err(|error| match error {
                    TryLockError::WouldBlock => io::ErrorKind::WouldBlock.into(),
                    TryLockError::Error(error) => error,
                })?;
            }
            // A host that starts may have put another file in its place before the lock was ours.
            if !settle || is_at(&file, path) {
                return Ok(Some(Self { file }));
            }
        }
    }

    /// The letters that are not settled, so many at most.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read(&self, max_letters: usize, max_bytes: usize) -> io::Result<Contents> {
        let (mut contents, mut bytes) = (Contents::default(), 0);
        for_each_line(&self.file, |start, line| {
            let Some(at) = memchr::memmem::find(line, LIVE) else {
                contents.torn += usize::from(!is_settled(line));
                return Ok(());
            };
            if contents.letters.len() >= max_letters || bytes >= max_bytes {
                contents.more = true;
                return Ok(());
            }
            match parse(line, start + at as u64) {
                Some(letter) => {
                    bytes += letter.body.len();
                    contents.letters.push(letter);
                }
                None => contents.torn += 1,
            }
            Ok(())
        })?;
        Ok(contents)
    }

    /// Settles a letter, durably.
    ///
    /// # Errors
    /// It is not there any more, or the disk refuses.
    pub fn settle(&self, at: u64) -> io::Result<()> {
        let mut now = [0; LIVE.len()];
        self.file.read_exact_at(&mut now, at)?;
        if now != *LIVE {
            return Err(io::Error::other("the file has changed meanwhile"));
        }
        self.file.write_all_at(DONE, at)?;
        self.file.sync_data()
    }
}

fn is_at(file: &File, path: &Path) -> bool {
    let same = || Some(file.metadata().ok()?.ino() == path.metadata().ok()?.ino());
    same().unwrap_or_default()
}

/// Calls with each line that has its end, and where it begins: one without may be in the midst of being written.
fn for_each_line(mut file: &File, mut each: impl FnMut(u64, &[u8]) -> io::Result<()>) -> io::Result<()> {
    file.rewind()?;
    let (mut reader, mut start, mut line) = (BufReader::new(file), 0, Vec::new());
    while reader.read_until(b'\n', &mut line)? > 0 {
        if line.ends_with(b"\n") {
            each(start, &line)?;
        }
        start += line.len() as u64;
        line.clear();
    }
    Ok(())
}

fn is_settled(line: &[u8]) -> bool {
    memchr::memmem::find(line, DONE).is_some()
}

fn parse(line: &[u8], at: u64) -> Option<Stored> {
    let Line { headers, body, body_base64, as_bytes } = serde_json::from_slice(line).ok()?;
    let body = match body_base64 {
        Some(text) => from_base64(&text)?,
        None => body.into_bytes(),
    };
    Some(Stored { at, headers, body: body.into(), as_bytes })
}

/// Base64 with padding (RFC 4648).
fn from_base64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut number, mut bits) = (0_u32, 0);
    for digit in text.trim_end_matches('=').bytes() {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        (number, bits) = ((number << 6 | u32::from(value)) & 0xffff, bits + 6);
        if bits >= 8 {
            bits -= 8;
            bytes.push((number >> bits) as u8);
        }
    }
    Some(bytes)
}

/// Takes settled letters out of all files of a directory, before a host appends to them. What cannot be done now
/// is done at another start.
pub(super) fn compact_all(dir: &Path) {
    let files = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    for path in files.filter(|path| path.extension().is_some_and(|ending| ending == "jsonl") && path.is_file()) {
        if let Err(error) = compact(&path, dir)
            && error.kind() != io::ErrorKind::WouldBlock
        {
            warn!(file = %path.display(), %error, "settled dead letters cannot be removed from the spool");
        }
    }
}

fn compact(path: &Path, dir: &Path) -> io::Result<()> {
    let Some(stored) = StoredFile::open(path, true)? else { return Ok(()) };
    let mut kept = tempfile::NamedTempFile::new_in(dir)?;
    let (mut settled, mut whole) = (0, 0);
    for_each_line(&stored.file, |start, line| {
        whole = start + line.len() as u64;
        if is_settled(line) {
            settled += 1;
            return Ok(());
        }
        kept.write_all(line)
    })?;
    // A line without an end stays as it is: maybe somebody can still read it.
    if settled == 0 || stored.file.metadata()?.len() != whole {
        return Ok(());
    }
    if kept.as_file().metadata()?.len() == 0 {
        std::fs::remove_file(path)?;
    } else {
        kept.as_file().sync_all()?;
        kept.persist(path).map_err(|error| error.error)?;
    }
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::{fs, sync::mpsc};

    use super::super::{Letter, Spool, line};
    use super::*;

    fn letter(body: &str) -> Letter {
        let headers = vec![("time_ms".to_owned(), ",\"time_ms\":1,\"done_ms\":2".to_owned())];
        let body = Bytes::from(body.to_owned());
        Letter { queue: "in".into(), destination: "/queue/dead".into(), headers, body, as_bytes: true }
    }

    fn file_of(dir: &Path, bodies: &[&str]) -> PathBuf {
        let path = dir.join("in.jsonl");
        let lines: Vec<u8> = bodies.iter().flat_map(|body| line(&letter(body), std::time::UNIX_EPOCH)).collect();
        fs::write(&path, lines).unwrap();
        path
    }

    fn bodies(path: &Path) -> Vec<Bytes> {
        let stored = StoredFile::open(path, false).unwrap().unwrap();
        stored.read(10, 1 << 20).unwrap().letters.into_iter().map(|letter| letter.body).collect()
    }

    /// As a host would: through the thread of its spool.
    fn append(spool: &Spool, body: &str) {
        let (told, answer) = mpsc::channel();
        spool.append(letter(body), Box::new(move |result| told.send(result).unwrap()));
        answer.recv().unwrap().unwrap();
    }

    #[test]
    fn letters_are_settled_while_a_host_appends_and_gone_at_its_next_start() {
        let dir = tempfile::tempdir().unwrap();
        let path = file_of(dir.path(), &["one", "\"time_ms\":", "three"]);
        let spool = Spool::start(dir.path().to_owned()).unwrap();
        let stored = StoredFile::open(&path, true).unwrap().unwrap();
        let read = stored.read(10, 1 << 20).unwrap().letters;
        append(&spool, "four");
        stored.settle(read[0].at).unwrap();
        stored.settle(read[1].at).unwrap();
        assert!(stored.settle(read[1].at).is_err(), "only once");
        append(&spool, "five");
        assert_eq!(bodies(&path), ["three", "four", "five"]);
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 5, "a host's file is not rewritten");
        drop((spool, stored));
        drop(Spool::start(dir.path().to_owned()).unwrap());
        assert_eq!(bodies(&path), ["three", "four", "five"]);
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 3);
        let left: Vec<_> = fs::read_dir(dir.path()).unwrap().collect();
        assert_eq!(left.len(), 1, "no temporary file: {left:?}");
    }

    #[test]
    fn what_is_settled_altogether_leaves_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = file_of(dir.path(), &["one"]);
        let stored = StoredFile::open(&path, true).unwrap().unwrap();
        stored.settle(stored.read(10, 1 << 20).unwrap().letters[0].at).unwrap();
        compact_all(dir.path());
        assert!(path.exists(), "its letters are being settled");
        drop(stored);
        compact_all(dir.path());
        assert!(!path.exists());
        assert!(StoredFile::open(&path, true).unwrap().is_none());
    }

    #[test]
    fn one_settles_at_a_time_and_anybody_reads() {
        let dir = tempfile::tempdir().unwrap();
        let path = file_of(dir.path(), &["one"]);
        let first = StoredFile::open(&path, true).unwrap();
        assert_eq!(StoredFile::open(&path, true).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert_eq!(bodies(&path), ["one"]);
        drop(first);
        StoredFile::open(&path, true).unwrap();
    }

    #[test]
    fn torn_lines_are_counted_and_unfinished_ones_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = file_of(dir.path(), &["one", "two"]);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, format!("{{\"body\":\"to\n{text}{}", &text[..40])).unwrap();
        let stored = StoredFile::open(&path, true).unwrap().unwrap();
        let read = stored.read(1, 1 << 20).unwrap();
        assert_eq!((read.letters.len(), read.torn, read.more), (1, 1, true));
        stored.settle(read.letters[0].at).unwrap();
        drop(stored);
        compact_all(dir.path());
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 4, "somebody may still make sense of it");
    }

    #[test]
    fn base64_comes_back() {
        for bytes in [&b""[..], b"f", b"fo", b"foo", &[0, 159, 255, 1]] {
            assert_eq!(from_base64(&super::super::base64(bytes)).unwrap(), bytes);
        }
        assert_eq!(from_base64("A*=="), None);
    }
}
