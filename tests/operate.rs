//! What operators see: /healthz, /readyz and /metrics, and a log that never holds the host up.

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    harness::process::{program, terminate},
    harness::{
        activemq::ActiveMq,
        free_port, guests,
        host::{Host, LIMIT, One, wait_until},
        target::Target,
    },
};

/// Asks once; the status and the body.
pub fn ask(address: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

/// Where the host of a test answers.
pub fn admin() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, free_port()).into()
}

/// The value of one line of /metrics.
pub fn metric(address: SocketAddr, series: &str) -> f64 {
    let (status, page) = ask(address, "/metrics");
    assert_eq!(status, 200);
    let line = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {series} in\n{page}")).parse().unwrap()
}

fn wait_metric(address: SocketAddr, series: &str, value: f64) {
    wait_until(&format!("{series} {value}"), || metric(address, series) >= value);
    assert_eq!(metric(address, series), value, "{series}");
}

/// One processor of the guest `hostile` in VO atlas, with `admin`, on the embedded broker.
fn observed(target: &Target, class: &str, extra: Value) -> (One, SocketAddr) {
    let address = admin();
    let mut one = One::new(target, class, extra);
    one.config["admin"] = json!({"listen": address});
    one.config["vos"] = json!({"atlas": {}});
    one.config["processors"]["one"]["vo"] = json!("atlas");
    (one, address)
}

const ONE: &str = "{processor=\"one\",vo=\"atlas\"}";

fn settled(outcome: &str) -> String {
    format!("stompbox_messages_settled_total{{processor=\"one\",vo=\"atlas\",outcome=\"{outcome}\"}}")
}

fn failures(code: &str) -> String {
    format!("stompbox_call_failures_total{{processor=\"one\",vo=\"atlas\",code=\"{code}\"}}")
}

#[test]
fn metrics_count_what_is_forwarded() {
    let target = Target::embedded();
    let (one, address) = observed(&target, "Echo", json!({}));
    let host = Host::start(&one.config);
    for series in ["stompbox_messages_received_total", "stompbox_outputs_confirmed_total", "stompbox_calls_total"] {
        assert_eq!(metric(address, &format!("{series}{ONE}")), 0.0);
    }
    target.client().send_all(&one.from, &["a", "b", "c"]).unwrap();
    wait_metric(address, &settled("forwarded"), 3.0);
    for series in ["stompbox_messages_received_total", "stompbox_outputs_confirmed_total", "stompbox_calls_total"] {
        assert_eq!(metric(address, &format!("{series}{ONE}")), 3.0);
    }
    assert!(metric(address, &format!("stompbox_fuel_total{ONE}")) > 1_000.0);
    let labels = "processor=\"one\",vo=\"atlas\"";
    assert_eq!(metric(address, &format!("stompbox_settle_latency_seconds_count{{{labels}}}")), 3.0);
    assert!(metric(address, &format!("stompbox_settle_latency_seconds_sum{{{labels}}}")) > 0.0);
    assert_eq!(metric(address, &format!("stompbox_settle_latency_seconds_bucket{{le=\"+Inf\",{labels}}}")), 3.0);
    assert_eq!(metric(address, &format!("stompbox_call_fuel_count{{{labels}}}")), 3.0);
    assert!(metric(address, &format!("stompbox_call_fuel_sum{{{labels}}}")) > 1_000.0);
    assert_eq!(metric(address, &format!("stompbox_messages_in_flight{ONE}")), 0.0);
    drop(host);
}

#[test]
fn metrics_count_filtered_and_unsent() {
    let target = Target::embedded();
    let (mut one, address) = observed(&target, "Echo", json!({}));
    one.config["processors"]["one"].as_object_mut().unwrap().remove("out_queue");
    let _host = Host::start(&one.config);
    target.client().send_all(&one.from, &["a", "b"]).unwrap();
    wait_metric(address, &settled("filtered"), 2.0);
    assert_eq!(metric(address, &format!("stompbox_outputs_unsent_total{ONE}")), 2.0);
}

