//! The last resort for dead letters that the broker refuses: one file of JSON lines for each in queue.
//!
//! Settlement appends from any thread and never waits: a thread of the spool's own writes what has come,
//! calls fsync once for all of it, and tells each sender. What could not be written is told as such, and
//! the message stays with the broker. One line is one object: `queue`, `destination` (where it should have
//! gone), `time_ms` (of the writing), `headers` (pairs, those of a dead letter), `as_bytes` (whether it came with a
//! content-length) and `body`, or `body_base64` where it is not text. `stompbox dead-letters` reads and settles them:
//! [`stored`].

pub mod stored;

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
    thread,
    time::{SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use serde_json::json;

use crate::state_dir::make_private;

/// Dead letters that share one fsync at most.
const BATCH: usize = 1_000;
/// The longest name of a file, before its ending.
const MAX_NAME: usize = 120;

/// A dead letter that nobody took.
#[derive(Debug)]
pub struct Letter {
    /// The in queue's name in the configuration.
    pub queue: Arc<str>,
    /// Where it should have gone.
    pub destination: Arc<str>,
    /// Its headers.
    pub headers: Vec<(String, String)>,
    /// The original's body.
    pub body: Bytes,
    /// Whether it travels as bytes: a content-length came with it.
    pub as_bytes: bool,
}

/// Told once: on the spool's thread, after the disk has the letter or has refused it.
pub type OnSpooled = Box<dyn FnOnce(Result<(), String>) + Send>;

/// The handle; the thread ends when the last one is dropped.
pub struct Spool {
    letters: mpsc::Sender<(Letter, OnSpooled)>,
}

impl std::fmt::Debug for Spool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Spool").finish_non_exhaustive()
    }
}

impl Spool {
    /// Makes the directory, removes what `stompbox dead-letters` has settled, and starts the thread.
    ///
    /// # Errors
    /// The directory cannot be made, or the system refuses a thread.
    pub fn start(dir: PathBuf) -> io::Result<Self> {
        make_private(&dir)?;
        stored::compact_all(&dir);
        // Bounded by the windows of the queues: each letter is a delivery in work.
        let (letters, arriving) = mpsc::channel();
        thread::Builder::new().name("spool".into()).spawn(move || serve(&dir, &arriving))?;
        Ok(Self { letters })
    }

    /// Has a letter written; returns at once.
    pub fn append(&self, letter: Letter, done: OnSpooled) {
        if let Err(mpsc::SendError((_, done))) = self.letters.send((letter, done)) {
            done(Err("the spool's thread is gone".to_owned()));
        }
    }
}

fn serve(dir: &Path, arriving: &mpsc::Receiver<(Letter, OnSpooled)>) {
    while let Ok(first) = arriving.recv() {
        let mut by_queue: BTreeMap<Arc<str>, Vec<(Letter, OnSpooled)>> = BTreeMap::new();
        for (letter, done) in std::iter::once(first).chain(arriving.try_iter().take(BATCH - 1)) {
            by_queue.entry(letter.queue.clone()).or_default().push((letter, done));
        }
        for (queue, letters) in by_queue {
            let file = dir.join(file_name(&queue));
            let lines: Vec<u8> = letters.iter().flat_map(|(letter, _)| line(letter, SystemTime::now())).collect();
            let result = append(&file, &lines).map_err(|error| format!("{}: {error}", file.display()));
            letters.into_iter().for_each(|(_, done)| done(result.clone()));
        }
    }
}

/// Appends whole lines, durably, or nothing.
pub(crate) fn append(path: &Path, lines: &[u8]) -> io::Result<()> {
    let new = !path.exists();
    let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
    let before = file.seek(SeekFrom::End(0))?;
    let written = end_torn_line(&mut file, before).and_then(|()| file.write_all(lines)).and_then(|()| file.sync_data());
    if let Err(error) = written {
        // A full disk must not leave half a line for the next letter to continue.
        let _ = file.set_len(before);
        return Err(error);
    }
    if new { path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all()) } else { Ok(()) }
}

/// A host that was killed while it wrote leaves a line without an end.
fn end_torn_line(file: &mut File, len: u64) -> io::Result<()> {
    if len == 0 {
        return Ok(());
    }
    let mut last = [0];
    file.seek(SeekFrom::Start(len - 1))?;
    file.read_exact(&mut last)?;
    if last == *b"\n" { Ok(()) } else { file.write_all(b"\n") }
}

fn line(letter: &Letter, now: SystemTime) -> Vec<u8> {
    let time = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
    let mut object = json!({
        "queue": &*letter.queue,
        "destination": &*letter.destination,
        "time_ms": time,
        "headers": letter.headers,
        "as_bytes": letter.as_bytes,
    });
    let (key, body) = match std::str::from_utf8(&letter.body) {
        Ok(text) => ("body", text.to_owned()),
        Err(_) => ("body_base64", base64(&letter.body)),
    };
    if let Some(object) = object.as_object_mut() {
        object.insert(key.to_owned(), body.into());
    }
    let mut line = object.to_string().into_bytes();
    line.push(b'\n');
    line
}

