//! Which host this is, and which sandbox engine is in it: what `--version`, /healthz and /metrics say.

/// The engine's version; a test compares it with what is built.
macro_rules! wasmtime_version {
    () => {
        "48.0.8"
    };
}

/// The version of the host.
pub const STOMPBOX: &str = env!("CARGO_PKG_VERSION");
/// The version of wasmtime, for whom an advisory names one.
pub const WASMTIME: &str = wasmtime_version!();
/// Both, for people.
pub const BOTH: &str = concat!(env!("CARGO_PKG_VERSION"), " (wasmtime ", wasmtime_version!(), ")");

#[cfg(test)]
mod tests {
    #[test]
    fn the_engine_s_version_is_the_one_that_is_built() {
        let lock = include_str!("../../Cargo.lock");
        let line = format!("name = \"wasmtime\"\nversion = \"{}\"\n", super::WASMTIME);
        assert!(lock.contains(&line), "set wasmtime_version to the version in Cargo.lock");
    }
}
