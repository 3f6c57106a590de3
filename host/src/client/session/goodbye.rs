//! Which frames a session leaves with.
//!
//! Asked by [`super::Session`] when its drain begins and when it ends; a table that knows no socket.

use crate::{client::Flavour, stomp::Command};

/// At the begin of a drain. With `auto` the broker forgets what it sends, so it must stop at once; the UNSUBSCRIBE
/// of a `durable` subscription is a DISCONNECT there. What was sent before the receipt is still read.
pub(super) fn at_drain(auto: bool, durable: bool) -> &'static [Command] {
    match (auto, durable) {
        (false, _) => &[],
        (true, true) => &[Command::Disconnect],
        (true, false) => &[Command::Unsubscribe],
    }
}

/// At the end; `said_at_drain` tells that [`at_drain`] sent its frame on this connection. Artemis raises delivery
/// counts where UNSUBSCRIBE is missing; ActiveMQ leaves a durable subscription by DISCONNECT alone.
pub(super) fn at_end(said_at_drain: bool, durable: bool, flavour: Flavour) -> &'static [Command] {
    match (said_at_drain, durable) {
        (true, true) => &[],
        (true, false) => &[Command::Disconnect],
        (false, true) if !flavour.unsubscribe_keeps_durable() => &[Command::Disconnect],
        (false, _) => &[Command::Unsubscribe, Command::Disconnect],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Flavour; 5] =
        [Flavour::ActiveMq, Flavour::Artemis, Flavour::RabbitMq, Flavour::Embedded, Flavour::Unknown];

    /// All frames of a session that drains before it ends.
    fn drained(auto: bool, durable: bool, flavour: Flavour) -> Vec<Command> {
        let before = at_drain(auto, durable);
        [before, at_end(auto, durable, flavour)].concat()
    }

    #[test]
    fn each_is_said_once_and_disconnect_last() {
        let (unsubscribe, disconnect) = (Command::Unsubscribe, Command::Disconnect);
        for flavour in ALL {
            for auto in [false, true] {
                assert_eq!(drained(auto, false, flavour), [unsubscribe, disconnect], "{flavour:?}, auto: {auto}");
            }
            assert_eq!(drained(true, true, flavour), [disconnect], "{flavour:?}");
            // It leaves without a drain where it gives back what it has.
            assert_eq!(at_end(false, false, flavour), [unsubscribe, disconnect], "{flavour:?}");
        }
    }

    #[test]
    fn a_durable_subscription_is_unsubscribed_only_where_that_keeps_it() {
        for flavour in ALL {
            let kept = matches!(flavour, Flavour::Artemis | Flavour::RabbitMq);
            assert_eq!(at_end(false, true, flavour).contains(&Command::Unsubscribe), kept, "{flavour:?}");
            assert_eq!(at_end(false, true, flavour).last(), Some(&Command::Disconnect));
        }
    }

    #[test]
    fn only_a_broker_that_forgets_what_it_sends_is_told_at_the_drain() {
        assert_eq!(at_drain(false, false), []);
        assert_eq!(at_drain(false, true), []);
        assert_eq!(at_drain(true, false), [Command::Unsubscribe]);
    }
}