/// The name of a queue's file: letters, digits, `.`, `_` and `-` stay, all else becomes `%` and its code, so
/// that no two queues share a file and none leaves the directory.
fn file_name(queue: &str) -> String {
    let mut name = String::new();
    for byte in queue.bytes() {
        match byte {
            b'.' if name.is_empty() => name.push_str("%2E"),
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'_' | b'-' => name.push(char::from(byte)),
            _ => name.push_str(&format!("%{byte:02X}")),
        }
    }
    if name.len() > MAX_NAME {
        let mut hash = std::hash::DefaultHasher::new();
        std::hash::Hash::hash(queue, &mut hash);
        name.truncate(MAX_NAME);
        name.push_str(&format!("~{:016x}", std::hash::Hasher::finish(&hash)));
    }
    name.push_str(".jsonl");
    name
}

/// Base64 with padding (RFC 4648).
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let number =
            three.iter().chain([&0, &0]).take(3).fold(0_usize, |number, byte| number << 8 | usize::from(*byte));
        for place in 0..4 {
            let digit = DIGITS.get(number >> (18 - 6 * place) & 63).copied().unwrap_or(b'=');
            text.push(char::from(if place <= three.len() { digit } else { b'=' }));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::Value;

    use super::*;

    fn letter(queue: &str, body: &'static [u8]) -> Letter {
        let headers = vec![("stompbox_error_code".to_owned(), "bad \"one\"".to_owned())];
        Letter {
            queue: queue.into(),
            destination: "/queue/dead".into(),
            headers,
            body: Bytes::from_static(body),
            as_bytes: false,
        }
    }

    fn spool_all(spool: &Spool, letters: Vec<Letter>) -> Vec<bool> {
        let (told, answers) = mpsc::channel();
        let count = letters.len();
        for letter in letters {
            let told = told.clone();
            spool.append(letter, Box::new(move |result| told.send(result.is_ok()).unwrap()));
        }
        answers.iter().take(count).collect()
    }

    fn objects(path: &Path) -> Vec<Value> {
        fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn each_letter_is_a_line_of_its_queues_file() {
        let dir = tempfile::tempdir().unwrap();
        let spool = Spool::start(dir.path().join("dead-letters")).unwrap();
        let letters =
            vec![letter("in", b"text\nof two lines"), letter("other/../q", b"x"), letter("in", &[0, 159, 255])];
        assert_eq!(spool_all(&spool, letters), [true; 3]);
        let lines = objects(&dir.path().join("dead-letters/in.jsonl"));
        assert_eq!(lines[0]["body"], "text\nof two lines");
        assert_eq!((&lines[1]["body_base64"], &lines[1]["body"]), (&json!("AJ//"), &Value::Null));
        assert_eq!(lines[0]["headers"], json!([["stompbox_error_code", "bad \"one\""]]));
        assert_eq!((&lines[0]["queue"], &lines[0]["destination"]), (&json!("in"), &json!("/queue/dead")));
        assert!(lines[0]["time_ms"].as_u64().unwrap() > 1_700_000_000_000);
        assert_eq!(objects(&dir.path().join("dead-letters/other%2F..%2Fq.jsonl")).len(), 1);
    }

    #[test]
    fn a_torn_line_is_ended_and_what_was_there_stays() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("in.jsonl");
        fs::write(&file, "{\"body\":\"old\"}\n{\"body\":\"to").unwrap();
        let spool = Spool::start(dir.path().to_owned()).unwrap();
        assert_eq!(spool_all(&spool, vec![letter("in", b"new")]), [true]);
        let text = fs::read_to_string(&file).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[..2], ["{\"body\":\"old\"}", "{\"body\":\"to"]);
        assert_eq!(serde_json::from_str::<Value>(lines[2]).unwrap()["body"], "new");
    }

    #[test]
    fn a_full_disk_and_what_is_no_file_are_told_and_others_go_on() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/dev/full", dir.path().join("full.jsonl")).unwrap();
        fs::create_dir(dir.path().join("folder.jsonl")).unwrap();
        let spool = Spool::start(dir.path().to_owned()).unwrap();
        for (queue, written) in [("full", false), ("folder", false), ("good", true)] {
            assert_eq!(spool_all(&spool, vec![letter(queue, b"x")]), [written], "{queue}");
        }
    }

    #[test]
    fn names_of_files_are_safe_and_differ() {
        for (queue, name) in [
            ("jedi_jobtaskstatus", "jedi_jobtaskstatus.jsonl"),
            ("..", "%2E..jsonl"),
            ("/etc/x", "%2Fetc%2Fx.jsonl"),
            ("a b%", "a%20b%25.jsonl"),
            ("é", "%C3%A9.jsonl"),
        ] {
            assert_eq!(file_name(queue), name);
        }
        let long = |end: &str| file_name(&("x".repeat(300) + end));
        assert!(long("a").len() < 200 && long("a") != long("b"));
    }

    #[test]
    fn base64_is_the_standards() {
        for (plain, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")] {
            assert_eq!(base64(plain.as_bytes()), text);
        }
    }
}
