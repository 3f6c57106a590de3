//! Stompbox: a host for message processors between STOMP queues, each in a sandbox of its own.
//!
//! # The way of a message
//!
//! The modules stand below in the order in which a message meets them, behind those that start the program; to follow
//! one from the socket to its acknowledgement, read:
//!
//! 1. [`client::Connection`] reads the socket, and [`stomp::codec`] cuts a frame out of what it brought, without
//!    copying the body.
//! 2. [`client::session`] owns the consumer connection. It turns the frame into a [`delivery::Delivery`]:
//!    the message plus the duty to settle it.
//! 3. [`buffer`] keeps deliveries until a lane is free. When it is full the socket is not read.
//! 4. [`lane`] takes one, on a thread of its own, and calls the component: [`sandbox::Instance::process`].
//! 5. [`outcome::decide`] is the table that says what follows from the answer: send, retry, dead letter.
//! 6. [`settle`] does it. Outputs go to [`client::producer`], which owns the sending connection.
//! 7. When the broker has confirmed all outputs, [`settle::Settler`] acknowledges the delivery, and the
//!    session writes the ACK.
//!
//! Nothing is lost, because step 7 comes after the RECEIPT of every output. (In ack mode auto the broker forgets a
//! message when it is sent or read: a host that is killed loses what it holds.) Nothing escapes, because a guest has
//! only what [`sandbox`] gives it. [`app`] starts it all and ends it in order; `wiring`
//! makes the parts from the configuration, queue by queue.
//!
//! Nothing stops: what the lanes of a processor run is on its [`stage`], where [`manager`] puts the next generation beside
//! the stable one; [`trial`] says whether it stays. A lane has a *post* there, with a *seat* for each generation that it runs.

pub mod cli;
pub mod commands;
pub mod console;
pub mod telemetry;

pub mod config;

pub mod app;
mod wiring;

pub mod stomp;

pub mod client;
pub mod delivery;

pub mod buffer;
pub mod retry;

pub mod generation;
pub mod lane;
pub mod source;
pub mod stage;
pub mod trial;

pub mod sandbox;

pub mod log_rate;

pub mod outcome;

pub mod settle;

pub mod dead_letter;
pub mod slots;
pub mod spool;
pub mod state_dir;

pub mod admin;
pub mod audit;
pub mod control;
pub mod manager;
pub mod metrics;
pub mod shutdown;

pub mod sender;
pub mod status;
pub mod version;

pub mod dev_broker;

#[cfg(test)]
mod model;
#[cfg(test)]
mod seeds;
