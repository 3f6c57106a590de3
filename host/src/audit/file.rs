//! `audit.jsonl` in the `state_dir`, written by a thread of its own.
//!
//! Filled by [`super::Audit`], which never waits for it.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError, mpsc},
    thread,
    time::Duration,
};

use tracing::error;

use crate::spool;

/// Lines that may wait for the disk.
const MAX_WAITING: usize = 1_000;
/// A file that is as long becomes `audit.jsonl.1`, in the place of the one before.
const MAX_BYTES: u64 = 8 << 20;
/// How long the end of the host waits for the disk.
const LAST_LINES: Duration = Duration::from_secs(2);

/// The file; dropped, it waits a little for what is not written.
#[derive(Debug)]
pub(super) struct AuditFile {
    lines: Option<mpsc::SyncSender<Vec<u8>>>,
    ended: Mutex<mpsc::Receiver<()>>,
    path: PathBuf,
}

impl AuditFile {
    /// Starts the thread; none where the system refuses it, which the log tells.
    pub(super) fn start(state_dir: &Path) -> Option<Self> {
        let (path, (lines, arriving)) = (state_dir.join("audit.jsonl"), mpsc::sync_channel(MAX_WAITING));
        let (end, ended) = mpsc::channel();
        let writing = path.clone();
        let write = move || {
            serve(&writing, &arriving, MAX_BYTES);
            // Nobody waits where the host is gone already.
            let _ = end.send(());
        };
        match thread::Builder::new().name("audit".into()).spawn(write) {
            Ok(_) => Some(Self { lines: Some(lines), ended: Mutex::new(ended), path }),
            Err(error) => {
                error!(%error, file = %path.display(), "no thread for the audit log: its file is not written");
                None
            }
        }
    }

    /// Has a line written; never waits.
    pub(super) fn append(&self, line: Vec<u8>) {
        let Some(lines) = &self.lines else { return };
        if lines.try_send(line).is_err() {
            error!(file = %self.path.display(), "a line of the audit log is lost: the disk does not keep up");
        }
    }
}

impl Drop for AuditFile {
    fn drop(&mut self) {
        self.lines = None;
        let _ = self.ended.lock().unwrap_or_else(PoisonError::into_inner).recv_timeout(LAST_LINES);
    }
}

fn serve(path: &Path, arriving: &mpsc::Receiver<Vec<u8>>, max_bytes: u64) {
    while let Ok(first) = arriving.recv() {
        let mut text = Vec::new();
        for line in std::iter::once(first).chain(arriving.try_iter().take(MAX_WAITING)) {
            text.extend(line);
            text.push(b'\n');
        }
        if let Err(error) = rotate(path, max_bytes).and_then(|()| spool::append(path, &text)) {
            error!(%error, file = %path.display(), "lines of the audit log are lost: make room, or let this user write");
        }
    }
}

fn rotate(path: &Path, max_bytes: u64) -> io::Result<()> {
    match fs::metadata(path) {
        Ok(file) if file.is_file() && file.len() >= max_bytes => {
            let mut before = path.as_os_str().to_owned();
            before.push(".1");
            fs::rename(path, before)
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_files_are_all_that_there_ever_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.jsonl");
        for number in 0..10 {
            let (lines, arriving) = mpsc::channel();
            lines.send(format!("{number}").into_bytes()).unwrap();
            drop(lines);
            serve(&path, &arriving, 6);
        }
        let text = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
        assert_eq!((text("audit.jsonl.1").as_str(), text("audit.jsonl").as_str()), ("6\n7\n8\n", "9\n"));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }
}
