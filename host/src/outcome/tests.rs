//! Every row of the settlement table, `decide`.

use super::*;

const FIRST: Standing = Standing {
    attempt: 1,
    max_attempts: 5,
    faults: 0,
    unavailable_for: Duration::ZERO,
    max_unavailable: Duration::from_secs(3600),
    failing_for: Duration::ZERO,
    max_time: None,
    can_ack: true,
    on_trial: false,
};
/// Ack mode client.
const HURRIED: Standing = Standing { max_time: Some(Duration::from_secs(5)), ..FIRST };
const LAST: Standing = Standing { attempt: 5, ..FIRST };
const GONE: Standing = Standing { can_ack: false, ..FIRST };

fn why() -> Reason {
    Reason::new("why", "because")
}

fn output() -> Output {
    Output { queue: "out".into(), headers: vec![], body: Bytes::from_static(b"x") }
}

fn failures() -> Vec<CallError> {
    vec![
        CallError::Trap("unreachable".into()),
        CallError::Fuel { used: 1, limit: 1 },
        CallError::Memory { wanted_bytes: 2, limit_bytes: 1 },
        CallError::OutputLimit("1,001 outputs".into()),
        CallError::OutputInvalid("header destination".into()),
    ]
}

#[test]
fn ok_without_outputs_is_acknowledged() {
    assert_eq!(decide(Happened::Decided(Outcome::Ok(vec![])), FIRST), [Action::Ack]);
}

#[test]
fn outputs_are_confirmed_before_the_ack() {
    let outputs = vec![output(), output()];
    assert_eq!(decide(Happened::Decided(Outcome::Ok(outputs.clone())), FIRST), [Action::Send(outputs)]);
    assert_eq!(decide(Happened::OutputsConfirmed, FIRST), [Action::Ack]);
}

#[test]
fn retry_is_held_until_the_attempts_are_used_up() {
    let delay = Some(Duration::from_millis(7));
    let retry = || Happened::Decided(Outcome::Retry { reason: why(), delay });
    assert_eq!(decide(retry(), FIRST), [Action::Hold { delay, reason: why() }]);
    assert_eq!(decide(retry(), Standing { attempt: 4, ..FIRST }), [Action::Hold { delay, reason: why() }]);
    assert_eq!(decide(retry(), LAST), [Action::DeadLetter(why())]);
}

#[test]
fn what_a_generation_on_trial_cannot_do_the_stable_one_may() {
    let (trial, delay) = (Standing { on_trial: true, ..LAST }, None);
    let decided = [Outcome::Retry { reason: why(), delay }, Outcome::Reject(why()), Outcome::Unavailable(why())];
    let decided = decided.into_iter().map(Happened::Decided);
    for happened in decided.chain([Happened::OutputRefused(why())]) {
        assert_eq!(decide(happened.clone(), trial), [Action::RunOnStable(why())], "{happened:?}");
    }
    for error in failures().into_iter().chain([CallError::Deadline { limit: Duration::from_secs(1) }]) {
        assert_eq!(decide(Happened::Failed(error.clone()), trial), [Action::RunOnStable(error.reason())]);
    }
    let nothing = decide(Happened::Decided(Outcome::Ok(vec![])), trial);
    assert!(matches!(&nothing[..], [Action::RunOnStable(reason)] if reason.code == NO_OUTPUT), "{nothing:?}");
    let outputs = vec![output()];
    assert_eq!(decide(Happened::Decided(Outcome::Ok(outputs.clone())), trial), [Action::Send(outputs)]);
    assert_eq!(decide(Happened::OutputsConfirmed, trial), [Action::Ack]);
}

#[test]
fn reject_goes_to_the_dead_letter_and_is_acknowledged_after_it() {
    assert_eq!(decide(Happened::Decided(Outcome::Reject(why())), FIRST), [Action::DeadLetter(why())]);
    assert_eq!(decide(Happened::DeadLetterConfirmed, FIRST), [Action::Ack]);
}

