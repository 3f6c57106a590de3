//! A host, its broker and its processor, and every step that one of them can make next.
//!
//! [`super::explore`] chooses the steps. A step is as small as anything that can happen between two others: what is
//! written and what is read, what a lane takes and what it decides, what breaks.

use std::hash::{DefaultHasher, Hash, Hasher};

use bytes::Bytes;

use super::{
    broker::{Arrived, Broker, Sender},
    facts::{Facts, Run},
    host::Host,
};
use crate::{
    client::{AckMode, Flavour},
    delivery::{Delivery, Intake as _, Message, testing::SERIAL},
    outcome::{CallError, Happened, Outcome, Output, Reason},
    settle::{Job, Next},
};

/// What is explored.
#[derive(Debug, Clone, Copy)]
pub(super) struct Setup {
    pub(super) flavour: Flavour,
    pub(super) mode: AckMode,
    /// How many outputs each message gets where it is accepted: as many messages as there are numbers.
    pub(super) outputs: &'static [usize],
    /// Whether the second output of a message goes to another server.
    pub(super) split: bool,
    /// What the processor may say else, and how often in all.
    pub(super) answers: &'static [Answer],
    pub(super) bad: u8,
    /// Which faults, and how many in all.
    pub(super) faults: &'static [Fault],
    pub(super) many: u8,
}

/// What a processor says that does not accept a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    Retry,
    Reject,
    Trap,
    Unavailable,
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// The consumer's connection breaks.
    Consumer,
    /// A sender's connection breaks.
    Sender,
    /// The broker refuses a SEND.
    Refusal,
    /// The host dies.
    Crash,
    /// The host is drained, and started anew.
    Drain,
    /// Everything has waited for too long.
    Overdue,
}

/// One step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Connect,
    ConnectSender(usize),
    Deliver,
    Take,
    /// The lane's hand, and what the processor says; none where it accepts the message.
    Decide(usize, Option<Answer>),
    WriteAcks,
    ReadAck,
    ReadAckReceipt,
    WriteSends(usize),
    ReadSend(usize),
    ReadAnswer(usize, usize),
    Leave,
    Left,
    Drained,
    Break,
    BreakSender(usize),
    Refuse(usize),
    Crash,
    Drain,
    Overdue,
}

/// All of it.
pub(super) struct World {
    setup: Setup,
    broker: Broker,
    host: Host,
    facts: Facts,
    bad: u8,
    faults: u8,
}

impl World {
    pub(super) fn new(setup: Setup) -> Self {
        let messages = setup.outputs.len();
        Self {
            setup,
            broker: Broker::new(setup.flavour, setup.mode, messages as u8),
            host: Host::new(setup.mode, messages),
            facts: Facts::default(),
            bad: setup.bad,
            faults: setup.many,
        }
    }

    /// Tells this state from others.
    pub(super) fn print(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        let host = &self.host;
        (&self.broker, &self.facts, self.bad, self.faults).hash(&mut hasher);
        (host.settle.is_some(), host.goodbye, host.draining, host.counts()).hash(&mut hasher);
        host.session.hash(&mut hasher);
        host.buffer.hash(&mut hasher);
        host.producers.iter().for_each(|producer| producer.hash(&mut hasher));
        host.hands.iter().for_each(|job| job.delivery.hash(&mut hasher));
        hasher.finish()
    }

    /// What can happen next if nothing goes wrong.
    pub(super) fn steps(&self) -> Vec<Step> {
        let (host, broker) = (&self.host, &self.broker);
        let connected = host.settle.is_some();
        let staying = connected && !host.goodbye;
        let (waiting, held, _) = host.buffer.counts();
        let waits = waiting + held > 0;
        let unsettled = !host.hands.is_empty() || waits || host.producers.iter().any(|to| to.unconfirmed() > 0);
        let mut steps: Vec<Step> = [
            (Step::Connect, !connected && !host.draining),
            (Step::Deliver, staying && !host.draining && broker.can_deliver()),
            (Step::Take, waits && host.hands.len() < 2),
            (Step::WriteAcks, staying && host.session.has_staged()),
            (Step::ReadAck, !broker.acks.is_empty()),
            (Step::ReadAckReceipt, staying && !broker.receipts.is_empty()),
            (Step::Leave, staying && !host.draining && host.session.is_leaving()),
            (Step::Left, host.goodbye && broker.acks.is_empty()),
            (Step::Drained, host.draining && !host.goodbye && !unsettled),
        ]
        .into_iter()
        .filter_map(|(step, possible)| possible.then_some(step))
        .collect();
        for hand in 0..host.hands.len() {
            steps.push(Step::Decide(hand, None));
            if self.bad > 0 {
                steps.extend(self.setup.answers.iter().map(|answer| Step::Decide(hand, Some(*answer))));
            }
        }
        (0..3).for_each(|sender| self.steps_of_sender(sender, &mut steps));
        steps
    }

