//! Which component files, and whether the configuration's, have changed and are whole.
//!
//! Tells [`super::Manager`]. It looks every few seconds, since network file systems (NFS, AFS, CVMFS) send no events. A
//! file counts once it has been the same for a while, in size and in digest: a copy that is under way does not.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    thread,
    time::{Duration, Instant},
};

use tokio::sync::mpsc;
use tracing::error;

use super::{events::Events, prepare};
use crate::config::{Config, Processor};
use crate::sandbox::{Found, PluginDirs, Stamp, read_file};

/// How often files are looked at where nothing says that they have changed.
const POLL: Duration = Duration::from_secs(5);
/// How often events are asked for, and files looked at while one changes.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// How many changes may wait to be taken up.
const MAX_CHANGES: usize = 64;

/// What has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Changed {
    /// The component of this processor.
    Component(Arc<str>),
    /// The configuration.
    Config,
}

/// Where the component of each processor is looked for.
type Wanted = BTreeMap<Arc<str>, (Vec<PathBuf>, String)>;

/// The files that are watched.
#[derive(Debug)]
pub(super) struct Files {
    config: Option<PathBuf>,
    components: Mutex<Wanted>,
}

impl Files {
    pub(super) fn new(config: Option<PathBuf>) -> Self {
        Self { config, components: Mutex::default() }
    }

    /// From here on changes of this processor's component are told.
    pub(super) fn add(&self, config: &Config, processor: &Processor) {
        let dirs = prepare::directories(config, processor);
        self.lock().insert(processor.name.clone(), (dirs, processor.module.clone()));
    }

    /// Changes of this processor's component are told no more.
    pub(super) fn remove(&self, processor: &str) {
        self.lock().remove(processor);
    }

    fn lock(&self) -> MutexGuard<'_, Wanted> {
        self.components.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The files as they can be looked at now; a directory that cannot be opened is looked for the next time.
    fn open(&self) -> Vec<(Arc<str>, PluginDirs, String)> {
        let wanted = self.lock().clone();
        let open = |(processor, (dirs, module)): (_, (Vec<PathBuf>, _))| {
            Some((processor, PluginDirs::open(&dirs).ok()?, module))
        };
        wanted.into_iter().filter_map(open).collect()
    }

    /// The folders in which these files can be.
    fn folders(&self) -> BTreeSet<PathBuf> {
        let wanted = self.lock();
        let all = wanted.values().flat_map(|(dirs, module)| {
            let below = module.rsplit_once('.').map(|(folders, _)| folders.replace('.', "/"));
            dirs.iter().flat_map(move |dir| [Some(dir.clone()), below.as_ref().map(|below| dir.join(below))])
        });
        let config = self.config.as_deref().and_then(Path::parent);
        // A file without a folder is in the current one.
        let config = config.map(|folder| if folder.as_os_str().is_empty() { Path::new(".") } else { folder });
        all.flatten().chain(config.map(Path::to_owned)).collect()
    }
}

/// Watches the files until they, or who is told, are gone: on a thread of its own, since a file system may hang.
pub(super) fn start(files: &Arc<Files>) -> mpsc::Receiver<Changed> {
    let (tell, told) = mpsc::channel(MAX_CHANGES);
    let mut watch = Watch::default();
    for (processor, dirs, module) in files.open() {
        watch.know(&processor, dirs.stamp(&module));
    }
    watch.config.told = files.config.as_deref().and_then(Stamp::of);
    let files = Arc::downgrade(files);
    let started = thread::Builder::new().name("watch".to_owned()).spawn(move || watch.run(&files, &tell));
    if let Err(error) = started {
        error!(%error, "no thread to watch files: reload by hand");
    }
    told
}

/// How long a file must have been the same.
pub(super) const SETTLED: Duration = Duration::from_secs(1);

/// What is known of one processor's file.
#[derive(Debug, Default)]
struct Seen {
    /// As it was when it was last told of.
    told: Option<Stamp>,
    /// As it is now, its digest, and since when.
    now: Option<(Stamp, Option<String>, Instant)>,
}

/// The component files of all processors, and the configuration.
#[derive(Debug, Default)]
struct Watch {
    components: BTreeMap<Arc<str>, Seen>,
    config: Seen,
}

/// What a look finds.
#[derive(Debug, Default, PartialEq, Eq)]
struct Looked {
    /// What has changed and is whole.
    changed: Vec<Changed>,
    /// Whether others are still changing.
    unsettled: bool,
}

impl Looked {
    fn add(&mut self, seen: Option<bool>, changed: Changed) {
        match seen {
            Some(true) => self.changed.push(changed),
            Some(false) => self.unsettled = true,
            None => {}
        }
    }
}

