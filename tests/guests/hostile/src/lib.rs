//! Processors that misbehave, one way each: one component under many names.
//!
//! The tests of the host's limits and of its settlement run them. What does not misbehave on a message
//! forwards its body, or returns what it found out.

mod macros;

mod answers;
mod crashes;
mod floods;
mod hangs;
mod keeps;
mod snoops;

pub use answers::{AwayTwice, Echo, FanOut, InitFails, RejectAll, RetryAlways, RetryTwice, Stumble, UnavailableAlways};
pub use crashes::{Corrupt, MemoryBomb, Panic, StackOverflow, TrapOnce, TrapTerminate};
pub use floods::{BadHeader, BadQueue, CounterFlood, Headers, HugeBody, LogFlood, OutputFlood};
pub use hangs::{Sleep, SleepOn, Slow, Spin, SpinInit, SpinOn, SpinTerminate, Work};
pub use keeps::Count;
pub use snoops::{ClockAndRandom, Snoop};

stompbox_sdk::export!(
    Echo,
    FanOut,
    InitFails,
    RejectAll,
    RetryAlways,
    RetryTwice,
    Stumble,
    AwayTwice,
    UnavailableAlways,
    Corrupt,
    MemoryBomb,
    Panic,
    StackOverflow,
    TrapOnce,
    TrapTerminate,
    BadHeader,
    BadQueue,
    CounterFlood,
    Headers,
    HugeBody,
    LogFlood,
    OutputFlood,
    Sleep,
    SleepOn,
    Slow,
    Spin,
    SpinInit,
    SpinOn,
    SpinTerminate,
    Work,
    Count,
    ClockAndRandom,
    Snoop,
);
