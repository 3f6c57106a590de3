//! What has happened so far, as somebody sees it who watches the broker and the processor, and what must hold of it.
//!
//! Filled by [`super::broker`] and [`super::world`]. It knows nothing of how the host comes to its decisions.

use std::collections::{BTreeMap, BTreeSet};

/// One thing that came of a message.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Run {
    /// An output: message, number of the call that returned it, index.
    Output(u8, usize, usize),
    /// The dead letter: message and serial of the delivery.
    Dead(u8, String),
}

impl Run {
    /// The body of an output.
    pub(super) fn body(message: u8, call: usize, index: usize) -> String {
        format!("{message}/{call}/{index}")
    }

    /// From what was sent: dead letters have the body of the message, and all its headers.
    pub(super) fn of(body: &[u8], serial: Option<&str>) -> Self {
        let numbers: Vec<usize> = body.split(|byte| *byte == b'/').map(number).collect();
        match (&numbers[..], serial) {
            ([message, call, index], None) => Self::Output(*message as u8, *call, *index),
            ([message], Some(serial)) => Self::Dead(*message as u8, serial.to_owned()),
            _ => panic!("{body:?} was sent, with serial {serial:?}"),
        }
    }
}

fn number(text: &[u8]) -> usize {
    std::str::from_utf8(text).unwrap().parse().unwrap()
}

/// One call of the processor.
#[derive(Debug, Clone, Hash)]
pub(super) struct Call {
    /// The delivery that it was called for.
    pub(super) serial: String,
    /// How many outputs it returned; none where it did not accept the message.
    pub(super) outputs: Option<usize>,
}

/// Everything that was seen.
#[derive(Debug, Default, Hash)]
pub(super) struct Facts {
    /// The calls for each message.
    pub(super) calls: BTreeMap<u8, Vec<Call>>,
    /// What the broker has stored, and how often: unmarked, and marked as sent again.
    stored: BTreeMap<Run, [usize; 2]>,
    /// Sends that the broker refused.
    pub(super) refused: usize,
    /// Duplicates that a crash explains.
    pub(super) explained: usize,
    /// Messages that a crash took along in ack mode auto.
    pub(super) excused: BTreeSet<u8>,
    /// What hosts that are gone have counted: possible duplicates, and settled messages.
    pub(super) counted: u64,
    pub(super) settled: u64,
}

impl Facts {
    /// Notes a call; returns its number.
    pub(super) fn called(&mut self, message: u8, serial: &str, outputs: Option<usize>) -> usize {
        let calls = self.calls.entry(message).or_default();
        calls.push(Call { serial: serial.to_owned(), outputs });
        calls.len() - 1
    }

    /// The broker has stored something.
    pub(super) fn stored(&mut self, run: Run, resent: bool) {
        let copies = self.stored.entry(run.clone()).or_default();
        copies[usize::from(resent)] += 1;
        assert!(copies[0] <= 1, "{run:?} was stored twice, and nothing marks the second");
    }

    /// The broker has let go of a message.
    pub(super) fn acknowledged(&self, message: u8) {
        assert!(self.is_done(message), "message {message} is acknowledged before anything came of it");
    }

    /// Whether the message was filtered, or forwarded with all its outputs, or has a dead letter.
    pub(super) fn is_done(&self, message: u8) -> bool {
        let mut calls = self.calls.get(&message).into_iter().flatten().enumerate();
        calls.any(|(number, call)| self.is_complete(message, number, call)) || self.dead(message).next().is_some()
    }

    /// Whether the call accepted the message, and all that it returned has arrived.
    fn is_complete(&self, message: u8, number: usize, call: &Call) -> bool {
        let stored = |index| self.stored.contains_key(&Run::Output(message, number, index));
        call.outputs.is_some_and(|outputs| (0..outputs).all(stored))
    }

    /// The deliveries of which there is a dead letter.
    fn dead(&self, message: u8) -> impl Iterator<Item = &str> {
        self.stored.keys().filter_map(move |run| match run {
            Run::Dead(of, serial) if *of == message => Some(serial.as_str()),
            _ => None,
        })
    }

    /// How often something came of a message once more. Only the last call for a delivery counts: of those before it
    /// the host was told that they were refused, or had to believe so since two connections died of them.
    fn extra(&self) -> usize {
        let ended = |message: &u8| {
            let calls: BTreeMap<&str, _> = self.calls[message]
                .iter()
                .enumerate()
                .map(|(number, call)| (call.serial.as_str(), (number, call)))
                .collect();
            let complete = calls.iter().filter(|(_, (number, call))| self.is_complete(*message, *number, call));
            complete.map(|(serial, _)| *serial).chain(self.dead(*message)).collect::<BTreeSet<_>>().len()
        };
        self.calls.keys().map(|message| ended(message).saturating_sub(1)).sum()
    }

    /// The host has died: every delivery that it had in work, or of which the broker did not know the end, may have
    /// had its effect.
    pub(super) fn crashed(&mut self) {
        let serials = |calls: &Vec<Call>| calls.iter().map(|call| call.serial.as_str()).collect::<BTreeSet<_>>().len();
        self.explained += self.calls.values().map(serials).sum::<usize>();
    }

    /// A host has ended that alone had these messages.
    pub(super) fn ended_with(&mut self, messages: impl Iterator<Item = u8>) {
        self.excused.extend(messages);
    }

    /// What must hold when everything has come to rest.
    pub(super) fn at_rest(&self, messages: u8) {
        for message in (0..messages).filter(|message| !self.excused.contains(message)) {
            assert!(self.is_done(message), "message {message} is lost");
        }
        let (counted, extra) = (self.counted as usize + self.explained, self.extra());
        assert!(extra <= counted, "{extra} duplicates, {counted} counted or explained: {self:?}");
        let settled = self.settled as usize;
        assert!(settled <= usize::from(messages) + counted, "{settled} settled, {counted} counted or explained");
        let ended = settled + counted + self.excused.len();
        assert!(ended >= usize::from(messages), "{ended} ends of {messages} messages are accounted for");
    }
}