impl Watch {
    /// The file of this processor is known as it is now: only what changes from here on counts.
    fn know(&mut self, processor: &Arc<str>, stamp: Option<Stamp>) {
        self.components.insert(processor.clone(), Seen { told: stamp, now: None });
    }

    fn run(mut self, files: &Weak<Files>, tell: &mpsc::Sender<Changed>) {
        let (mut events, mut due, mut unsettled) = (Events::new(), Instant::now(), false);
        while let Some(files) = files.upgrade() {
            let now = Instant::now();
            if events.any() || unsettled || now >= due {
                files.folders().iter().for_each(|folder| events.watch(folder));
                let mut looked = self.look(&files.open(), now);
                if let Some(config) = &files.config {
                    let digest = || read_file(config).ok().map(|bytes| Found { bytes, file: config.clone() }.digest());
                    looked.add(self.config.look(Stamp::of(config), digest, now), Changed::Config);
                }
                for changed in looked.changed {
                    if tell.blocking_send(changed).is_err() {
                        return;
                    }
                }
                (unsettled, due) = (looked.unsettled, now + POLL);
            }
            drop(files);
            thread::sleep(LOOK_AGAIN);
        }
    }

    /// Looks at the files of these processors.
    fn look(&mut self, files: &[(Arc<str>, PluginDirs, String)], now: Instant) -> Looked {
        let mut looked = Looked::default();
        for (processor, dirs, module) in files {
            let seen = self.components.entry(processor.clone()).or_default();
            let seen = seen.look(dirs.stamp(module), || dirs.find(module).ok().map(|found| found.digest()), now);
            looked.add(seen, Changed::Component(processor.clone()));
        }
        looked
    }
}

impl Seen {
    /// True: it has changed and is whole; false: it is changing.
    fn look(&mut self, stamp: Option<Stamp>, digest: impl Fn() -> Option<String>, now: Instant) -> Option<bool> {
        // A file that is gone changes nothing: what runs, runs on.
        let stamp = stamp?;
        if self.told.as_ref() == Some(&stamp) {
            self.now = None;
            return None;
        }
        match &self.now {
            Some((same, read, since)) if *same == stamp => {
                if now.saturating_duration_since(*since) < SETTLED {
                    return Some(false);
                }
                let again = digest();
                if again == *read {
                    (self.told, self.now) = (Some(stamp), None);
                    return Some(true);
                }
                self.now = Some((stamp, again, now));
            }
            _ => self.now = Some((stamp, digest(), now)),
        }
        Some(false)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_file_counts_once_it_has_been_the_same_for_a_second() {
        let dir = tempfile::tempdir().unwrap();
        let (file, began) = (dir.path().join("a.wasm"), Instant::now());
        fs::write(&file, "old").unwrap();
        let files = || vec![("p".into(), PluginDirs::open(&[dir.path().to_owned()]).unwrap(), "a".to_owned())];
        let mut watch = Watch::default();
        watch.know(&"p".into(), files()[0].1.stamp("a"));
        let mut look = |after: Duration| {
            let Looked { changed, unsettled } = watch.look(&files(), began + after);
            (changed.len(), unsettled)
        };
        assert_eq!(look(MS), (0, false), "as it was");
        fs::write(&file, "half").unwrap();
        assert_eq!(look(2 * MS), (0, true));
        assert_eq!(look(900 * MS), (0, true));
        fs::write(&file, "half and half").unwrap();
        assert_eq!(look(1_100 * MS), (0, true), "it grows");
        assert_eq!(look(2_099 * MS), (0, true));
        assert_eq!(look(2_100 * MS), (1, false), "it is whole");
        assert_eq!(look(9_000 * MS), (0, false), "told once");
        fs::remove_file(&file).unwrap();
        assert_eq!(look(20_000 * MS), (0, false), "gone");
    }

    /// Some file systems tell coarse times: the digest decides.
    #[test]
    fn a_file_of_another_digest_is_not_settled() {
        let (mut seen, now) = (Seen::default(), Instant::now());
        let stamp = || Some(Stamp::default());
        assert_eq!(seen.look(stamp(), || Some("a".into()), now), Some(false));
        assert_eq!(seen.look(stamp(), || Some("b".into()), now + SETTLED), Some(false));
        assert_eq!(seen.look(stamp(), || Some("b".into()), now + SETTLED), Some(false));
        assert_eq!(seen.look(stamp(), || Some("b".into()), now + 2 * SETTLED), Some(true));
        assert_eq!(seen.look(stamp(), || Some("c".into()), now + 9 * SETTLED), None);
    }
}
