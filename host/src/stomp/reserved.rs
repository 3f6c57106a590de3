//! Headers of a SEND that some broker acts on: they must not come from a guest, nor travel from a message to
//! its dead letter.
//!
//! Asked by `sandbox::output` for what guests return, by `dead_letter` for what brokers hand on, and by
//! `config::queue` whether the values of configured headers can be read. One list for all brokers: the one who
//! writes a header does not know where its message will go.

/// In lower case, with what would happen.
const NAMES: [&str; 21] = [
    // Artemis: a queue's message goes to a topic, where nobody may be listening.
    "destination-type",
    "subscription-type",
    // ActiveMQ: the broker converts the body, and deserialises what a stranger wrote.
    "transformation",
    // ActiveMQ: a body of another kind than it has is an ERROR that names no frame, and a transaction with it
    // is confirmed without it.
    "amq-msg-type",
    // RabbitMQ: a SEND declares its queue. With one of these the queue becomes another one: gone with its
    // connection, closed to all others, cutting or dropping what it holds.
    "auto-delete",
    "durable",
    "exclusive",
    "x-dead-letter-exchange",
    "x-dead-letter-routing-key",
    "x-expires",
    "x-max-length",
    "x-max-length-bytes",
    "x-max-priority",
    "x-message-ttl",
    "x-overflow",
    "x-queue-mode",
    "x-queue-name",
    "x-queue-type",
    "x-single-active-consumer",
    // RabbitMQ: a name other than that of the login closes the connection.
    "user-id",
    // RabbitMQ: an original's time would end the dead letter, and a word instead of a number the connection.
    "expiration",
];

/// Beginnings of such names, in lower case: Artemis's own properties, ActiveMQ's scheduler.
const PREFIXES: [&str; 2] = ["_amq_", "amq_scheduled_"];

/// Whether some broker acts on a SEND with this header.
#[must_use]
pub fn is_reserved(name: &str, value: &str) -> bool {
    let starts = |prefix: &&str| name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
    NAMES.iter().any(|reserved| name.eq_ignore_ascii_case(reserved))
        || PREFIXES.iter().any(starts)
        || name.eq_ignore_ascii_case("reply-to") && names_own_temporary(value)
}

/// RabbitMQ subscribes the connection of a SEND to the temporary queue that its `reply-to` names: whoever reads
/// the message could then fill our sending connection.
fn names_own_temporary(value: &str) -> bool {
    let value = value.trim_start();
    ["/temp-queue/", "/temp-topic/"].iter().any(|prefix| value.starts_with(prefix))
}

/// What is wrong with the value of a header that brokers read as a number or a truth value: ActiveMQ closes
/// the connection at `priority:high`, without a word.
#[must_use]
pub fn wrong_value(name: &str, value: &str) -> Option<&'static str> {
    let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    let (right, wrong) = match name {
        "priority" => (digits && value.len() == 1, "must be a number from 0 to 9"),
        "expires" | "ttl" | "timestamp" => (digits && value.parse::<i64>().is_ok(), "must be a number of milliseconds"),
        "JMSXGroupSeq" => (digits && value.parse::<i32>().is_ok(), "must be a number"),
        "persistent" => (matches!(value, "true" | "false"), "must be true or false"),
        _ => return None,
    };
    (!right).then_some(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_broker_acts_on_is_reserved_in_any_case() {
        for name in [
            "destination-type",
            "Exclusive",
            "amq-msg-type",
            "X-EXPIRES",
            "_AMQ_SCHED_DELIVERY",
            "AMQ_SCHEDULED_REPEAT",
        ] {
            assert!(is_reserved(name, "x"), "{name}");
        }
        for name in ["x-host", "type", "correlation-id", "_AM", "priority", "reply-to"] {
            assert!(!is_reserved(name, "/queue/answers"), "{name}");
        }
    }

    #[test]
    fn answers_may_go_to_queues_but_not_to_temporary_ones_of_ours() {
        for (value, reserved) in [("/temp-queue/x", true), (" /temp-topic/x", true), ("/reply-queue/amq.gen-1", false)]
        {
            assert_eq!(is_reserved("reply-to", value), reserved, "{value}");
        }
    }
}
