//! A processor that does with each numbered message what its number says: the load of the ledger of
//! `tests/harness/ledger.rs`, which knows the same table.

use serde::Deserialize;
use stompbox_sdk::{Context, Error, Message, Output, Processor};

/// Forwards, filters, rejects, splits, retries or traps by the last digit of the body's number; with the parameter
/// `poison` one of a thousand goes to the queue `poison`.
#[derive(Debug)]
pub struct Sort {
    poison: bool,
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
        Ok(Self { poison })
    }

    fn process(&mut self, message: Message) -> Result<Vec<Output>, Error> {
        if self.poison && message.body.ends_with(b"033") {
            return Ok(vec![Output::new(message.body).queue("poison")]);
        }
        sort(message)
    }
}

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
