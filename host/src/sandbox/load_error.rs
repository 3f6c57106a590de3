//! Why a component cannot be loaded, in words for its author.
//!
//! Made by [`super::component`] and [`super::world`], shown by the commands and the application.

use std::{collections::BTreeMap, error::Error, path::PathBuf};

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
    /// The component is damaged, uses what this engine does not know, or takes too much to compile; or there is no
    /// compiler.
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
    /// The component imports what no configuration of this host can grant.
    #[error("it imports what it cannot be granted: {}", wants(.names))]
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

/// How many wanted interfaces are listed.
const MAX_WANTS: usize = 20;

/// Lists wanted interfaces, each with what its author or the operator can do.
fn wants(names: &[String]) -> String {
    let mut groups: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for name in names.iter().take(MAX_WANTS) {
        groups.entry(remedy(name)).or_default().push(name);
    }
    let mut list: Vec<String> =
        groups.iter().map(|(remedy, names)| format!("{} ({remedy})", names.join(", "))).collect();
    if let Some(more) = names.len().checked_sub(MAX_WANTS).filter(|more| *more > 0) {
        list.push(format!("and {more} more"));
    }
    list.join("; ")
}

/// What can be done about an interface that this host does not offer.
fn remedy(name: &str) -> &'static str {
    let package = name.split(['/', '@']).next().unwrap_or_default();
    match package {
        "stompbox:processor" => {
            "made for another version of the contract: rebuild it with the SDK of this host, or update the host"
        }
        "wasi:http" => "no configuration grants HTTP in this version of the host: build the component without it",
        "wasi:cli" | "wasi:clocks" | "wasi:filesystem" | "wasi:io" | "wasi:random" | "wasi:sockets" => {
            "this host has WASI 0.2: build for wasm32-wasip2"
        }
        _ => "unknown to this host, and no configuration grants it: build the component without it",
    }
}

fn hint(nearest: Option<&str>) -> String {
    nearest.map(|name| format!("; did you mean `{name}`?")).unwrap_or_default()
}