#[test]
fn metrics_count_failures_by_kind_retries_and_dead_letters() {
    for (class, code, extra) in [
        ("Panic", "trap", json!({})),
        ("Spin", "fuel", json!({"limits": {"fuel": 1_000_000}})),
        ("MemoryBomb", "memory", json!({})),
        ("BadHeader", "output-invalid", json!({})),
        ("OutputFlood", "output-limit", json!({})),
    ] {
        let target = Target::embedded();
        let (one, address) = observed(&target, class, extra);
        let _host = Host::start(&one.config);
        target.client().send(&one.from, &[], b"x").unwrap();
        wait_metric(address, &settled("dead_lettered"), 1.0);
        assert_eq!(metric(address, &failures(code)), 2.0, "{class}");
        assert_eq!(metric(address, &format!("stompbox_messages_retried_total{ONE}")), 1.0, "{class}");
    }
}

#[test]
fn metrics_show_starts_that_fail_and_what_waits_for_them() {
    let target = Target::embedded();
    let (mut one, address) = observed(&target, "InitFails", json!({}));
    one.config["queues"]["in"]["max_buffer_len"] = json!(7);
    one.config["queues"]["in"]["max_buffer_mb"] = json!(3);
    let host = Host::start(&one.config);
    target.client().send_all(&one.from, &["first", "second"]).unwrap();
    let of_queue = "{queue=\"in\",server=\"mb\",vo=\"atlas\"}";
    wait_metric(address, &format!("stompbox_buffer_waiting{of_queue}"), 2.0);
    wait_until("a start that failed", || metric(address, &failures("initialize")) >= 1.0);
    assert!(metric(address, &format!("stompbox_buffer_bytes{of_queue}")) >= 11.0);
    assert_eq!(metric(address, &format!("stompbox_buffer_max_waiting{of_queue}")), 7.0);
    assert_eq!(metric(address, &format!("stompbox_buffer_max_bytes{of_queue}")), f64::from(3 << 20));
    drop(host);
}

#[test]
fn metrics_show_what_is_held_and_what_is_in_flight() {
    let target = Target::embedded();
    let retry = json!({"retry": {"min_delay_ms": 600_000, "max_delay_ms": 600_000}});
    let (one, address) = observed(&target, "RetryAlways", retry);
    let _host = Host::start(&one.config);
    target.client().send(&one.from, &[], b"x").unwrap();
    wait_metric(address, "stompbox_buffer_held{queue=\"in\",server=\"mb\",vo=\"atlas\"}", 1.0);
    assert_eq!(metric(address, &format!("stompbox_messages_in_flight{ONE}")), 0.0);

    let target = Target::embedded();
    let (one, address) = observed(&target, "Sleep", json!({}));
    let _sleeping = Host::start(&one.config);
    target.client().send(&one.from, &[], b"x").unwrap();
    wait_metric(address, &format!("stompbox_messages_in_flight{ONE}"), 1.0);
}

#[test]
fn metrics_show_what_guests_count() {
    let target = Target::embedded();
    let (one, address) = observed(&target, "Count", json!({}));
    let _host = Host::start(&one.config);
    target.client().send_all(&one.from, &["a", "b", "c"]).unwrap();
    wait_metric(address, &settled("forwarded"), 3.0);
    let seen = "stompbox_guest_counter_total{processor=\"one\",vo=\"atlas\",name=\"seen\"}";
    assert_eq!(metric(address, seen), 3.0);
    assert_eq!(metric(address, &format!("stompbox_guest_counter_refused_total{ONE}")), 3.0);
}

#[test]
fn metrics_show_log_text_that_was_dropped() {
    let target = Target::embedded();
    let (one, address) = observed(&target, "LogFlood", json!({"limits": {"log_kb": 1}}));
    let _host = Host::start(&one.config);
    target.client().send(&one.from, &[], b"x").unwrap();
    wait_metric(address, &settled("forwarded"), 1.0);
    assert!(metric(address, &format!("stompbox_guest_log_dropped_bytes_total{ONE}")) > 1e6);
}

