//! Processors that answer properly, with each answer there is.

use std::time::Duration;

use stompbox_sdk::{Context, Error, Message, Output, Processor};

use crate::macros::processor;

processor! {
    /// Forwards each message.
    Echo: forward
}

processor! {
    /// Asks for a retry each time.
    RetryAlways: |message| Err(Error::retry("always", format!("attempt {}", message.attempt)))
}

processor! {
    /// Asks for a retry on attempts 1 and 2, then forwards.
    RetryTwice: |message| match message.attempt {
        1 | 2 => Err(Error::retry("twice", format!("attempt {}", message.attempt))),
        _ => forward(message),
    }
}

processor! {
    /// Asks for a retry on the first attempt of a message whose body ends in a 3, else forwards.
    Stumble: |message| match (message.attempt, message.body.last()) {
        (1, Some(b'3')) => Err(Error::retry("three", "it stumbles over a 3").after(Duration::from_millis(30))),
        _ => forward(message),
    }
}

processor! {
    /// Rejects each message.
    RejectAll: |_| Err(Error::reject("never", "every message is rejected"))
}

processor! {
    /// Says each time that a service is away.
    UnavailableAlways: |_| Err(Error::unavailable("away", "the service never comes back"))
}

/// Says on its first two calls that a service is away, then forwards.
#[derive(Debug)]
pub struct AwayTwice {
    calls: u32,
}

impl Processor for AwayTwice {
    const NAME: &'static str = "AwayTwice";
    const SUMMARY: &'static str = "Says on its first two calls that a service is away, then forwards.";

    fn initialize(_: &Context) -> Result<Self, String> {
        Ok(Self { calls: 0 })
    }

    fn process(&mut self, message: Message) -> Result<Vec<Output>, Error> {
        self.calls += 1;
        if self.calls <= 2 { Err(Error::unavailable("away", "the service comes back")) } else { forward(message) }
    }
}

processor! {
    /// Makes an output of each line: `queue:text` goes to that queue, any other to the out queue.
    FanOut: |message| Ok(fan_out(&message.body))
}

/// Fails to initialize.
#[derive(Debug)]
pub struct InitFails;

impl Processor for InitFails {
    const NAME: &'static str = "InitFails";
    const SUMMARY: &'static str = "Fails to initialize.";

    fn initialize(_: &Context) -> Result<Self, String> {
        Err("it never initializes".to_owned())
    }

    fn process(&mut self, message: Message) -> Result<Vec<Output>, Error> {
        forward(message)
    }
}

fn fan_out(body: &[u8]) -> Vec<Output> {
    let lines = String::from_utf8_lossy(body);
    let output = |line: &str| match line.split_once(':') {
        Some((queue, text)) => Output::new(text).queue(queue),
        None => Output::new(line),
    };
    lines.lines().map(output).collect()
}

/// Forwards a message.
pub(crate) fn forward(message: Message) -> Result<Vec<Output>, Error> {
    Ok(vec![Output::new(message.body)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use stompbox_sdk::testing;

    #[test]
    fn the_third_attempt_is_forwarded() {
        for (attempt, forwarded) in [(1, false), (2, false), (3, true)] {
            let message = Message { attempt, ..testing::message("x") };
            assert_eq!(RetryTwice.process(message).is_ok(), forwarded, "{attempt}");
        }
    }

    #[test]
    fn each_line_is_an_output() {
        let outputs = fan_out(b"plain\naudit:a:b");
        assert_eq!((outputs[0].queue.as_deref(), &*outputs[0].body), (None, &b"plain"[..]));
        assert_eq!((outputs[1].queue.as_deref(), &*outputs[1].body), (Some("audit"), &b"a:b"[..]));
    }

    #[test]
    fn summaries_come_from_the_docs() {
        assert_eq!((Echo::NAME, Echo::SUMMARY), ("Echo", "Forwards each message."));
        assert_eq!(testing::start::<InitFails>("null").unwrap_err(), "it never initializes");
    }
}
