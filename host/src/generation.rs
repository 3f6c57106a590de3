//! A generation: what a processor runs as, immutable and numbered.
//!
//! Component, parameters and limits together; lanes hold the one they were given. The place where the
//! next generation is swapped in between two messages.

use std::sync::Arc;

use crate::sandbox::Spec;

/// One version of a processor, as it runs.
#[derive(Debug, Clone)]
pub struct Generation {
    /// What an instance is made of. Holds number, component digest, parameters, limits and queues.
    pub spec: Arc<Spec>,
    /// Whether each message gets an instance of its own.
    pub fresh: bool,
}