/// Every metric has its help, and names are those that Prometheus allows.
#[test]
fn the_page_of_metrics_is_well_formed() {
    let target = Target::embedded();
    let (mut one, address) = observed(&target, "Echo", json!({}));
    one.config["vos"]["cms"] = json!({});
    one.config["processors"]["two"] = one.config["processors"]["one"].clone();
    one.config["processors"]["two"]["vo"] = json!("cms");
    let _host = Host::start(&one.config);
    let (status, page) = ask(address, "/metrics");
    assert_eq!(status, 200);
    assert!(page.ends_with("# EOF\n"), "{page}");
    let shared = "stompbox_buffer_waiting{queue=\"in\",server=\"mb\",vo=\"atlas,cms\"} 0\n";
    assert!(page.contains(shared), "a queue that two VOs read has one series: {page}");
    let series: Vec<&str> = page.lines().filter_map(|line| Some(line.rsplit_once(' ')?.0)).collect();
    let series: Vec<&str> = series.into_iter().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(series.iter().collect::<BTreeSet<_>>().len(), series.len(), "each series once: {page}");
    for line in page.lines().filter(|line| !line.starts_with('#')) {
        let name: String = line.chars().take_while(|char| *char != '{' && *char != ' ').collect();
        let family =
            ["_total", "_count", "_sum", "_bucket"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(&name);
        assert!(name.starts_with("stompbox_"), "{line}");
        assert!(page.contains(&format!("# HELP {family} ")) && page.contains(&format!("# TYPE {family} ")), "{line}");
    }
    assert_eq!(ask(address, "/nothing").0, 404);
    let (status, body) = ask(address, "/healthz");
    let health: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &health["status"]), (200, &json!("alive")));
    assert!(health["version"].is_string() && health["wasmtime"].as_str().unwrap().starts_with("48."), "{body}");
}

#[test]
fn ready_follows_the_broker() {
    let mut broker = ActiveMq::own().unwrap();
    let target = Target::real(&broker);
    let (mut one, address) = observed(&target, "Echo", json!({}));
    one.config["guard_period"] = json!(0.5);
    let _host = Host::start(&one.config);
    let ready = || {
        let (status, body) = ask(address, "/readyz");
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((status == 200, status == 503), (body["ready"] == json!(true), body["ready"] == json!(false)));
        (status, body["missing"].to_string())
    };
    wait_until("ready", || ready().0 == 200);
    let link = "server=\"mb\",queue=\"in\",purpose=\"consume\",vo=\"\"";
    let here = format!("stompbox_connection_up{{{link},address=\"{}\"}}", target.address);
    assert_eq!(metric(address, &here), 1.0);
    assert_eq!(metric(address, &format!("stompbox_reconnects_total{{{link}}}")), 0.0);
    broker.stop().unwrap();
    wait_until("all three are missed", || ready().1.matches("mb").count() == 3);
    let (status, missing) = ready();
    assert_eq!(status, 503);
    assert!(missing.contains("queue in on server mb is not subscribed"), "{missing}");
    assert!(missing.contains("server mb is not connected for outputs"), "{missing}");
    assert!(missing.contains("server mb is not connected for dead-letters"), "{missing}");
    assert_eq!(metric(address, &here), 0.0);
    assert_eq!(ask(address, "/healthz").0, 200, "alive all the same");
    broker.start().unwrap();
    wait_until("ready again", || ready().0 == 200);
    assert_eq!(metric(address, &format!("stompbox_reconnects_total{{{link}}}")), 1.0);
}

/// Clients that say nothing must not keep others from their answers for ever.
#[test]
fn silent_clients_are_sent_away() {
    let target = Target::embedded();
    let (one, address) = observed(&target, "Echo", json!({}));
    let _host = Host::start(&one.config);
    let silent: Vec<TcpStream> = (0..20).map(|_| TcpStream::connect(address).unwrap()).collect();
    assert_eq!(ask(address, "/healthz").0, 200);
    drop(silent);
}

/// A host in a process of its own.
pub struct Running {
    child: Child,
    _dir: tempfile::TempDir,
}

fn config_file(one: &One) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let mut config = one.config.clone();
    config["plugins"] = json!([guests::plugins_dir()]);
    let file = dir.path().join("config.json");
    std::fs::write(&file, config.to_string()).unwrap();
    (dir, file)
}

impl Running {
    pub fn start(one: &One, args: &[&str], stderr: Stdio) -> Self {
        let (dir, file) = config_file(one);
        let mut command = program();
        command.args(["run", "--config"]).arg(file).args(args).stderr(stderr);
        Self { child: command.spawn().unwrap(), _dir: dir }
    }