#[test]
fn unavailable_makes_the_lane_wait_and_is_a_retry_after_its_time() {
    let unavailable = || Happened::Decided(Outcome::Unavailable(why()));
    assert_eq!(decide(unavailable(), LAST), [Action::LaneWaits(why())]);
    let minute = Standing { unavailable_for: UNAVAILABLE_ALARM, ..FIRST };
    assert_eq!(decide(unavailable(), minute), [Action::Alarm(why()), Action::LaneWaits(why())]);
    let tired = Standing { unavailable_for: Duration::from_secs(3600), ..FIRST };
    assert_eq!(decide(unavailable(), tired), [Action::Hold { delay: None, reason: why() }]);
    assert_eq!(decide(unavailable(), Standing { attempt: 5, ..tired }), [Action::DeadLetter(why())]);
}

#[test]
fn a_failed_instance_gets_one_fresh_try_and_then_the_dead_letter() {
    for error in failures() {
        assert_eq!(decide(Happened::Failed(error.clone()), FIRST), [Action::RunAgain(error.reason())]);
        let again = Standing { faults: 1, ..FIRST };
        assert_eq!(decide(Happened::Failed(error.clone()), again), [Action::DeadLetter(error.reason())]);
    }
}

#[test]
fn a_deadline_is_a_retry() {
    let error = CallError::Deadline { limit: Duration::from_secs(10) };
    let held = Action::Hold { delay: None, reason: error.reason() };
    assert_eq!(decide(Happened::Failed(error.clone()), FIRST), [held]);
    assert_eq!(decide(Happened::Failed(error.clone()), LAST), [Action::DeadLetter(error.reason())]);
}

#[test]
fn a_refused_output_is_a_failed_attempt() {
    assert_eq!(decide(Happened::OutputRefused(why()), FIRST), [Action::Hold { delay: None, reason: why() }]);
    assert_eq!(decide(Happened::OutputRefused(why()), LAST), [Action::DeadLetter(why())]);
}

#[test]
fn in_ack_mode_client_nothing_is_kept_for_long() {
    let retry = || Happened::Decided(Outcome::Retry { reason: why(), delay: None });
    assert_eq!(decide(retry(), HURRIED), [Action::Hold { delay: None, reason: why() }]);
    let late = Standing { failing_for: Duration::from_secs(5), ..HURRIED };
    assert_eq!(decide(retry(), late), [Action::DeadLetter(why())]);
    let unavailable = || Happened::Decided(Outcome::Unavailable(why()));
    assert_eq!(decide(unavailable(), HURRIED), [Action::GiveBack(why())]);
}

#[test]
fn without_its_session_nothing_is_acknowledged() {
    for happened in [Happened::Decided(Outcome::Ok(vec![])), Happened::OutputsConfirmed, Happened::DeadLetterConfirmed]
    {
        assert_eq!(decide(happened, GONE), [Action::CountPossibleDuplicate]);
    }
    // Outputs are still confirmed.
    let outputs = vec![output()];
    assert_eq!(decide(Happened::Decided(Outcome::Ok(outputs.clone())), GONE), [Action::Send(outputs)]);
}

#[test]
fn a_refused_dead_letter_is_spooled_or_kept() {
    let refuse = |spool| decide(Happened::DeadLetterRefused { reason: why(), spool }, FIRST);
    assert_eq!(refuse(true), [Action::Alarm(refused()), Action::Spool(why())]);
    assert_eq!(refuse(false), [Action::Alarm(refused()), Action::KeepDeadLetter]);
    assert_eq!(decide(Happened::DeadLetterSpooled, FIRST), [Action::Ack]);
    assert_eq!(decide(Happened::DeadLetterSpooled, GONE), [Action::CountPossibleDuplicate]);
    assert_eq!(decide(Happened::SpoolFailed(why()), FIRST), [Action::Alarm(why()), Action::KeepDeadLetter]);
}

#[test]
fn a_message_that_kills_the_host_twice_is_a_dead_letter() {
    assert!(matches!(decide(Happened::HostCrashed { times: 1 }, FIRST)[..], [Action::RunAgain(_)]));
    let actions = decide(Happened::HostCrashed { times: 2 }, FIRST);
    assert!(matches!(&actions[..], [Action::DeadLetter(reason)] if reason.code == "host-crash"), "{actions:?}");
}
