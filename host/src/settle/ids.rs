//! Ids of outputs: the same output of the same input has the same id whenever it is sent, so that who
//! receives it twice can tell. It is of use only where the input has an id that redeliveries repeat.

use sha2::{Digest as _, Sha256};

use crate::{client::OutputId, delivery::Message, outcome::Output};

/// Makes the ids of one processor's outputs. SHA-256: processors of this decade have instructions for it
/// (a quarter of a microsecond for 300 bytes), and nobody can forge an output that passes for another.
#[derive(Debug, Clone)]
pub struct Ids(Sha256);

impl Ids {
    /// The processor stands in every id: two that read the same message are no duplicates of each other.
    #[must_use]
    pub fn new(processor: &str, digest: &str) -> Self {
        Self(with(with(Sha256::new(), processor.as_bytes()), digest.as_bytes()))
    }

    /// The ids of the outputs of this message; none where nothing names it for good.
    pub(super) fn of(&self, message: &Message) -> Option<OutputIds> {
        let id = message.stable_id()?;
        Some(OutputIds(with(with(self.0.clone(), message.queue.as_bytes()), id.as_bytes())))
    }
}

/// Makes the ids of one message's outputs.
pub(super) struct OutputIds(Sha256);

impl OutputIds {
    pub(super) fn id(&self, index: usize, output: &Output) -> OutputId {
        let hash = with(self.0.clone(), output.queue.as_bytes());
        let hash = hash.chain_update((index as u64).to_be_bytes()).chain_update(&output.body).finalize();
        let (half, _) = hash.split_first_chunk::<16>().unwrap_or((&[0; 16], &[]));
        OutputId::new(u128::from_be_bytes(*half))
    }
}

/// Adds a part with its length, so that no other parts give the same bytes.
fn with(hash: Sha256, part: &[u8]) -> Sha256 {
    hash.chain_update((part.len() as u64).to_be_bytes()).chain_update(part)
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, time::SystemTime};

    use bytes::Bytes;

    use super::*;

    fn id(processor: &str, digest: &str, stable: &str, index: usize, body: &'static str) -> String {
        let message = Message {
            queue: "in".into(),
            headers: [("message-id", stable)].into_iter().collect(),
            body: Bytes::new(),
            received_at: SystemTime::now(),
            stable_from: Some(0),
        };
        let output = Output { queue: "out".into(), headers: Vec::new(), body: Bytes::from_static(body.as_bytes()) };
        Ids::new(processor, digest).of(&message).unwrap().id(index, &output).as_str().to_owned()
    }

    #[test]
    fn the_same_output_of_the_same_input_has_the_same_id_and_no_other_has() {
        let first = id("p", "d", "m", 0, "body");
        assert_eq!(first, id("p", "d", "m", 0, "body"));
        assert!(first.len() == 32 && first.bytes().all(|b| b.is_ascii_hexdigit() && !b.is_ascii_uppercase()));
        let all = [
            first,
            id("q", "d", "m", 0, "body"),
            id("p", "e", "m", 0, "body"),
            id("p", "d", "n", 0, "body"),
            id("p", "d", "m", 1, "body"),
            id("p", "d", "m", 0, "bodz"),
            id("pd", "", "m", 0, "body"),
        ];
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
    }
}
