//! Each rule of each broker, by itself.

use super::*;

#[test]
fn brokers_are_told_apart() {
    for (server, flavour) in [
        (Some("ActiveMQ/6.3.1"), Flavour::ActiveMq),
        (Some("ActiveMQ-Artemis/2.44.0 ActiveMQ Artemis Messaging Engine"), Flavour::Artemis),
        (Some("RabbitMQ/3.10.8"), Flavour::RabbitMq),
        (Some("apache-apollo/1.7"), Flavour::Unknown),
        (None, Flavour::Unknown),
    ] {
        assert_eq!(Flavour::of(server), flavour, "{server:?}");
    }
}

#[test]
fn rights_are_looked_at_where_nothing_happens() {
    let rabbit = Flavour::RabbitMq;
    assert_eq!(rabbit.quiet_subscription("/queue/a").0, "/amq/queue/a");
    assert_eq!(rabbit.quiet_subscription("/topic/a").0, "/topic/a");
    assert_eq!(Flavour::ActiveMq.quiet_subscription("/queue/a"), ("/queue/a".into(), ("selector", "1 = 0")));
    for (destination, nobody) in [
        ("/queue/a", "/amq/queue/n"),
        ("/topic/a.b", "/topic/n"),
        ("/exchange/e/key", "/exchange/e/n"),
        ("a", "/amq/queue/n"),
    ] {
        assert_eq!(rabbit.nobody_like(destination, "n"), nobody);
    }
    assert!(rabbit.says_absent("not_found: NOT_FOUND - no queue 'a'") && !rabbit.says_absent("access_refused"));
    assert!(rabbit.says_shared("RESOURCE_LOCKED - cannot obtain") && !rabbit.says_shared("access_refused"));
    assert!(rabbit.declares("/queue/a") && !rabbit.declares("/amq/queue/a") && !rabbit.declares("/topic/a"));
    assert!(!Flavour::ActiveMq.declares("/queue/a"));
}

#[test]
fn mode_auto_is_left_to_brokers_that_can_end_it() {
    for (flavour, mode) in [(Flavour::ActiveMq, AckMode::Auto), (Flavour::RabbitMq, AckMode::ClientIndividual)] {
        assert_eq!(flavour.wire_mode(AckMode::Auto), mode);
        for same in [AckMode::Client, AckMode::ClientIndividual] {
            assert_eq!(flavour.wire_mode(same), same);
        }
    }
}

#[test]
fn only_artemis_is_told_what_is_a_queue() {
    for (destination, routing) in [("/queue/a", Some("ANYCAST")), ("/topic/a", Some("MULTICAST")), ("a", None)] {
        assert_eq!(Flavour::Artemis.subscription_type(destination).map(|(_, value)| value), routing);
        assert_eq!(Flavour::Artemis.declaration(destination).map(|(_, value)| value), routing);
    }
    for flavour in [Flavour::ActiveMq, Flavour::Embedded, Flavour::Unknown] {
        assert_eq!((flavour.subscription_type("/queue/a"), flavour.declaration("/queue/a")), (None, None));
    }
    let rabbit = |to| (Flavour::RabbitMq.subscription_type(to), Flavour::RabbitMq.declaration(to));
    assert_eq!((rabbit("/queue/a"), rabbit("/topic/a")), ((None, Some(("durable", "true"))), (None, None)));
}

#[test]
fn a_stable_id_is_what_a_redelivery_repeats() {
    for (flavour, id, stable) in [
        (Flavour::ActiveMq, "ID:a-1:2", Some("ID:a-1:2")),
        (Flavour::Embedded, "m-1", Some("m-1")),
        (Flavour::Artemis, "33,44", Some("44")),
        (Flavour::Artemis, "44", None),
        (Flavour::RabbitMq, "T_1@@session@@1", None),
        (Flavour::Unknown, "1", None),
        (Flavour::ActiveMq, "", None),
    ] {
        assert_eq!(flavour.stable_id(id), stable, "{flavour:?} {id}");
    }
}

#[test]
fn every_header_of_a_durable_subscription_is_known() {
    for flavour in [Flavour::ActiveMq, Flavour::Artemis, Flavour::RabbitMq, Flavour::Embedded, Flavour::Unknown] {
        let headers = flavour.durable_headers("name");
        assert!(headers.iter().all(|(name, _)| DURABLE.contains(name)), "{flavour:?}: {headers:?}");
    }
}

#[test]
fn only_rabbitmq_is_sent_a_nack() {
    for flavour in [Flavour::ActiveMq, Flavour::Artemis, Flavour::RabbitMq, Flavour::Embedded, Flavour::Unknown] {
        assert_eq!(flavour.nack_requeues(AckMode::ClientIndividual), flavour == Flavour::RabbitMq);
        assert!(!flavour.nack_requeues(AckMode::Client), "{flavour:?}");
    }
}

pub(super) fn broker_says(text: &str) -> ClientError {
    ClientError::Broker(text.to_owned())
}

pub(super) const OTHERWISE: &str = "precondition_failed: PRECONDITION_FAILED - inequivalent arg 'x-message-ttl' for queue \
                     'it's' in vhost '/': received none but current is the value '100000' of type 'long'";

#[test]
fn rabbitmq_names_the_queue_that_is_declared_otherwise() {
    assert_eq!(Flavour::RabbitMq.declared_otherwise(&broker_says(OTHERWISE)), Some("it's"));
    assert_eq!(Flavour::RabbitMq.declared_otherwise(&broker_says("PRECONDITION_FAILED - user_id property")), None);
    assert_eq!(Flavour::RabbitMq.declared_otherwise(&ClientError::Closed), None);
    assert_eq!(Flavour::ActiveMq.declared_otherwise(&broker_says(OTHERWISE)), None);
    assert_eq!((as_existing("/queue/x"), as_existing("/topic/x")), ("/amq/queue/x".into(), "/topic/x".into()));
}

#[test]
fn each_broker_gets_its_own_window_header() {
    let header = |flavour: Flavour, window| flavour.window_header(window, 0);
    assert_eq!(header(Flavour::ActiveMq, 1000), Some(("activemq.prefetchSize", "1000".into())));
    assert_eq!(header(Flavour::RabbitMq, 70_000), Some(("prefetch-count", "65535".into())));
    assert_eq!(header(Flavour::Artemis, 1), Some(("consumer-window-size", "0".into())));
    assert_eq!(header(Flavour::Artemis, 10), Some(("consumer-window-size", "20480".into())));
    assert_eq!(header(Flavour::Artemis, 1000), Some(("consumer-window-size", "1048576".into())));
    assert_eq!(header(Flavour::Unknown, 1000), None);
    for (flavour, window) in [(Flavour::Artemis, Some(20_480 + 99)), (Flavour::ActiveMq, None)] {
        assert_eq!(flavour.window_bytes(10, 99), window);
    }
    let widened = Flavour::Artemis.window_header(1, 99);
    assert_eq!(widened, Some(("consumer-window-size", "99".into())), "what stays takes its room, one more comes");
}
