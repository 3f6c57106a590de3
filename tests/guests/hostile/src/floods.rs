//! Processors that answer with too much, or with what they may not.

use stompbox_sdk::{Output, log};

use crate::answers::forward;
use crate::macros::processor;

/// How many outputs or log lines a flood has.
const OUTPUTS: usize = 100_000;
const LOG_LINES: usize = 10_000;

processor! {
    /// Returns 100,000 outputs.
    OutputFlood: |_| Ok(vec![Output::new("flood"); OUTPUTS])
}

processor! {
    /// Writes 10,000 log lines of 1 KiB, with line breaks and control characters in them, then forwards.
    LogFlood: |message| {
        let text = "flood\n\u{1b}[2J".repeat(102);
        for line in 0..LOG_LINES {
            log::info!(line = line; "{text}");
        }
        forward(message)
    }
}

processor! {
    /// Returns an output with the header `destination`.
    BadHeader: |message| Ok(vec![Output::new(message.body).header("destination", "/queue/elsewhere")])
}

processor! {
    /// Returns an output for a queue that the configuration does not name.
    BadQueue: |message| Ok(vec![Output::new(message.body).queue("undeclared")])
}
