//! What belongs to one connection of a session.
//!
//! Made by [`super::Session`] when a connection opens, and gone with it; plain data.

use std::sync::Arc;

use tokio::time::Instant;

use super::left::Left;
use crate::{client::Connection, delivery::Settle, stomp::Command};

pub(super) struct Epoch {
    pub(super) connection: Connection,
    pub(super) settle: Arc<dyn Settle>,
    /// The broker forgets a message when it sends it.
    pub(super) auto: bool,
    /// SUBSCRIBE has been answered.
    pub(super) subscribed: bool,
    /// Nothing more is taken.
    pub(super) draining: bool,
    /// What was asked of the broker when nothing more was taken.
    pub(super) asked: &'static [Command],
    /// UNSUBSCRIBE or DISCONNECT has been answered: nothing more comes.
    pub(super) unsubscribed: bool,
    /// DISCONNECT has been answered: the connection is of no further use.
    pub(super) said_goodbye: bool,
    /// No lane takes deliveries.
    pub(super) unwanted: bool,
    /// Nothing more is taken; once everything taken is settled the session leaves, to come again.
    pub(super) finishing: bool,
    /// Messages over a limit that came and stay with the broker.
    pub(super) left: Left,
    /// Since when one has been read past, or when that was told.
    pub(super) skip_told: Option<Instant>,
    /// Since when the receipt of SUBSCRIBE is missing.
    pub(super) began: Instant,
    /// Since when the buffer has been full.
    pub(super) blocked: Option<Instant>,
}

impl Epoch {
    pub(super) fn new(connection: Connection, settle: Arc<dyn Settle>, auto: bool) -> Self {
        Self {
            connection,
            settle,
            auto,
            subscribed: false,
            draining: false,
            asked: &[],
            unsubscribed: false,
            said_goodbye: false,
            unwanted: false,
            finishing: false,
            left: Left::default(),
            skip_told: None,
            began: Instant::now(),
            blocked: None,
        }
    }

    /// Whether what comes now stays un-acked: the broker gives it to the next consumer, or to the next connection.
    pub(super) fn refuses(&self) -> bool {
        (self.draining || self.finishing) && !self.auto
    }
}
