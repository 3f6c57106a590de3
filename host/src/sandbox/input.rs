//! What a guest is given: a message, without the headers that only the host needs.
//!
//! Called by [`super::instance`] for each message. Nothing is copied but the list of headers; the guest
//! gets its own copy when the call lowers it.

use std::time::UNIX_EPOCH;

use super::bindings::stompbox::processor::types::Message as GuestMessage;
use crate::delivery::Message;

/// Headers that are the business of whoever sent or delivers the frame, handed on by RabbitMQ and Artemis: a
/// guest could only misuse them.
const HIDDEN: [&str; 6] = ["ack", "receipt", "transaction", "subscription", "destination-type", "subscription-type"];

/// Returns the headers that a guest may see, in order.
pub(crate) fn headers(message: &Message) -> Vec<(&str, &str)> {
    message.headers.iter().filter(|(name, _)| !HIDDEN.contains(name)).collect()
}

/// Returns the message as the contract has it.
pub(crate) fn message<'a>(message: &'a Message, headers: &'a [(&'a str, &'a str)], attempt: u32) -> GuestMessage<'a> {
    let age = message.received_at.duration_since(UNIX_EPOCH).unwrap_or_default();
    GuestMessage {
        id: message.id(),
        queue: &message.queue,
        subscription: message.subscription(),
        destination: message.destination(),
        headers,
        body: &message.body,
        attempt,
        redelivered: message.redelivered(),
        received_ms: u64::try_from(age.as_millis()).unwrap_or(u64::MAX),
        extra: &[],
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use bytes::Bytes;

    use super::{headers, message};
    use crate::delivery::Message;

    #[test]
    fn the_host_s_headers_are_hidden_and_the_others_keep_their_order() {
        let hidden = ["ack", "receipt", "transaction", "subscription", "destination-type", "subscription-type"];
        let all = [&["a"], &hidden[..3], &["b"], &hidden[3..], &["a", "acknowledged"]].concat();
        let input = Message {
            queue: "in".into(),
            headers: all.iter().map(|name| (name, "v")).collect(),
            body: Bytes::from_static(b"body"),
            received_at: UNIX_EPOCH + Duration::from_millis(1_500),
            stable_from: None,
        };
        let shown = headers(&input);
        let names: Vec<&str> = shown.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["a", "b", "a", "acknowledged"]);
        let given = message(&input, &shown, 3);
        assert_eq!((given.received_ms, given.attempt, given.redelivered), (1_500, 3, false));
        assert_eq!((given.queue, given.subscription, given.body), ("in", "v", &b"body"[..]));
    }
}
