//! `stompbox demo`: the whole thing on one machine, real but for the broker.
//!
//! The same [`crate::app`] that `run` starts, between queues of the embedded broker: PanDA's status
//! report on realistic messages, malformed ones among them, and beside it a component that spins.

mod messages;
mod table;

use std::{
    fs,
    io::IsTerminal,
    path::{Path, PathBuf},
    process::{ExitCode, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::sync::{Semaphore, watch};

use self::{messages::Generator, table::Row};
use crate::{
    app::{Prepared, Running},
    cli,
    client::{ConnectOptions, Phase, Producer, SendRequest},
    config::Config,
    console::say,
    dev_broker::{BrokerHandle, BrokerOptions, DevBroker},
};

/// Messages that make the neighbour spin.
const SPINS: u32 = 6;
/// How much the spinner may use: enough to see it spin, not enough to wait for.
const SPIN_FUEL: u64 = 50_000_000;
/// Messages on their way from the sender: the broker confirms each.
const SEND_WINDOW: usize = 2_000;
/// Nothing settled for so long means that something is stuck.
const STUCK: Duration = Duration::from_secs(60);

/// Runs the demo to its end.
///
/// # Errors
/// The plugins cannot be built, or the machine refuses a socket or a thread.
pub fn demo(args: &cli::Demo) -> anyhow::Result<ExitCode> {
    let source = args.source.clone().map_or_else(find_source, Ok)?;
    let dir = tempfile::tempdir().context("cannot create a temporary directory")?;
    build_plugins(&source, &dir.path().join("plugins"))?;
    super::runtime()?.block_on(play(args, dir.path()))
}

/// The repository around the current directory.
fn find_source() -> anyhow::Result<PathBuf> {
    let here = std::env::current_dir()?;
    let is_source = |dir: &&Path| dir.join("plugins/status_report/Cargo.toml").is_file();
    let found = here.ancestors().find(is_source).map(Path::to_owned);
    found.context("the demo builds its plugins from source: run it inside the repository, or name it with --source DIR")
}

fn build_plugins(source: &Path, out: &Path) -> anyhow::Result<()> {
    if !super::build::target_installed()? {
        say(format_args!("Adding the Rust target for components ..."));
        super::build::add_target()?;
    }
    for (plugin, what) in
        [("plugins/status_report", "PanDA's status report"), ("tests/guests/hostile", "a component that misbehaves")]
    {
        say(format_args!("Building {what} ({plugin}) ..."));
        let began = Instant::now();
        super::build::build_crate(&source.join(plugin), out, super::build::DebugInfo::Names, Stdio::null()).or_else(
            |_| {
                // Again with cargo's own words, which say what is wrong.
                super::build::build_crate(&source.join(plugin), out, super::build::DebugInfo::Names, Stdio::inherit())
            },
        )?;
        say(format_args!("  done in {:.1} s", began.elapsed().as_secs_f64()));
    }
    Ok(())
}

async fn play(args: &cli::Demo, dir: &Path) -> anyhow::Result<ExitCode> {
    let broker = DevBroker::bind(([127, 0, 0, 1], 0).into(), BrokerOptions::default()).await?;
    let (handle, address) = (broker.handle(), broker.local_addr());
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = tokio::spawn(broker.run(async {
        let _ = stopped.await;
    }));
    say(format_args!(
        "Embedded development broker on {address} (in memory; production runs on ActiveMQ, Artemis or RabbitMQ)"
    ));
    let file = dir.join("demo.json");
    fs::write(&file, configuration(&address.to_string()))?;
    let loaded = Config::load(&file, true)?;
    let running = Prepared::new(loaded.config, super::compile_config())?.start()?;
    running.ready().await;
    let code = feed_and_watch(args, address, running, &handle).await?;
    let _ = stop.send(());
    serving.await?;
    Ok(code)
}

/// The document's `push_jobtask_status`, with an out queue to see what it sends, and a neighbour.
fn configuration(address: &str) -> String {
    let queue = |name: &str| serde_json::json!({"server": "internal_mb", "destination": format!("/queue/{name}")});
    serde_json::json!({
        "mb_servers": {"internal_mb": {"host_port_list": [address], "send_heartbeat_ms": 15000, "vhost": "/"}},
        "queues": {
            "jedi_jobtaskstatus": queue("jedi_jobtaskstatus"),
            "panda_idds": queue("doma.panda_idds"),
            "spin": queue("spin"),
        },
        "processors": {
            "push_jobtask_status": {
                "enable": true,
                "module": "pandajedi.jedimsgprocessor.status_report_msg_processor",
                "name": "StatusReportMsgProcPlugin",
                "n_threads": 2,
                "in_queue": "jedi_jobtaskstatus",
                "out_queue": "panda_idds"
            },
            "spinner": {"module": "hostile", "name": "Spin", "in_queue": "spin", "limits": {"fuel": SPIN_FUEL}}
        }
    })
    .to_string()
}

async fn feed_and_watch(
    args: &cli::Demo,
    address: std::net::SocketAddr,
    running: Running,
    broker: &BrokerHandle,
) -> anyhow::Result<ExitCode> {
    let began = Instant::now();
    let (finish, phase) = watch::channel(Phase::Run);
    let (producer, task) = Producer::new(sender_options(address), phase);
    let sending = tokio::spawn(task.run());
    let total = u64::from(args.messages);
    let feeding = tokio::spawn(feed(producer, args.messages));
    let status = running.metrics().get("push_jobtask_status").cloned().context("no such processor")?;
    let spinner = running.metrics().get("spinner").cloned().context("no such processor")?;
    let bar = progress_bar(total);
    let mut rows = [Row::new("push_jobtask_status", total, status), Row::new("spinner", u64::from(SPINS), spinner)];
    let (mut last, mut moved) = (0, Instant::now());
    while !rows.iter().all(Row::is_finished) {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let ended = rows.iter().map(|row| row.did.ended()).sum();
        if ended != last {
            (last, moved) = (ended, Instant::now());
        }
        ensure!(
            moved.elapsed() < STUCK,
            "nothing was settled for {} s: this is a bug, please report it",
            STUCK.as_secs()
        );
        rows.iter_mut().for_each(|row| row.note_end(began));
        show(&bar, &rows);
    }
    bar.finish_and_clear();
    feeding.await?;
    finish.send_replace(Phase::Finish);
    sending.await?;
    running.drain(Duration::from_secs(30)).await;
    let balanced = table::print(&rows, broker);
    Ok(if balanced { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn sender_options(address: std::net::SocketAddr) -> ConnectOptions {
    let options = ConnectOptions::new("demo sender", vec![address.into()]);
    ConnectOptions { max_backoff: Duration::from_secs(5), ..options }
}

/// Sends everything, at most [`SEND_WINDOW`] unconfirmed at a time.
async fn feed(producer: Producer, messages: u32) {
    let window = Arc::new(Semaphore::new(SEND_WINDOW));
    let mut generator = Generator::new(1);
    let every = (messages / SPINS).max(1);
    for number in 0..messages.max(SPINS) {
        let spin = (number % every == 0 && number / every < SPINS).then(|| ("/queue/spin", "spin".into()));
        let status = (number < messages).then(|| ("/queue/jedi_jobtaskstatus", generator.next()));
        for (destination, body) in status.into_iter().chain(spin) {
            let Ok(permit) = window.clone().acquire_owned().await else { return };
            let request = SendRequest { destination: destination.into(), headers: Vec::new(), body, as_bytes: false };
            producer.send(request, false, Box::new(move |_| drop(permit)));
        }
    }
    let _all = window.acquire_many(u32::try_from(SEND_WINDOW).unwrap_or(u32::MAX)).await;
}

fn progress_bar(total: u64) -> ProgressBar {
    let bar = ProgressBar::new(total);
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {human_pos}/{human_len} {per_sec:.0}  {msg}") {
        bar.set_style(style);
    }
    bar
}

/// Moves the bar; where there is no terminal, prints a line about every tenth.
fn show(bar: &ProgressBar, [status, spinner]: &[Row; 2]) {
    let (did, ended) = (&status.did, status.did.ended());
    bar.set_position(ended);
    bar.set_message(format!(
        "{} forwarded, {} filtered, {} dead-lettered; spinner stopped {} times",
        did.forwarded.get(),
        did.filtered.get(),
        did.dead_lettered.get(),
        spinner.did.failures.get()
    ));
    let tenth = (status.sent / 10).max(1);
    if !std::io::stderr().is_terminal() && ended / tenth > bar.prefix().parse().unwrap_or(0) {
        bar.set_prefix((ended / tenth).to_string());
        say(format_args!("  {ended} of {} settled: {}", status.sent, bar.message()));
    }
}
