//! Turns the bytes of a component into code that can run, by way of the cache.
//!
//! Called by [`super::component`] when a component is loaded, never while messages are processed. What the
//! cache does not have is asked from [`super::compiler`].

use std::hash::{Hash as _, Hasher};

use sha2::{Digest as _, Sha256};
use wasmtime::component::Component;

use super::{
    artifact::{self, Artifact},
    cache::Cache,
    engine::Engine,
    lines::Lines,
    load_error::LoadError,
    text::hex,
};

/// A compiled component, and whether the cache had it.
pub(crate) struct Compiled {
    pub(crate) component: Component,
    pub(crate) lines: Lines,
    pub(crate) from_cache: bool,
}

/// Returns the compiled form of a component with this SHA-256.
pub(crate) fn load(engine: &Engine, bytes: &[u8], sha256: &[u8]) -> Result<Compiled, LoadError> {
    let key = key(&engine.pooled().wasmtime, sha256);
    if let Some(compiled) = engine.cache().and_then(|cache| cached(engine, cache, &key)) {
        return Ok(compiled);
    }
    let artifact = engine.compiler().compile(bytes).map_err(|error| LoadError::Compile(error.into()))?;
    let (component, lines) = read(engine, &artifact).map_err(|error| LoadError::Compile(error.into()))?;
    if let Some(cache) = engine.cache()
        && let Err(error) = cache.put(&key, &artifact)
    {
        tracing::warn!(%error, "a compiled component was not cached");
    }
    Ok(Compiled { component, lines, from_cache: false })
}

/// Looks the artifact up; one that cannot be used counts as missing.
fn cached(engine: &Engine, cache: &Cache, key: &str) -> Option<Compiled> {
    match read(engine, &cache.get(key)?) {
        Ok((component, lines)) => Some(Compiled { component, lines, from_cache: true }),
        Err(error) => {
            tracing::warn!(key, %error, "cache entry not used");
            None
        }
    }
}

fn read(engine: &Engine, artifact: &[u8]) -> wasmtime::Result<(Component, Lines)> {
    let artifact = Artifact::read(artifact).ok_or_else(|| wasmtime::Error::msg("the artifact is not whole"))?;
    Ok((engine.pooled().deserialize(artifact.code)?, artifact.lines))
}

/// The name of an artifact: what was compiled, and everything that decides how.
fn key(engine: &wasmtime::Engine, sha256: &[u8]) -> String {
    let mut hasher = Collector(Sha256::new());
    engine.precompile_compatibility_hash().hash(&mut hasher);
    let hash = hasher.0.chain_update(artifact::FORMAT).chain_update(sha256).finalize();
    hex(&hash)
}

/// Feeds what the standard library hashes into a SHA-256.
struct Collector(Sha256);

impl Hasher for Collector {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        // Only the SHA-256 is asked for.
        0
    }
}
