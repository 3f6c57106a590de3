//! A dead letter, wherever it was found, and the id by which people name it.

use std::sync::Arc;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use crate::{
    client::Flavour,
    sandbox::text::hex,
    spool::stored::Stored,
    stomp::{Frame, Headers},
};

/// Digits of an id as it is printed.
const SHOWN: usize = 12;

/// Where a letter was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// On a broker: the number of the connection that holds it.
    Broker(usize),
    /// In the spool: the number of the file, and where in it the letter is settled.
    Spool(usize, u64),
}

/// A dead letter.
#[derive(Debug)]
pub(super) struct Letter {
    /// The same wherever and whenever it is read.
    pub(super) hash: String,
    pub(super) found: Found,
    /// The queue in the configuration; of a destination for several, all.
    pub(super) queue: Arc<str>,
    pub(super) server: Arc<str>,
    /// Its destination, or `spool`.
    pub(super) place: Arc<str>,
    pub(super) headers: Headers,
    pub(super) body: Bytes,
    pub(super) as_bytes: bool,
}

/// What all letters of a place have in common.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) queue: Arc<str>,
    pub(super) server: Arc<str>,
    pub(super) name: Arc<str>,
}

impl Letter {
    pub(super) fn of_broker(place: &Place, connection: usize, flavour: Flavour, frame: Frame) -> Self {
        let Frame { headers, body, .. } = frame;
        let stable = headers.get("message-id").and_then(|id| flavour.stable_id(id));
        let hash = hash(&headers, &body, stable);
        let as_bytes = headers.get("content-length").is_some();
        Self::new(place, Found::Broker(connection), hash, headers, body, as_bytes)
    }

    pub(super) fn of_spool(place: &Place, file: usize, stored: Stored) -> Self {
        let headers: Headers = stored.headers.iter().map(|(name, value)| (name, value)).collect();
        let hash = hash(&headers, &stored.body, None);
        Self::new(place, Found::Spool(file, stored.at), hash, headers, stored.body, stored.as_bytes)
    }

    fn new(place: &Place, found: Found, hash: String, headers: Headers, body: Bytes, as_bytes: bool) -> Self {
        let Place { queue, server, name } = place.clone();
        Self { hash, found, queue, server, place: name, headers, body, as_bytes }
    }

    /// The id as it is printed.
    pub(super) fn id(&self) -> &str {
        self.hash.get(..SHOWN).unwrap_or_default()
    }

    /// A part of its story: the value of a `stompbox_*` header, by the rest of its name.
    pub(super) fn story(&self, name: &str) -> Option<&str> {
        self.headers.get(&format!("stompbox_{name}")).filter(|value| !value.is_empty())
    }

    /// A number of its story.
    pub(super) fn number(&self, name: &str) -> Option<u64> {
        self.story(name)?.parse().ok()
    }
}

/// Over what every copy of the letter has. What is no dead letter of a Stompbox has no story: there the broker's id
/// tells it apart from others of the same text, where that is stable.
fn hash(headers: &Headers, body: &[u8], stable: Option<&str>) -> String {
    let mut hash = Sha256::new();
    let story = ["original_message_id", "failed_at", "processor"].map(|name| headers.get(&format!("stompbox_{name}")));
    let own = if story.iter().all(Option::is_none) { stable } else { None };
    for part in story.into_iter().chain([own]) {
        let part = part.unwrap_or_default();
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.update(body);
    hex(&hash.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stomp::Command;

    fn place() -> Place {
        Place { queue: "q".into(), server: "mb".into(), name: "/queue/q.DLQ".into() }
    }

    fn read(headers: &[(&str, &str)]) -> Letter {
        let frame = Frame::new(Command::Message, headers.iter().copied(), "body".into());
        Letter::of_broker(&place(), 0, Flavour::Artemis, frame)
    }

    #[test]
    fn an_id_is_the_same_in_each_delivery_and_in_the_spool() {
        let story = [("stompbox_original_message_id", "m1"), ("stompbox_failed_at", "17"), ("stompbox_processor", "p")];
        let delivered = |id| read(&[&story[..], &[("message-id", id)]].concat());
        let (first, again, other) = (delivered("3,44"), delivered("9,44"), read(&story[1..]));
        let headers = story.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        let stored = Stored { at: 7, headers, body: "body".into(), as_bytes: false };
        let spooled = Letter::of_spool(&place(), 0, stored);
        assert_eq!((first.id(), first.id().len()), (again.id(), 12));
        assert_eq!(first.id(), spooled.id());
        assert_ne!(first.id(), other.id());
    }

    #[test]
    fn what_has_no_story_is_told_apart_by_the_broker() {
        let (first, again, other) = (("message-id", "3,44"), ("message-id", "4,44"), ("message-id", "3,45"));
        assert_eq!(read(&[first]).id(), read(&[again]).id());
        assert_ne!(read(&[first]).id(), read(&[other]).id());
    }
}