    /// SIGTERM, then the exit code; fails when it does not come within the limit.
    fn terminate(&mut self) -> Option<i32> {
        terminate(&self.child);
        wait_until("the host ends", || self.child.try_wait().unwrap().is_some());
        self.child.wait().unwrap().code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn an_address_in_use_is_an_error_at_the_start() {
    let target = Target::embedded();
    let (mut one, _) = observed(&target, "Echo", json!({}));
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    one.config["admin"]["listen"] = json!(taken.local_addr().unwrap());
    let mut host = Running::start(&one, &[], Stdio::piped());
    let mut err = String::new();
    host.child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    assert_eq!(host.child.wait().unwrap().code(), Some(1), "{err}");
    assert!(err.contains("admin.listen: cannot listen on 127.0.0.1:") && err.contains("in use"), "{err}");
    assert!(!err.contains("subscribed") && !err.contains("lane"), "{err}");
}

/// Every line is one JSON object, also with what a hostile guest and a hostile message write into it.
#[test]
fn log_format_json_gives_one_object_a_line() {
    let target = Target::embedded();
    let one = One::new(&target, "LogFlood", json!({"verbose": true}));
    let mut host = Running::start(&one, &["--log-format", "json", "--log", "debug"], Stdio::piped());
    let lines = BufReader::new(host.child.stderr.take().unwrap()).lines().map_while(Result::ok);
    let mut objects =
        lines.map(|line| serde_json::from_str::<Value>(&line).unwrap_or_else(|error| panic!("{error}: {line}")));
    let subscribed = objects.find(|line| line["message"] == "subscribed").expect("the queue is subscribed");
    assert_eq!((&subscribed["queue"], &subscribed["level"]), (&json!("in"), &json!("INFO")));
    let nasty = "line\nbreak \"quoted\" \\ \u{1b}[31m\u{2028}\0";
    target.client().send(&one.from, &[("nasty", "a\nb\\c:d\"")], nasty.as_bytes()).unwrap();
    let guest = objects.find(|line| line["target"] == "guest").expect("the guest logs");
    assert_eq!(guest["processor"], "one");
    let processed = objects.find(|line| line["message"] == "processed").expect("verbose tells");
    assert_eq!((&processed["processor"], &processed["outcome"]), (&json!("one"), &json!("outputs")));
    terminate(&host.child);
    assert_eq!(objects.filter(|line| line["message"] == "totals").count(), 1, "flushed at the end");
    assert_eq!(host.child.wait().unwrap().code(), Some(0));
}

/// A full pipe behind standard error: lanes, drain and exit go on without it, and the loss is counted.
#[test]
fn a_log_that_nobody_reads_holds_nothing_up() {
    let target = Target::embedded();
    let (mut one, address) = observed(&target, "Echo", json!({"verbose": true, "n_threads": 2}));
    one.config["mb_servers"]["mb"]["verbose"] = json!(true);
    let mut host = Running::start(&one, &["--log", "trace", "--grace", "30"], Stdio::piped());
    let bodies: Vec<String> = (0..20_000).map(|number| number.to_string()).collect();
    target.client().send_all(&one.from, &bodies).unwrap();
    wait_until("the host answers", || TcpStream::connect(address).is_ok());
    let forwarded = "stompbox_messages_settled_total{processor=\"one\",vo=\"\",outcome=\"forwarded\"}"
        .replace("vo=\"\"", "vo=\"atlas\"");
    wait_until("all are forwarded", || metric(address, &forwarded) >= 20_000.0);
    assert!(metric(address, "stompbox_log_lines_dropped_total") > 0.0);
    let began = Instant::now();
    assert_eq!(host.terminate(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(30), "the drain is not the grace");
    assert_eq!(target.drain(&one.to).len(), 20_000);
}

/// The reader of the log is gone: no panic, no other exit code.
#[test]
fn a_log_reader_that_is_gone_is_no_failure() {
    let target = Target::embedded();
    let (one, address) = observed(&target, "Echo", json!({"verbose": true}));
    let mut host = Running::start(&one, &[], Stdio::piped());
    drop(host.child.stderr.take());
    wait_until("the host answers", || TcpStream::connect(address).is_ok());
    target.client().send_all(&one.from, &["a", "b"]).unwrap();
    wait_metric(address, &settled("forwarded"), 2.0);
    assert_eq!(host.terminate(), Some(0));
}

#[test]
fn commands_survive_a_reader_that_is_gone() {
    let target = Target::embedded();
    let (_dir, file) = config_file(&One::new(&target, "Echo", json!({})));
    let full = || std::fs::File::options().write(true).open("/dev/full").unwrap();
    let component = guests::component("hostile");
    for (args, code) in [
        (vec!["check", "--config", file.to_str().unwrap()], 0),
        (vec!["inspect", component.to_str().unwrap()], 0),
        (vec!["check", "--config", "no/such/file"], 64),
    ] {
        let status = program().args(&args).stdout(full()).stderr(full()).status().unwrap();
        assert_eq!(status.code(), Some(code), "{args:?}");
    }
}
