//! Writes sandboxed STOMP message processors for Stompbox.
//!
//! A processor is a plain struct: `initialize` makes it from its parameters, `process` turns one message
//! into outputs, and [`export!`] makes a WebAssembly component of it. The host acknowledges the message
//! only after the broker has confirmed every output; an [`Error`] decides what happens instead: try again
//! later, give the message up to the dead letter, or wait for a service that is away.
//!
//! ```
//! use serde::Deserialize;
//! use std::borrow::Cow;
//! use stompbox_sdk::{Context, Error, Message, Output, Processor, log};
//!
//! /// Lets the messages of one site pass.
//! struct SiteFilter {
//!     site: String,
//! }
//!
//! #[derive(Deserialize)]
//! struct Params {
//!     site: String,
//! }
//!
//! /// What the filter reads of a message. `Cow` borrows from the body where the text has no escapes.
//! #[derive(Deserialize)]
//! struct JobStatus<'a> {
//!     jobid: u64,
//!     #[serde(borrow)]
//!     computingsite: Cow<'a, str>,
//! }
//!
//! impl Processor for SiteFilter {
//!     const NAME: &'static str = "SiteFilter";
//!     const SUMMARY: &'static str = "Forwards the job statuses of one site";
//!
//!     fn initialize(context: &Context) -> Result<Self, String> {
//!         let Params { site } = context.params()?;
//!         Ok(SiteFilter { site })
//!     }
//!
//!     fn process(&mut self, message: Message) -> Result<Vec<Output>, Error> {
//!         let job: JobStatus = message.json()?; // not JSON, or not a job status: to the dead letter
//!         if job.jobid == 0 {
//!             return Err(Error::reject("no-job", "the field `jobid` is 0"));
//!         }
//!         if job.computingsite != self.site {
//!             log::debug!(site = job.computingsite; "job {} filtered", job.jobid);
//!             return Ok(vec![]);
//!         }
//!         Ok(vec![Output::new(message.body)]) // the body is moved, not copied
//!     }
//! }
//!
//! stompbox_sdk::export!(SiteFilter);
//!
//! // The same struct runs natively in unit tests.
//! use stompbox_sdk::testing;
//!
//! let mut filter: SiteFilter = testing::start(r#"{"site": "CERN"}"#)?;
//! let body = r#"{"jobid": 7, "computingsite": "CERN"}"#;
//! assert_eq!(filter.process(testing::message(body)), Ok(vec![Output::new(body)]));
//! assert_eq!(filter.process(testing::message(r#"{"jobid": 7, "computingsite": "BNL"}"#)), Ok(vec![]));
//!
//! let Err(Error::Reject(reason)) = filter.process(testing::message("hello")) else { panic!() };
//! assert_eq!(reason.code, "invalid-json");
//! assert_eq!(reason.detail, "expected value at line 1 column 1; the body starts with: hello");
//!
//! let wrong = testing::start::<SiteFilter>(r#"{"site": 5}"#).err();
//! assert_eq!(
//!     wrong.as_deref(),
//!     Some("params: `site`: invalid type: integer `5`, expected a string at line 1 column 10")
//! );
//! # Ok::<(), String>(())
//! ```
//!
//! The crate of a processor needs `crate-type = ["cdylib", "rlib"]` under `[lib]` and the name of its
//! module, under which the configuration finds it:
//!
//! ```toml
//! [package.metadata.stompbox]
//! module = "example.site_filter" # or a list: one file for each
//! ```
//!
//! `stompbox build` compiles it for `wasm32-wasip2` with the profile that the figures were measured with.
//! A processor without an in queue implements [`Source`] and calls [`export_source!`].
//!
//! A panic traps: its text goes to the host's log, the instance is thrown away, and the message is given
//! once more to a fresh one before it becomes a dead letter. State in the struct therefore never outlives
//! a panic, and never needs a lock: an instance runs one message at a time.

#[allow(
    missing_docs,
    unreachable_pub,
    unsafe_code,
    clippy::pedantic,
    clippy::nursery,
    clippy::restriction,
    reason = "generated code; the boundary of a component is raw memory"
)]
mod bindings;
mod context;
mod error;
mod export;
mod host;
mod json;
pub mod log;
mod message;
mod output;
mod processor;
#[doc(hidden)]
pub mod rt;
#[cfg(not(target_family = "wasm"))]
pub mod testing;

pub use bindings::handler::stompbox::processor::types::{Headers, Message, Output, Reason};
pub use bindings::lifecycle::exports::stompbox::processor::lifecycle::Context;
pub use error::{Error, OrError};
pub use host::counter;
pub use json::JsonError;
pub use processor::{Processor, Source};
