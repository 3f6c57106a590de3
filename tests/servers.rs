//! The parameters of `mb_servers`, one test each that fails when the parameter is ignored.

mod addresses;
mod login;
mod nodes;
mod tls;

use std::net::SocketAddr;

use stompbox::client::{ClientError, ConnectOptions, Connection};

/// A runtime for one test.
fn runtime() -> tokio::runtime::Runtime {
    stompbox::commands::runtime().unwrap()
}

/// Opens a connection; the error as an operator would read it, with its causes.
fn open(options: &ConnectOptions) -> Result<Connection, String> {
    runtime()
        .block_on(Connection::open(options))
        .map_err(|error: ClientError| format!("{:#}", anyhow::Error::new(error)))
}

/// `host` at the port of an address.
fn at(host: &str, address: SocketAddr) -> String {
    format!("{host}:{}", address.port())
}
