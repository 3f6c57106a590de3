//! What was rolled back stays rolled back over a restart of the host: which versions are avoided, and a copy of what
//! runs instead, in the folder `kept` of the `state_dir`.
//!
//! [`super::prepare`] asks at the start, and gives it what it prepares; [`super::Manager`] tells what became of it. A copy
//! is made before a file can be replaced: of what runs, is on trial, or can be gone back to, once for each component.
//! Nothing here keeps a host from starting or a version from being taken up: what cannot be kept is a warning.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::{
    config::with_sources,
    sandbox::{Found, read_file},
    state_dir::make_private,
};

/// The file with the book of each processor.
const BOOKS: &str = "versions.json";

/// What is known of one processor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Book {
    /// What was rolled back, by [`crate::generation::Generation::identity`].
    avoided: Vec<String>,
    /// The digest of the component that runs instead.
    good: String,
}

/// The folder, and what its books say. Without a `state_dir` nothing is kept.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    folder: Option<PathBuf>,
    books: Mutex<BTreeMap<String, Book>>,
}

impl Kept {
    /// Reads the books; writes nothing.
    pub(crate) fn read(state_dir: Option<&Path>) -> Self {
        let Some(folder) = state_dir.map(|dir| dir.join("kept")) else { return Self::default() };
        let file = folder.join(BOOKS);
        let books = match fs::read(&file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeMap::new()),
            Err(error) => Err(error.to_string()),
            Ok(text) => serde_json::from_slice(&text).map_err(|error| error.to_string()),
        };
        let books = books.unwrap_or_else(|error| {
            let file = file.display();
            warn!(%file, error, "not readable: versions that were rolled back before this start are taken up again");
            BTreeMap::new()
        });
        Self { folder: Some(folder), books: Mutex::new(books) }
    }

    /// What was rolled back of this processor.
    pub(crate) fn avoided(&self, processor: &str) -> Vec<String> {
        self.lock().get(processor).map(|book| book.avoided.clone()).unwrap_or_default()
    }

    /// The component that ran instead.
    ///
    /// # Errors
    /// There is no copy that can be trusted, and why.
    pub(crate) fn good(&self, processor: &str) -> Result<Found, String> {
        let digest = self.lock().get(processor).map(|book| book.good.clone());
        let file = digest.as_ref().and_then(|digest| self.file(digest)).ok_or("no copy of it is known")?;
        let found = Found { bytes: read_file(&file).map_err(|error| with_sources(&error))?, file };
        if Some(found.digest()) == digest {
            Ok(found)
        } else {
            Err(format!("{} is damaged: its SHA-256 is another one", found.file.display()))
        }
    }

    /// Makes a copy of what may have to run after a restart.
    pub(super) fn copy(&self, component: &Found, digest: &str) {
        let (Some(folder), Some(file)) = (&self.folder, self.file(digest)) else { return };
        if file.metadata().is_ok_and(|copy| copy.len() == component.bytes.len() as u64) {
            return;
        }
        if let Err(error) = write(folder, &file, &component.bytes) {
            let file = file.display();
            warn!(%file, %error, "no copy: after a restart another version of it cannot stay rolled back");
        }
    }

    /// Writes down what a processor avoids, and what it runs instead.
    pub(super) fn note(&self, processor: &str, avoided: &[String], good: &str) {
        let Some(folder) = &self.folder else { return };
        let mut books = self.lock();
        let book = Book { avoided: avoided.to_vec(), good: good.to_owned() };
        let wanted = Some(book).filter(|book| !book.avoided.is_empty());
        if books.get(processor) == wanted.as_ref() {
            return;
        }
        match wanted {
            Some(book) => drop(books.insert(processor.to_owned(), book)),
            None => drop(books.remove(processor)),
        }
        save(folder, &books);
    }

    /// Removes the books of processors that are not there any more, and all copies but these and those that a book names.
    pub(super) fn retain(&self, digests: &BTreeSet<String>, is_there: impl Fn(&str) -> bool) {
        let Some(folder) = &self.folder else { return };
        let mut books = self.lock();
        let before = books.len();
        books.retain(|processor, _| is_there(processor));
        if books.len() < before {
            save(folder, &books);
        }
        let needed = digests.iter().chain(books.values().map(|book| &book.good)).filter_map(|digest| self.file(digest));
        let needed: BTreeSet<PathBuf> = needed.chain([folder.join(BOOKS)]).collect();
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if !needed.contains(&entry.path())
                && let Err(error) = fs::remove_file(entry.path())
            {
                warn!(file = %entry.path().display(), %error, "not needed any more, and cannot be removed");
            }
        }
    }

    /// The copy of a component; none without a folder. What is no digest names no file.
    fn file(&self, digest: &str) -> Option<PathBuf> {
        let is_digest = digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit());
        self.folder.as_ref().filter(|_| is_digest).map(|folder| folder.join(format!("{digest}.wasm")))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Book>> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn save(folder: &Path, books: &BTreeMap<String, Book>) {
    let text = serde_json::to_vec(books).unwrap_or_default();
    if let Err(error) = write(folder, &folder.join(BOOKS), &text) {
        warn!(folder = %folder.display(), %error, "what was rolled back is forgotten at a restart: see to this directory");
    }
}

