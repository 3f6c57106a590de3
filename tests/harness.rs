//! What the suites stand on: brokers, clients that are not the host's own, components, messages.
//!
//! Everything that is started here ends with the test process, however that ends. What a suite needs and
//! cannot be had is an error that says how to get it, never a test that is skipped.

pub mod activemq;
pub mod artemis;
pub mod broker;
pub mod call;
pub mod certificates;
pub mod client;
pub mod guests;
pub mod host;
pub mod ledger;
pub mod malformed;
pub mod messages;
pub mod neighbour;
pub mod peer;
pub mod process;
pub mod proxy;
pub mod python;
pub mod rabbitmq;
pub mod results;
pub mod target;
pub mod tls_broker;
pub mod tls_front;
pub mod versions;

use std::{
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
};

use stompbox::sandbox::CompileConfig;

/// The root of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ has a parent").to_owned()
}

/// Whether the long rounds are wanted (`tests/run --long`), and not those that fit into each push.
pub fn long() -> bool {
    std::env::var_os("STOMPBOX_LONG").is_some()
}

/// How often something is tried: few times for each push, many for a release.
pub fn rounds(few: u32, many: u32) -> u32 {
    if long() { many } else { few }
}

/// The folder that cargo builds into, with the program itself.
pub fn built() -> PathBuf {
    let tests = std::env::current_exe().expect("a test is a file");
    tests.parent().and_then(Path::parent).expect("cargo puts tests into deps/").to_owned()
}

/// How components are compiled: by the program, as in production.
pub fn compile_config() -> CompileConfig {
    CompileConfig { program: built().join("stompbox"), ..stompbox::commands::compile_config() }
}

/// A port of 127.0.0.1 that nothing uses, outside the range from which the kernel takes ports for outgoing
/// connections: it stays free while a server is down between two starts.
pub fn free_port() -> u16 {
    let mut random = fastrand::Rng::new();
    (0..1_000)
        .map(|_| random.u16(20_000..32_000))
        .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .expect("no free port between 20000 and 32000")
}
