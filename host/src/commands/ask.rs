//! Asks a host at work: one request to its /v1, one answer.
//!
//! Used by `status`, `reload`, `rollback`, `pause` and `resume`. What comes back is a host's word: it is bounded
//! here, and made fit for a terminal where it is shown.

use std::{io::ErrorKind, net::Ipv4Addr, net::Ipv6Addr, path::PathBuf, process::ExitCode, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{
    Method, Request, StatusCode,
    client::conn::http1,
    header::{AUTHORIZATION, HOST},
};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{net::TcpStream, time::timeout};

use super::EXIT_USAGE;
use crate::{admin, cli::At, config, console::complain};

/// How long a connection may take to come.
const CONNECT: Duration = Duration::from_secs(5);
/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(10);
/// How long a change may take: a little longer than the host takes.
const CHANGE: Duration = Duration::from_secs(310);
/// The longest answer.
const MAX_ANSWER: usize = 64 << 20;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum AskError {
    /// What was asked for cannot be asked.
    #[error("{0}")]
    Usage(String),
    /// The host cannot be reached, or refuses.
    #[error("{0}")]
    Failed(String),
}

impl AskError {
    /// Tells it on standard error.
    pub(super) fn told(&self) -> ExitCode {
        complain(format_args!("error: {self}"));
        match self {
            Self::Usage(_) => ExitCode::from(EXIT_USAGE),
            Self::Failed(_) => ExitCode::FAILURE,
        }
    }
}

/// A host, and what opens its /v1.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Host {
    /// `address:port`.
    pub(super) address: String,
    token_file: Option<PathBuf>,
}

impl Host {
    /// The host that the command line names.
    pub(super) fn at(at: &At) -> Result<Self, AskError> {
        let usage = |text: String| Err(AskError::Usage(text));
        let token_file = at.token_file.clone();
        if let Some(admin) = &at.admin {
            return Ok(Self { address: parse_address(admin).map_err(AskError::Usage)?, token_file });
        }
        let Some(file) = &at.config else {
            return usage("which host? Name its configuration with --config, or its address with --admin".to_owned());
        };
        match config::Admin::load(file) {
            Ok(Some(admin)) => {
                Ok(Self { address: reachable(admin.listen).to_string(), token_file: token_file.or(admin.token_file) })
            }
            Ok(None) => usage(format!(
                "{} has no \"admin\": add \"admin\": {{\"listen\": \"127.0.0.1:9613\"}} and start the host again",
                file.display()
            )),
            Err(error) => usage(error.to_string()),
        }
    }

    /// What there is at a path.
    pub(super) async fn get(&self, path: &str) -> Result<Value, AskError> {
        self.ask(Method::GET, path, Bytes::new(), ANSWER).await
    }

    /// Has something changed, and waits until it is done.
    pub(super) async fn post(&self, path: &str, body: &Value) -> Result<Value, AskError> {
        self.ask(Method::POST, path, body.to_string().into(), CHANGE).await
    }

    async fn ask(&self, method: Method, path: &str, body: Bytes, limit: Duration) -> Result<Value, AskError> {
        let failed = |error: &dyn std::fmt::Display| AskError::Failed(format!("{}: {error}", self.address));
        let mut request = Request::builder().method(method).uri(path).header(HOST, &self.address);
        // Read each time, as the host does: a token may be replaced while a table is drawn.
        if let Some(file) = &self.token_file {
            let token = admin::read_token(file).map_err(AskError::Usage)?;
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let request = request.body(Full::new(body)).map_err(|error| failed(&error))?;
        let stream = self.connect().await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| failed(&error))?;
        let connection = tokio::spawn(connection);
        let answered = timeout(limit, async {
            let answer = sender.send_request(request).await.map_err(|error| {
                failed(&format_args!("no answer that can be read ({error}): is this a host of Stompbox?"))
            })?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await.map_err(|error| failed(&error))?;
            self.judge(status, &body.to_bytes())
        });
        let answered = answered.await.unwrap_or_else(|_| Err(failed(&format_args!("no answer within {limit:?}"))));
        connection.abort();
        answered
    }

