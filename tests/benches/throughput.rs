//! In -> process -> out, messages a second: Stompbox beside a bare STOMP client with the same guarantee
//! (ACK after the RECEIPT of the output), interleaved rounds on the same warm broker, as ratios.
//!
//! `cargo bench -p e2e --profile release --bench throughput [-- --broker NAME] [--messages N] [--rounds N]`
//! Brokers: embedded, activemq, rabbitmq, artemis; without the option all of them.

#![allow(missing_docs, clippy::expect_used, reason = "a bench that cannot run says so by a panic")]

#[path = "throughput/floor.rs"]
mod floor;
#[path = "throughput/host.rs"]
mod host;

use std::net::SocketAddr;

use anyhow::{Context, bail};
use e2e::harness::{
    activemq::ActiveMq,
    artemis::Artemis,
    broker::{PASSCODE, USERNAME},
    client::Client,
    rabbitmq::RabbitMq,
};

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
    pub(crate) login: Option<(&'static str, &'static str)>,
    /// The header by which it bounds what it sends ahead, as the host asks with one lane.
    pub(crate) window: (&'static str, &'static str),
}

const BROKERS: [&str; 4] = ["embedded", "activemq", "rabbitmq", "artemis"];
const PREFETCH: (&str, &str) = ("activemq.prefetchSize", "1000");

fn main() -> anyhow::Result<()> {
    let plan = plan()?;
    println!("{:<10} {:>5}  {:>12} {:>12} {:>7}", "broker", "round", "floor msg/s", "host msg/s", "ratio");
    for broker in &plan.brokers {
        match broker.as_str() {
            "embedded" => {
                let embedded = host::embedded()?;
                let target = Target { address: embedded.address, login: None, window: PREFETCH };
                compare(broker, &target, &plan)?;
            }
            "activemq" => {
                let activemq = ActiveMq::for_benches()?;
                compare(broker, &real(activemq.address(), PREFETCH), &plan)?;
            }
            "rabbitmq" => {
                let rabbitmq = RabbitMq::for_benches()?;
                compare(broker, &real(rabbitmq.address(), ("prefetch-count", "1000")), &plan)?;
            }
            "artemis" => {
                // Its acceptor with prefixes, so that the floor needs no routing types.
                let artemis = Artemis::for_benches()?;
                compare(broker, &real(artemis.prefixed(), ("consumer-window-size", "1048576")), &plan)?;
            }
            other => bail!("unknown broker {other}: {}", BROKERS.join(", ")),
        }
    }
    Ok(())
}

fn real(address: SocketAddr, window: (&'static str, &'static str)) -> Target {
    Target { address, login: Some((USERNAME, PASSCODE)), window }
}

fn plan() -> anyhow::Result<Plan> {
    let mut plan = Plan { brokers: BROKERS.map(str::to_owned).to_vec(), messages: 30_000, rounds: 4 };
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
        for contender in ["floor", "host"] {
            empty(target, &format!("/queue/{queue}.{contender}.out"), plan.messages)?;
        }
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

/// Takes the outputs of a round away: a broker that keeps them all is out of memory some rounds later. Not measured.
fn empty(target: &Target, queue: &str, expected: usize) -> anyhow::Result<()> {
    let taken = Client::connect(target.address, target.login)?.drain_queue(queue)?.len();
    anyhow::ensure!(taken >= expected, "{queue} had {taken} outputs of {expected} messages");
    Ok(())
}
