//! Processors that answer with too much, or with what they may not.

use stompbox_sdk::{Error, Output, counter, log};

use crate::answers::forward;
use crate::macros::processor;

/// How many outputs or log lines a flood has.
const OUTPUTS: usize = 100_000;
const LOG_LINES: usize = 10_000;
/// How many names a flood counts under, and how large a huge body is.
const NAMES: u64 = 1_000_000;
const HUGE_BYTES: usize = 24 << 20;

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
    /// Counts the most there is under a million names, then forwards.
    CounterFlood: |message| {
        for number in 0..NAMES {
            counter(&name(number), u64::MAX);
        }
        forward(message)
    }
}

processor! {
    /// Returns an output with a body of 24 MiB.
    HugeBody: |_| Ok(vec![Output::new(vec![b'x'; HUGE_BYTES])])
}

processor! {
    /// Returns an output with the headers that the body lists: `[["name", "value"]]`.
    Headers: |message| {
        let headers: Vec<(String, String)> = message.json().map_err(Error::other)?;
        let output = headers.into_iter().fold(Output::new("x"), |output, (name, value)| output.header(name, value));
        Ok(vec![output])
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

/// A good name, another one for each number.
fn name(number: u64) -> String {
    let digits = format!("{number:07}");
    digits.bytes().map(|digit| char::from(b'a' + (digit - b'0'))).collect()
}

#[cfg(test)]
mod tests {
    use stompbox_sdk::{Processor, testing};

    use super::*;

    #[test]
    fn names_are_letters() {
        assert_eq!((name(0), name(1_234_569)), ("aaaaaaa".to_owned(), "bcdefgj".to_owned()));
    }

    #[test]
    fn headers_are_as_listed() {
        let listed = Headers.process(testing::message(r#"[["a:b", "c\n"], ["", ""]]"#));
        assert_eq!(listed, Ok(vec![Output::new("x").header("a:b", "c\n").header("", "")]));
    }
}
