//! A call of a component: nanoseconds on a warm instance, and with a fresh one for each message, with
//! fuel and deadline on.
//!
//! `cargo bench -p stompbox --profile release --bench call` (builds the plugins first)
#![allow(missing_docs, clippy::expect_used, reason = "a bench that cannot run says so by a panic")]

use std::{path::Path, process::Stdio, sync::Arc, time::SystemTime};

use bytes::Bytes;
use divan::Bencher;
use stompbox::{
    commands::{
        build::{DebugInfo, build_crate},
        compile_config,
    },
    delivery::Message,
    sandbox::{CompileConfig, Component, Counters, Engine, EngineConfig, Instance, Limits, Spec},
};

const BODY: &[u8] = br#"{"computingsite":"CERN-PROD","inputs":["EVNT.1._000001.pool.root"],"piloterrorcode":0,"piloterrordiag":null,"exeerrorcode":0,"exeerrordiag":null,"msg_type":"job_status","jobid":5123456789,"taskid":29999999,"status":"finished","timestamp":1718000000}"#;
const PLUGINS: [(&str, &str); 2] =
    [("status_report", "StatusReportMsgProcPlugin"), ("forwarding", "ForwardingMsgProcPlugin")];

fn main() {
    divan::main();
}

fn spec((plugin, class): (&str, &str)) -> Arc<Spec> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let out = tempfile::tempdir().expect("a temporary directory");
    let files = build_crate(&root.join("plugins").join(plugin), out.path(), DebugInfo::Names, Stdio::null())
        .expect("the plugin builds");
    let compile = CompileConfig { program: env!("CARGO_BIN_EXE_stompbox").into(), cache_dir: None, ..compile_config() };
    let engine = Engine::new(EngineConfig { max_instances: 16, compile }).expect("an engine");
    let bytes = std::fs::read(files.first().expect("one component")).expect("a readable component");
    Arc::new(Spec {
        component: Component::load(&engine, &bytes).expect("a component"),
        class: class.into(),
        processor: "bench".into(),
        vo: "".into(),
        generation: 1,
        limits: Limits::default(),
        params: "null".into(),
        out_queues: vec!["out".into()],
        default_queue: Some("out".into()),
        fresh: false,
        counters: Arc::new(Counters::default()),
    })
}

fn message(headers: usize) -> Message {
    let names: Vec<String> = (0..headers).map(|number| format!("header-{number}")).collect();
    Message {
        queue: "in".into(),
        headers: names.iter().map(|name| (name.as_str(), "a value of usual length")).collect(),
        body: Bytes::from_static(BODY),
        received_at: SystemTime::now(),
        stable_from: None,
    }
}

#[divan::bench(args = PLUGINS)]
fn warm(bencher: Bencher<'_, '_>, plugin: (&str, &str)) {
    let (spec, message) = (spec(plugin), message(8));
    let mut slot = Some(Instance::start(&spec).expect("an instance"));
    bencher.bench_local(|| {
        let called = slot.take().expect("put back below").process(&message, 1).expect("a good call");
        slot = Some(called.instance);
        called.fuel
    });
}

#[divan::bench(args = PLUGINS)]
fn fresh(bencher: Bencher<'_, '_>, plugin: (&str, &str)) {
    let (spec, message) = (spec(plugin), message(8));
    bencher
        .bench_local(|| Instance::start(&spec).expect("an instance").process(&message, 1).expect("a good call").fuel);
}
