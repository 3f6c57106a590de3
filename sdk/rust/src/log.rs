//! Lines for the host's log, under the processor's name.
//!
//! The macros take what `format!` takes, after fields if there are any. Each call leaves the sandbox and
//! has a budget (`log_kb` per message), so a line per message is one too many.
//!
//! ```
//! use stompbox_sdk::log;
//!
//! log::info!("the list has {} entries", 3);
//! log::warn!(task = 29_999_999, status = "done"; "nothing is known of this task");
//! ```

pub use crate::bindings::handler::stompbox::processor::host::Level;

use crate::Headers;

pub use crate::{__debug as debug, __error as error, __info as info, __trace as trace, __warn as warn};

/// Writes one line with its fields; the macros end up here.
pub fn write(level: Level, text: &str, fields: &Headers) {
    crate::host::log(level, text, fields);
}

/// Writes a line for the author of the processor.
#[doc(hidden)]
#[macro_export]
macro_rules! __trace {
    ($($arguments:tt)+) => { $crate::__log!(Trace, $($arguments)+) };
}

/// Writes a line for finding a fault.
#[doc(hidden)]
#[macro_export]
macro_rules! __debug {
    ($($arguments:tt)+) => { $crate::__log!(Debug, $($arguments)+) };
}

/// Writes a line that an operator may want to know.
#[doc(hidden)]
#[macro_export]
macro_rules! __info {
    ($($arguments:tt)+) => { $crate::__log!(Info, $($arguments)+) };
}

/// Writes a line that an operator should look at.
#[doc(hidden)]
#[macro_export]
macro_rules! __warn {
    ($($arguments:tt)+) => { $crate::__log!(Warn, $($arguments)+) };
}

/// Writes a line about something that failed.
#[doc(hidden)]
#[macro_export]
macro_rules! __error {
    ($($arguments:tt)+) => { $crate::__log!(Error, $($arguments)+) };
}

/// Splits the fields from the text.
#[doc(hidden)]
#[macro_export]
macro_rules! __log {
    ($level:ident, $($key:ident = $value:expr),+ ; $($text:tt)+) => {
        $crate::log::write(
            $crate::log::Level::$level,
            &::std::format!($($text)+),
            &::std::vec![$((
                ::std::string::String::from(::std::stringify!($key)),
                ::std::string::ToString::to_string(&$value),
            )),+],
        )
    };
    ($level:ident, $($text:tt)+) => {
        $crate::log::write(
            $crate::log::Level::$level,
            &::std::format!($($text)+),
            &::std::vec::Vec::new(),
        )
    };
}
