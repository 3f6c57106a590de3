//! The directory of compiled components.
//!
//! Used by [`super::load`] alone. What is read from here becomes machine code, so an artifact is
//! handed out only if the directory and the file belong to this user, nobody else can write them, and
//! the artifact is byte for byte what this host wrote. A cache that cannot be trusted is not used: it
//! costs a compilation, never safety.

use std::{
    fs::{self, DirBuilder, File, Metadata},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};

use super::artifact::{FORMAT, MAX_ARTIFACT_BYTES};

/// Why the cache, or an entry of it, is not used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CacheError {
    #[error("it belongs to another user")]
    Owner,
    #[error("others can write it (mode {0:o})")]
    Writable(u32),
    #[error("it is not a {0}")]
    Kind(&'static str),
    #[error("it is damaged")]
    Damaged,
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// An opened cache directory.
#[derive(Debug)]
pub(crate) struct Cache {
    dir: PathBuf,
    /// The user that this host writes files as.
    user: u32,
}

impl Cache {
    /// Opens the directory, or says in the log why components are compiled at each start.
    pub(crate) fn open_or_warn(dir: PathBuf) -> Option<Self> {
        match Self::open(&dir) {
            Ok(cache) => Some(cache),
            Err(error) => {
                tracing::warn!(dir = %dir.display(), %error, "compiled components are not cached");
                None
            }
        }
    }

    /// Opens the directory; it is created for this user alone where it is missing.
    pub(crate) fn open(dir: &Path) -> Result<Self, CacheError> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let metadata = fs::metadata(dir)?;
        if !metadata.is_dir() {
            return Err(CacheError::Kind("directory"));
        }
        let user = rustix::process::geteuid().as_raw();
        check_owner(&metadata, user)?;
        Ok(Self { dir: dir.to_owned(), user })
    }

    /// Returns the artifact under this key; none where there is none that can be trusted.
    pub(crate) fn get(&self, key: &str) -> Option<Vec<u8>> {
        match self.read(key) {
            Ok(artifact) => Some(artifact),
            Err(CacheError::Io(error)) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::warn!(file = %self.file(key).display(), %error, "cache entry not used");
                None
            }
        }
    }

    fn read(&self, key: &str) -> Result<Vec<u8>, CacheError> {
        let path = self.file(key);
        if !fs::symlink_metadata(&path)?.is_file() {
            return Err(CacheError::Kind("regular file"));
        }
        let mut file = File::open(&path)?;
        // The opened file is checked, not the name: a name can be given to another file meanwhile.
        check_owner(&file.metadata()?, self.user)?;
        let mut head = [0; FORMAT.len()];
        let mut expected = [0; 32];
        let mut artifact = Vec::new();
        let truncated = |error: io::Error| match error.kind() {
            io::ErrorKind::UnexpectedEof => CacheError::Damaged,
            _ => CacheError::Io(error),
        };
        file.read_exact(&mut head).map_err(truncated)?;
        file.read_exact(&mut expected).map_err(truncated)?;
        file.take(MAX_ARTIFACT_BYTES).read_to_end(&mut artifact)?;
        if &head != FORMAT || sum(key, &artifact) != expected {
            return Err(CacheError::Damaged);
        }
        Ok(artifact)
    }

    /// Keeps an artifact; readers see all of it or nothing.
    pub(crate) fn put(&self, key: &str, artifact: &[u8]) -> Result<(), CacheError> {
        let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(&self.dir)?;
        file.write_all(FORMAT)?;
        file.write_all(&sum(key, artifact))?;
        file.write_all(artifact)?;
        file.as_file().sync_all()?;
        file.persist(self.file(key)).map_err(|error| error.error)?;
        Ok(())
    }

    fn file(&self, key: &str) -> PathBuf {
        self.dir.join(format!("{key}.artifact"))
    }
}

