//! Tests of whole files, and the helpers for the tests next to each type.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed test is the answer")]

use insta::assert_snapshot;
use serde_json::{Value, json};

use super::*;
use crate::retry::RetryPolicy;

const FILE: &str = "/etc/stompbox/config.json";

const PROCESSORS: &str = include_str!("../../tests/data/message-processors.json");
const SENDERS_JEDI: &str = include_str!("../../tests/data/senders-jedi.json");
const SENDERS_SERVER: &str = include_str!("../../tests/data/senders-server.json");

/// A file with one server `mb`, one queue `q` and one processor `p`, and these changes to it. A
/// path such as `queues.q.enable` is made when it is not there.
pub(super) fn text(changes: &[(&str, Value)]) -> String {
    let mut tree = json!({
        "mb_servers": {"mb": {"host_port_list": ["broker.example.org:61613"]}},
        "queues": {"q": {"server": "mb", "destination": "/queue/q"}},
        "processors": {"p": {"module": "a.b", "name": "P", "in_queue": "q"}}
    });
    for (path, value) in changes {
        let place = path.split('.').fold(&mut tree, |place, key| &mut place[key]);
        *place = value.clone();
    }
    tree.to_string()
}

/// Reads a text with a small environment.
pub(super) fn parse(text: &str, strict: bool) -> Result<Loaded, ConfigError> {
    let env = |name: &str| match name {
        "BROKERS" => Some("one.example.org:1, [::1]:2".to_owned()),
        "USER_NAME" => Some("from-env".to_owned()),
        "EMPTY" => Some(String::new()),
        "TWO_LINES" => Some("a\nb".to_owned()),
        _ => None,
    };
    Config::parse(text, Path::new(FILE), strict, &env)
}

/// The configuration of a file with these changes, which must be valid.
pub(super) fn config(changes: &[(&str, Value)]) -> Config {
    parse(&text(changes), false).map_err(|error| error.to_string()).unwrap().config
}

