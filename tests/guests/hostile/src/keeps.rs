//! A processor that keeps something from message to message.

use stompbox_sdk::{Context, Error, Message, Output, Processor, counter};

/// Returns how many messages this instance has seen, and counts them, once under a bad name; traps on the first attempt of the body "trap".
#[derive(Debug)]
pub struct Count {
    seen: u64,
}

impl Processor for Count {
    const NAME: &'static str = "Count";
    const SUMMARY: &'static str =
        "Returns how many messages this instance has seen; traps on the first attempt of the body \"trap\".";

    fn initialize(_: &Context) -> Result<Self, String> {
        Ok(Count { seen: 0 })
    }

    fn process(&mut self, message: Message) -> Result<Vec<Output>, Error> {
        self.seen += 1;
        counter("seen", 1);
        counter("No name at all", 1);
        if message.body == b"trap" && message.attempt == 1 {
            std::process::abort();
        }
        Ok(vec![Output::new(self.seen.to_string())])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stompbox_sdk::testing;

    #[test]
    fn it_counts_also_what_would_have_been_a_trap() {
        let mut count: Count = testing::start("null").unwrap();
        for (attempt, seen) in [(2, "1"), (3, "2")] {
            let message = Message { attempt, ..testing::message("trap") };
            assert_eq!(count.process(message), Ok(vec![Output::new(seen)]));
        }
    }
}
