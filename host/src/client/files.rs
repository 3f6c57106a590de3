//! The files that a server's configuration names: how they are read, and what is said when they cannot be.
//!
//! Read by each connect, so that a renewed certificate or passcode is found by the next one, and by
//! `check`. No message ever holds what stands in a file.

use std::{
    fs::File,
    io::{ErrorKind, Read},
    path::{Path, PathBuf},
};

/// More than any certificate store; what is longer was named by mistake.
const MAX_BYTES: u64 = 4 << 20;

/// A file that cannot be used, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key} {}: {message}", .file.display())]
pub struct FileError {
    /// The key in the configuration.
    pub key: &'static str,
    /// The file it names.
    pub file: PathBuf,
    /// What is wrong with it, and what would be right.
    pub message: String,
}

impl FileError {
    pub(super) fn new(key: &'static str, file: &Path, message: impl Into<String>) -> Self {
        Self { key, file: file.to_owned(), message: message.into() }
    }
}

/// Reads a file whole.
pub(super) fn read(key: &'static str, file: &Path) -> Result<Vec<u8>, FileError> {
    let mut bytes = Vec::new();
    let read = File::open(file).and_then(|open| open.take(MAX_BYTES + 1).read_to_end(&mut bytes));
    let message = match read.map_err(|error| (error.kind(), error)) {
        Ok(read) if read as u64 <= MAX_BYTES => return Ok(bytes),
        Ok(_) => format!("it is longer than {} MiB: this is not the right file", MAX_BYTES >> 20),
        Err((ErrorKind::NotFound, _)) => "there is no such file".to_owned(),
        Err((ErrorKind::PermissionDenied, _)) => "the user that the host runs as may not read it".to_owned(),
        Err((ErrorKind::IsADirectory, _)) => "it is a directory, not a file".to_owned(),
        Err((_, error)) => error.to_string(),
    };
    Err(FileError::new(key, file, message))
}

/// Reads a passcode: the text of the file without one line end at its end.
///
/// # Errors
/// The file cannot be read, or holds something that cannot be a passcode.
pub fn read_passcode(file: &Path) -> Result<String, FileError> {
    let refuse = |message| Err(FileError::new("passcode_file", file, message));
    let Ok(mut text) = String::from_utf8(read("passcode_file", file)?) else {
        return refuse("it is not text in UTF-8");
    };
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    match text.as_str() {
        "" => refuse("it is empty: write the passcode into it"),
        _ if text.contains(char::is_control) => refuse("it must hold one line without control characters"),
        _ => Ok(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passcode(bytes: &[u8]) -> Result<String, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        read_passcode(file.path()).map_err(|error| error.message)
    }

    #[test]
    fn passcode_file_gives_its_text_without_one_line_end() {
        for (bytes, text) in [("a b:c", "a b:c"), ("x\n", "x"), ("x\r\n", "x"), (" x ", " x "), ("ü", "ü")] {
            assert_eq!(passcode(bytes.as_bytes()), Ok(text.to_owned()));
        }
    }

    #[test]
    fn what_cannot_be_a_passcode_is_refused_and_never_repeated() {
        for bytes in [b"".as_slice(), b"\n", b"hunter2\n\n", b"hunter2\nx", b"hunter2\x00", b"hunter2\xff"] {
            let message = passcode(bytes).unwrap_err();
            assert!(!message.contains("hunter2"), "{message}");
        }
    }

    #[test]
    fn unreadable_files_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let of = |path: &Path| read("cert_file", path).unwrap_err();
        let missing = dir.path().join("missing.pem");
        assert_eq!(of(&missing).to_string(), format!("cert_file {}: there is no such file", missing.display()));
        assert_eq!(of(dir.path()).message, "it is a directory, not a file");
        assert_eq!(of(Path::new("/dev/zero")).message, "it is longer than 4 MiB: this is not the right file");
    }
}
