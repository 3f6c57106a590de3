//! Why a component cannot be loaded, in words for its author.
//!
//! Made by [`super::component`] and [`super::world`], shown by the commands and the application.

use std::{error::Error, path::PathBuf};

use crate::outcome::CallError;

/// Why a component cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The component of this file cannot be loaded.
    #[error("component {} cannot be loaded", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<LoadError>,
    },
    /// The bytes are not a component at all.
    #[error(
        "it is {what}, not a WebAssembly component; build one with `stompbox build DIR` or \
         `cargo build --release --target wasm32-wasip2`"
    )]
    NotComponent {
        /// What they are.
        what: String,
    },
    /// The component is damaged, or uses what this engine does not know.
    #[error("it cannot be compiled")]
    Compile(#[source] Box<dyn Error + Send + Sync>),
    /// The component does not export what the contract asks for.
    #[error("it must export {wanted}; {problem}; it exports {exports}")]
    World {
        /// What the contract asks for.
        wanted: &'static str,
        /// What is missing, or too much.
        problem: String,
        /// What it exports.
        exports: String,
    },
    /// The component imports what this host does not have.
    #[error("it imports what this host does not have: {}", .names.join(", "))]
    Imports {
        /// The interfaces.
        names: Vec<String>,
    },
    /// An interface has the right name, but not the right functions or types.
    #[error("its interfaces are not those of the contract")]
    Link(#[source] Box<dyn Error + Send + Sync>),
    /// The component could not say what it offers.
    #[error("its `describe` failed")]
    Describe(#[source] CallError),
    /// No slot was free to ask the component what it offers.
    #[error("no free slot for an instance: {0}")]
    Full(String),
    /// The component does not offer this processor.
    #[error("it has no processor `{name}`; it has {known}{}", hint(.nearest.as_deref()))]
    UnknownProcessor {
        /// The name that was asked for.
        name: String,
        /// The nearest that it offers.
        nearest: Option<String>,
        /// Those that it offers.
        known: String,
    },
}

fn hint(nearest: Option<&str>) -> String {
    nearest.map(|name| format!("; did you mean `{name}`?")).unwrap_or_default()
}
