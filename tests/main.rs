//! End-to-end tests: suites against real brokers and real components, and the rules of the source tree.
#![allow(
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that fails says so by a panic, and nothing here is used from outside"
)]

mod ack_modes;
mod admin;
mod brokers;
mod check;
mod compiling;
mod dead_letters;
mod deploy;
mod differential;
mod documents;
mod faults;
mod honest;
mod hostile;
mod instances;
mod limits;
mod lookup;
mod operate;
mod order;
mod outputs;
mod overdue;
mod plugins;
mod processors;
mod program;
mod queues;
mod readme;
mod redelivery;
mod regression;
mod resources;
mod sandbox;
mod secrets;
mod send;
mod servers;
mod settlement;
mod sources;
mod state;
mod swap;
mod tidy;
mod wire;

use e2e::harness;
