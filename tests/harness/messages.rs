//! Messages for the suites: statuses as PanDA sends them, with what the `status_report` processor must do with
//! each, and plain ones that can be told apart.

use fastrand::Rng;
use serde_json::{Map, Value, json};

use super::client::Msg;

/// What becomes of a message in the `status_report` processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Expected {
    /// The body leaves unchanged.
    Forwarded,
    /// Nothing leaves; the message is acknowledged.
    Filtered,
    /// The message goes to the dead letters.
    Rejected,
}

/// A message and what must become of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// What is special about it.
    pub name: &'static str,
    pub body: Vec<u8>,
    pub expected: Expected,
}

impl Case {
    pub fn new(name: &'static str, body: impl Into<Vec<u8>>, expected: Expected) -> Self {
        Self { name, body: body.into(), expected }
    }
}

/// The statuses of a task, how many of a thousand messages have it, and whether it is reported.
const TASK: &[(&str, u32, bool)] = &[
    ("defined", 40, true),
    ("ready", 120, true),
    ("scouting", 40, true),
    ("pending", 110, true),
    ("paused", 5, true),
    ("running", 210, true),
    ("prepared", 60, true),
    ("done", 90, true),
    ("finished", 50, true),
    ("failed", 20, true),
    ("broken", 15, true),
    ("aborted", 20, true),
    ("registered", 50, false),
    ("assigning", 60, false),
    ("scouted", 30, false),
    ("exhausted", 20, false),
    ("topreprocess", 20, false),
    ("finishing", 15, false),
    ("toretry", 10, false),
    ("aborting", 10, false),
    ("tobroken", 5, false),
];

/// The same for jobs.
const JOB: &[(&str, u32, bool)] = &[
    ("pending", 20, true),
    ("defined", 100, true),
    ("assigned", 70, true),
    ("activated", 150, true),
    ("starting", 120, true),
    ("running", 180, true),
    ("throttled", 5, true),
    ("finished", 130, true),
    ("failed", 40, true),
    ("cancelled", 10, true),
    ("closed", 20, true),
    ("sent", 40, false),
    ("holding", 50, false),
    ("transferring", 50, false),
    ("merging", 15, false),
];

/// Where the errors of a job can come from.
const COMPONENTS: [&str; 7] = ["pilot", "exe", "sup", "ddm", "brokerage", "jobdispatcher", "taskbuffer"];
const SITES: [&str; 5] = ["CERN-PROD", "BNL_ATLAS_2", "TRIUMF", "FZK-LCG2", "TOKYO_ATLAS"];

/// `n` messages, four of five about jobs; the same seed gives the same messages.
pub fn status_messages(n: usize, seed: u64) -> Vec<String> {
    let text = |case: Case| String::from_utf8(case.body).expect("JSON is text");
    status_cases(n, seed).into_iter().map(text).collect()
}

/// The same messages, each with what must become of it.
pub fn status_cases(n: usize, seed: u64) -> Vec<Case> {
    let mut random = Rng::with_seed(seed);
    (0..n).map(|index| if random.u8(0..5) == 0 { task(index, &mut random) } else { job(index, &mut random) }).collect()
}

fn task(index: usize, random: &mut Rng) -> Case {
    let (status, reported) = pick(TASK, random);
    let body = json!({
        "taskid": random.u32(29_000_000..31_000_000),
        "status": status,
        "timestamp": 1_718_000_000 + index,
        "msg_type": "task_status",
    });
    Case::new("task_status", body.to_string(), expected(reported))
}

