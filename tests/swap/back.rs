//! Going back, staying back, and pausing: what operators ask for.

use serde_json::{Value, json};
use stompbox::{
    app::Drained,
    control::{ControlError, Request, What},
};

use super::{Swapped, whats};
use crate::harness::{
    host::{Host, One, wait_until},
    messages::{numbered, texts},
    target::{Target, on_each_broker},
};

fn back(swapped: &Swapped, to: Option<u64>) -> Result<Vec<What>, ControlError> {
    swapped.host.ask(Request::RollBack { processor: "one".to_owned(), to }).map(|changes| whats(&changes))
}

/// A host that has run `count` generations, each for good at once.
fn after(target: &Target, count: u32) -> Swapped {
    let swapped = Swapped::start(target, json!({"rollout": {"messages": 0}}));
    for number in 1..count {
        swapped.swap("good", number);
        wait_until("it is the stable one", || swapped.stable() == u64::from(number) + 1);
    }
    swapped
}

#[test]
fn an_operator_goes_back_to_any_of_the_last_five() {
    let target = Target::embedded();
    let swapped = after(&target, 8);
    let Err(ControlError::Unknown(told)) = back(&swapped, Some(2)) else { panic!("it is too long ago") };
    assert!(told.ends_with("generation 8 runs, and there are: 7, 6, 5, 4, 3"), "{told}");
    assert_eq!(back(&swapped, None).unwrap(), [What::RolledBack, What::Stable]);
    assert_eq!(swapped.stable(), 7);
    back(&swapped, Some(3)).unwrap();
    assert_eq!(swapped.stable(), 3);
    // What runs is generation 3, also for the messages.
    target.client().send(&swapped.one.from, &[], b"x 000005").unwrap();
    swapped.host.wait_ended("one", 1);
    assert_eq!(swapped.host.drain(), Drained::Clean);
    let dead = target.drain(&swapped.one.dead);
    assert_eq!(dead[0].header("stompbox_generation"), Some("3"));
}

#[test]
fn what_was_rolled_back_is_not_taken_up_again_until_its_file_changes() {
    let swapped = after(&Target::embedded(), 2);
    back(&swapped, None).unwrap();
    let reload = |processor: Option<&str>| {
        let changes = swapped.host.ask(Request::Reload { processor: processor.map(str::to_owned) }).unwrap();
        whats(&changes)
    };
    assert_eq!(reload(None), [What::Unchanged]);
    swapped.versions.put("good", 1);
    assert_eq!(reload(None), [What::Unchanged], "another file with the same bytes");
    assert_eq!(swapped.stable(), 1);
    assert_eq!(reload(Some("one")), [What::Loaded, What::OnTrial], "an operator insists");
    wait_until("it is the stable one", || swapped.stable() == 3);
    back(&swapped, None).unwrap();
    swapped.versions.put("good", 9);
    assert_eq!(reload(None), [What::Loaded, What::OnTrial], "another version");
    wait_until("it is the stable one", || swapped.stable() == 4);
    assert_eq!(swapped.host.drain(), Drained::Clean);
}

/// Going back twice leaves two versions behind; the file still holds the last one.
#[test]
fn none_of_those_that_were_rolled_back_is_taken_up_again() {
    let swapped = after(&Target::embedded(), 3);
    back(&swapped, None).unwrap();
    back(&swapped, None).unwrap();
    let reload = || whats(&swapped.host.ask(Request::Reload { processor: None }).unwrap());
    assert_eq!((reload(), swapped.stable()), (vec![What::Unchanged], 1));
    swapped.versions.put("good", 1);
    assert_eq!((reload(), swapped.stable()), (vec![What::Unchanged], 1), "the second one");
    assert_eq!(swapped.host.drain(), Drained::Clean);
}

/// While it is on trial, going back ends the trial.
#[test]
fn an_operator_ends_a_trial() {
    let swapped = Swapped::start(&Target::embedded(), json!({}));
    assert_eq!(whats(&swapped.swap("good", 1)), [What::Loaded, What::OnTrial]);
    assert_eq!(back(&swapped, None).unwrap(), [What::RolledBack]);
    let report = swapped.host.stage("one");
    assert_eq!((swapped.stable(), report.generations[0].standing), (1, "rolled-back"));
    assert_eq!(swapped.host.drain(), Drained::Clean);
}

