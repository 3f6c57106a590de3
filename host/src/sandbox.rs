//! The sandbox.
pub mod limits;
pub use limits::Limits;
