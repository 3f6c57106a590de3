//! Versions of the guests `sorts` and `sources`: the same component with another word in its data, which makes another digest and,
//! with some words, another behaviour.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use tempfile::TempDir;

use super::guests;

/// What `VERSION` of these guests begins with.
const MARK: &[u8] = b"stompbox-test-version:";

/// A plugin directory of a test's own, with one of the components in it.
#[derive(Debug)]
pub struct Versions {
    dir: TempDir,
    module: &'static str,
    number: AtomicU32,
}

impl Versions {
    /// Begins with a good one.
    #[expect(clippy::new_without_default, reason = "it makes a directory")]
    pub fn new() -> Self {
        Self::of("sorts")
    }

    /// The same of this module.
    pub fn of(module: &'static str) -> Self {
        let versions = Self { dir: tempfile::tempdir().unwrap(), module, number: AtomicU32::new(0) };
        versions.put("good", 0);
        versions
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn file(&self) -> PathBuf {
        self.dir.path().join(format!("{}.wasm", self.module))
    }

    /// Puts a version there, as a deployment does: under another name first. Two with the same kind and number are the
    /// same component.
    pub fn put(&self, kind: &str, number: u32) {
        self.put_bytes(&bytes_of(self.module, kind, number));
    }

    /// The same with any bytes.
    pub fn put_bytes(&self, bytes: &[u8]) {
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        let new = self.dir.path().join(format!("new-{number}"));
        fs::write(&new, bytes).unwrap();
        fs::rename(new, self.file()).unwrap();
    }
}

/// The bytes of a version of `sorts`.
pub fn bytes(kind: &str, number: u32) -> Vec<u8> {
    bytes_of("sorts", kind, number)
}

fn bytes_of(module: &str, kind: &str, number: u32) -> Vec<u8> {
    let mut bytes = fs::read(guests::component(module)).unwrap();
    let places: Vec<usize> = (0..bytes.len() - MARK.len()).filter(|at| bytes[*at..].starts_with(MARK)).collect();
    assert_eq!(places.len(), 1, "the mark of versions stands once in the component");
    let word = format!("{kind:-<8}{:02}", number % 100);
    assert_eq!(word.len(), 10, "{word}");
    let at = places[0] + MARK.len();
    bytes[at..at + word.len()].copy_from_slice(word.as_bytes());
    bytes
}
