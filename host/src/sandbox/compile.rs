//! Turns the bytes of a component into code that can run, by way of the cache.
//!
//! Called by [`super::component`] when a component is loaded, never while messages are processed.
//! [`compile`] is the only place that runs the compiler: a later version of it asks a child process for
//! the artifact, and nothing else changes. [`deserialize`] is the only unsafe code of the sandbox.

use std::hash::{Hash as _, Hasher};

use sha2::{Digest as _, Sha256};
use wasmtime::component::Component;

use super::{cache::Cache, engine::Engine};

/// Changes when what is cached, or how, changes.
const FORMAT: &[u8] = b"stompbox-1";

/// A compiled component, and whether the cache had it.
pub(crate) struct Compiled {
    pub(crate) component: Component,
    pub(crate) from_cache: bool,
}

/// Returns the compiled form of a component with this SHA-256.
pub(crate) fn load(engine: &Engine, bytes: &[u8], sha256: &[u8]) -> wasmtime::Result<Compiled> {
    let key = key(engine.wasmtime(), sha256);
    if let Some(component) = engine.cache().and_then(|cache| cached(engine, cache, &key)) {
        return Ok(Compiled { component, from_cache: true });
    }
    let artifact = compile(engine, bytes)?;
    let component = deserialize(engine, &artifact)?;
    if let Some(cache) = engine.cache()
        && let Err(error) = cache.put(&key, &artifact)
    {
        tracing::warn!(%error, "a compiled component was not cached");
    }
    Ok(Compiled { component, from_cache: false })
}

/// Looks the artifact up; one that wasmtime does not accept counts as missing.
fn cached(engine: &Engine, cache: &Cache, key: &str) -> Option<Component> {
    match deserialize(engine, &cache.get(key)?) {
        Ok(component) => Some(component),
        Err(error) => {
            tracing::warn!(key, %error, "cache entry not used");
            None
        }
    }
}

/// Compiles a component to an artifact.
fn compile(engine: &Engine, bytes: &[u8]) -> wasmtime::Result<Vec<u8>> {
    engine.wasmtime().precompile_component(bytes)
}

/// Makes code of an artifact.
#[expect(unsafe_code, reason = "wasmtime runs what the artifact says: see SAFETY")]
fn deserialize(engine: &Engine, artifact: &[u8]) -> wasmtime::Result<Component> {
    // SAFETY: the artifact comes from `compile` in this process, or from a cache file that this user
    // wrote into a directory that nobody else can write, unchanged since (`Cache::get` checks owner,
    // mode and SHA-256), for an engine of the same compatibility hash (part of its name).
    unsafe { Component::deserialize(engine.wasmtime(), artifact) }
}

/// The name of an artifact: what was compiled, and everything that decides how.
fn key(engine: &wasmtime::Engine, sha256: &[u8]) -> String {
    let mut hasher = Collector(Sha256::new());
    engine.precompile_compatibility_hash().hash(&mut hasher);
    let hash = hasher.0.chain_update(FORMAT).chain_update(sha256).finalize();
    hex(&hash)
}

/// Writes bytes as lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
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