#[test]
fn a_processor_that_is_paused_takes_nothing_until_it_is_resumed() {
    let target = Target::embedded();
    let swapped = Swapped::start(&target, json!({"n_threads": 2}));
    let ask = |request| swapped.host.ask(request).map(|changes| whats(&changes));
    let one = || "one".to_owned();
    assert_eq!(ask(Request::Pause { processor: one() }).unwrap(), [What::Paused]);
    assert_eq!(ask(Request::Pause { processor: one() }).unwrap(), [What::Unchanged]);
    wait_until("its lanes rest", || swapped.host.stage("one").lanes.iter().all(|lane| lane.doing == "paused"));
    target.client().send_all(&swapped.one.from, &numbered(3)).unwrap();
    wait_until("they wait", || swapped.host.status().queues[0].buffer.counts().0 == 3);
    assert_eq!(swapped.host.did("one").received.get(), 0);
    assert_eq!(ask(Request::Resume { processor: one() }).unwrap(), [What::Resumed]);
    swapped.host.wait_ended("one", 3);
    let Err(ControlError::Unknown(told)) = ask(Request::Pause { processor: "on".to_owned() }) else { panic!() };
    assert!(told.contains("did you mean \"one\"?"), "{told}");
    // Paused at the end: the host ends all the same, and what it did not take is with the broker.
    ask(Request::Pause { processor: one() }).unwrap();
    target.client().send_all(&swapped.one.from, &numbered(2)).unwrap();
    assert_eq!(swapped.host.drain(), Drained::Clean);
    assert_eq!(texts(&target.drain(&swapped.one.from)), numbered(2));
}

/// `stompbox dead-letters replay --generation N`: each ends in a 5, so each is a dead letter of who ran it.
#[test]
fn a_replayed_message_runs_on_the_generation_that_it_names() {
    let target = Target::embedded();
    let swapped = after(&target, 4);
    let mut client = target.client();
    for named in ["2", "4", "77", "x"] {
        client.send(&swapped.one.from, &[("stompbox_replay_generation", named)], b"x 000005").unwrap();
    }
    client.send(&swapped.one.from, &[], b"x 000005").unwrap();
    swapped.host.wait_ended("one", 5);
    assert_eq!(swapped.host.drain(), Drained::Clean);
    let dead = target.drain(&swapped.one.dead);
    let by: Vec<_> = dead.iter().map(|letter| letter.header("stompbox_generation").unwrap()).collect();
    assert_eq!(by, ["2", "4", "4", "4", "4"]);
}

on_each_broker! {
    what_a_paused_processor_holds_goes_back
}

/// Two processors read a queue: one of this class, and one that forwards, which is paused.
fn beside_a_paused_one(target: &Target, class: &str, retry: Value) -> (One, Host) {
    let mut one = One::new(target, class, json!({"retry": retry}));
    one.config["queues"]["in"]["order_by"] = json!("group");
    let mut other = one.config["processors"]["one"].clone();
    (other["name"], other["retry"]) = (json!("Echo"), Value::Null);
    one.config["processors"]["two"] = other;
    let host = Host::start(&one.config);
    pause(&host, "two");
    (one, host)
}

fn pause(host: &Host, name: &str) {
    let paused = host.ask(Request::Pause { processor: name.to_owned() }).unwrap();
    assert_eq!(whats(&paused), [What::Paused]);
}

/// Pauses the one, and lets the other go on: all messages go through that.
fn the_other_gets(host: &Host, messages: u64) {
    pause(host, "one");
    host.ask(Request::Resume { processor: "two".to_owned() }).unwrap();
    wait_until("the other has all", || host.did("two").forwarded.get() == messages);
}

/// What waits for its retry, and in its order all behind it.
fn what_a_paused_processor_holds_goes_back(target: &Target) {
    let (one, host) =
        beside_a_paused_one(target, "RetryAlways", json!({"min_delay_ms": 600_000, "max_delay_ms": 600_000}));
    let mut client = target.client();
    client.send(&one.from, &[("group", "a")], b"0").unwrap();
    wait_until("it is held", || host.status().queues[0].buffer.counts().1 == 1);
    for body in ["1", "2"] {
        client.send(&one.from, &[("group", "a")], body.as_bytes()).unwrap();
    }
    the_other_gets(&host, 3);
    assert_eq!(host.drain(), Drained::Clean);
    assert_eq!(texts(&target.drain(&one.to)), ["0", "1", "2"]);
}

/// What a lane waits with because a service behind its processor is away.
#[test]
fn a_lane_that_waits_for_what_is_away_sees_a_pause() {
    let target = Target::embedded();
    let (one, host) = beside_a_paused_one(&target, "UnavailableAlways", Value::Null);
    target.client().send(&one.from, &[], b"0").unwrap();
    wait_until("it is away", || host.did("one").calls.get() >= 2);
    the_other_gets(&host, 1);
    assert_eq!(host.drain(), Drained::Clean);
    assert_eq!(texts(&target.drain(&one.to)), ["0"]);
}
