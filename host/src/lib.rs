//! Stompbox.
pub mod client;
pub mod delivery;
pub mod outcome;
pub mod sandbox;
pub mod stomp;
