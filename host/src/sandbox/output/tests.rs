//! Each rule obeyed and violated, and all of them against whatever a guest may return.

use std::{sync::Arc, time::Duration};

use proptest::{collection::vec, option, prelude::*, sample::select};

use super::{Answer, CallError, Checked, Failure, GuestOutput, GuestReason, Limits, Outcome, Rules, check};
use crate::{outcome::Reason, sandbox::bindings::stompbox::processor::types::RetryRequest};

fn checked(answer: Answer) -> Result<Checked, CallError> {
    let limits = Limits { outputs: 2, output_bytes: 100, ..Limits::default() };
    let queues: [Arc<str>; 2] = ["out".into(), "more".into()];
    check(answer, Rules { limits: &limits, out_queues: &queues, default_queue: Some(&queues[0]) })
}

fn output(headers: &[(&str, &str)], body_bytes: usize) -> GuestOutput {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    GuestOutput { queue: None, headers, body: vec![b'x'; body_bytes], extra: Vec::new() }
}

/// Why an output with this header is refused; none where it is not.
fn refusal(name: &str, value: &str) -> Option<String> {
    let rules = Rules { limits: &Limits::default(), out_queues: &[], default_queue: None };
    match check(Ok(vec![output(&[(name, value)], 0)]), rules) {
        Ok(_) => None,
        Err(CallError::OutputInvalid(detail)) => Some(detail),
        Err(other) => panic!("{other:?}"),
    }
}

#[test]
fn count_and_bytes_are_bounded_exactly() {
    assert!(checked(Ok(vec![output(&[], 0), output(&[], 0)])).is_ok());
    let told = checked(Ok(vec![output(&[], 0); 3])).unwrap_err();
    assert_eq!(told, CallError::OutputLimit("3 outputs, the limit is 2".to_owned()));
    assert!(checked(Ok(vec![output(&[("ab", "cd")], 46), output(&[], 50)])).is_ok());
    let told = checked(Ok(vec![output(&[("ab", "cd")], 46), output(&[], 51)])).unwrap_err();
    assert_eq!(told, CallError::OutputLimit("101 bytes of outputs, the limit is 100".to_owned()));
}

#[test]
fn queues_are_resolved_or_refused() {
    let to = |queue: &str| checked(Ok(vec![GuestOutput { queue: Some(queue.to_owned()), ..output(&[], 1) }]));
    for (queue, expected) in [("out", "out"), ("more", "more")] {
        assert!(matches!(to(queue).unwrap().outcome, Outcome::Ok(o) if &*o[0].queue == expected));
    }
    assert!(matches!(checked(Ok(vec![output(&[], 1)])).unwrap().outcome, Outcome::Ok(o) if &*o[0].queue == "out"));
    let CallError::OutputInvalid(told) = to("mroe").unwrap_err() else { panic!() };
    assert!(told.starts_with("output 0: queue `mroe` is not one") && told.ends_with("`more`?"), "{told}");
}

#[test]
fn headers_of_the_host_are_refused_in_any_case() {
    let names = [
        "destination",
        "Receipt",
        "TRANSACTION",
        "content-length",
        "subscription",
        "ack",
        "id",
        "message-id",
        "login",
        "passcode",
        "host",
        "selector",
        "stompbox_id",
        "STOMPBOX_x",
        "_AMQ_DUPL_ID",
        "_amq_x",
        "AMQ_SCHEDULED_DELAY",
        "amq_scheduled_cron",
        "destination-type",
        "x-queue-type",
        "Exclusive",
    ];
    for name in names {
        let told = refusal(name, "x").expect(name);
        assert_eq!(told, format!("output 0: header `{name}` belongs to the host"));
    }
    for name in ["content-type", "correlation-id", "identity", "x-host", "stompbox", "AMQ_SCHEDULED"] {
        assert_eq!(refusal(name, "x"), None, "{name}");
    }
    assert_eq!(refusal("reply-to", "/queue/answers"), None);
    assert!(refusal("reply-to", "/temp-queue/x").is_some(), "RabbitMQ would subscribe our connection");
}

#[test]
fn names_and_values_keep_their_shape() {
    assert_eq!(refusal(&"n".repeat(64), &"v".repeat(1_024)), None);
    assert_eq!(refusal("A-z_0.9", "any text, ünïcode: too"), None);
    for name in ["", "a b", "a:b", "a\nb", "ä", &"n".repeat(65)] {
        assert!(refusal(name, "x").is_some(), "{name:?}");
    }
    for value in ["a\nb", "a\0", "\u{85}", &"v".repeat(1_025)] {
        assert!(refusal("a", value).is_some(), "{value:?}");
    }
    let many: Vec<(&str, &str)> = vec![("a", "b"); 65];
    let rules = Rules { limits: &Limits::default(), out_queues: &[], default_queue: None };
    assert!(check(Ok(vec![output(&many[..64], 0)]), rules).is_ok());
    assert!(check(Ok(vec![output(&many, 0)]), rules).is_err());
}