/// Writes a file for this user alone; a reader, and a host that starts after a crash, sees all of it or what was there.
fn write(folder: &Path, file: &Path, bytes: &[u8]) -> io::Result<()> {
    make_private(folder)?;
    let mut new = tempfile::Builder::new().prefix(".new-").tempfile_in(folder)?;
    new.write_all(bytes)?;
    new.as_file().sync_all()?;
    new.persist(file).map_err(|error| error.error)?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn component(bytes: &[u8]) -> (Found, String) {
        let found = Found { bytes: bytes.to_vec(), file: "elsewhere.wasm".into() };
        let digest = found.digest();
        (found, digest)
    }

    fn names(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir.join("kept")).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn what_is_avoided_and_what_runs_instead_is_known_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let kept = Kept::read(Some(dir.path()));
        let (good, digest) = component(b"good");
        kept.copy(&good, &digest);
        kept.note("p", &["bad".to_owned()], &digest);
        let again = Kept::read(Some(dir.path()));
        assert_eq!((again.avoided("p"), again.avoided("q")), (vec!["bad".to_owned()], vec![]));
        assert_eq!(again.good("p").unwrap().bytes, b"good");
        again.good("q").unwrap_err();
        for name in names(dir.path()) {
            let mode = dir.path().join("kept").join(name).metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        again.note("p", &[], &digest);
        assert!(Kept::read(Some(dir.path())).avoided("p").is_empty());
    }

    #[test]
    fn copies_that_nobody_needs_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let kept = Kept::read(Some(dir.path()));
        let all: Vec<String> = [&b"runs"[..], b"instead", b"gone"]
            .map(component)
            .map(|(found, digest)| {
                kept.copy(&found, &digest);
                digest
            })
            .to_vec();
        kept.note("p", &["bad".to_owned()], &all[1]);
        fs::write(dir.path().join("kept/.new-torn"), "half").unwrap();
        kept.note("removed", &["bad".to_owned()], &all[2]);
        kept.retain(&all[..1].iter().cloned().collect(), |processor| processor != "removed");
        assert!(Kept::read(Some(dir.path())).avoided("removed").is_empty());
        let mut left = vec![format!("{}.wasm", all[0]), format!("{}.wasm", all[1]), BOOKS.to_owned()];
        left.sort_unstable();
        assert_eq!(names(dir.path()), left);
    }

    #[test]
    fn what_is_damaged_is_not_used() {
        let dir = tempfile::tempdir().unwrap();
        let kept = Kept::read(Some(dir.path()));
        let (good, digest) = component(b"good");
        kept.copy(&good, &digest);
        kept.note("p", &["bad".to_owned()], &digest);
        fs::write(dir.path().join(format!("kept/{digest}.wasm")), "evil").unwrap();
        let refused = kept.good("p").unwrap_err();
        assert!(refused.contains("damaged"), "{refused}");
        fs::remove_file(dir.path().join(format!("kept/{digest}.wasm"))).unwrap();
        kept.good("p").unwrap_err();
        kept.note("p", &["bad".to_owned()], "../../etc/passwd");
        assert_eq!(kept.good("p").unwrap_err(), "no copy of it is known");
        fs::write(dir.path().join("kept").join(BOOKS), "{\"p\": ").unwrap();
        assert!(Kept::read(Some(dir.path())).avoided("p").is_empty());
    }

    #[test]
    fn without_a_state_dir_nothing_is_kept() {
        let kept = Kept::read(None);
        let (good, digest) = component(b"good");
        kept.copy(&good, &digest);
        kept.note("p", &["bad".to_owned()], &digest);
        kept.retain(&BTreeSet::new(), |_| true);
        kept.good("p").unwrap_err();
    }
}
