//! A processor that does with each numbered message what its number says: the load of the ledger of
//! `tests/harness/ledger.rs`, which knows the same table.

use std::time::Duration;

use stompbox_sdk::{Error, Message, Output};

use crate::macros::processor;

processor! {
    /// Forwards, filters, rejects, splits, retries or traps by the last digit of the body's number.
    Sort: sort
}

fn sort(message: Message) -> Result<Vec<Output>, Error> {
    let text = String::from_utf8_lossy(&message.body).into_owned();
    let parts = |count: u32| (0..count).map(|part| Output::new(format!("{text}/{part}"))).collect();
    match (text.bytes().last(), message.attempt) {
        (Some(b'4'), _) => Ok(Vec::new()),
        (Some(b'5'), _) => Err(Error::reject("five", "it ends in a 5")),
        (Some(b'6'), _) => Ok(parts(2)),
        (Some(b'7'), _) => Ok(parts(3)),
        (Some(b'8'), 1) => Err(Error::retry("eight", "it stumbles over an 8").after(Duration::from_millis(20))),
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
