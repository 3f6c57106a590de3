//! A component, checked, compiled and linked: what a generation makes its instances of.
//!
//! Loaded by the application and the commands, from what [`super::lookup`] found or from bytes. Loading
//! refuses whatever cannot work later, with words for the author of the component. It must never run the
//! component's code, except `describe`, which has a small budget of its own.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use super::{
    allocation::{Entry, Linked},
    bindings::exports::stompbox::processor::lifecycle,
    describe::{self, Needs},
    engine::Engine,
    lines::Lines,
    load::{self, Compiled},
    load_error::LoadError,
    lookup::Found,
    text::{hex, nearest, one_line},
    world::{self, Kind},
};
use sha2::{Digest as _, Sha256};

/// How many processors of a component are listed.
const MAX_PROCESSORS: usize = 1_000;

/// What a component says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// Its version, as its author counts.
    pub version: String,
    /// The processors it offers.
    pub processors: Vec<ProcessorInfo>,
}

/// One processor that a component offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessorInfo {
    /// What the configuration calls `name`.
    pub name: String,
    /// One line for people.
    pub summary: String,
}

/// A loaded component; cheap to clone.
#[derive(Clone)]
pub struct Component(Arc<Loaded>);

/// What all clones, and all loads of the same bytes, share.
pub(crate) struct Loaded {
    pub(crate) engine: Engine,
    pub(crate) pooled: Linked,
    on_demand: OnceLock<Linked>,
    pub(crate) lines: Lines,
    digest: String,
    imports: Vec<String>,
    from_cache: bool,
    described: OnceLock<(Description, Needs)>,
}

impl Loaded {
    /// The component for instances beyond the pool; linked when the first is wanted.
    pub(crate) fn on_demand(&self) -> wasmtime::Result<&Linked> {
        if let Some(linked) = self.on_demand.get() {
            return Ok(linked);
        }
        let allocation = self.engine.on_demand();
        let linked =
            allocation.link(&allocation.deserialize(&self.pooled.pre.component().serialize()?)?, self.kind())?;
        Ok(self.on_demand.get_or_init(|| linked))
    }

    fn kind(&self) -> Kind {
        match self.pooled.entry {
            Entry::Handler(_) => Kind::Handler,
            Entry::Timer(_) => Kind::Timer,
        }
    }
}

impl fmt::Debug for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Component").field("digest", &self.0.digest).field("kind", &self.kind()).finish_non_exhaustive()
    }
}

impl Component {
    /// Checks, compiles and links a component. Bytes that are loaded already are not compiled again.
    ///
    /// # Errors
    /// When the bytes are no component, do not export what the contract asks for, or import what this
    /// host does not have.
    pub fn load(engine: &Engine, bytes: &[u8]) -> Result<Self, LoadError> {
        world::check_form(bytes)?;
        let sha256 = Sha256::digest(bytes);
        let digest = hex(&sha256);
        if let Some(loaded) = engine.loaded(&digest) {
            return Ok(Self(loaded));
        }
        let compiled = load::load(engine, bytes, &sha256)?;
        let loaded = Arc::new(check(engine, compiled, digest)?);
        engine.remember(&loaded.digest, &loaded);
        Ok(Self(loaded))
    }

    /// Loads a file that was found; an error names it.
    ///
    /// # Errors
    /// As [`Component::load`].
    pub fn load_file(engine: &Engine, found: &Found) -> Result<Self, LoadError> {
        Self::load(engine, &found.bytes)
            .map_err(|error| LoadError::File { path: found.file.clone(), source: Box::new(error) })
    }

    /// Returns the SHA-256 of the component's bytes, in hexadecimal.
    #[must_use]
    pub fn digest(&self) -> &str {
        &self.0.digest
    }

    /// Returns whether it handles messages or works by the clock.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.0.kind()
    }

    /// Returns the names of the interfaces it imports.
    #[must_use]
    pub fn imports(&self) -> &[String] {
        &self.0.imports
    }

    /// Returns whether its code came from the cache directory.
    #[must_use]
    pub fn from_cache(&self) -> bool {
        self.0.from_cache
    }

    /// Asks the component what it offers, once; the answer is kept.
    ///
    /// # Errors
    /// When the component fails, or needs more than one second or a billion units of fuel.
    pub fn describe(&self) -> Result<&Description, LoadError> {
        self.described().map(|(description, _)| description)
    }

    /// Returns what an instance needs to start and to describe itself.
    ///
    /// # Errors
    /// As [`Component::describe`].
    pub fn needs(&self) -> Result<Needs, LoadError> {
        self.described().map(|(_, needs)| *needs)
    }

    fn described(&self) -> Result<&(Description, Needs), LoadError> {
        if let Some(known) = self.0.described.get() {
            return Ok(known);
        }
        let described = describe::describe(self)?;
        Ok(self.0.described.get_or_init(|| described))
    }

    /// Checks that the component offers a processor of this name.
    ///
    /// # Errors
    /// When it does not; the error names the nearest. Also as [`Component::describe`].
    pub fn processor(&self, name: &str) -> Result<&ProcessorInfo, LoadError> {
        let processors = &self.describe()?.processors;
        if let Some(info) = processors.iter().find(|info| info.name == name) {
            return Ok(info);
        }
        let known = || processors.iter().map(|info| info.name.as_str());
        Err(LoadError::UnknownProcessor {
            name: one_line(name, 200).into_owned(),
            nearest: nearest(name, known()).map(str::to_owned),
            known: known().take(20).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "),
        })
    }

    pub(crate) fn loaded(&self) -> &Loaded {
        &self.0
    }
}

/// Checks the world of a compiled component and links it.
fn check(engine: &Engine, compiled: Compiled, digest: String) -> Result<Loaded, LoadError> {
    let Compiled { component, lines, from_cache } = compiled;
    let kind = world::kind(&component)?;
    let imports = world::imports(&component)?;
    let pooled = engine.pooled().link(&component, kind).map_err(|error| LoadError::Link(error.into()))?;
    let (engine, on_demand, described) = (engine.clone(), OnceLock::new(), OnceLock::new());
    Ok(Loaded { engine, pooled, on_demand, lines, digest, imports, from_cache, described })
}

impl From<lifecycle::Description> for Description {
    fn from(guest: lifecycle::Description) -> Self {
        let line = |text: &str, max| one_line(text, max).into_owned();
        let info = |guest: &lifecycle::ProcessorInfo| ProcessorInfo {
            name: line(&guest.name, 200),
            summary: line(&guest.summary, 1 << 10),
        };
        Self {
            version: line(&guest.version, 200),
            processors: guest.processors.iter().take(MAX_PROCESSORS).map(info).collect(),
        }
    }
}
