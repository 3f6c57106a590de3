//! A Stompbox in the test process, as `run` starts it, with one processor or a configuration of its own.

use std::{
    sync::{Arc, Once},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use stompbox::{
    app::{Drained, Prepared, Running},
    commands,
    config::Config,
    control::{Answer, Request},
    metrics::ProcessorMetrics,
    sandbox::{CompileConfig, CompileLimits},
    stage::StageReport,
    status::Status,
};
use tokio::runtime::Runtime;
use tracing::Level;

use super::{guests, target::Target};

/// How long anything may take before a test calls it lost.
pub const LIMIT: Duration = Duration::from_secs(60);

/// A host at work. Dropped without a drain it dies as a crashed host would: its sockets just close.
pub struct Host {
    running: Option<Running>,
    runtime: Option<Runtime>,
}

impl Host {
    /// Starts a configuration; `plugins` is added. Returns when every queue is subscribed.
    pub fn start(config: &Value) -> Self {
        Self::start_with(config, true, super::compile_config())
    }

    /// The same with other limits for the compiler.
    pub fn start_compiling(config: &Value, limits: CompileLimits) -> Self {
        Self::start_with(config, true, CompileConfig { limits, ..super::compile_config() })
    }

    /// The same where the configuration has warnings.
    pub fn start_warned(config: &Value) -> Self {
        Self::start_with(config, false, super::compile_config())
    }

    fn start_with(config: &Value, strict: bool, compile: CompileConfig) -> Self {
        let mut config = config.clone();
        if config.get("plugins").is_none() {
            config["plugins"] = json!([guests::plugins_dir()]);
        }
        tell_warnings();
        let loaded = Config::parse(&config.to_string(), "test.json".as_ref(), strict, &|_| None).unwrap();
        let prepared = Prepared::new(loaded.config, compile).unwrap();
        let runtime = commands::runtime().unwrap();
        let running = {
            let _inside = runtime.enter();
            prepared.start().unwrap()
        };
        runtime
            .block_on(async { tokio::time::timeout(LIMIT, running.ready()).await })
            .expect("every queue is subscribed");
        Self { running: Some(running), runtime: Some(runtime) }
    }

    /// The counters of a processor.
    pub fn did(&self, processor: &str) -> Arc<ProcessorMetrics> {
        self.running.as_ref().unwrap().metrics()[processor].clone()
    }

    /// Waits until that many deliveries of a processor have ended.
    pub fn wait_ended(&self, processor: &str, count: u64) {
        let did = self.did(processor);
        wait_until(&format!("{count} messages ended, {did:?}"), || did.ended() >= count);
    }

    /// Asks it for something, and waits until that is done.
    pub fn ask(&self, request: Request) -> Answer {
        let control = self.running.as_ref().unwrap().control();
        self.runtime.as_ref().unwrap().block_on(control.ask("a test", request))
    }

    /// What the lanes of a processor run.
    pub fn stage(&self, processor: &str) -> StageReport {
        let status = self.status();
        let found = status.processors.iter().find(|status| *status.name == *processor).expect("a processor");
        found.stage.report()
    }

    /// What there is to know of it.
    pub fn status(&self) -> Arc<Status> {
        self.running.as_ref().unwrap().status()
    }

    /// Messages of a queue that may be processed again unrecognised.
    pub fn repeats(&self, queue: &str) -> u64 {
        let status = self.status();
        let queue = status.queues.iter().find(|status| *status.name == *queue).expect("a queue that is read");
        queue.buffer.repeats()
    }

    /// Ends in good order.
    pub fn drain(self) -> Drained {
        self.drain_within(LIMIT)
    }

    /// Ends in good order if that takes no longer than this.
    pub fn drain_within(mut self, grace: Duration) -> Drained {
        let (running, runtime) = (self.running.take().unwrap(), self.runtime.take().unwrap());
        runtime.block_on(running.drain(grace))
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// What a host warns of is printed with the test that fails: its threads inherit what the test's own prints to.
fn tell_warnings() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let lines = tracing_subscriber::fmt().with_max_level(Level::WARN).with_ansi(false).with_test_writer();
        lines.try_init().expect("nobody else takes log lines");
    });
}

/// A configuration with one processor of the guest `hostile` between two queues of its own.
pub struct One {
    pub from: String,
    pub to: String,
    pub dead: String,
    pub config: Value,
}

impl One {
    /// `extra` is merged into the processor's object.
    pub fn new(target: &Target, class: &str, extra: Value) -> Self {
        Self::on(target, Target::destination(class), class, extra)
    }

    /// The same with an in queue of this name.
    pub fn on(target: &Target, from: String, class: &str, extra: Value) -> Self {
        let to = format!("{from}.out");
        let mut processor = json!({"module": "hostile", "name": class, "in_queue": "in", "out_queue": "out"});
        for (key, value) in extra.as_object().into_iter().flatten() {
            processor[key] = value.clone();
        }
        let config = json!({
            "mb_servers": {"mb": target.server()},
            "queues": {"in": {"server": "mb", "destination": from}, "out": {"server": "mb", "destination": to}},
            "processors": {"one": processor}
        });
        Self { dead: format!("{from}.DLQ"), from, to, config }
    }
}

impl One {
    /// Sends the outputs to another server.
    pub fn send_to(&mut self, server: Value) {
        self.config["mb_servers"]["other"] = server;
        self.config["queues"]["out"]["server"] = json!("other");
    }

    /// Adds the processor of another one, as `two` with the queues `in2` and `out2`.
    pub fn add(&mut self, other: &Self) {
        let mut two = other.config["processors"]["one"].clone();
        (two["in_queue"], two["out_queue"]) = (json!("in2"), json!("out2"));
        self.config["processors"]["two"] = two;
        for (key, from) in [("in2", "in"), ("out2", "out")] {
            self.config["queues"][key] = other.config["queues"][from].clone();
        }
    }
}

/// Waits for something that must come; fails with what it was after [`LIMIT`].
pub fn wait_until(what: &str, happened: impl FnMut() -> bool) {
    wait_within(LIMIT, what, happened);
}

/// The same with another limit.
pub fn wait_within(limit: Duration, what: &str, mut happened: impl FnMut() -> bool) {
    let until = Instant::now() + limit;
    while !happened() {
        assert!(Instant::now() < until, "did not happen within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
