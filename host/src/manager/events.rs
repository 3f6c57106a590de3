//! What the kernel tells of files that change (inotify), so that nobody has to wait for the next look.
//!
//! Used by [`super::files`] alone, which looks at the files whenever anything is told here, and now and then in any
//! case: network file systems tell nothing. It never says which file it was.

use std::{
    collections::BTreeSet,
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
};

use rustix::fs::inotify::{CreateFlags, WatchFlags, add_watch, init};
use tracing::debug;

/// The folders that are watched; without the kernel's help none is.
#[derive(Debug)]
pub(super) struct Events {
    queue: Option<File>,
    folders: BTreeSet<PathBuf>,
}

impl Events {
    pub(super) fn new() -> Self {
        let queue = init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK);
        if let Err(error) = &queue {
            debug!(%error, "no events of files: they are looked at every few seconds");
        }
        Self { queue: queue.ok().map(File::from), folders: BTreeSet::new() }
    }

    /// From now on changes in this folder are told; one that is not there, or cannot be watched, is tried again.
    pub(super) fn watch(&mut self, folder: &Path) {
        let Some(queue) = self.queue.as_ref().filter(|_| !self.folders.contains(folder)) else { return };
        let changes = WatchFlags::CLOSE_WRITE | WatchFlags::MOVED_TO | WatchFlags::CREATE | WatchFlags::ATTRIB;
        match add_watch(queue, folder, changes) {
            Ok(_) => drop(self.folders.insert(folder.to_owned())),
            Err(error) => debug!(%error, folder = %folder.display(), "not watched"),
        }
    }

    /// Whether anything has changed since this was asked.
    pub(super) fn any(&mut self) -> bool {
        let (mut any, mut buffer) = (false, [0; 4096]);
        while self.queue.as_mut().is_some_and(|queue| queue.read(&mut buffer).is_ok_and(|bytes| bytes > 0)) {
            any = true;
        }
        if any {
            // A folder that was put in the place of another is another one: it is watched anew.
            self.folders.clear();
        }
        any
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_change_is_told_once() {
        let dir = tempfile::tempdir().unwrap();
        let mut events = Events::new();
        events.watch(dir.path());
        assert!(!events.any());
        fs::write(dir.path().join("a.wasm"), "x").unwrap();
        assert!(events.any());
        assert!(!events.any());
        events.watch(dir.path());
        fs::write(dir.path().join("new"), "y").unwrap();
        fs::rename(dir.path().join("new"), dir.path().join("a.wasm")).unwrap();
        assert!(events.any());
    }
}
