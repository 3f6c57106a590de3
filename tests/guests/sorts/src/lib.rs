//! A processor that does with each numbered message what its number says: the load of the ledger of
//! `tests/harness/ledger.rs`, which knows the same table.
//!
//! `tests/harness/versions.rs` makes other versions of it by writing another word over [`VERSION`] in the component's
//! file: each has another digest, and some misbehave.

use std::{hint::black_box, time::Duration};

use serde::Deserialize;
use stompbox_sdk::{Context, Error, Message, Output, Processor};

/// Forwards, filters, rejects, splits, retries or traps by the last digit of the body's number; with the parameter
/// `poison` one of a thousand goes to the queue `poison`.
#[derive(Debug)]
pub struct Sort {
    poison: bool,
    /// How this version misbehaves.
    version: Version,
}

/// `good----`, how it misbehaves, and a number that says nothing.
static VERSION: &[u8; 32] = b"stompbox-test-version:good----00";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    Good,
    /// `initialize` returns an error.
    Fails,
    /// `initialize` never ends.
    Hangs,
    /// It traps on each tenth message.
    Traps,
    /// Each tenth message takes for ever.
    Spins,
    /// It gives up each tenth message.
    Rejects,
    /// It returns no outputs.
    Silent,
    /// It takes ten milliseconds for each message.
    Slow,
    /// It takes twice as long.
    Slower,
    /// `terminate` never ends.
    Lingers,
    /// `terminate` traps.
    Bursts,
}

impl Version {
    fn this() -> Self {
        match black_box(VERSION).get(22..30) {
            Some(b"fails---") => Self::Fails,
            Some(b"hangs---") => Self::Hangs,
            Some(b"traps---") => Self::Traps,
            Some(b"spins---") => Self::Spins,
            Some(b"rejects-") => Self::Rejects,
            Some(b"silent--") => Self::Silent,
            Some(b"slow----") => Self::Slow,
            Some(b"slower--") => Self::Slower,
            Some(b"lingers-") => Self::Lingers,
            Some(b"bursts--") => Self::Bursts,
            _ => Self::Good,
        }
    }
}

/// Does nothing for good.
fn spin() -> ! {
    loop {
        black_box(0);
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Params {
    poison: bool,
}

impl Processor for Sort {
    const NAME: &'static str = "Sort";
    const SUMMARY: &'static str = "Forwards, filters, rejects, splits, retries or traps by the number in the body.";

    fn initialize(context: &Context) -> Result<Self, String> {
        let Params { poison } = context.params::<Option<Params>>()?.unwrap_or_default();
        let version = Version::this();
        match version {
            Version::Fails => Err("this version does not like to be initialized".to_owned()),
            Version::Hangs => spin(),
            _ => Ok(Self { poison, version }),
        }
    }

    fn process(&mut self, message: Message) -> Result<Vec<Output>, Error> {
        if self.poison && message.body.ends_with(b"033") {
            return Ok(vec![Output::new(message.body).queue("poison")]);
        }
        let tenth = message.body.ends_with(b"0");
        match self.version {
            Version::Traps if tenth => std::process::abort(),
            Version::Spins if tenth => spin(),
            Version::Rejects if tenth => return Err(Error::reject("tenth", "the tenth")),
            Version::Silent => return Ok(Vec::new()),
            Version::Slow => std::thread::sleep(Duration::from_millis(10)),
            Version::Slower => std::thread::sleep(Duration::from_millis(20)),
            _ => {}
        }
        sort(message)
    }

    fn terminate(&mut self) {
        stompbox_sdk::counter("farewells", 1);
        match self.version {
            Version::Lingers => spin(),
            Version::Bursts => std::process::abort(),
            _ => {}
        }
    }
}

stompbox_sdk::export!(Sort);

fn sort(message: Message) -> Result<Vec<Output>, Error> {
    let text = String::from_utf8_lossy(&message.body).into_owned();
    let parts = |count: u32| (0..count).map(|part| Output::new(format!("{text}/{part}"))).collect();
    match (text.bytes().last(), message.attempt) {
        (Some(b'4'), _) => Ok(Vec::new()),
        (Some(b'5'), _) => Err(Error::reject("five", "it ends in a 5")),
        (Some(b'6'), _) => Ok(parts(2)),
        (Some(b'7'), _) => Ok(parts(3)),
        (Some(b'8'), 1) => Err(Error::retry("eight", "it stumbles over an 8")),
        (Some(b'9'), 1) => std::process::abort(),
        _ => Ok(parts(1)),
    }
}

#[cfg(test)]
mod tests {
    use stompbox_sdk::testing;

    use super::*;

    #[test]
    fn the_last_digit_decides() {
        let outputs = |body: &str, attempt| {
            let answer = sort(Message { attempt, ..testing::message(body) });
            answer.map(|outputs| outputs.iter().map(|output| output.body.clone()).collect::<Vec<_>>())
        };
        assert_eq!(outputs("17", 1).unwrap(), [b"17/0", b"17/1", b"17/2"]);
        assert_eq!((outputs("24", 1).unwrap(), outputs("8", 2).unwrap()), (vec![], vec![b"8/0".to_vec()]));
        assert!(outputs("15", 9).is_err() && outputs("18", 1).is_err());
    }
}
