//! Forwards every message to the out queue, byte for byte.
//!
//! No message is invalid here: nothing reads the body. The host calls it for each message of the in queue.

use stompbox_sdk::{Context, Error, Message, Output, Processor};

/// Returns the body of each message as its one output.
#[derive(Debug)]
pub struct Forwarding;

impl Processor for Forwarding {
    const NAME: &'static str = "ForwardingMsgProcPlugin";
    const SUMMARY: &'static str = "Forwards every message to the out queue, byte for byte";

    fn initialize(_: &Context) -> Result<Self, String> {
        Ok(Forwarding)
    }

    fn process(&mut self, message: Message) -> Result<Vec<Output>, Error> {
        Ok(vec![Output::new(message.body)])
    }
}

stompbox_sdk::export!(Forwarding);

#[cfg(test)]
mod tests {
    use super::*;
    use stompbox_sdk::testing;

    #[test]
    fn any_body_is_forwarded_byte_for_byte() {
        let mut forwarding: Forwarding = testing::start("null").unwrap();
        for body in [&b"{\"msg_type\": \"task_status\"}"[..], b"", b"not json", b"\0\xff\n"] {
            assert_eq!(forwarding.process(testing::message(body)), Ok(vec![Output::new(body)]));
        }
    }

    #[test]
    fn the_body_is_moved() {
        let message = testing::message(vec![b'x'; 1_000]);
        let place = message.body.as_ptr();
        let outputs = Forwarding.process(message).unwrap();
        assert_eq!(outputs[0].body.as_ptr(), place);
    }

    #[test]
    fn headers_of_the_input_stay_behind() {
        let mut message = testing::message("x");
        message.headers.push(("vo".into(), "atlas".into()));
        assert_eq!(Forwarding.process(message), Ok(vec![Output::new("x")]));
    }
}