/// The checksum of an artifact under its name: one that was given another name is not what that stands for.
fn sum(key: &str, artifact: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update(key).chain_update([0]).chain_update(artifact).finalize().into()
}

/// Refuses what another user owns or can write.
fn check_owner(metadata: &Metadata, user: u32) -> Result<(), CacheError> {
    let mode = metadata.mode() & 0o7777;
    if metadata.uid() != user {
        return Err(CacheError::Owner);
    }
    if mode & 0o022 != 0 {
        return Err(CacheError::Writable(mode));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
    };

    use tempfile::TempDir;

    use super::{Cache, CacheError};

    fn cache() -> (TempDir, Cache) {
        let root = tempfile::tempdir().unwrap();
        let cache = Cache::open(&root.path().join("cache")).unwrap();
        (root, cache)
    }

    fn chmod(path: &std::path::Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn what_is_put_is_got() {
        let (_root, cache) = cache();
        assert_eq!(cache.get("k"), None);
        cache.put("k", b"artifact").unwrap();
        assert_eq!(cache.get("k").unwrap(), b"artifact");
        assert_eq!(fs::read_dir(&cache.dir).unwrap().count(), 1, "no temporary file is left");
    }

    #[test]
    fn the_directory_is_made_for_this_user_alone() {
        let (_root, cache) = cache();
        assert_eq!(fs::metadata(&cache.dir).unwrap().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_directory_that_others_can_write_is_refused() {
        let (_root, cache) = cache();
        for mode in [0o770, 0o707, 0o1777] {
            chmod(&cache.dir, mode);
            assert!(matches!(Cache::open(&cache.dir), Err(CacheError::Writable(m)) if m == mode));
        }
        chmod(&cache.dir, 0o755);
        assert!(Cache::open(&cache.dir).is_ok());
    }

    #[test]
    fn the_owner_is_checked() {
        let (_root, cache) = cache();
        let metadata = fs::metadata(&cache.dir).unwrap();
        let other = metadata.uid().wrapping_add(1);
        assert!(matches!(super::check_owner(&metadata, other), Err(CacheError::Owner)));
    }

    #[test]
    fn entries_that_cannot_be_trusted_are_not_used() {
        let (root, cache) = cache();
        cache.put("k", b"artifact").unwrap();
        let file = cache.file("k");
        chmod(&file, 0o666);
        assert!(matches!(cache.read("k"), Err(CacheError::Writable(_))));
        chmod(&file, 0o600);
        fs::rename(&file, root.path().join("elsewhere")).unwrap();
        symlink(root.path().join("elsewhere"), &file).unwrap();
        assert!(matches!(cache.read("k"), Err(CacheError::Kind(_))));
        assert_eq!(cache.get("k"), None);
    }

    #[test]
    fn an_entry_under_another_name_is_not_used() {
        let (_root, cache) = cache();
        cache.put("one", b"first").unwrap();
        cache.put("two", b"second").unwrap();
        fs::copy(cache.file("one"), cache.file("two")).unwrap();
        assert!(matches!(cache.read("two"), Err(CacheError::Damaged)));
        assert_eq!(cache.get("one").unwrap(), b"first");
    }

    #[test]
    fn damaged_entries_are_not_used_and_can_be_replaced() {
        let (_root, cache) = cache();
        cache.put("k", b"artifact").unwrap();
        let whole = fs::read(cache.file("k")).unwrap();
        for length in 0..whole.len() {
            fs::write(cache.file("k"), &whole[..length]).unwrap();
            assert!(matches!(cache.read("k"), Err(CacheError::Damaged)), "cut at {length}");
        }
        for index in 0..whole.len() {
            let mut changed = whole.clone();
            changed[index] ^= 1;
            fs::write(cache.file("k"), changed).unwrap();
            assert!(matches!(cache.read("k"), Err(CacheError::Damaged)), "changed at {index}");
        }
        cache.put("k", b"artifact").unwrap();
        assert_eq!(cache.get("k").unwrap(), b"artifact");
    }
}
