//! /v1: what operators see of a host, what they can ask of it, and who may.
//!
//! Here a desk stands for the host: it serves /v1 as a host does, and the test itself answers what is asked.

mod commands;
mod document;
mod who;

use std::{
    collections::BTreeMap,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::PathBuf,
    sync::{Arc, Mutex, mpsc},
    thread,
};

use serde_json::{Value, json};
use stompbox::{
    admin::{Admin, Served},
    audit::Audit,
    control::{Answer, Asked, Change, Control, ControlError, Request, What},
    status::{Board, ProcessorStatus, Status},
};
use tokio::runtime::Runtime;

use crate::harness::{call, free_port, host::LIMIT};

/// Serves /v1, and hands what is asked to the test.
pub struct Desk {
    pub address: SocketAddr,
    pub audit: Arc<Audit>,
    runtime: Option<Runtime>,
}

impl Desk {
    /// A host with processors of these names; `asked` gets every request.
    pub fn open(processors: &[&str], token_file: Option<PathBuf>, asked: impl FnMut(Asked) + Send + 'static) -> Self {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let runtime = stompbox::commands::runtime().unwrap();
        let audit = Arc::new(Audit::default());
        let processors = processors.iter().map(|name| Arc::new(processor(name))).collect();
        let board = Arc::<Board>::default();
        board.post(Status { processors, ..Status::default() });
        let (control, mut requests) = Control::new();
        {
            let _inside = runtime.enter();
            let served = Served { board, audit: audit.clone(), control, token_file };
            Admin::bind(address).unwrap().serve(served).unwrap();
        }
        let mut asked = asked;
        thread::spawn(move || {
            while let Some(request) = requests.blocking_recv() {
                asked(request);
            }
        });
        Self { address, audit, runtime: Some(runtime) }
    }

    /// One that answers each request at once.
    pub fn answering(processors: &[&str], answer: impl Fn(&Request) -> Answer + Send + 'static) -> Self {
        Self::open(processors, None, move |asked| {
            let _ = asked.answer.send(answer(&asked.request));
        })
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        self.runtime.take().into_iter().for_each(Runtime::shutdown_background);
    }
}

fn processor(name: &str) -> ProcessorStatus {
    ProcessorStatus {
        name: name.into(),
        vo: "atlas".into(),
        in_queue: Some("in".into()),
        metrics: Arc::default(),
        guest: Arc::default(),
        in_work: Default::default(),
        unconfirmed: Arc::default(),
        stage: call::stage(),
    }
}

/// A change with all that it can have.
pub fn change(name: &str, what: What, detail: &str) -> Change {
    Change {
        name: name.into(),
        what,
        generation: Some(7),
        digest: Some("0123456789abcdef".repeat(4)),
        detail: detail.into(),
    }
}

/// Sends a request and reads the answer: the status, the headers and the body.
pub fn send(address: SocketAddr, head: &str, body: &str) -> (u16, BTreeMap<String, String>, Value) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    write!(stream, "{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).unwrap().parse().unwrap();
    let headers =
        lines.filter_map(|line| line.split_once(": ")).map(|(name, value)| (name.to_lowercase(), value.into()));
    (status, headers.collect(), serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}")))
}

fn ask(address: SocketAddr, request: &str, body: &str) -> (u16, Value) {
    let (status, _, answer) = send(address, &format!("{request} HTTP/1.1\r\nHost: 127.0.0.1"), body);
    (status, answer)
}

#[test]
fn what_operators_want_is_asked_of_the_host_and_told() {
    let (sender, requests) = mpsc::channel();
    let desk = Desk::answering(&[], move |request| {
        sender.send(request.clone()).unwrap();
        Ok(vec![change("a b/c", What::Paused, "")])
    });
    let name = || "a b/c".to_owned();
    for (path, body, request) in [
        ("/v1/processors/a%20b%2Fc/pause", "", Request::Pause { processor: name() }),
        ("/v1/processors/a%20b%2Fc/resume", "{}", Request::Resume { processor: name() }),
        ("/v1/processors/a%20b%2Fc/reload", "", Request::Reload { processor: Some(name()) }),
        ("/v1/processors/a%20b%2Fc/rollback", "", Request::RollBack { processor: name(), to: None }),
        ("/v1/processors/a%20b%2Fc/rollback", "{\"to\": 7}", Request::RollBack { processor: name(), to: Some(7) }),
        ("/v1/reload", "", Request::Reload { processor: None }),
        ("/v1/drain", "", Request::Drain),
    ] {
        let (status, answer) = ask(desk.address, &format!("POST {path}"), body);
        assert_eq!((status, requests.recv().unwrap()), (200, request), "{answer}");
        let digest = "0123456789abcdef".repeat(4);
        let told = json!({"name": "a b/c", "what": "paused", "generation": 7, "digest": digest});
        assert_eq!(answer, json!({"changes": [told]}));
    }
}

