//! Where a server listens: from `host_port_list` entries to socket addresses.
//!
//! Used by connections at each connect, so that a changed DNS entry is found at the next one, and by
//! [`super::consumers`], which reads from all addresses behind a name.

use std::{fmt, io, net::SocketAddr, pin::Pin, sync::Arc};

use tokio::{net::lookup_host, sync::watch};

use super::ClientError;

/// One entry of `host_port_list`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
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

impl Address {
    /// One of the addresses behind it, with the name that led there.
    #[must_use]
    pub fn at(&self, found: SocketAddr) -> String {
        if self.host == found.ip().to_string() { found.to_string() } else { format!("{self} ({found})") }
    }
}

/// Of the addresses behind a name those to read from: IPv4 and IPv6 of one node count once, so it is those of IPv4
/// where there are any.
#[must_use]
pub fn one_family(found: &[SocketAddr]) -> Vec<SocketAddr> {
    let ipv4: Vec<_> = found.iter().copied().filter(SocketAddr::is_ipv4).collect();
    if ipv4.is_empty() { found.to_vec() } else { ipv4 }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self { host: address.ip().to_string(), port: address.port() }
    }
}

type Lookup = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>;

/// Finds the addresses behind a name; the system's resolver unless a test gives another.
#[derive(Clone)]
pub struct Resolver(Arc<dyn Fn(Address) -> Lookup + Send + Sync>);

impl Default for Resolver {
    fn default() -> Self {
        Self(Arc::new(|address| {
            Box::pin(async move { Ok(lookup_host((address.host.as_str(), address.port)).await?.collect()) })
        }))
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Resolver")
    }
}

impl Resolver {
    /// A resolver that asks a function.
    pub fn of(lookup: impl Fn(&Address) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static) -> Self {
        Self(Arc::new(move |address| Box::pin(std::future::ready(lookup(&address)))))
    }

    /// The addresses behind an entry, each once, those of IPv4 first.
    ///
    /// # Errors
    /// The name is unknown, or the resolver cannot be asked.
    pub async fn resolve(&self, address: &Address) -> Result<Vec<SocketAddr>, ClientError> {
        let unresolved = |error| ClientError::Resolve(address.to_string(), error);
        let mut found = (self.0)(address.clone()).await.map_err(unresolved)?;
        found.sort_unstable_by_key(|address| (address.is_ipv6(), *address));
        found.dedup();
        if found.is_empty() {
            return Err(unresolved(io::ErrorKind::NotFound.into()));
        }
        Ok(found)
    }
}

/// Whether the last try to connect succeeded, for whoever chooses between addresses.
#[derive(Debug, Clone, Default)]
pub struct Reach(Arc<watch::Sender<Option<bool>>>);

impl Reach {
    pub(super) fn set(&self, reached: bool) {
        self.0.send_replace(Some(reached));
    }

    pub(super) fn failed(&self) -> bool {
        *self.0.borrow() == Some(false)
    }

    pub(super) fn watch(&self) -> watch::Receiver<Option<bool>> {
        self.0.subscribe()
    }
}

/// All entries in random order, so that many hosts do not choose the same one.
pub(super) fn shuffled(entries: &[Address]) -> Vec<&Address> {
    let mut order: Vec<&Address> = entries.iter().collect();
    fastrand::shuffle(&mut order);
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn addresses_come_once_and_those_of_ipv4_first() {
        let given = ["[::1]:1", "127.0.0.2:1", "127.0.0.1:1", "[::1]:1"].map(|text| text.parse().unwrap());
        let resolver = Resolver::of(move |_| Ok(given.to_vec()));
        let found = resolver.resolve(&Address { host: "x".into(), port: 1 }).await.unwrap();
        let shown: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["127.0.0.1:1", "127.0.0.2:1", "[::1]:1"]);
    }
}