fn job(index: usize, random: &mut Rng) -> Case {
    let (status, reported) = pick(JOB, random);
    let mut body = Map::new();
    let site = if random.u8(0..10) == 0 { Value::Null } else { json!(SITES[random.usize(0..SITES.len())]) };
    body.insert("computingsite".into(), site);
    body.insert("inputs".into(), inputs(random));
    errors(&mut body, status == "failed", random);
    if matches!(status, "finished" | "failed" | "cancelled" | "closed") {
        archived(&mut body, random);
    }
    body.insert("msg_type".into(), json!("job_status"));
    body.insert("jobid".into(), json!(5_123_000_000_u64 + u64::from(random.u32(0..1_000_000))));
    body.insert("taskid".into(), json!(random.u32(29_000_000..31_000_000)));
    body.insert("status".into(), json!(status));
    body.insert("timestamp".into(), json!(1_718_000_000 + index));
    Case::new("job_status", Value::Object(body).to_string(), expected(reported))
}

fn inputs(random: &mut Rng) -> Value {
    if random.u8(0..4) == 0 {
        return Value::Null;
    }
    let names = (0..random.u8(1..6))
        .map(|_| format!("EVNT.{:08}._{:06}.pool.root.1", random.u32(..100_000_000), random.u32(..1_000_000)));
    Value::from(names.collect::<Vec<_>>())
}

/// Every component has a code and a text; a failed job has one that says something.
fn errors(body: &mut Map<String, Value>, failed: bool, random: &mut Rng) {
    let guilty = failed.then(|| random.usize(0..COMPONENTS.len()));
    for (index, component) in COMPONENTS.iter().enumerate() {
        let (code, text) = if guilty == Some(index) {
            (json!(1305), json!("Failed to execute payload: exit code 65, \"Non-zero return code\" \u{2013} see log"))
        } else {
            (json!(0), Value::Null)
        };
        body.insert(format!("{component}errorcode"), code);
        body.insert(format!("{component}errordiag"), text);
    }
}

fn archived(body: &mut Map<String, Value>, random: &mut Rng) {
    for name in ["nevents", "ninputfiles", "noutputdatafiles", "ninputdatafiles"] {
        body.insert(format!("job_{name}"), json!(random.u16(0..2_000)));
    }
    for name in ["inputfilebytes", "outputfilebytes"] {
        body.insert(format!("job_{name}"), json!(random.u64(0..8_000_000_000)));
    }
    body.insert("job_hs06sec".into(), json!(random.u32(0..900_000)));
}

fn pick(table: &[(&'static str, u32, bool)], random: &mut Rng) -> (&'static str, bool) {
    let mut left = random.u32(0..table.iter().map(|(_, share, _)| share).sum());
    for (status, share, reported) in table {
        if left < *share {
            return (status, *reported);
        }
        left -= share;
    }
    unreachable!("the shares cover all numbers")
}

fn expected(reported: bool) -> Expected {
    if reported { Expected::Forwarded } else { Expected::Filtered }
}

#[test]
fn a_seed_gives_the_same_realistic_messages() {
    let cases = status_cases(10_000, 7);
    assert_eq!(cases, status_cases(10_000, 7));
    assert_ne!(cases, status_cases(10_000, 8));
    let share = |name, expected| {
        let of_kind = cases.iter().filter(|case| case.name == name);
        let (all, hits) =
            of_kind.fold((0, 0), |(all, hits), case| (all + 1, hits + usize::from(case.expected == expected)));
        100 * hits / all
    };
    assert!((75..82).contains(&share("task_status", Expected::Forwarded)));
    assert!((81..88).contains(&share("job_status", Expected::Forwarded)));
    assert!(cases.iter().all(|case| serde_json::from_slice::<Value>(&case.body).is_ok_and(|body| body.is_object())));
}

/// That many bodies that can be told apart, in the order of their numbers.
pub fn numbered(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("message {number:05}")).collect()
}

/// What messages say, in order of the text: brokers and lanes promise none.
pub fn texts(messages: &[Msg]) -> Vec<String> {
    let mut texts = texts_in_order(messages);
    texts.sort();
    texts
}

/// What messages say, in the order in which they came.
pub fn texts_in_order(messages: &[Msg]) -> Vec<String> {
    messages.iter().map(Msg::text).collect()
}