    async fn connect(&self) -> Result<TcpStream, AskError> {
        let address = &self.address;
        let why = match timeout(CONNECT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) if error.kind() == ErrorKind::ConnectionRefused => {
                format!("nobody listens on {address}: is the host running, and is this its \"admin\"?")
            }
            Ok(Err(error)) => format!("cannot reach {address}: {error}"),
            Err(_) => format!("cannot reach {address}: no answer within {CONNECT:?}"),
        };
        Err(AskError::Failed(why))
    }

    fn judge(&self, status: StatusCode, body: &[u8]) -> Result<Value, AskError> {
        let value: Option<Value> = serde_json::from_slice(body).ok();
        let said = value.as_ref().and_then(|value| value["error"].as_str());
        let why = match (status, said) {
            (StatusCode::OK, None) => match value {
                Some(value) => return Ok(value),
                None => format!("{}: the answer is not JSON: is this a host of Stompbox?", self.address),
            },
            (StatusCode::UNAUTHORIZED, Some(said)) if self.token_file.is_none() => {
                format!("{said}; name the file it is in with --token-file")
            }
            (_, Some(said)) => said.to_owned(),
            (_, None) => format!("{}: HTTP {status}: is this a host of Stompbox?", self.address),
        };
        Err(AskError::Failed(shown(&why)))
    }
}

/// At most a line of what a host says, with nothing that a terminal obeys.
pub(super) fn shown(text: &str) -> String {
    crate::sandbox::one_line(text, 2_000).into_owned()
}

/// The path of a processor: what stands in its name is not part of the path.
pub(super) fn processor_path(name: &str, action: &str) -> String {
    let mut path = "/v1/processors/".to_owned();
    for byte in name.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'~' => path.push(char::from(byte)),
            // Also the dot: a segment of dots would be another path.
            _ => path.push_str(&format!("%{byte:02X}")),
        }
    }
    format!("{path}/{action}")
}

fn parse_address(text: &str) -> Result<String, String> {
    let address = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
    let port = address.rsplit_once(':').and_then(|(host, port)| (!host.is_empty()).then(|| port.parse::<u16>()));
    let plain = address.bytes().all(|byte| byte.is_ascii_graphic() && !b"/@?#".contains(&byte));
    match port {
        Some(Ok(_)) if plain => Ok(address.to_owned()),
        _ => Err(format!("--admin {text:?} must be an address and a port, such as 127.0.0.1:9613")),
    }
}

/// Where to ask a host that listens on all addresses.
fn reachable(mut listen: std::net::SocketAddr) -> std::net::SocketAddr {
    if listen.ip().is_unspecified() {
        let local = if listen.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
        listen.set_ip(local);
    }
    listen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_may_be_written_as_they_are_shown() {
        for (given, address) in [
            ("127.0.0.1:9613", "127.0.0.1:9613"),
            ("http://localhost:9613/", "localhost:9613"),
            ("[::1]:9613", "[::1]:9613"),
        ] {
            assert_eq!(parse_address(given).as_deref(), Ok(address));
        }
        for wrong in ["localhost", ":9613", "https://localhost:9613", "localhost:9613/v1", "me@localhost:1", "a:99999"]
        {
            assert!(parse_address(wrong).is_err(), "{wrong}");
        }
        assert_eq!(reachable("0.0.0.0:1".parse().unwrap()).to_string(), "127.0.0.1:1");
        assert_eq!(reachable("[::]:1".parse().unwrap()).to_string(), "[::1]:1");
    }

    #[test]
    fn a_name_stays_one_segment_of_the_path() {
        assert_eq!(processor_path("push_job-1", "pause"), "/v1/processors/push_job-1/pause");
        assert_eq!(processor_path("../ü %", "pause"), "/v1/processors/%2E%2E%2F%C3%BC%20%25/pause");
    }
}
