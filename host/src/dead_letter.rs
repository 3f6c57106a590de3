//! What a dead letter looks like.
//!
//! Pure: [`crate::settle`] sends what is made here. A dead letter is the original message with the
//! story of its failure in `stompbox_*` headers, so that it can be understood and replayed.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use crate::{delivery::Message, outcome::Reason, stomp::is_reserved};

/// Headers of the original that must not travel on: they belong to the delivery that failed, or would
/// make the dead letter expire or vanish.
const DROPPED: &[&str] = &[
    "message-id",
    "ack",
    "subscription",
    "redelivered",
    "receipt",
    "transaction",
    "destination",
    "content-length",
    "expires",
    "ttl",
    "timestamp",
    "persistent",
];
/// Header of a dead letter that is replayed: the generation that is asked to process it, by number.
pub const REPLAY_GENERATION: &str = "stompbox_replay_generation";
/// The longest value of a header that we write.
const MAX_VALUE: usize = 1 << 10;

/// Who failed on the message.
#[derive(Debug, Clone)]
pub struct Origin {
    /// The processor's key in the configuration.
    pub processor: Arc<str>,
    /// Its `module`.
    pub module: String,
    /// SHA-256 of its component, in hex.
    pub digest: String,
    /// The number of its generation.
    pub generation: u64,
}

/// The headers of the dead letter of this message.
#[must_use]
pub fn headers(
    message: &Message,
    origin: &Origin,
    reason: &Reason,
    attempts: u32,
    now: SystemTime,
) -> Vec<(String, String)> {
    let expires = message.headers.get("expires").unwrap_or_default();
    let failed_at = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis().to_string();
    let story = [
        ("persistent", "true"),
        ("stompbox_error_code", reason.code.as_str()),
        ("stompbox_error_detail", reason.detail.as_str()),
        ("stompbox_processor", &*origin.processor),
        ("stompbox_module", origin.module.as_str()),
        ("stompbox_digest", origin.digest.as_str()),
        ("stompbox_generation", &origin.generation.to_string()),
        ("stompbox_attempts", &attempts.to_string()),
        ("stompbox_original_destination", message.destination()),
        ("stompbox_original_message_id", message.id()),
        ("stompbox_original_expires", expires),
        ("stompbox_failed_at", failed_at.as_str()),
    ]
    .map(|(name, value)| (name.to_owned(), clean(clip(value))));
    let told = |name: &str| story.iter().any(|(told, _)| told == name);
    let kept = message
        .headers
        .iter()
        .filter(|(name, value)| !(DROPPED.contains(name) || is_reserved(name, value) || told(name)))
        .map(|(name, value)| (clean(name).replace(':', "_"), clean(value)));
    let kept: Vec<_> = kept.collect();
    story.into_iter().filter(|(_, value)| !value.is_empty()).chain(kept).collect()
}

/// The headers that the original had, from those of its dead letter as a broker hands it on: for a replay. Without
/// the story, and without any `stompbox_id`: what is replayed is a message of its own.
#[must_use]
pub fn original_headers<'a>(dead: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<(String, String)> {
    let kept = |(name, value): &(&str, &str)| {
        !(DROPPED.contains(name) || name.starts_with("stompbox_") || is_reserved(name, value))
    };
    dead.into_iter().filter(kept).map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// STOMP 1.0 and 1.1 cannot carry every control character, and a dead letter must never fail for one.
fn clean(text: &str) -> String {
    text.replace(char::is_control, " ")
}

fn clip(text: &str) -> &str {
    text.get(..text.floor_char_boundary(MAX_VALUE)).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;

    use super::*;

    fn dead(headers_in: &[(&str, &str)], reason: Reason) -> Vec<(String, String)> {
        let message = Message {
            queue: "in".into(),
            headers: headers_in.iter().copied().collect(),
            body: Bytes::new(),
            received_at: SystemTime::now(),
            stable_from: None,
        };
        let origin = Origin { processor: "p".into(), module: "a.b".into(), digest: "d1".into(), generation: 3 };
        headers(&message, &origin, &reason, 2, UNIX_EPOCH + Duration::from_millis(1_700_000_000_123))
    }

    #[test]
    fn the_story_is_told_and_the_originals_headers_stay() {
        let original =
            [("message-id", "m1"), ("destination", "/queue/in"), ("vo", "atlas"), ("expires", "99"), ("priority", "4")];
        let is = dead(&original, Reason::new("invalid-json", "no\nJSON"));
        let expect = [
            ("persistent", "true"),
            ("stompbox_error_code", "invalid-json"),
            ("stompbox_error_detail", "no JSON"),
            ("stompbox_processor", "p"),
            ("stompbox_module", "a.b"),
            ("stompbox_digest", "d1"),
            ("stompbox_generation", "3"),
            ("stompbox_attempts", "2"),
            ("stompbox_original_destination", "/queue/in"),
            ("stompbox_original_message_id", "m1"),
            ("stompbox_original_expires", "99"),
            ("stompbox_failed_at", "1700000000123"),
            ("vo", "atlas"),
            ("priority", "4"),
        ];
        assert_eq!(is, expect.map(|(n, v)| (n.to_owned(), v.to_owned())));
    }

    #[test]
    fn what_belongs_to_the_delivery_is_dropped() {
        let dropped: Vec<(&str, &str)> =
            DROPPED.iter().map(|name| (*name, "v")).chain([("_AMQ_DUPL_ID", "v"), ("exclusive", "true")]).collect();
        let is = dead(&dropped, Reason::new("c", ""));
        assert!(is.iter().all(|(name, _)| name.starts_with("stompbox_") || name == "persistent"), "{is:?}");
    }

    #[test]
    fn a_dead_letter_that_fails_again_tells_the_new_story() {
        let is = dead(&[("stompbox_error_code", "old"), ("stompbox_id", "keep")], Reason::new("new", ""));
        let of = |name: &str| is.iter().filter(|(n, _)| n == name).map(|(_, v)| v.as_str()).collect::<Vec<_>>();
        assert_eq!((of("stompbox_error_code"), of("stompbox_id")), (vec!["new"], vec!["keep"]));
    }

    #[test]
    fn an_original_is_made_of_its_dead_letter() {
        let is = dead(&[("vo", "atlas"), ("stompbox_id", "old"), ("priority", "7")], Reason::new("code", "detail"));
        let of_broker = [("message-id", "m2"), ("ack", "a"), ("redelivered", "true"), ("_AMQ_DUPL_ID", "old")];
        let all = is.iter().map(|(name, value)| (name.as_str(), value.as_str())).chain(of_broker);
        let text = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        assert_eq!(original_headers(all), [("vo", "atlas"), ("priority", "7")].map(text));
    }

    #[test]
    fn a_long_detail_is_clipped_between_characters() {
        let is = dead(&[], Reason::new("c", "é".repeat(1_000)));
        let detail = is.iter().find(|(n, _)| n == "stompbox_error_detail").unwrap();
        assert_eq!(detail.1.len(), MAX_VALUE);
    }
}
