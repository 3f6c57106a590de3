//! Processors that look around: for what nobody granted, and for the little that there is.

use std::{
    collections::{HashMap, hash_map::RandomState},
    env, fs,
    hash::BuildHasher,
    io::{self, ErrorKind},
    net::{TcpListener, TcpStream, ToSocketAddrs, UdpSocket},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};
use stompbox_sdk::{Context, Error, Message, OrError, Output, Processor};

use crate::macros::processor;

/// Returns what it could reach of files, network and environment, a line each.
#[derive(Debug)]
pub struct Snoop {
    address: String,
}

/// The `params` of [`Snoop`].
#[derive(Deserialize)]
struct SnoopParams {
    /// Where somebody listens.
    address: String,
}

/// What it tries, and whether that succeeds.
type Probe = (&'static str, fn(&str) -> bool);

const PROBES: &[Probe] = &[
    ("environment", |_| env::vars_os().next().is_some()),
    ("arguments", |_| env::args_os().next().is_some()),
    ("read a file", |_| fs::read("/etc/passwd").is_ok()),
    ("list .", |_| fs::read_dir(".").is_ok()),
    ("list /", |_| fs::read_dir("/").is_ok()),
    ("write a file", |_| write_a_file().is_ok()),
    ("connect to port 1", |_| reached(&TcpStream::connect("127.0.0.1:1"))),
    ("connect", |address| reached(&TcpStream::connect(address))),
    ("listen", |_| TcpListener::bind("127.0.0.1:0").is_ok()),
    ("send a datagram", |address| send_a_datagram(address).is_ok()),
    ("look a name up", |_| ("localhost", 80).to_socket_addrs().is_ok_and(|mut found| found.next().is_some())),
];

/// Being refused means that the network was reached.
fn reached<T>(result: &io::Result<T>) -> bool {
    result.as_ref().err().is_none_or(|error| error.kind() == ErrorKind::ConnectionRefused)
}

fn write_a_file() -> io::Result<()> {
    fs::write("snoop.tmp", "x")?;
    fs::remove_file("snoop.tmp")
}

fn send_a_datagram(address: &str) -> io::Result<usize> {
    UdpSocket::bind("127.0.0.1:0")?.send_to(b"x", address)
}

impl Processor for Snoop {
    const NAME: &'static str = "Snoop";
    const SUMMARY: &'static str = "Returns what it could reach of files, network and environment, a line each.";

    fn initialize(context: &Context) -> Result<Self, String> {
        let SnoopParams { address } = context.params()?;
        Ok(Snoop { address })
    }

    fn process(&mut self, _: Message) -> Result<Vec<Output>, Error> {
        let found = PROBES.iter().filter(|(_, probe)| probe(&self.address));
        let found: Vec<&str> = found.map(|(what, _)| *what).collect();
        Ok(vec![Output::new(found.join("\n"))])
    }
}

/// What [`ClockAndRandom`] saw.
#[derive(Serialize)]
struct Seen {
    /// How long a nap of a millisecond took.
    napped_us: u128,
    unix_ms: u128,
    /// Different in each instance.
    random: u64,
}

processor! {
    /// Returns what the clocks and the random numbers say.
    ClockAndRandom: |message| {
        let begun = Instant::now();
        thread::sleep(Duration::from_millis(1));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).or_reject("clock")?;
        let state = RandomState::new();
        let random = state.hash_one("x");
        let mut map = HashMap::with_hasher(state);
        map.insert(message.id, random);
        let random = map.into_values().sum();
        let seen = Seen { napped_us: begun.elapsed().as_micros(), unix_ms: now.as_millis(), random };
        Ok(vec![Output::json(&seen)?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stompbox_sdk::testing;

    #[test]
    fn without_a_sandbox_everything_is_found() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let params = format!(r#"{{"address": "{}"}}"#, listener.local_addr().unwrap());
        let mut snoop: Snoop = testing::start(&params).unwrap();
        let all: Vec<&str> = PROBES.iter().map(|(what, _)| *what).collect();
        assert_eq!(snoop.process(testing::message("x")), Ok(vec![Output::new(all.join("\n"))]));
    }
}
