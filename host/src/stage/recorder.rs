//! The last messages of a processor and how many outputs each had, where its `rollout` asks for a `replay`.
//!
//! Lanes record what the stable generation processed well; [`crate::manager`] gives it to the instance on probation of the
//! next generation, whose outputs go nowhere. Bounded by count and bytes; without `replay` it keeps nothing.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use crate::delivery::Message;

/// What one processor's recorded messages may take.
const MAX_BYTES: usize = 8 << 20;

/// A message that was processed well.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// The message, copied out of the read buffer.
    pub message: Arc<Message>,
    /// The attempt that went well.
    pub attempt: u32,
    /// How many outputs it had.
    pub outputs: u64,
}

/// Keeps the last ones.
#[derive(Debug)]
pub struct Recorder {
    keep: usize,
    last: Mutex<(VecDeque<Recorded>, usize)>,
}

impl Recorder {
    pub(super) fn new(keep: usize) -> Self {
        Self { keep, last: Mutex::default() }
    }

    /// Keeps a copy of a message, where messages are kept.
    pub fn record(&self, message: &Message, attempt: u32, outputs: u64) {
        if self.keep == 0 || message.byte_len() > MAX_BYTES {
            return;
        }
        let recorded = Recorded { message: Arc::new(message.compact()), attempt, outputs };
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let (messages, bytes) = &mut *last;
        *bytes += recorded.message.byte_len();
        messages.push_back(recorded);
        while messages.len() > self.keep || *bytes > MAX_BYTES {
            let Some(oldest) = messages.pop_front() else { break };
            *bytes -= oldest.message.byte_len();
        }
    }

    /// Goes on with what another one kept.
    pub(super) fn take_over(&self, other: &Self) {
        for Recorded { message, attempt, outputs } in other.messages() {
            self.record(&message, attempt, outputs);
        }
    }

    /// What is kept, the oldest first.
    #[must_use]
    pub fn messages(&self) -> Vec<Recorded> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).0.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::testing::delivery;

    fn ids(recorder: &Recorder) -> Vec<String> {
        recorder.messages().iter().map(|recorded| recorded.message.id().to_owned()).collect()
    }

    #[test]
    fn the_last_ones_are_kept() {
        let (none, two) = (Recorder::new(0), Recorder::new(2));
        for id in ["1", "2", "3"] {
            let message = delivery(id).message.clone();
            none.record(&message, 1, 1);
            two.record(&message, 1, 1);
        }
        assert_eq!((ids(&none), ids(&two)), (vec![], vec!["2".to_owned(), "3".to_owned()]));
    }

    #[test]
    fn their_bytes_are_bounded() {
        let (recorder, third) = (Recorder::new(100), vec![b'x'; MAX_BYTES / 3]);
        for id in ["1", "2", "3", "4"] {
            let mut message = (*delivery(id).message).clone();
            message.body = third.clone().into();
            recorder.record(&message, 1, 1);
        }
        assert_eq!(ids(&recorder), ["3", "4"]);
        let mut huge = (*delivery("huge").message).clone();
        huge.body = vec![b'x'; MAX_BYTES + 1].into();
        recorder.record(&huge, 1, 1);
        assert_eq!(ids(&recorder), ["3", "4"]);
    }
}