/// The warnings about a file with these changes, which must be valid.
pub(super) fn warnings(changes: &[(&str, Value)]) -> String {
    let loaded = parse(&text(changes), false).map_err(|error| error.to_string()).unwrap();
    let lines: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

/// The problems of a file with these changes.
pub(super) fn problems(changes: &[(&str, Value)]) -> String {
    problems_of(&text(changes), false)
}

fn problems_of(text: &str, strict: bool) -> String {
    match parse(text, strict) {
        Err(ConfigError::Invalid { problems, .. }) => {
            let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
            lines.join("\n")
        }
        other => format!("{other:?}"),
    }
}

#[test]
fn the_example_of_the_document_loads_unchanged() {
    let Loaded { config, warnings } = parse(PROCESSORS, true).unwrap();
    assert_eq!(warnings, []);
    assert_eq!((config.servers.len(), config.queues.len(), config.processors.len()), (3, 5, 5));
}

#[test]
fn the_servers_of_the_document_have_its_defaults() {
    let config = parse(PROCESSORS, true).unwrap().config;
    let idds = &config.servers["iDDS_mb"];
    assert_eq!(idds.addresses[0].to_string(), "some-mb.cern.ch:1234");
    assert_eq!(idds.username.as_deref(), Some("<username>"));
    assert_eq!((idds.vhost.as_deref(), &idds.tls), (None, &None));
    assert_eq!((idds.send_heartbeat, idds.recv_heartbeat), (Duration::from_secs(60), Duration::ZERO));
    let rucio = &config.servers["rucio_mb"];
    assert_eq!((&rucio.username, rucio.verbose), (&None, false));
    assert_eq!(rucio.vhost.as_deref(), Some("/"));
    assert_eq!(rucio.tls.as_ref().unwrap().cert_file, Some(PathBuf::from("/path/of/cert")));
    assert_eq!(config.servers["internal_mb"].send_heartbeat, Duration::from_secs(15));
}

#[test]
fn the_queues_of_the_document_have_its_defaults() {
    let config = parse(PROCESSORS, true).unwrap().config;
    let queue = &config.queues["rucio-events"];
    assert_eq!((queue.enable, queue.use_transaction, queue.verbose), (true, true, false));
    assert_eq!((queue.ack_mode, queue.max_buffer_len), (AckMode::ClientIndividual, 999));
    assert_eq!(queue.buffer_block, Duration::from_secs(10));
    assert!(config.queues["idds"].verbose, "its server is verbose");
    let feeder = &config.queues["jedi_contents_feeder"];
    assert_eq!((feeder.max_buffer_len, feeder.verbose), (1, true));
    assert_eq!(feeder.buffer_block, Duration::from_secs(1));
    assert_eq!(config.queues["jedi_jobtaskstatus"].ack_mode, AckMode::Auto);
}

#[test]
fn the_processors_of_the_document_have_its_defaults() {
    let config = parse(PROCESSORS, true).unwrap().config;
    let processor = &config.processors["panda-callback"];
    assert_eq!((processor.enable, processor.n_threads, processor.verbose), (true, 1, false));
    assert_eq!((processor.in_queue.as_deref(), &processor.out_queue), (Some("rucio-events"), &None));
    assert_eq!(processor.class, "PandaCallbackMsgProcPlugin");
    assert_eq!(processor.params, Value::Null);
    assert_eq!(config.processors["push_jobtask_status"].n_threads, 2);
    assert_eq!(config.active_processors().count(), 5);
}

#[test]
fn the_senders_of_the_document_load_without_processors() {
    for (text, queues) in [(SENDERS_JEDI, 3), (SENDERS_SERVER, 1)] {
        let Loaded { config, warnings } = parse(text, true).unwrap();
        assert_eq!(warnings, []);
        assert_eq!((config.queues.len(), config.processors.len()), (queues, 0));
    }
}

#[test]
fn our_additions_have_their_defaults() {
    let config = config(&[]);
    assert_eq!(config.plugins, [PathBuf::from("/etc/stompbox/plugins")]);
    assert_eq!((&config.state_dir, &config.admin, config.max_instances), (&None, &None, None));
    assert_eq!(config.guard_period, Duration::from_secs(30));
    assert_eq!(config.max_hold, Duration::from_secs(600));
    assert_eq!(config.buffer_bytes, 512 << 20);
    assert_eq!(config.limits, Limits::default());
    let queue = &config.queues["q"];
    assert!(queue.persistent);
    assert_eq!((queue.max_buffer_bytes, &queue.retry), (64 << 20, &None));
    let processor = &config.processors["p"];
    assert_eq!(processor.retry, RetryPolicy::default());
    assert_eq!(processor.limits, Limits::default());
    assert_eq!(processor.instance, InstanceMode::Warm);
    assert_eq!((processor.interval, processor.unconfirmed_bytes), (Duration::from_secs(1), 64 << 20));
}

#[test]
fn all_problems_of_a_file_are_reported_at_once() {
    let broken = r#"{
        "mb_servers": {
            "mb": {"host_port_list": ["broker.example.org"], "use_ssl": "yes", "conect": "any"},
            "other": {"username": "me"}
        },
        "queues": {
            "idds": {"server": "md", "destination": "/queue/idds", "ack_mode": "clientindividual"},
            "full": {"server": "mb", "destination": "", "max_buffer_len": -1, "enable": null},
            "list": []
        },
        "procesors": {},
        "processors": {
            "p": {"module": "../../etc", "in_queue": "ids", "n_threads": 1.5, "params": 7},
            "p": {"module": "../../etc", "in_queue": "ids", "n_threads": 1.5, "params": 7}
        }
    }"#;
    assert_snapshot!(parse(broken, false).unwrap_err(), @r#"
    /etc/stompbox/config.json: 13 problems
      mb_servers.mb.host_port_list[0]: has no port; write "host:port", such as "broker.example.org:61613"
      mb_servers.mb.use_ssl: must be true or false, not a text
      mb_servers.other.host_port_list: missing: this key is mandatory
      queues.full.destination: must not be empty
      queues.full.max_buffer_len: must be a whole number from 1 to 1000000, not -1
      queues.idds.server: there is no server "md"; did you mean "mb"?
      queues.idds.ack_mode: "clientindividual" is not a choice here; did you mean "client-individual"?
      queues.list: must be an object {...}, not a list
      processors.p.in_queue: there is no queue "ids"; did you mean "idds"?
      processors.p.module: must be names of letters, digits, _ and - with single dots between them, of at most 255 bytes in all
      processors.p.name: missing: this key is mandatory
      processors.p.n_threads: must be a whole number from 1 to 256, not 1.5
      processors.p.params: must be an object {...}, not a number
      warning: processors.p: given twice in the same object: only the last one counts
      warning: mb_servers.mb.conect: unknown key; did you mean "connect"?
      warning: procesors: unknown key; did you mean "processors"?
    "#);
}

#[test]
fn unknown_and_duplicate_keys_are_warnings_and_errors_when_strict() {
    let text = r#"{"mb_servers": {}, "queue": {}, "queues": {}, "mb_servers": {}}"#;
    let warnings = parse(text, false).unwrap().warnings;
    let warnings: Vec<String> = warnings.iter().map(ToString::to_string).collect();
    assert_snapshot!(warnings.join("\n"), @r#"
    mb_servers: given twice in the same object: only the last one counts
    queue: unknown key; did you mean "queues"?
    "#);
    assert_eq!(problems_of(text, true), warnings.join("\n"));
}

#[test]
fn the_top_level_must_be_an_object_with_servers_and_queues() {
    assert_snapshot!(problems_of("[]", false), @"(top level): must be an object {...}, not a list");
    assert_snapshot!(problems_of("{}", false), @"
    mb_servers: missing: this key is mandatory
    queues: missing: this key is mandatory
    ");
    assert_snapshot!(problems_of(r#"{"mb_servers": [], "queues": {"": 1}}"#, false), @r#"
    mb_servers: must be an object {...}, not a list
    queues[""]: a name must not be empty or contain control characters
    queues[""]: must be an object {...}, not a number
    "#);
}

#[test]
fn null_means_not_given() {
    let nulls = text(&[]).replace(
        "\"name\"",
        r#""enable": null, "n_threads": null, "out_queue": null, "out_queues": null, "vo": null,
        "limits": null, "retry": null, "dead_letter": null, "instance": null, "interval_ms": null,
        "params": null, "verbose": null, "unconfirmed_mb": null, "name""#,
    );
    assert_eq!(parse(&nulls, true).unwrap().config, config(&[]));
}

#[test]
fn the_host_has_its_own_settings() {
    let config = config(&[
        ("plugins", json!(["a", "/b"])),
        ("state_dir", json!("state")),
        ("guard_period", json!(0.5)),
        ("admin.listen", json!("[::1]:9613")),
        ("admin.token_file", json!("token")),
    ]);
    assert_eq!(config.plugins, [PathBuf::from("/etc/stompbox/a"), PathBuf::from("/b")]);
    assert_eq!(config.state_dir, Some(PathBuf::from("/etc/stompbox/state")));
    assert_eq!(config.guard_period, Duration::from_millis(500));
    let admin = config.admin.unwrap();
    assert_eq!(admin.listen.to_string(), "[::1]:9613");
    assert_eq!(admin.token_file, Some(PathBuf::from("/etc/stompbox/token")));
    assert_snapshot!(problems(&[
        ("plugins", json!(["", 1])),
        ("guard_period", json!(0)),
        ("admin.listen", json!("localhost:9613")),
        ("max_instances", json!(0)),
    ]), @r#"
    plugins[0]: must not be empty or contain control characters
    plugins[1]: must be a text in quotes, not a number
    guard_period: must be a number of seconds from 0.1 to 3600, not 0
    admin.listen: must be address:port, such as "127.0.0.1:9613"
    max_instances: must be a whole number from 1 to 16384, not 0
    "#);
    let (open, token) = (("admin.listen", json!("0.0.0.0:9613")), ("admin.token_file", json!("token")));
    assert_snapshot!(warnings(std::slice::from_ref(&open)), @r#"admin.listen: can be reached from other machines: /healthz, /readyz and /metrics are open to them, and /v1 answers nobody until there is a "token_file""#);
    assert_eq!(warnings(&[open, token]), "");
    assert_eq!(warnings(&[("admin.listen", json!("[::ffff:127.0.0.1]:9613"))]), "");
}

#[test]
fn a_file_that_cannot_be_read_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let load = |file: &Path| {
        let error = Config::load(file, false).unwrap_err().to_string();
        error.replace(&dir.path().display().to_string(), "DIR")
    };
    let latin1 = dir.path().join("latin1.json");
    std::fs::write(&latin1, b"{\n\"a\": \"\xe9\"}").unwrap();
    assert_snapshot!(load(&dir.path().join("none.json")), @"cannot read the configuration DIR/none.json: there is no such file");
    assert_snapshot!(load(dir.path()), @"cannot read the configuration DIR: it is a directory, not a file");
    assert_snapshot!(load(&latin1), @"DIR/latin1.json: line 2 is not UTF-8: save the file as UTF-8");
}

#[test]
fn a_file_is_loaded_with_paths_from_its_directory() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config.json");
    std::fs::write(&file, SENDERS_JEDI).unwrap();
    let config = Config::load(&file, true).unwrap().config;
    assert_eq!(config.plugins, [dir.path().join("plugins")]);
}

#[test]
fn passcodes_are_never_printed() {
    const SECRET: &str = "s3cret-passcode";
    let loaded = parse(&text(&[("mb_servers.mb.passcode", json!(SECRET))]), false).unwrap();
    assert_eq!(loaded.config.servers["mb"].passcode.as_ref().unwrap().expose(), SECRET);
    assert!(!format!("{loaded:?}").contains(SECRET));
    for wrong in [json!([SECRET]), json!(format!("{SECRET}\n")), json!(format!("${{{SECRET}}}"))] {
        let error = parse(&text(&[("mb_servers.mb.passcode", wrong)]), false).unwrap_err();
        assert!(!format!("{error} {error:?}").contains(SECRET), "{error}");
    }
    let number = problems(&[("mb_servers.mb.passcode", json!(271_828))]);
    assert_eq!(number, "mb_servers.mb.passcode: must be a text in quotes, not a number");
    let url = format!("stomp://me:{SECRET}@broker.example.org:61613");
    assert!(!problems(&[("mb_servers.mb.host_port_list", json!([url]))]).contains(SECRET));
}

proptest::proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "\\PC{0,64}") {
        let _ = parse(&text, false);
    }

    #[test]
    fn no_number_makes_it_panic(number: f64, whole: i64) {
        for value in [json!(number), json!(whole)] {
            let _ = problems(&[
                ("guard_period", value.clone()),
                ("limits.fuel", value.clone()),
                ("queues.q.buffer_block_sec", value.clone()),
                ("processors.p.n_threads", value),
            ]);
        }
    }
}

#[test]
fn a_pool_smaller_than_the_lanes_is_warned_about() {
    let lanes = ("processors.p.n_threads", json!(5));
    assert_snapshot!(warnings(&[lanes.clone(), ("max_instances", json!(4))]), @"max_instances: is less than the 5 lanes (n_threads) of the processors, each of which keeps an instance: some are made on demand, which is slower");
    assert_eq!(warnings(&[lanes.clone(), ("max_instances", json!(5))]), "");
    assert_eq!(config(&[lanes, ("max_instances", json!(5))]).max_instances, Some(5));
}
