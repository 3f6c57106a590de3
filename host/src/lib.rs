//! Stompbox.
pub mod buffer;
pub mod client;
pub mod config;
pub mod dead_letter;
pub mod delivery;
pub mod dev_broker;
pub mod metrics;
pub mod outcome;
pub mod retry;
pub mod sandbox;
pub mod settle;
pub mod stomp;
