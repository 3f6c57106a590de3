//! Finds the file of a module in the plugin directories, and nothing outside of them.
//!
//! Used by the commands and the application before [`super::component`] loads what was found. The
//! directories are opened once, as capabilities: no name, absolute path or symbolic link leads out of
//! them. It must never block on what is not a regular file.

use std::{
    io::{self, Read as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use cap_std::{
    ambient_authority,
    fs::{Dir, MetadataExt as _, OpenOptions, OpenOptionsExt as _},
};
use rustix::fs::OFlags;

use sha2::{Digest as _, Sha256};

use super::text::{hex, nearest, one_line};

/// The largest component file.
pub const MAX_COMPONENT_BYTES: u64 = 64 << 20;
/// The longest module name.
const MAX_MODULE_BYTES: usize = 255;
/// Opening a FIFO would wait for a writer. What is opened is looked at then, since a name can be given to another file.
const NO_WAITING: i32 = OFlags::NONBLOCK.bits().cast_signed();
/// How many files of a directory are considered for "did you mean".
const MAX_LISTED: usize = 1_000;

/// Why no component file was found.
#[derive(Debug, thiserror::Error)]
pub enum FindError {
    /// A plugin directory cannot be opened.
    #[error("plugin directory {} cannot be opened", .path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The module is not a dotted name.
    #[error("module `{module}` is not a name like `status_report` or `panda.status_report`: {problem}")]
    Module {
        /// The name, safe to show.
        module: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// No directory has a file of that name.
    #[error("module `{module}` is not there: looked for {names} in {directories}{}", hint(.nearest.as_deref()))]
    NotFound {
        /// The name.
        module: String,
        /// The file names tried, in order.
        names: String,
        /// The directories searched, in order.
        directories: String,
        /// The nearest module that is there.
        nearest: Option<String>,
    },
    /// There is a file, but it cannot be read: a link out of the directory, or missing rights.
    #[error("{} cannot be read", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is something, but not a regular file of a fitting size.
    #[error("{} is {problem}", .path.display())]
    Unfit {
        /// The file.
        path: PathBuf,
        /// What it is.
        problem: String,
    },
}

fn hint(nearest: Option<&str>) -> String {
    nearest.map(|name| format!("; did you mean `{name}`?")).unwrap_or_default()
}

/// A component file that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Where it was found, for people.
    pub file: PathBuf,
}

impl Found {
    /// Returns the digest of the component that it is: the SHA-256 of its bytes, in hexadecimal.
    #[must_use]
    pub fn digest(&self) -> String {
        hex(&Sha256::digest(&self.bytes))
    }
}

/// What a file is known by without being read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stamp {
    name: String,
    /// Device, inode, bytes.
    file: (u64, u64, u64),
    /// Of the last change of its bytes and of the file itself, in seconds and nanoseconds.
    times: (i64, i64, i64, i64),
}

impl Stamp {
    /// Of the file at a path that is the user's own choice; none where there is none.
    #[must_use]
    pub fn of(path: &Path) -> Option<Self> {
        use std::os::unix::fs::MetadataExt as _;
        let file = std::fs::metadata(path).ok()?;
        Some(Self {
            name: path.display().to_string(),
            file: (file.dev(), file.ino(), file.size()),
            times: (file.mtime(), file.mtime_nsec(), file.ctime(), file.ctime_nsec()),
        })
    }
}

/// The plugin directories, opened.
#[derive(Debug)]
pub struct PluginDirs(Vec<(PathBuf, Dir)>);

impl PluginDirs {
    /// Opens the directories; they are searched in this order.
    ///
    /// # Errors
    /// When one of them is not a directory that can be opened.
    pub fn open(paths: &[PathBuf]) -> Result<Self, FindError> {
        let open = |path: &PathBuf| match Dir::open_ambient_dir(path, ambient_authority()) {
            Ok(dir) => Ok((path.clone(), dir)),
            Err(source) => Err(FindError::Directory { path: path.clone(), source }),
        };
        paths.iter().map(open).collect::<Result<_, _>>().map(Self)
    }

    /// Finds the file of a module: `a.b.c` is `a/b/c.wasm`, `a.b.c.wasm` or `c.wasm`.
    ///
    /// # Errors
    /// When the name is malformed, or there is no such file, or it cannot be a component.
    pub fn find(&self, module: &str) -> Result<Found, FindError> {
        let names = candidates(module)?;
        for (path, dir) in &self.0 {
            for name in &names {
                if let Some(bytes) = read(dir, name, &path.join(name))? {
                    return Ok(Found { bytes, file: path.join(name) });
                }
            }
        }
        Err(self.not_found(module, &names))
    }

    /// Tells a state of the file of a module from another, without reading it; none where there is no such file.
    #[must_use]
    pub fn stamp(&self, module: &str) -> Option<Stamp> {
        let names = candidates(module).ok()?;
        let files = self.0.iter().flat_map(|(_, dir)| names.iter().map(move |name| (dir, name)));
        let mut there = files.filter_map(|(dir, name)| Some((name, dir.metadata(name).ok()?)));
        there.next().map(|(name, file)| Stamp {
            name: name.clone(),
            file: (file.dev(), file.ino(), file.size()),
            times: (file.mtime(), file.mtime_nsec(), file.ctime(), file.ctime_nsec()),
        })
    }

    fn not_found(&self, module: &str, names: &[String]) -> FindError {
        let last = module.rsplit('.').next().unwrap_or(module);
        let folder = names.first().and_then(|name| Path::new(name).parent()).unwrap_or(Path::new(""));
        let mut there: Vec<String> = self.0.iter().flat_map(|(_, dir)| modules(dir, Path::new(""))).collect();
        if !folder.as_os_str().is_empty() {
            there.extend(self.0.iter().flat_map(|(_, dir)| modules(dir, folder)));
        }
        let known = || there.iter().map(String::as_str);
        let nearest = nearest(module, known()).or_else(|| nearest(last, known())).map(str::to_owned);
        let directories = self.0.iter().map(|(path, _)| path.display().to_string()).collect::<Vec<_>>();
        FindError::NotFound {
            module: module.to_owned(),
            names: names.join(", "),
            directories: if directories.is_empty() { "no directory".to_owned() } else { directories.join(", ") },
            nearest,
        }
    }
}

/// The file names of a module in the order in which they are tried.
fn candidates(module: &str) -> Result<Vec<String>, FindError> {
    let problem = if module.is_empty() {
        "it is empty"
    } else if module.len() > MAX_MODULE_BYTES {
        "it is longer than 255 bytes"
    } else if module.contains(|c: char| matches!(c, '/' | '\\') || c.is_control()) {
        "it has a slash, a backslash or a control character"
    } else if module.split('.').any(str::is_empty) {
        "it has an empty part"
    } else {
        let last = module.rsplit('.').next().unwrap_or(module);
        let mut names =
            vec![format!("{}.wasm", module.replace('.', "/")), format!("{module}.wasm"), format!("{last}.wasm")];
        names.dedup();
        return Ok(names);
    };
    Err(FindError::Module { module: one_line(module, 100).into_owned(), problem })
}

/// Reads a file of a directory; none where there is no such name.
fn read(dir: &Dir, name: &str, path: &Path) -> Result<Option<Vec<u8>>, FindError> {
    let failed = |source| FindError::Read { path: path.to_owned(), source };
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(NO_WAITING);
    let file = match dir.open_with(name, &options) {
        Ok(file) => file.into_std(),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(None),
        Err(e) => return Err(failed(e)),
    };
    read_component(file, path).map(Some)
}

/// Reads the file of a component at a path that is the user's own choice.
///
/// # Errors
/// It cannot be read, is no regular file, or too large.
pub fn read_file(path: &Path) -> Result<Vec<u8>, FindError> {
    let mut options = std::fs::OpenOptions::new();
    options.read(true).custom_flags(NO_WAITING);
    let file = options.open(path).map_err(|source| FindError::Read { path: path.to_owned(), source })?;
    read_component(file, path)
}

/// Reads what was opened, if it can be a component.
fn read_component(file: std::fs::File, path: &Path) -> Result<Vec<u8>, FindError> {
    let failed = |source| FindError::Read { path: path.to_owned(), source };
    let unfit = |problem: String| FindError::Unfit { path: path.to_owned(), problem };
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(unfit("not a regular file".to_owned()));
    }
    let mut bytes = Vec::new();
    file.take(MAX_COMPONENT_BYTES.saturating_add(1)).read_to_end(&mut bytes).map_err(failed)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > MAX_COMPONENT_BYTES {
        return Err(unfit(format!("larger than {} MB", MAX_COMPONENT_BYTES >> 20)));
    }
    Ok(bytes)
}

