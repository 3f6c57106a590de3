//! Stompbox.
pub mod delivery;
pub mod outcome;
pub mod sandbox;
