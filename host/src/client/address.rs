//! Where a server listens: from `host_port_list` entries to socket addresses.
//!
//! Used by connections at each connect, so that a changed DNS entry is found at the next one. The
//! place where failover between entries, all addresses behind a name and re-resolution will live.

use std::{fmt, net::SocketAddr, time::Duration};

use tokio::{
    net::{TcpStream, lookup_host},
    time::timeout,
};

use super::ClientError;

/// How long one address may take to answer, so that a dead one does not hide those behind it.
const ONE_ADDRESS: Duration = Duration::from_secs(5);

/// One entry of `host_port_list`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Address {
    /// A name or an IP address (IPv6 without brackets).
    pub host: String,
    /// The port.
    pub port: u16,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Connects to a random entry, and to the others when it cannot be reached.
pub(super) async fn connect(addresses: &[Address]) -> Result<(TcpStream, SocketAddr), ClientError> {
    let mut order: Vec<&Address> = addresses.iter().collect();
    fastrand::shuffle(&mut order);
    let mut last = None;
    for address in order {
        match connect_one(address).await {
            Ok(connected) => return Ok(connected),
            Err(error) => last = Some(error),
        }
    }
    Err(last
        .unwrap_or_else(|| ClientError::Resolve("an empty host_port_list".into(), std::io::ErrorKind::NotFound.into())))
}

async fn connect_one(address: &Address) -> Result<(TcpStream, SocketAddr), ClientError> {
    let found = lookup_host((address.host.as_str(), address.port))
        .await
        .map_err(|e| ClientError::Resolve(address.to_string(), e))?;
    let mut last = std::io::Error::from(std::io::ErrorKind::AddrNotAvailable);
    for socket in found {
        match timeout(ONE_ADDRESS, TcpStream::connect(socket)).await {
            Ok(Ok(stream)) => return Ok((stream, socket)),
            Ok(Err(error)) => last = error,
            Err(_) => last = std::io::ErrorKind::TimedOut.into(),
        }
    }
    Err(ClientError::Connect { address: address.to_string(), source: last })
}