    fn steps_of_sender(&self, number: usize, steps: &mut Vec<Step>) {
        let (producer, sender) = (&self.host.producers[number], &self.broker.senders[number]);
        if !sender.up {
            // Connecting before there is something to send changes nothing.
            return steps.extend((producer.unconfirmed() > 0).then_some(Step::ConnectSender(number)));
        }
        steps.extend(producer.has_encoded().then_some(Step::WriteSends(number)));
        steps.extend((!sender.closing && !sender.unread.is_empty()).then_some(Step::ReadSend(number)));
        steps.extend((0..self.broker.next_answers(number)).map(|answer| Step::ReadAnswer(number, answer)));
    }

    /// What can go wrong next.
    pub(super) fn faults(&self) -> Vec<Step> {
        if self.faults == 0 {
            return Vec::new();
        }
        let (connected, draining) = (self.host.settle.is_some(), self.host.draining);
        let mut steps = Vec::new();
        for fault in self.setup.faults {
            match fault {
                Fault::Consumer => steps.extend(connected.then_some(Step::Break)),
                Fault::Crash => steps.extend(connected.then_some(Step::Crash)),
                Fault::Drain => steps.extend((connected && !draining).then_some(Step::Drain)),
                Fault::Overdue => steps.push(Step::Overdue),
                Fault::Sender => steps.extend((0..3).filter(|sender| self.is_sending(*sender)).map(Step::BreakSender)),
                Fault::Refusal => {
                    let next = |sender: &usize| self.broker.next_is_send(*sender);
                    steps.extend((0..3).filter(next).map(Step::Refuse));
                }
            }
        }
        steps
    }

    fn is_sending(&self, sender: usize) -> bool {
        self.broker.senders[sender].up && self.host.producers[sender].unconfirmed() > 0
    }

    /// Makes a step. Panics where a promise is broken.
    pub(super) fn go(&mut self, step: Step) {
        match step {
            Step::Connect => self.connect(),
            Step::ConnectSender(sender) => {
                self.broker.senders[sender].up = true;
                self.host.connect_sender(sender, self.setup.flavour);
            }
            Step::Deliver => self.deliver(),
            Step::Take => self.take(),
            Step::Decide(hand, answer) => self.decide(hand, answer),
            Step::WriteAcks => {
                self.write_acks();
                self.host.buffer.push(&mut self.host.session.take_released());
            }
            Step::ReadAck => self.broker.read_ack(&mut self.facts),
            Step::ReadAckReceipt => {
                self.broker.receipts.pop_front().iter().for_each(|id| self.host.session.receipt(id))
            }
            Step::WriteSends(sender) => {
                let frames = self.host.producers[sender].write();
                self.broker.senders[sender].unread.extend(frames.into_iter().map(Arrived));
            }
            Step::ReadSend(sender) => self.broker.read_send(sender, false, &mut self.facts),
            Step::ReadAnswer(sender, answer) => self.read_answer(sender, answer),
            Step::Leave => {
                self.write_acks();
                self.host.goodbye = true;
            }
            Step::Left => self.unsubscribed(true),
            Step::Drained => self.drained(),
            fault => {
                self.faults -= 1;
                self.go_wrong(fault);
            }
        }
    }

    fn go_wrong(&mut self, fault: Step) {
        match fault {
            Step::Break => self.unsubscribed(false),
            Step::BreakSender(sender) => self.cut(sender, "cut", false),
            Step::Refuse(sender) => self.broker.read_send(sender, true, &mut self.facts),
            Step::Crash => self.crash(),
            Step::Drain => {
                self.host.draining = true;
                self.host.buffer.close();
            }
            Step::Overdue => {
                if self.host.settle.is_some() && self.setup.mode != AckMode::Auto {
                    self.host.buffer.give_back_overdue();
                }
                self.host.producers.iter().for_each(crate::client::Producer::withdraw_overdue);
            }
            step => unreachable!("{step:?} is no fault"),
        }
    }

    fn connect(&mut self) {
        self.broker.subscribe();
        self.host.settle = Some(self.host.session.open(self.setup.flavour));
    }

    /// What the session does with a MESSAGE.
    fn deliver(&mut self) {
        let (Some((body, headers)), Some(settle)) = (self.broker.deliver(), self.host.settle.clone()) else { return };
        let headers: crate::stomp::Headers = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let id = headers.get("message-id").unwrap();
        let message = Message {
            queue: "in".into(),
            stable_from: self.setup.flavour.stable_id(id).map(|stable| id.len() - stable.len()),
            headers,
            body: Bytes::from(body.to_string()),
            received_at: std::time::SystemTime::UNIX_EPOCH,
        };
        let mut batch = vec![Delivery::new(message, settle)];
        if self.host.session.admit(&mut batch) {
            self.write_acks();
        }
        self.host.buffer.push(&mut batch);
    }

