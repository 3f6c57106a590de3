//! The host's functions; outside a component they are captured for [`crate::testing`].

use crate::Headers;
use crate::log::Level;

#[cfg(target_family = "wasm")]
use crate::bindings::handler::stompbox::processor::host;

/// Writes one line to the host's log.
pub(crate) fn log(level: Level, text: &str, fields: &Headers) {
    #[cfg(target_family = "wasm")]
    host::log(level, text, fields);
    #[cfg(not(target_family = "wasm"))]
    crate::testing::record_log(level, text, fields);
}

/// Adds to a counter of this processor in the host's metrics: at most 50 names, each `[a-z_]` and at most
/// 40 bytes long. Each call leaves the sandbox, so count what is rare, or in steps.
pub fn counter(name: &str, add: u64) {
    #[cfg(target_family = "wasm")]
    host::counter(name, add);
    #[cfg(not(target_family = "wasm"))]
    crate::testing::record_counter(name, add);
}