/// The modules of a folder of a directory, as names.
fn modules(dir: &Dir, folder: &Path) -> Vec<String> {
    let entries = if folder.as_os_str().is_empty() { dir.entries() } else { dir.read_dir(folder) };
    let prefix = folder.to_string_lossy().replace('/', ".");
    let name = |file: String| {
        let stem = file.strip_suffix(".wasm")?;
        Some(if prefix.is_empty() { stem.to_owned() } else { format!("{prefix}.{stem}") })
    };
    let Ok(entries) = entries else { return Vec::new() };
    entries
        .take(MAX_LISTED)
        .filter_map(|entry| name(entry.ok()?.file_name().into_string().ok()?))
        .map(|name| one_line(&name, MAX_MODULE_BYTES).into_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink, path::PathBuf};

    use tempfile::TempDir;

    use super::{FindError, PluginDirs, candidates};

    /// A plugin directory `plugins` with these files, and a file `secret.wasm` beside it.
    fn plugins(files: &[&str]) -> (TempDir, PathBuf, PluginDirs) {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("plugins");
        fs::create_dir(&path).unwrap();
        fs::write(root.path().join("secret.wasm"), b"secret").unwrap();
        for file in files {
            fs::create_dir_all(path.join(file).parent().unwrap()).unwrap();
            fs::write(path.join(file), file).unwrap();
        }
        let dirs = PluginDirs::open(std::slice::from_ref(&path)).unwrap();
        (root, path, dirs)
    }

    #[test]
    fn a_dotted_module_is_looked_up_in_three_ways() {
        assert_eq!(candidates("a.b.c").unwrap(), ["a/b/c.wasm", "a.b.c.wasm", "c.wasm"]);
        assert_eq!(candidates("a").unwrap(), ["a.wasm"]);
        for files in [&["a/b/c.wasm", "a.b.c.wasm", "c.wasm"][..], &["a.b.c.wasm", "c.wasm"], &["c.wasm"]] {
            let (_root, path, dirs) = plugins(files);
            assert_eq!(dirs.find("a.b.c").unwrap().file, path.join(files[0]));
        }
    }

    #[test]
    fn the_first_directory_wins() {
        let (_one, _, _) = plugins(&[]);
        let (root, _, _) = plugins(&["x.wasm"]);
        let (other, _, _) = plugins(&["x.wasm", "y.wasm"]);
        let paths = [root.path().join("plugins"), other.path().join("plugins")];
        let dirs = PluginDirs::open(&paths).unwrap();
        assert_eq!(dirs.find("x").unwrap().file, paths[0].join("x.wasm"));
        assert_eq!(dirs.find("y").unwrap().file, paths[1].join("y.wasm"));
    }

    #[test]
    fn malformed_modules_are_refused() {
        let (_root, _, dirs) = plugins(&["a.wasm"]);
        let long = "a".repeat(256);
        for module in ["", "..", ".", "a..b", ".a", "a.", "../secret", "/a", "a\\b", "a\0", "a\n", &long] {
            assert!(matches!(dirs.find(module), Err(FindError::Module { .. })), "{module:?}");
        }
    }

    #[test]
    fn other_cases_are_other_names() {
        let (_root, _, dirs) = plugins(&["Report.wasm"]);
        for module in ["report", "REPORT", "Report.WASM", "rEPORT"] {
            assert!(matches!(dirs.find(module), Err(FindError::NotFound { .. })), "{module}");
        }
        let told = dirs.find("report").unwrap_err().to_string();
        assert!(told.ends_with("did you mean `Report`?"), "{told}");
    }

    #[test]
    fn links_inside_are_followed_and_links_outside_refused() {
        let (root, path, dirs) = plugins(&["a.wasm"]);
        symlink("a.wasm", path.join("inside.wasm")).unwrap();
        symlink("../secret.wasm", path.join("outside.wasm")).unwrap();
        symlink(root.path().join("secret.wasm"), path.join("absolute.wasm")).unwrap();
        symlink("..", path.join("up")).unwrap();
        assert_eq!(dirs.find("inside").unwrap().bytes, b"a.wasm");
        for module in ["outside", "absolute", "up.secret"] {
            assert!(matches!(dirs.find(module), Err(FindError::Read { .. })), "{module}");
        }
    }

    #[test]
    fn what_is_not_a_regular_file_is_refused_without_waiting() {
        let (_root, path, dirs) = plugins(&[]);
        fs::create_dir(path.join("folder.wasm")).unwrap();
        let made = std::process::Command::new("mkfifo").arg(path.join("fifo.wasm")).status().unwrap();
        assert!(made.success());
        symlink("fifo.wasm", path.join("link.wasm")).unwrap();
        for module in ["folder", "fifo", "link"] {
            assert!(matches!(dirs.find(module), Err(FindError::Unfit { .. })), "{module}");
        }
    }

    #[test]
    fn a_file_that_is_too_large_is_refused() {
        let (_root, path, dirs) = plugins(&[]);
        let file = fs::File::create(path.join("big.wasm")).unwrap();
        file.set_len(super::MAX_COMPONENT_BYTES).unwrap();
        assert!(dirs.find("big").is_ok());
        file.set_len(super::MAX_COMPONENT_BYTES + 1).unwrap();
        let error = dirs.find("big").unwrap_err().to_string();
        assert!(error.ends_with("is larger than 64 MB"), "{error}");
    }

    #[test]
    fn a_missing_module_is_answered_with_what_was_tried_and_the_nearest() {
        let (_root, path, dirs) = plugins(&["status_report.wasm", "panda/forwarding.wasm"]);
        let error = dirs.find("status_reports").unwrap_err().to_string();
        let place = path.display();
        assert_eq!(
            error,
            format!(
                "module `status_reports` is not there: looked for status_reports.wasm in {place}; \
                 did you mean `status_report`?"
            )
        );
        let error = dirs.find("panda.forward").unwrap_err().to_string();
        assert!(error.contains("panda/forward.wasm, panda.forward.wasm, forward.wasm"), "{error}");
        assert!(error.ends_with("did you mean `panda.forwarding`?"), "{error}");
    }

    #[test]
    fn a_missing_directory_is_an_error_with_its_path() {
        let error = PluginDirs::open(&[PathBuf::from("/nowhere/plugins")]).unwrap_err();
        assert_eq!(error.to_string(), "plugin directory /nowhere/plugins cannot be opened");
    }
}
