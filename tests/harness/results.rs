//! What the suites of faults found, for `host/docs/reliability.md`, and the seed that makes them repeatable.

use std::{env, fs::OpenOptions, io::Write, time::Duration};

use fastrand::Rng;

use super::ledger::Balance;

/// Random numbers from `STOMPBOX_SEED`, else from a new seed, which is printed: a test that fails tells how to
/// make the same pauses and choices again.
pub fn seed() -> Rng {
    let given = env::var("STOMPBOX_SEED").ok().map(|seed| seed.parse().expect("STOMPBOX_SEED is a number"));
    let seed = given.unwrap_or_else(|| fastrand::u64(..));
    println!("STOMPBOX_SEED={seed} makes the same pauses and choices");
    Rng::with_seed(seed)
}

/// One row of the table.
#[derive(Debug)]
pub struct Row<'a> {
    fault: &'a str,
    broker: &'a str,
    rounds: u32,
    sent: u32,
    lost: usize,
    duplicated: u32,
    recovery: Vec<Duration>,
}

impl<'a> Row<'a> {
    pub fn new(fault: &'a str, broker: &'a str, rounds: u32, balance: &Balance) -> Self {
        let (lost, duplicated) = (balance.lost.len(), balance.duplicated);
        Self { fault, broker, rounds, sent: balance.sent, lost, duplicated, recovery: Vec::new() }
    }

    /// How long it took after each fault until messages were settled again.
    #[must_use]
    pub fn recovered(mut self, recovery: Vec<Duration>) -> Self {
        self.recovery = recovery;
        self
    }

    /// Appends the row to the file that `STOMPBOX_RESULTS` names, if it does, and prints it.
    pub fn write(self) {
        let Self { fault, broker, rounds, sent, lost, duplicated, mut recovery } = self;
        recovery.sort();
        let seconds =
            |time: Option<&Duration>| time.map_or("-".to_owned(), |time| format!("{:.1}", time.as_secs_f64()));
        let (median, worst) = (seconds(recovery.get(recovery.len() / 2)), seconds(recovery.last()));
        let row = format!("| {fault} | {broker} | {rounds} | {sent} | {lost} | {duplicated} | {median} / {worst} |\n");
        print!("{row}");
        if let Some(file) = env::var_os("STOMPBOX_RESULTS") {
            let mut file = OpenOptions::new().append(true).create(true).open(file).unwrap();
            file.write_all(row.as_bytes()).unwrap();
        }
    }
}
