//! Processors that work by the clock: one component under several names, for the tests of sources.

use std::hint::black_box;

use stompbox_sdk::{Context, Error, Output, Source};

/// Makes a source of a name, what it does, and a function from the number of the tick to outputs.
macro_rules! source {
    ($(#[doc = $summary:literal])+ $name:ident: $tick:expr) => {
        $(#[doc = $summary])+
        #[derive(Debug)]
        pub struct $name(u64);

        impl Source for $name {
            const NAME: &'static str = stringify!($name);
            const SUMMARY: &'static str = concat!($($summary),+).trim_ascii();

            fn initialize(_: &Context) -> Result<Self, String> {
                Ok($name(0))
            }

            fn tick(&mut self) -> Result<Vec<Output>, Error> {
                self.0 += 1;
                let tick: fn(u64) -> Result<Vec<Output>, Error> = $tick;
                tick(self.0)
            }
        }
    };
}

source! {
    /// Sends the number of each tick of its instance.
    Beat: |number| Ok(vec![text(number)])
}

source! {
    /// Sends its number to the out queue and to the queue `more`.
    Both: |number| Ok(vec![text(number), text(number).queue("more")])
}

source! {
    /// Sends its number, and panics on every third tick of its instance.
    TrapOnThird: |number| {
        assert!(number < 3, "the third tick");
        Ok(vec![text(number)])
    }
}

source! {
    /// Fails in each way there is, then sends its number.
    Moody: |number| match number {
        1 => Err(Error::retry("later", "not yet")),
        2 => Err(Error::reject("never", "not this one")),
        3 => Err(Error::unavailable("away", "nobody is there")),
        _ => Ok(vec![text(number)]),
    }
}

/// `good----` or how it misbehaves, and a number that says nothing: see `tests/harness/versions.rs`.
static VERSION: &[u8; 32] = b"stompbox-test-version:good----00";

/// What this version of the component is like.
fn version() -> &'static [u8] {
    black_box(VERSION).get(22..30).unwrap_or_default()
}

source! {
    /// Sends its number, unless its version of the component traps, or returns nothing.
    Versioned: |number| match version() {
        b"traps---" => std::process::abort(),
        b"silent--" => Ok(Vec::new()),
        _ => Ok(vec![text(number)]),
    }
}

fn text(number: u64) -> Output {
    Output::new(number.to_string())
}

stompbox_sdk::export_source!(Beat, Both, TrapOnThird, Moody, Versioned);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_counts_its_ticks() {
        let mut moody = Moody(0);
        let went: Vec<bool> = (0..5).map(|_| moody.tick().is_ok()).collect();
        assert_eq!(went, [false, false, false, true, true]);
    }
}
