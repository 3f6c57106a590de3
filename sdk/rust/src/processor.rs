//! What an author implements: [`Processor`] for a step of a chain, [`Source`] for work by the clock.

use crate::{Context, Error, Message, Output};

/// One processor: reads an in queue, one message at a time.
///
/// The host keeps one value for each of its lanes and never shares it between threads.
pub trait Processor: Sized + 'static {
    /// The `name` under which the configuration asks for it.
    const NAME: &'static str;

    /// One line for people: what it does.
    const SUMMARY: &'static str;

    /// Prepares an instance; called once, before its first message.
    ///
    /// # Errors
    /// One line for the operator. The processor then pauses: no message is taken, and the host tries
    /// again with back-off.
    fn initialize(context: &Context) -> Result<Self, String>;

    /// Turns one message into outputs; none at all means that the message is done with.
    ///
    /// # Errors
    /// What is to become of the message.
    fn process(&mut self, message: Message) -> Result<Vec<Output>, Error>;

    /// Says farewell, after the last message and with little time; not called after a trap.
    fn terminate(&mut self) {}
}

/// A processor without an in queue: works by the clock, every `interval_ms`.
///
/// ```
/// use stompbox_sdk::{Context, Error, Output, Source};
///
/// /// Counts.
/// struct Beat(u64);
///
/// impl Source for Beat {
///     const NAME: &'static str = "Beat";
///     const SUMMARY: &'static str = "Sends a growing number";
///
///     fn initialize(_: &Context) -> Result<Self, String> {
///         Ok(Beat(0))
///     }
///
///     fn tick(&mut self) -> Result<Vec<Output>, Error> {
///         self.0 += 1;
///         Ok(vec![Output::json(&self.0)?])
///     }
/// }
///
/// stompbox_sdk::export_source!(Beat);
/// ```
pub trait Source: Sized + 'static {
    /// The `name` under which the configuration asks for it.
    const NAME: &'static str;

    /// One line for people: what it does.
    const SUMMARY: &'static str;

    /// Prepares an instance; called once, before its first round.
    ///
    /// # Errors
    /// One line for the operator; the host tries again with back-off.
    fn initialize(context: &Context) -> Result<Self, String>;

    /// Does one round of work. The next one begins when all outputs are confirmed by the broker.
    ///
    /// # Errors
    /// Why the round did nothing.
    fn tick(&mut self) -> Result<Vec<Output>, Error>;

    /// Says farewell, after the last round and with little time; not called after a trap.
    fn terminate(&mut self) {}
}
