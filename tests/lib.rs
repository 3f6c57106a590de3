//! What suites and benches share: see [`harness`].
#![allow(
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that fails says so by a panic, and nothing here is used from outside"
)]

pub mod harness;
