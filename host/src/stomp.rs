//! STOMP 1.0, 1.1 and 1.2 on the wire: frames and how they become bytes.
//!
//! Used by [`crate::client`] and by the embedded broker. Nothing here knows of sockets or clocks.

pub mod codec;
pub mod frame;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod reserved;

pub use codec::{DecodeError, Decoder, EncodeError, FrameLimits, Skipped, content_length, encode};
pub use frame::{Command, Frame, Headers, Version};
pub use reserved::{is_reserved, wrong_value};
