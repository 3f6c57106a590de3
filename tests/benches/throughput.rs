//! In -> process -> out, messages a second: Stompbox beside a bare STOMP client with the same guarantee
//! (ACK after the RECEIPT of the output), interleaved rounds on the same warm broker, as ratios.
//!
//! `cargo bench -p e2e --profile release --bench throughput [-- --broker embedded|activemq] [--messages N] [--rounds N]`

#![allow(missing_docs, clippy::expect_used, reason = "a bench that cannot run says so by a panic")]

#[path = "throughput/floor.rs"]
mod floor;
#[path = "throughput/host.rs"]
mod host;

use std::net::SocketAddr;

use anyhow::{Context, bail};
use e2e::harness;

/// Where to run, how much, how often.
struct Plan {
    brokers: Vec<String>,
    messages: usize,
    rounds: usize,
}

/// A broker that was started for this run.
pub(crate) struct Target {
    /// Its STOMP port.
    pub(crate) address: SocketAddr,
    /// Its login.
    pub(crate) login: Option<(String, String)>,
}

fn main() -> anyhow::Result<()> {
    let plan = plan()?;
    println!("{:<10} {:>5}  {:>12} {:>12} {:>7}", "broker", "round", "floor msg/s", "host msg/s", "ratio");
    for broker in &plan.brokers {
        match broker.as_str() {
            "embedded" => {
                let embedded = host::embedded()?;
                compare(broker, &Target { address: embedded.address, login: None }, &plan)?;
            }
            "activemq" => {
                let activemq = harness::activemq::ActiveMq::for_benches()?;
                let login = (harness::activemq::USERNAME.to_owned(), harness::activemq::PASSCODE.to_owned());
                compare(broker, &Target { address: activemq.address(), login: Some(login) }, &plan)?;
            }
            other => bail!("unknown broker {other}: embedded or activemq"),
        }
    }
    Ok(())
}

fn plan() -> anyhow::Result<Plan> {
    let mut plan = Plan { brokers: vec!["embedded".into(), "activemq".into()], messages: 30_000, rounds: 4 };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().with_context(|| format!("{arg} needs a value"));
        match arg.as_str() {
            "--broker" => plan.brokers = vec![value()?],
            "--messages" => plan.messages = value()?.parse()?,
            "--rounds" => plan.rounds = value()?.parse()?,
            "--bench" => {}
            other => bail!("unknown argument {other}: --broker, --messages, --rounds"),
        }
    }
    Ok(plan)
}

/// One warming round of each, then the rounds that count; prints each and the median ratio.
fn compare(name: &str, target: &Target, plan: &Plan) -> anyhow::Result<()> {
    let mut ratios = Vec::new();
    for round in 0..=plan.rounds {
        let queue = format!("bench.{round}");
        let bare = floor::run(target, &format!("{queue}.floor"), plan.messages).context("the floor")?;
        let host = host::run(target, &format!("{queue}.host"), plan.messages).context("the host")?;
        let label = if round == 0 { "warm".to_owned() } else { round.to_string() };
        println!("{name:<10} {label:>5}  {bare:>12.0} {host:>12.0} {:>7.2}", host / bare);
        if round > 0 {
            ratios.push(host / bare);
        }
    }
    ratios.sort_by(f64::total_cmp);
    let median = ratios.get(ratios.len() / 2).copied().unwrap_or_default();
    println!("{name:<10} median ratio {median:.2}");
    Ok(())
}