#[test]
fn typed_headers_are_checked() {
    let right = [
        ("priority", "0"),
        ("priority", "9"),
        ("expires", "1700000000000"),
        ("ttl", "0"),
        ("persistent", "true"),
        ("persistent", "false"),
    ];
    for (name, value) in right {
        assert_eq!(refusal(name, value), None, "{name}: {value}");
    }
    let wrong = [
        ("priority", "10"),
        ("priority", "-1"),
        ("priority", ""),
        ("priority", "x"),
        ("expires", "-1"),
        ("expires", "1e3"),
        ("ttl", ""),
        ("ttl", "99999999999999999999"),
        ("timestamp", "today"),
        ("persistent", "TRUE"),
        ("persistent", "1"),
    ];
    for (name, value) in wrong {
        assert!(refusal(name, value).is_some_and(|told| told.contains("must be")), "{name}: {value}");
    }
}

#[test]
fn failures_become_clean_reasons() {
    let outcome = |failure| checked(Err(failure)).unwrap().outcome;
    let reason = |code: &str, detail: &str| Reason { code: code.to_owned(), detail: detail.to_owned() };
    let guest = |code: &str, detail: &str| GuestReason { code: code.to_owned(), detail: detail.to_owned() };
    assert_eq!(outcome(Failure::Reject(guest("No Such", "a\nb"))), Outcome::Reject(reason("no-such", "a\\nb")));
    assert_eq!(outcome(Failure::Unavailable(guest("", "x"))), Outcome::Unavailable(reason("other", "x")));
    let other = Outcome::Retry { reason: reason("other", "text"), delay: None };
    assert_eq!(outcome(Failure::Other("text".to_owned())), other);
    let Outcome::Reject(long) = outcome(Failure::Reject(guest(&"ä".repeat(100), &"ä".repeat(1_000)))) else {
        panic!()
    };
    assert_eq!((long.code.len(), long.detail.len()), (64, 1_024));
}

#[test]
fn absurd_delays_are_cut() {
    for (asked, given) in [(1_500, 1_500), (u64::MAX, 7 * 86_400_000)] {
        let retry =
            RetryRequest { reason: GuestReason { code: "x".to_owned(), detail: String::new() }, delay_ms: Some(asked) };
        let Outcome::Retry { delay, .. } = checked(Err(Failure::Retry(retry))).unwrap().outcome else { panic!() };
        assert_eq!(delay, Some(Duration::from_millis(given)));
    }
}
/// The rules of the design, said once more.
fn is_clean(name: &str, value: &str) -> bool {
    let (lower, legal) = (name.to_lowercase(), |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c));
    let ours = super::REFUSED.contains(&lower.as_str());
    let prefixes = ["stompbox_", "_amq_", "amq_scheduled_"];
    let typed = match name {
        "priority" => value.len() == 1 && value.parse::<u8>().is_ok(),
        "expires" | "ttl" => value.parse::<u64>().is_ok() && !value.starts_with('+'),
        "persistent" => value == "true" || value == "false",
        _ => true,
    };
    let shaped = (1..=64).contains(&name.len()) && name.chars().all(legal) && value.len() <= 1_024;
    shaped && typed && !value.contains(char::is_control) && !ours && !prefixes.iter().any(|p| lower.starts_with(p))
}

fn any_name() -> impl Strategy<Value = String> {
    const KNOWN: &[&str] =
        &["priority", "persistent", "expires", "ttl", "type", "Destination", "id", "AMQ_SCHEDULED_X"];
    prop_oneof![select(KNOWN).prop_map(str::to_owned), "[a-zA-Z_.-]{0,66}", "(?s).{0,4}", "(?i)(stompbox|_amq)_x"]
}

fn any_headers() -> impl Strategy<Value = Vec<(String, String)>> {
    vec((any_name(), prop_oneof!["[0-9+-]{0,2}", "true|false", "(?s).{0,9}", "(?s).{1020,1030}"]), 0..4)
}

proptest! {
    #[test]
    fn what_passes_is_clean_and_what_is_not_has_its_code(
        records in vec((any_headers(), option::of(select(vec!["out", "more", "other", ""])), 0..60_usize), 0..4)
    ) {
        let outputs = records.iter().map(|(headers, queue, bytes)| {
            let queue = queue.map(str::to_owned);
            GuestOutput { queue, headers: headers.clone(), body: vec![b'x'; *bytes], extra: Vec::new() }
        });
        let outputs: Vec<_> = outputs.collect();
        let bytes: usize = outputs.iter().map(super::size).sum();
        let limits = Limits { outputs: 2, output_bytes: 2_000, ..Limits::default() };
        let fits = outputs.len() <= limits.outputs && bytes <= limits.output_bytes;
        let queues: [Arc<str>; 2] = ["out".into(), "more".into()];
        let rules = Rules { limits: &limits, out_queues: &queues, default_queue: Some(&queues[0]) };
        match check(Ok(outputs), rules) {
            Ok(Checked { outcome: Outcome::Ok(passed), .. }) => {
                prop_assert!(fits && passed.len() == records.len());
                prop_assert!(passed.iter().all(|output| ["out", "more"].contains(&&*output.queue)));
                let clean = passed.iter().flat_map(|output| &output.headers).all(|(name, value)| is_clean(name, value));
                prop_assert!(clean, "{passed:?}");
            }
            Err(CallError::OutputInvalid(told)) => prop_assert!(fits && told.len() < 2_000, "{told}"),
            Err(CallError::OutputLimit(_)) => prop_assert!(!fits),
            other => prop_assert!(false, "{other:?}"),
        }
    }
}