    fn take(&mut self) {
        let Some(taken) = self.host.buffer.try_take(0) else { return };
        let token = self.host.in_work.token();
        let by = self.host.author.clone();
        self.host.hands.push(Job { delivery: taken.delivery, more: taken.more, token, by, on_trial: false });
    }

    fn decide(&mut self, hand: usize, answer: Option<Answer>) {
        let job = self.host.hands.remove(hand);
        let original = job.delivery.message.clone();
        let (message, serial) = (original.body[0] - b'0', original.headers.get(SERIAL).unwrap());
        let outputs = answer.is_none().then(|| self.setup.outputs[usize::from(message)]);
        let call = self.facts.called(message, serial, outputs);
        self.bad -= u8::from(answer.is_some());
        let no = || Reason::new("no", "no");
        let happened = match answer {
            None => Happened::Decided(Outcome::Ok(self.outputs(message, call))),
            Some(Answer::Retry) => Happened::Decided(Outcome::Retry { reason: no(), delay: None }),
            Some(Answer::Reject) => Happened::Decided(Outcome::Reject(no())),
            Some(Answer::Unavailable) => Happened::Decided(Outcome::Unavailable(no())),
            Some(Answer::Trap) => Happened::Failed(CallError::Trap("no".into())),
        };
        match self.host.settler.settle(job, happened) {
            Next::Done | Next::GivenBack(_) => {}
            Next::RunAgain(job, _) | Next::OnStable(job, _) => self.host.hands.push(job),
            Next::Wait(job, _) if job.delivery.alive() && !self.host.draining => self.host.hands.push(job),
            Next::Wait(job, reason) => self.host.settler.give_up(job, reason),
        }
    }

    fn outputs(&self, message: u8, call: usize) -> Vec<Output> {
        let queue = |index: usize| if index > 0 && self.setup.split { "far" } else { "out" };
        let output = |index| Output {
            queue: queue(index).into(),
            headers: Vec::new(),
            body: Run::body(message, call, index).into(),
        };
        (0..self.setup.outputs[usize::from(message)]).map(output).collect()
    }

    fn write_acks(&mut self) {
        self.broker.acks.extend(self.host.session.write().into_iter().map(Arrived));
    }

    fn read_answer(&mut self, number: usize, answer: usize) {
        let sender = &mut self.broker.senders[number];
        let Arrived(frame) = sender.answers.remove(answer);
        if let Err(why) = self.host.producers[number].hear(&frame, self.setup.flavour) {
            self.cut(number, &why, true);
        }
    }

    fn cut(&mut self, sender: usize, why: &str, said_no: bool) {
        self.broker.senders[sender] = Sender::default();
        self.host.producers[sender].cut(why, said_no);
    }

    fn unsubscribed(&mut self, confirmed: bool) {
        self.broker.unsubscribe();
        self.host.disconnected(confirmed);
    }

    fn crash(&mut self) {
        self.broker.unsubscribe();
        self.facts.crashed();
        self.excuse();
        self.replace_host();
    }

    /// In ack mode auto the host alone has what the broker has no more.
    fn excuse(&mut self) {
        if self.setup.mode == AckMode::Auto {
            let kept: Vec<u8> = self.broker.queue.iter().map(|(message, _)| *message).collect();
            let gone = (0..self.setup.outputs.len() as u8).filter(|message| !kept.contains(message));
            self.facts.ended_with(gone);
        }
    }

    /// The drain has come to its end: the last ACKs, and a goodbye that the broker answers.
    fn drained(&mut self) {
        if self.host.settle.is_some() {
            self.write_acks();
            while !self.broker.acks.is_empty() {
                self.broker.read_ack(&mut self.facts);
            }
            self.unsubscribed(true);
        }
        if self.facts.refused > 0 {
            // A dead letter that nobody takes: the log has the message.
            self.excuse();
        }
        self.replace_host();
    }

    fn replace_host(&mut self) {
        self.count();
        self.broker.senders = Default::default();
        self.host = Host::new(self.setup.mode, self.setup.outputs.len());
    }

    /// The host is over: what it has counted stays.
    fn count(&mut self) {
        self.host.buffer.may_repeat(self.host.session.end());
        let (repeats, settled) = self.host.counts();
        self.facts.counted += repeats;
        self.facts.settled += settled;
    }

    /// Nothing more happens: everything must have come to its end.
    pub(super) fn at_rest(mut self) {
        assert!(self.broker.is_empty(), "the broker still has messages");
        self.count();
        self.facts.at_rest(self.setup.outputs.len() as u8);
    }
}
