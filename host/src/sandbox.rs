//! The sandbox: components as processors, each within its budget and without a capability of its own.
//!
//! The way in: an [`Engine`], one for the process; [`PluginDirs`] find a module's file; a [`Component`]
//! is what it becomes, checked and compiled; a [`Spec`] says what a generation makes of it; an
//! [`Instance`] lives in a lane and turns messages into outcomes. Guests are untrusted: whatever comes
//! from one is bounded before it is used. Nothing here knows of brokers or of the configuration's files.

mod allocation;
mod artifact;
mod bindings;
mod cache;
mod compiler;
pub mod compiler_process;
mod component;
mod counters;
mod describe;
mod engine;
mod failure;
mod fit;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod guest_log;
mod host_api;
mod input;
mod instance;
mod limiter;
pub mod limits;
mod lines;
mod load;
mod load_error;
mod lookup;
mod output;
mod permits;
mod spec;
mod state;
pub(crate) mod text;
mod ticker;
mod wasi;
mod world;

pub use allocation::{MAX_MEMORY_BYTES, MAX_POOLED_INSTANCES, MAX_TABLE_ELEMENTS};
pub use compiler::CompileLimits;
pub use component::{Component, Description, ProcessorInfo};
pub use counters::Counters;
pub use describe::Needs;
pub use engine::{CompileConfig, Engine, EngineConfig, SandboxError};
pub use fit::Misfit;
pub use instance::{Called, Failed, Instance, StartError};
pub use limits::Limits;
pub use load_error::LoadError;
pub use lookup::{FindError, Found, MAX_COMPONENT_BYTES, PluginDirs, Stamp, read_file};
pub use spec::Spec;
pub(crate) use text::{nearest, one_line};
pub use world::Kind;
