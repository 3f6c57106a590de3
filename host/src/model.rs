//! The promise that nothing is lost, checked in every order in which things can happen to a message or two.
//!
//! The host's own ledger, recall, outbox, buffer and settlement are driven step by step against a broker of a few
//! lines ([`broker`]); [`explore`] tries every next step in every state, with a bounded number of faults and of answers
//! other than yes, and [`facts`] holds what must be true on the way and when everything has come to rest. Between its
//! bounds it is complete; what it does not know are sockets, clocks and threads.

mod broker;
mod explore;
mod facts;
mod host;
mod world;

use self::{
    explore::explore,
    world::{Answer, Fault, Setup},
};
use crate::client::{AckMode, Flavour};

const ANSWERS: &[Answer] = &[Answer::Retry, Answer::Reject, Answer::Trap, Answer::Unavailable];
const FAULTS: &[Fault] = &[Fault::Consumer, Fault::Sender, Fault::Refusal, Fault::Crash, Fault::Drain, Fault::Overdue];
const BOTH: [AckMode; 2] = [AckMode::Client, AckMode::ClientIndividual];

/// Two messages with an output each, and whatever goes wrong once.
const TWO: Setup = Setup {
    flavour: Flavour::Unknown,
    mode: AckMode::Client,
    outputs: &[1, 1],
    split: false,
    answers: ANSWERS,
    bad: 0,
    faults: FAULTS,
    many: 1,
};

/// One message with two outputs, an answer of any kind, and whatever goes wrong twice.
const ONE: Setup = Setup { outputs: &[2], bad: 1, many: 2, ..TWO };

fn all(setups: impl IntoIterator<Item = Setup>) {
    for setup in setups {
        let found = explore(setup);
        println!(
            "{:?}, {:?}, outputs {:?}: {} states, {} steps, {} ends, the longest after {} steps",
            setup.flavour, setup.mode, setup.outputs, found.states, found.steps, found.rests, found.longest
        );
        assert!(found.rests > 10, "hardly anything was explored");
    }
}

/// The setup in both modes that acknowledge.
fn in_both(flavour: Flavour, setup: Setup) -> impl Iterator<Item = Setup> {
    BOTH.into_iter().map(move |mode| Setup { flavour, mode, ..setup })
}

#[test]
fn nothing_is_lost_with_activemq() {
    all(in_both(Flavour::ActiveMq, ONE).chain(in_both(Flavour::ActiveMq, TWO)));
}

#[test]
fn nothing_is_lost_with_artemis() {
    all(in_both(Flavour::Artemis, ONE).chain(in_both(Flavour::Artemis, TWO)));
}

#[test]
fn nothing_is_lost_with_rabbitmq() {
    all(in_both(Flavour::RabbitMq, Setup { bad: 0, ..ONE }).chain(in_both(Flavour::RabbitMq, TWO)));
}

/// Of which only what the specification says is relied on.
#[test]
fn nothing_is_lost_with_an_unknown_broker() {
    all(in_both(Flavour::Unknown, Setup { bad: 0, ..ONE }).chain(in_both(Flavour::Unknown, TWO)));
}

#[test]
fn nothing_is_lost_between_two_servers() {
    let split = Setup { split: true, many: 1, ..ONE };
    all([Flavour::ActiveMq, Flavour::RabbitMq].into_iter().flat_map(|flavour| in_both(flavour, split)));
}

/// A cumulative ACK must stand behind what others leave open: two breaks, ends or deaths with two messages.
#[test]
fn nothing_is_lost_when_consumers_come_and_go() {
    let faults = &[Fault::Consumer, Fault::Crash, Fault::Drain];
    all(in_both(Flavour::ActiveMq, Setup { outputs: &[1, 0], faults, many: 2, ..TWO }));
}

/// Once it has read a message, the host alone has it: nothing is lost but by its death.
#[test]
fn in_ack_mode_auto_only_the_death_of_the_host_loses_messages() {
    let (one, two) = (Setup { mode: AckMode::Auto, ..ONE }, Setup { mode: AckMode::Auto, ..TWO });
    all([Flavour::ActiveMq, Flavour::Unknown].map(|flavour| Setup { flavour, ..one }));
    // Here the host acknowledges in the broker's place.
    all([Flavour::Artemis, Flavour::RabbitMq].map(|flavour| Setup { flavour, bad: 0, many: 1, ..one }));
    all([Flavour::ActiveMq].map(|flavour| Setup { flavour, ..two }));
}
