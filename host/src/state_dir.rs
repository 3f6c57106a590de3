//! The directory where a host keeps what must outlive it: spooled dead letters, the slots of its lanes,
//! the audit log, and what was rolled back.
//!
//! Opened by [`crate::app`] before anything starts. One host at a time: a lock that ends with the process
//! keeps a second one out.

use std::{
    fs::{DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read as _, Write as _},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

/// Why a `state_dir` cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// It cannot be made or written.
    #[error("state_dir: {} cannot be used: let this user write there, or name another directory", .path.display())]
    Unusable {
        /// What was tried.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// Another host has it.
    #[error("state_dir: {} is locked by another host ({holder}): each host needs a state_dir of its own", .lock.display())]
    Locked {
        /// The lock file.
        lock: PathBuf,
        /// Who holds it.
        holder: String,
    },
}

/// An open directory; it is this host's until the value is dropped.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    /// The lock ends when this is closed, also when the process is killed.
    _lock: File,
}

impl StateDir {
    /// Makes the directory, readable for this user alone, and locks it.
    ///
    /// # Errors
    /// It cannot be written, or another host has it.
    pub fn open(path: &Path) -> Result<Self, StateError> {
        let unusable = |path: PathBuf| move |source| StateError::Unusable { path, source };
        make_private(path).map_err(unusable(path.to_owned()))?;
        let lock = path.join("lock");
        let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&lock);
        let mut file = open.map_err(unusable(lock.clone()))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(StateError::Locked { holder: holder(&mut file), lock }),
            Err(TryLockError::Error(source)) => return Err(StateError::Unusable { path: lock, source }),
        }
        let written = file.set_len(0).and_then(|()| writeln!(file, "process {}", std::process::id()));
        written.map_err(unusable(lock.clone()))?;
        Ok(Self { path: path.to_owned(), _lock: file })
    }

    /// A file or directory in it.
    #[must_use]
    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

/// Makes a directory and what is above it; what it makes is for this user alone.
pub(crate) fn make_private(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// What the holder of the lock wrote about itself.
fn holder(file: &mut File) -> String {
    let mut text = String::new();
    let read = file.take(100).read_to_string(&mut text);
    if read.is_ok() && !text.trim().is_empty() { text.trim().to_owned() } else { "unknown".to_owned() }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn it_is_private_and_one_hosts_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/state");
        let first = StateDir::open(&path).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        let refused = StateDir::open(&path).unwrap_err().to_string();
        assert!(refused.contains(path.join("lock").to_str().unwrap()), "{refused}");
        assert!(refused.contains(&format!("process {}", std::process::id())), "{refused}");
        drop(first);
        StateDir::open(&path).unwrap();
    }

    #[test]
    fn what_cannot_be_written_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        let refused = StateDir::open(&file.join("state")).unwrap_err();
        assert!(matches!(&refused, StateError::Unusable { .. }) && refused.to_string().contains("file/state"));
    }
}