#[test]
fn what_is_not_done_has_its_code_and_its_reason() {
    for (error, code) in [
        (ControlError::Unknown("there is no processor \"on\"; did you mean \"one\"?".into()), 404),
        (ControlError::Refused("it imports wasi:sockets".into()), 409),
        (ControlError::Busy, 503),
        (ControlError::Ending, 503),
    ] {
        let text = error.to_string();
        let desk = Desk::answering(&[], move |_| Err(error.clone()));
        assert_eq!(ask(desk.address, "POST /v1/processors/on/reload", ""), (code, json!({"error": text})));
    }
    let desk = Desk::answering(&["push_status"], |request| panic!("{request:?} was not to be asked"));
    for (request, body, code, word) in [
        (
            "GET /v1/processors/psh_status",
            "",
            404,
            "there is no processor \"psh_status\"; did you mean \"push_status\"?",
        ),
        ("GET /v1/nothing", "", 404, "/v1/openapi.json"),
        ("GET /v1/reload", "", 405, "POST"),
        ("GET /v1/audit?last=many", "", 400, "?last=N"),
        ("POST /v1/processors/push_status/rollback", "{\"too\": 7}", 400, "too"),
        ("POST /v1/processors/push_status/rollback", "{\"to\": -1}", 400, "-1"),
        ("POST /v1/processors/one/pause", "{\"to\": 7}", 400, "to"),
        ("POST /v1/processors/%ff/pause", "", 400, "UTF-8"),
        ("POST /v1/reload", "[", 400, "the body"),
        ("POST /v1/reload", &" ".repeat(5_000), 413, "length limit"),
    ] {
        let (status, answer) = ask(desk.address, request, body);
        let told = answer["error"].as_str().unwrap();
        assert!(status == code && told.contains(word), "{request} {body}: {status} {told}");
    }
}

#[test]
fn the_last_entries_of_the_audit_log_are_told() {
    let desk = Desk::answering(&[], |_| Ok(vec![]));
    desk.audit.record("file", &change("one", What::Loaded, ""));
    desk.audit.record("admin", &change("one", What::RolledBack, "it traps\nand traps"));
    let (status, answer) = ask(desk.address, "GET /v1/audit?last=1", "");
    let entries = answer["entries"].as_array().unwrap();
    assert_eq!((status, entries.len()), (200, 1), "{answer}");
    assert_eq!((&entries[0]["what"], &entries[0]["who"]), (&json!("rolled-back"), &json!("admin")));
    assert_eq!(entries[0]["detail"], json!("it traps\\nand traps"));
    assert_eq!(ask(desk.address, "GET /v1/audit", "").1["entries"].as_array().unwrap().len(), 2);
    let changes =
        |what: &str| crate::operate::metric(desk.address, &format!("stompbox_changes_total{{what=\"{what}\"}}"));
    assert_eq!((changes("loaded"), changes("rolled-back"), changes("refused")), (1.0, 1.0, 0.0));
}

/// A component is compiled for minutes: its request lives on, while one that does not come whole ends as ever.
#[test]
fn a_change_may_take_long_and_a_slow_request_may_not() {
    let (sender, requests) = mpsc::channel();
    let desk = Desk::open(&[], None, move |asked| sender.send(asked).unwrap());
    let address = desk.address;
    let operator = thread::spawn(move || ask(address, "POST /v1/reload", ""));
    let asked = requests.recv_timeout(LIMIT).unwrap();
    let mut slow = TcpStream::connect(address).unwrap();
    slow.set_read_timeout(Some(LIMIT)).unwrap();
    write!(slow, "POST /v1/reload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{{").unwrap();
    // It is older than this one when this one has ended.
    let _ = slow.read_to_end(&mut Vec::new());
    asked.answer.send(Ok(vec![])).unwrap();
    assert_eq!(operator.join().unwrap(), (200, json!({"changes": []})));
    assert!(requests.try_recv().is_err(), "half a request is none");
}

/// Whoever waits for changes leaves room for those who watch.
#[test]
fn monitoring_is_answered_while_all_wait_for_changes() {
    let (sender, requests) = mpsc::channel();
    let answered = Arc::new(Mutex::new(Vec::new()));
    let desk = Desk::open(&[], None, move |asked| {
        sender.send(()).unwrap();
        answered.lock().unwrap().push(asked);
    });
    let waiting: Vec<_> = (0..32)
        .map(|_| {
            let mut stream = TcpStream::connect(desk.address).unwrap();
            write!(stream, "POST /v1/reload HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
            stream
        })
        .collect();
    (0..32).for_each(|_| requests.recv_timeout(LIMIT).unwrap());
    let busy = "the host is busy with other requests: try again";
    assert_eq!(ask(desk.address, "POST /v1/reload", ""), (503, json!({"error": busy})));
    assert_eq!(crate::operate::ask(desk.address, "/healthz").0, 200);
    drop(waiting);
}
