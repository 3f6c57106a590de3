//! What a neighbour at 200 messages a second has to suffer while another processor of the same host does its
//! worst: latencies alone and beside it, in turns.
//!
//! `cargo bench -p e2e --profile release --bench neighbour [-- --guest NAME] [--seconds N] [--rounds N]`

#![allow(missing_docs, reason = "a bench")]

use std::time::Duration;

use anyhow::{Context, bail};
use e2e::harness::neighbour::{Pair, Phase};
use serde_json::{Value, json};

/// How long, how often, and who.
struct Plan {
    guest: Option<String>,
    phase: Duration,
    rounds: usize,
}

/// A guest, and what its processor has besides.
struct Guest {
    class: &'static str,
    extra: Value,
}

fn main() -> anyhow::Result<()> {
    let plan = plan()?;
    println!(
        "{:<16} {:>5} {:>8}  {:>9} {:>9} {:>9} {:>6} {:>5}",
        "guest", "round", "phase", "p50 ms", "p99 ms", "max ms", "sent", "lost"
    );
    for guest in guests().iter().filter(|guest| plan.guest.as_deref().is_none_or(|only| guest.name() == only)) {
        run(guest, &plan);
    }
    Ok(())
}

/// More lanes than CPU permits, each busy until its deadline.
fn guests() -> Vec<Guest> {
    let lanes = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) + 2;
    let endless = json!({"fuel": 1_000_000_000_000_u64, "time_ms": 1_000});
    let busy = |module: &str, limits: &Value| json!({"module": module, "n_threads": lanes, "limits": limits, "retry": {"max_attempts": 1}});
    vec![
        Guest { class: "Spin", extra: busy("hostile", &endless) },
        Guest { class: "Sleep", extra: busy("hostile", &endless) },
        Guest { class: "MemoryBomb", extra: busy("hostile", &json!({})) },
        Guest { class: "LogFlood", extra: busy("hostile", &json!({})) },
        Guest { class: "Raw", extra: busy("aliased_outputs", &json!({})) },
        Guest { class: "Raw", extra: busy("aliased_headers", &json!({})) },
        Guest { class: "Raw", extra: busy("random_flood", &endless) },
        Guest { class: "Raw", extra: busy("poll_flood", &endless) },
        Guest { class: "Raw", extra: busy("log_bomb", &endless) },
    ]
}

impl Guest {
    fn name(&self) -> &str {
        let module = self.extra.get("module").and_then(Value::as_str);
        module.filter(|module| *module != "hostile").unwrap_or(self.class)
    }
}

/// Phases in turns, in one host.
fn run(guest: &Guest, plan: &Plan) {
    let pair = Pair::start(guest.class, guest.extra.clone());
    let (bodies, mut given) = (["x".to_owned()], 0);
    for round in 1..=plan.rounds {
        show(guest, round, "alone", &pair.alone(plan.phase));
        show(guest, round, "beside", &pair.beside(&bodies, plan.phase, &mut given));
    }
}

fn show(guest: &Guest, round: usize, what: &str, phase: &Phase) {
    let millis = |share| phase.quantile(share).as_secs_f64() * 1e3;
    println!(
        "{:<16} {round:>5} {what:>8}  {:>9.2} {:>9.2} {:>9.2} {:>6} {:>5}",
        guest.name(),
        millis(0.5),
        millis(0.99),
        millis(1.0),
        phase.sent,
        phase.lost()
    );
}

fn plan() -> anyhow::Result<Plan> {
    let mut plan = Plan { guest: None, phase: Duration::from_secs(4), rounds: 2 };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().with_context(|| format!("{arg} needs a value"));
        match arg.as_str() {
            "--guest" => plan.guest = Some(value()?),
            "--seconds" => plan.phase = Duration::from_secs(value()?.parse()?),
            "--rounds" => plan.rounds = value()?.parse()?,
            "--bench" => {}
            other => bail!("unknown argument {other}: --guest, --seconds, --rounds"),
        }
    }
    Ok(plan)
}
