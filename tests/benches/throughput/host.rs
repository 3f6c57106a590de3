//! The contender: the host as `run` starts it, with the status report in one lane.

use std::{
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use anyhow::Context;
use e2e::harness;
use stompbox::{
    app::{Drained, Prepared},
    commands,
    config::Config,
    dev_broker::{BrokerOptions, DevBroker},
};

use super::{Target, floor};

/// The embedded broker on threads of its own.
pub(crate) struct Embedded {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    _runtime: tokio::runtime::Runtime,
}

/// Starts it.
pub(crate) fn embedded() -> anyhow::Result<Embedded> {
    let runtime = commands::runtime()?;
    let options = BrokerOptions { memory_bytes: 2 << 30, ..BrokerOptions::default() };
    let broker = runtime.block_on(DevBroker::bind(([127, 0, 0, 1], 0).into(), options))?;
    let address = broker.local_addr();
    runtime.spawn(broker.run(std::future::pending::<()>()));
    Ok(Embedded { address, _runtime: runtime })
}

/// Status messages of usual size, all of which the plugin forwards.
pub(crate) fn bodies(count: usize) -> Vec<String> {
    (0..count)
        .map(|number| {
            format!(
                r#"{{"computingsite":"CERN-PROD","inputs":["EVNT.1._{number:06}.pool.root"],"piloterrorcode":0,"piloterrordiag":null,"exeerrorcode":0,"exeerrordiag":null,"msg_type":"job_status","jobid":{},"taskid":29999999,"status":"finished","timestamp":1718000000}}"#,
                5_000_000_000_u64 + number as u64
            )
        })
        .collect()
}

/// Moves the messages through the status report; returns messages a second.
pub(crate) fn run(target: &Target, queue: &str, count: usize) -> anyhow::Result<f64> {
    floor::fill(target, &format!("{queue}.in"), &bodies(count))?;
    let (user, passcode) = target.login.unzip();
    let config = serde_json::json!({
        "plugins": [harness::guests::plugins_dir()],
        "mb_servers": {"mb": {"host_port_list": [target.address.to_string()], "username": user, "passcode": passcode}},
        "queues": {
            "in": {"server": "mb", "destination": format!("/queue/{queue}.in")},
            "out": {"server": "mb", "destination": format!("/queue/{queue}.out")},
        },
        "processors": {"status": {
            "module": "pandajedi.jedimsgprocessor.status_report_msg_processor",
            "name": "StatusReportMsgProcPlugin",
            "in_queue": "in", "out_queue": "out"
        }}
    });
    let loaded = Config::parse(&config.to_string(), "bench.json".as_ref(), false, &|_| None)?;
    let prepared = Prepared::new(loaded.config, e2e::harness::compile_config())?;
    let runtime = commands::runtime()?;
    let _inside = runtime.enter();
    let began = Instant::now();
    let running = prepared.start()?;
    let did = running.metrics().get("status").cloned().context("no such processor")?;
    while did.forwarded.get() < count as u64 {
        anyhow::ensure!(began.elapsed() < Duration::from_secs(300), "stuck at {} of {count}", did.forwarded.get());
        thread::sleep(Duration::from_millis(2));
    }
    let rate = count as f64 / began.elapsed().as_secs_f64();
    let drained = runtime.block_on(running.drain(Duration::from_secs(30)));
    anyhow::ensure!(drained == Drained::Clean, "the drain left something");
    Ok(rate)
}
