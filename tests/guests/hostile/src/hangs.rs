//! Processors that take their time, or all of it.

use std::hint::{black_box, spin_loop};
use std::time::{Duration, Instant};

use serde::Deserialize;
use stompbox_sdk::{Context, Error, Message, Output, Processor, log};

use crate::answers::forward;
use crate::macros::processor;

/// How much work lies between two looks at the clock.
const ROUNDS: u32 = 10_000;

processor! {
    /// Loops for ever on each message.
    Spin: |_| spin()
}

processor! {
    /// Loops for ever, after a word to the log, on a message whose body contains "spin"; else forwards.
    SpinOn: |message| {
        if message.body.windows(4).any(|bytes| bytes == b"spin") {
            log::info!("it spins");
            spin()
        }
        forward(message)
    }
}

processor! {
    /// Sleeps for an hour on each message, then forwards.
    Sleep: |message| {
        std::thread::sleep(Duration::from_secs(3_600));
        forward(message)
    }
}

processor! {
    /// Sleeps for an hour on a message whose body contains "sleep"; else forwards.
    SleepOn: |message| {
        if message.body.windows(5).any(|bytes| bytes == b"sleep") {
            std::thread::sleep(Duration::from_secs(3_600));
        }
        forward(message)
    }
}

/// Loops for ever in initialize.
#[derive(Debug)]
pub struct SpinInit;

impl Processor for SpinInit {
    const NAME: &'static str = "SpinInit";
    const SUMMARY: &'static str = "Loops for ever in initialize.";

    fn initialize(_: &Context) -> Result<Self, String> {
        spin()
    }

    fn process(&mut self, message: Message) -> Result<Vec<Output>, Error> {
        forward(message)
    }
}

/// Forwards each message, then loops for ever in terminate.
#[derive(Debug)]
pub struct SpinTerminate;

impl Processor for SpinTerminate {
    const NAME: &'static str = "SpinTerminate";
    const SUMMARY: &'static str = "Forwards each message, then loops for ever in terminate.";

    fn initialize(_: &Context) -> Result<Self, String> {
        Ok(SpinTerminate)
    }

    fn process(&mut self, message: Message) -> Result<Vec<Output>, Error> {
        forward(message)
    }

    fn terminate(&mut self) {
        spin()
    }
}

/// Works for `params.ms` milliseconds on each message, then forwards.
#[derive(Debug)]
pub struct Slow {
    busy: Duration,
}

/// The `params` of [`Slow`].
#[derive(Deserialize)]
struct SlowParams {
    ms: u64,
}

impl Processor for Slow {
    const NAME: &'static str = "Slow";
    const SUMMARY: &'static str = "Works for `params.ms` milliseconds on each message, then forwards.";

    fn initialize(context: &Context) -> Result<Self, String> {
        let SlowParams { ms } = context.params()?;
        Ok(Slow { busy: Duration::from_millis(ms) })
    }

    fn process(&mut self, message: Message) -> Result<Vec<Output>, Error> {
        let start = Instant::now();
        while start.elapsed() < self.busy {
            for round in 0..ROUNDS {
                black_box(round);
            }
        }
        forward(message)
    }
}

/// Takes `params.steps` steps on each message, whatever the time, then forwards.
#[derive(Debug)]
pub struct Work {
    steps: u64,
}

impl Processor for Work {
    const NAME: &'static str = "Work";
    const SUMMARY: &'static str = "Takes `params.steps` steps on each message, then forwards.";

    fn initialize(context: &Context) -> Result<Self, String> {
        let WorkParams { steps } = context.params()?;
        Ok(Work { steps })
    }

    fn process(&mut self, message: Message) -> Result<Vec<Output>, Error> {
        for step in 0..self.steps {
            black_box(step);
        }
        forward(message)
    }
}

#[derive(Debug, Deserialize)]
struct WorkParams {
    steps: u64,
}

fn spin() -> ! {
    loop {
        spin_loop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stompbox_sdk::testing;

    #[test]
    fn slow_takes_its_time() {
        let mut slow: Slow = testing::start(r#"{"ms": 20}"#).unwrap();
        let start = Instant::now();
        assert!(slow.process(testing::message("x")).is_ok());
        assert!(start.elapsed() >= Duration::from_millis(20));
        assert_eq!(testing::start::<Slow>("null").unwrap_err(), "params: missing field `ms` at line 1 column 2");
    }

    #[test]
    fn only_the_word_spins_or_sleeps() {
        assert_eq!(SpinOn.process(testing::message("spi n")), Ok(vec![Output::new("spi n")]));
        assert_eq!(SleepOn.process(testing::message("slee p")), Ok(vec![Output::new("slee p")]));
    }
}
