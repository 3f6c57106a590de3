//! What an ACK or NACK must name, by version of the protocol (STOMP 1.2, section ACK).

use crate::stomp::{Headers, Version};

/// The value that an ACK must name; none where the broker gave nothing to name.
pub(in crate::client) fn ack_id(version: Version, message: &Headers) -> Option<&str> {
    let id = message.get("message-id");
    let id = if version == Version::V1_2 { message.get("ack").or(id) } else { id };
    id.filter(|id| !id.is_empty())
}

/// What an ACK must name: the `ack` header's value as `id` (1.2), `message-id` with `subscription`
/// (1.1; harmless in 1.0).
pub(in crate::client) fn ack_headers<'a>(
    version: Version,
    message: &'a Headers,
    subscription: &'a str,
) -> [Option<(&'static str, &'a str)>; 2] {
    let id = ack_id(version, message);
    match version {
        Version::V1_2 => [id.map(|id| ("id", id)), None],
        Version::V1_0 | Version::V1_1 => [id.map(|id| ("message-id", id)), Some(("subscription", subscription))],
    }
}
