//! What a producer has been given and the broker has not yet answered.
//!
//! Entries stand in the order of their receipt ids, so an answer finds its entry by subtraction.
//! Encoding happens in the caller's thread under the lock; the socket's task only moves bytes.

use std::{
    collections::{HashSet, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::BytesMut;

use super::{OnDone, Rejected, SendRequest};
use crate::{
    client::{Flavour, doorbell::Doorbell, flavour::as_existing},
    stomp::{Command, EncodeError, Version, content_length, encode},
};

/// This much encoded output is written at once, whoever may follow.
const FULL: usize = 32 << 10;

#[derive(Debug, Default)]
pub(super) struct Outbox {
    state: Mutex<State>,
    bell: Doorbell,
}

#[derive(Default)]
struct State {
    /// Answered entries are none until all before them are answered too.
    entries: VecDeque<Option<Entry>>,
    /// The receipt id of the first entry.
    first_id: u64,
    /// The index of the first entry that is not encoded on this connection.
    next: usize,
    /// The index of the first entry whose bytes the connection was not given.
    given: usize,
    /// Entries that are not answered.
    unconfirmed: usize,
    peer: Option<(Version, Flavour)>,
    /// Queues that RabbitMQ has with other arguments than a SEND to them would declare.
    declared_otherwise: HashSet<String>,
    encoded: BytesMut,
}

struct Entry {
    request: SendRequest,
    done: OnDone,
    /// It was on a connection that died without an answer: sent again marked, and one at a time, so
    /// that one poison message cannot take the others with it again.
    suspect: bool,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").field("unconfirmed", &self.unconfirmed).finish_non_exhaustive()
    }
}

impl Outbox {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn send(&self, request: SendRequest, urgent: bool, done: OnDone) {
        let mut state = self.lock();
        state.entries.push_back(Some(Entry { request, done, suspect: false }));
        state.unconfirmed += 1;
        let refused = state.encode_next();
        let (full, something) = (state.encoded.len() >= FULL, !state.encoded.is_empty());
        drop(state);
        if something {
            self.bell.ring(urgent || full);
        }
        report(refused);
    }

    pub(super) fn unconfirmed(&self) -> usize {
        self.lock().unconfirmed
    }

    pub(super) async fn staged(&self) {
        self.bell.answer().await;
    }

    /// Moves what is encoded to the connection.
    pub(super) fn take_into(&self, output: &mut BytesMut) {
        let mut state = self.lock();
        if output.is_empty() {
            std::mem::swap(output, &mut state.encoded);
        } else {
            output.extend_from_slice(&state.encoded);
        }
        state.encoded.clear();
        state.given = state.next;
    }

    pub(super) fn connected(&self, version: Version, flavour: Flavour) {
        let mut state = self.lock();
        state.peer = Some((version, flavour));
        let refused = state.encode_next();
        drop(state);
        self.bell.ring(true);
        report(refused);
    }

    /// From now on messages for this queue go there without declaring it. Those that met with the refusal
    /// are as good as others: nothing is wrong with them. False where that was known before.
    pub(super) fn take_as_existing(&self, queue: &str) -> bool {
        let mut state = self.lock();
        let destination = format!("/queue/{queue}");
        let entries = state.entries.iter_mut().flatten();
        entries.filter(|entry| *entry.request.destination == destination).for_each(|entry| entry.suspect = false);
        state.declared_otherwise.insert(destination)
    }

    /// What was in flight goes back to be sent again; what the socket never got, as if nothing had been. Only something that was sent again already, alone,
    /// and took the connection with it a second time counts as refused.
    pub(super) fn disconnected(&self) {
        let mut state = self.lock();
        state.peer = None;
        state.encoded.clear();
        let sent = state.given;
        let mut refused = Vec::new();
        for slot in state.entries.iter_mut().take(sent) {
            if slot.as_ref().is_some_and(|entry| entry.suspect) {
                let detail = "the connection died twice while it was in flight, the second time alone";
                refused.extend(slot.take().map(|entry| (entry, detail.to_owned())));
            } else if let Some(entry) = slot {
                entry.suspect = true;
            }
        }
        state.unconfirmed -= refused.len();
        (state.next, state.given) = (0, 0);
        state.forget_answered();
        drop(state);
        report(refused);
    }

    /// Passes an answer to the sender; false where the id belongs to no entry.
    pub(super) fn answer(&self, receipt_id: &str, result: Result<(), String>) -> bool {
        let mut state = self.lock();
        let Some(entry) = state.take(receipt_id) else { return false };
        state.unconfirmed -= 1;
        state.forget_answered();
        let refused = state.encode_next();
        let something = !state.encoded.is_empty();
        drop(state);
        if something {
            self.bell.ring(true);
        }
        match result {
            Ok(()) => (entry.done)(Ok(())),
            Err(detail) => report(vec![(entry, detail)]),
        }
        report(refused);
        true
    }
}

impl State {
    fn take(&mut self, receipt_id: &str) -> Option<Entry> {
        let id: u64 = receipt_id.parse().ok()?;
        let index = usize::try_from(id.checked_sub(self.first_id)?).ok()?;
        if index >= self.next {
            return None; // Not sent on this connection: a broker must not confirm the future.
        }
        self.entries.get_mut(index)?.take()
    }

    fn forget_answered(&mut self) {
        while let Some(None) = self.entries.front() {
            self.entries.pop_front();
            self.first_id += 1;
            self.next = self.next.saturating_sub(1);
            self.given = self.given.saturating_sub(1);
        }
    }

    /// Encodes as many entries as may be in flight; returns those that cannot be expressed.
    fn encode_next(&mut self) -> Vec<(Entry, String)> {
        let mut refused = Vec::new();
        let Some(peer) = self.peer else { return refused };
        while let Some(slot) = self.entries.get_mut(self.next) {
            let in_flight = self.next > 0; // Answered entries at the front are forgotten.
            let Some(entry) = slot else {
                self.next += 1;
                continue;
            };
            if in_flight && entry.suspect || self.suspect_in_flight() {
                break;
            }
            let id = self.first_id + self.next as u64;
            self.next += 1;
            let Some(slot) = self.entries.get_mut(self.next - 1) else { break };
            let existing = &self.declared_otherwise;
            if let Err(error) =
                slot.as_ref().map_or(Ok(()), |entry| encode_entry(&mut self.encoded, peer, existing, id, entry))
            {
                self.unconfirmed -= 1;
                refused.extend(slot.take().map(|entry| (entry, error.to_string())));
                self.forget_answered();
            }
        }
        refused
    }

    /// A suspect is only ever alone in flight, so it is the first entry.
    fn suspect_in_flight(&self) -> bool {
        self.next > 0 && self.entries.front().is_some_and(|entry| entry.as_ref().is_some_and(|entry| entry.suspect))
    }
}

/// The host's headers stand first: the first of repeated ones wins. What the flavour adds stands last, so that
/// the configuration can say otherwise.
fn encode_entry(
    output: &mut BytesMut,
    (version, flavour): (Version, Flavour),
    declared_otherwise: &HashSet<String>,
    id: u64,
    entry: &Entry,
) -> Result<(), EncodeError> {
    let request = &entry.request;
    let existing = declared_otherwise.contains(&*request.destination);
    let destination = if existing { as_existing(&request.destination) } else { (&*request.destination).into() };
    let receipt = id.to_string();
    let length = request.as_bytes.then_some(request.body.len()).or_else(|| content_length(&request.body));
    let length = length.map(|length| length.to_string());
    let own = [("destination", &*destination), ("receipt", receipt.as_str())];
    let length = length.as_deref().map(|length| ("content-length", length));
    let resent = entry.suspect.then_some(("stompbox_resent", "true"));
    // A length of the caller's would end the body elsewhere.
    let given = request.headers.iter().filter(|(name, _)| name != "content-length");
    let given = given.map(|(name, value)| (name.as_str(), value.as_str()));
    let routing = flavour.destination_type(&request.destination);
    let all = own.into_iter().chain(length).chain(resent).chain(given).chain(routing);
    encode(output, version, Command::Send, all, &request.body)
}

fn report(refused: Vec<(Entry, String)>) {
    for (Entry { request, done, .. }, detail) in refused {
        done(Err(Rejected { destination: request.destination, detail }));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, mpsc};

    use bytes::Bytes;

    use super::*;
    use crate::stomp::{Decoder, Frame, FrameLimits};

    /// An outbox, and what became of its sends.
    struct Fixture {
        outbox: Outbox,
        answer: mpsc::Sender<(&'static str, bool)>,
        answers: mpsc::Receiver<(&'static str, bool)>,
    }

    impl Fixture {
        fn connected() -> Self {
            let (answer, answers) = mpsc::channel();
            let fixture = Self { outbox: Outbox::default(), answer, answers };
            fixture.outbox.connected(Version::V1_2, Flavour::RabbitMq);
            fixture
        }

        fn send(&self, body: &'static str) {
            self.send_with(body, "plain");
        }

        fn send_with(&self, body: &'static str, value: &str) {
            let headers = vec![("x".to_owned(), value.to_owned())];
            let request = SendRequest {
                destination: Arc::from("/queue/q"),
                headers,
                body: Bytes::from_static(body.as_bytes()),
                as_bytes: false,
            };
            let answer = self.answer.clone();
            self.outbox.send(request, false, Box::new(move |result| answer.send((body, result.is_ok())).unwrap()));
        }

        /// What would be written now.
        fn written(&self) -> Vec<Frame> {
            let (mut output, mut decoder) = (BytesMut::new(), Decoder::new(FrameLimits::default()));
            self.outbox.take_into(&mut output);
            std::iter::from_fn(|| decoder.decode(&mut output).unwrap()).collect()
        }

        fn bodies(&self) -> Vec<String> {
            self.written().iter().map(|frame| String::from_utf8_lossy(&frame.body).into_owned()).collect()
        }

        fn answered(&self) -> Vec<(&'static str, bool)> {
            self.answers.try_iter().collect()
        }

        fn reconnect(&self) {
            self.outbox.disconnected();
            self.outbox.connected(Version::V1_2, Flavour::RabbitMq);
        }
    }

    fn receipts(frames: &[Frame]) -> Vec<String> {
        frames.iter().map(|frame| frame.headers.get("receipt").unwrap().to_owned()).collect()
    }

    #[test]
    fn answers_find_their_sends_in_any_order_and_once() {
        let fixture = Fixture::connected();
        ["a", "b", "c"].iter().for_each(|body| fixture.send(body));
        let ids = receipts(&fixture.written());
        assert!(fixture.outbox.answer(&ids[1], Err("no".into())));
        assert!(fixture.outbox.answer(&ids[2], Ok(())));
        assert!(!fixture.outbox.answer(&ids[1], Ok(())), "answered already");
        assert!(fixture.outbox.answer(&ids[0], Ok(())));
        assert!(!fixture.outbox.answer(&ids[0], Ok(())), "forgotten already");
        assert_eq!(fixture.answered(), [("b", false), ("c", true), ("a", true)]);
        assert_eq!(fixture.outbox.unconfirmed(), 0);
        // Numbers go on: an answer that comes late must find nobody.
        fixture.send("d");
        assert!(!ids.contains(&receipts(&fixture.written())[0]));
    }

    #[test]
    fn what_cannot_be_encoded_is_refused_and_nothing_else() {
        let fixture = Fixture::connected();
        fixture.send("a");
        fixture.send_with("odd", "nul \0 inside");
        fixture.send("b");
        assert_eq!(fixture.answered(), [("odd", false)]);
        let frames = fixture.written();
        assert_eq!(frames.len(), 2);
        assert!(receipts(&frames).iter().all(|id| fixture.outbox.answer(id, Ok(()))));
        assert_eq!((fixture.answered(), fixture.outbox.unconfirmed()), (vec![("a", true), ("b", true)], 0));
    }

    #[test]
    fn suspects_go_one_at_a_time_and_before_all_others() {
        let fixture = Fixture::connected();
        ["a", "b", "c"].iter().for_each(|body| fixture.send(body));
        let ids = receipts(&fixture.written());
        assert!(fixture.outbox.answer(&ids[1], Ok(())));
        fixture.outbox.disconnected();
        fixture.send("d");
        fixture.send("e");
        assert_eq!(fixture.bodies(), Vec::<String>::new(), "there is no connection");
        fixture.outbox.connected(Version::V1_2, Flavour::RabbitMq);
        for body in ["a", "c"] {
            let frames = fixture.written();
            assert_eq!((frames.len(), &*frames[0].body), (1, body.as_bytes()));
            assert_eq!(frames[0].headers.get("stompbox_resent"), Some("true"));
            let last = (ids[0].parse::<u64>().unwrap() + 4).to_string();
            assert!(!fixture.outbox.answer(&last, Ok(())), "not sent on this connection");
            assert!(fixture.outbox.answer(&receipts(&frames)[0], Ok(())));
        }
        let frames = fixture.written();
        assert_eq!(frames.len(), 2, "the others go together again");
        assert!(frames.iter().all(|frame| frame.headers.get("stompbox_resent").is_none()));
        assert_eq!(fixture.answered(), [("b", true), ("a", true), ("c", true)]);
        assert_eq!(fixture.outbox.unconfirmed(), 2);
    }

    #[test]
    fn what_the_connection_was_not_given_is_encoded_again_and_no_suspect() {
        let fixture = Fixture::connected();
        ["a", "b"].iter().for_each(|body| fixture.send(body));
        fixture.reconnect();
        assert_eq!(fixture.bodies(), ["a", "b"], "once, and together");
        assert_eq!(fixture.answered(), []);
    }

    /// The first cut makes a suspect, also of what was alone in flight; the second one refuses it.
    #[test]
    fn only_a_suspect_is_refused_at_a_cut() {
        let fixture = Fixture::connected();
        fixture.send("a");
        assert_eq!(fixture.bodies(), ["a"]);
        fixture.reconnect();
        assert_eq!((fixture.answered(), fixture.bodies()), (vec![], vec!["a".to_owned()]));
        fixture.send("b");
        fixture.reconnect();
        assert_eq!((fixture.answered(), fixture.bodies()), (vec![("a", false)], vec!["b".to_owned()]));
        assert_eq!(fixture.outbox.unconfirmed(), 1);
    }
    #[test]
    fn a_queue_of_other_arguments_gets_its_messages_without_being_declared() {
        let fixture = Fixture::connected();
        let to = |fixture: &Fixture| {
            fixture
                .written()
                .iter()
                .map(|frame| frame.headers.get("destination").unwrap().to_owned())
                .collect::<Vec<_>>()
        };
        fixture.send("a");
        fixture.written();
        fixture.reconnect();
        assert_eq!(to(&fixture), ["/queue/q"], "a suspect by now");
        fixture.outbox.take_as_existing("q");
        fixture.reconnect();
        assert_eq!((fixture.answered(), to(&fixture)), (vec![], vec!["/amq/queue/q".to_owned()]));
    }
}
