//! The brokers: `mb_servers`.
//!
//! Read by [`super::Config::parse`]; used by whoever connects.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::address::parse_address;
use super::fields::Fields;
use super::secret::Secret;
use crate::client::{Address, Tls};

/// A broker and how to log in to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// The key in `mb_servers`.
    pub name: Arc<str>,
    /// Where it listens: at least one.
    pub addresses: Vec<Address>,
    /// What several addresses mean; read as [`Connect::Any`] when not given.
    pub connect: Option<Connect>,
    /// TLS, when `use_ssl` is true.
    pub tls: Option<Tls>,
    /// The login header.
    pub username: Option<String>,
    /// The passcode header.
    pub passcode: Option<Secret>,
    /// A file that holds the passcode; never given together with `passcode`.
    pub passcode_file: Option<PathBuf>,
    /// The host header.
    pub vhost: Option<String>,
    /// The client-id header, which durable subscriptions need on some brokers.
    pub client_id: Option<String>,
    /// How often we send at least something; zero means no promise.
    pub send_heartbeat: Duration,
    /// How often the broker has to send at least something; zero means that we do not ask for it.
    pub recv_heartbeat: Duration,
    /// Whether to log the details of this broker and its queues.
    pub verbose: bool,
}

/// What several addresses of one server mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connect {
    /// One random entry is used, the others are for failover.
    Any,
    /// All entries are used at once.
    All,
}

impl Connect {
    const WORDS: [(&str, Self); 2] = [("any", Self::Any), ("all", Self::All)];
}

/// A day: the longest heart-beat.
const MAX_HEARTBEAT_MS: u64 = 86_400_000;

impl Server {
    pub(super) fn read(name: Arc<str>, fields: &Fields<'_>) -> Self {
        Self {
            name,
            addresses: addresses(fields),
            connect: fields.choice("connect", &Connect::WORDS),
            tls: tls(fields),
            username: from_env(fields, "username"),
            passcode: from_env(fields, "passcode").map(Secret::new),
            passcode_file: passcode_file(fields),
            vhost: fields.text("vhost"),
            client_id: fields.word("client_id"),
            send_heartbeat: fields.millis("send_heartbeat_ms", 60_000, 0..=MAX_HEARTBEAT_MS),
            recv_heartbeat: fields.millis("recv_heartbeat_ms", 0, 0..=MAX_HEARTBEAT_MS),
            verbose: fields.flag("verbose", false),
        }
    }
}

fn passcode_file(fields: &Fields<'_>) -> Option<PathBuf> {
    let file = fields.file("passcode_file");
    if file.is_some() && fields.value("passcode").is_some() {
        fields.error("passcode_file", "given together with passcode: keep one of them");
    }
    file
}

fn tls(fields: &Fields<'_>) -> Option<Tls> {
    let wanted = fields.flag("use_ssl", false);
    let tls =
        Tls { ca_file: fields.file("ca_file"), cert_file: fields.file("cert_file"), key_file: fields.file("key_file") };
    if tls.key_file.is_some() && tls.cert_file.is_none() {
        fields.error("key_file", "given without cert_file: a key is of no use without it");
    }
    if !wanted && tls != Tls::default() {
        fields.warn("use_ssl", "is false: ca_file, cert_file and key_file are not used");
    }
    wanted.then_some(tls)
}

fn addresses(fields: &Fields<'_>) -> Vec<Address> {
    fields.require("host_port_list");
    let Some(entries) = fields.texts("host_port_list") else {
        return Vec::new();
    };
    if fields.value("host_port_list").and_then(|list| list.as_array()).is_some_and(Vec::is_empty) {
        fields.error("host_port_list", "must hold at least one \"host:port\"");
    }
    let mut addresses = Vec::new();
    for (index, entry) in entries {
        let entry = match expand(fields, &entry) {
            Ok(entry) => entry,
            Err(message) => {
                fields.error_in("host_port_list", index, message);
                continue;
            }
        };
        for part in entry.split(',') {
            match parse_address(part.trim()) {
                Ok(address) => addresses.push(address),
                Err(message) => fields.error_in("host_port_list", index, message),
            }
        }
    }
    addresses
}

/// A text that may be `${NAME}`.
fn from_env(fields: &Fields<'_>, key: &'static str) -> Option<String> {
    let text = fields.text(key)?;
    expand(fields, &text).map_err(|message| fields.error(key, message)).ok()
}

/// Replaces a text that is `${NAME}` as a whole by that environment variable.
fn expand(fields: &Fields<'_>, text: &str) -> Result<String, String> {
    let Some(name) = text.strip_prefix("${").and_then(|rest| rest.strip_suffix('}')) else {
        return Ok(text.to_owned());
    };
    if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return Err("between \"${\" and \"}\" must stand a name of letters, digits, _".to_owned());
    }
    match fields.env(name) {
        None => Err(format!("the environment variable {name} is not set")),
        Some(value) if value.trim().is_empty() => Err(format!("the environment variable {name} is empty")),
        Some(value) if value.chars().any(char::is_control) => {
            Err(format!("the environment variable {name} contains control characters"))
        }
        Some(value) => Ok(value),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed test is the answer")]
mod tests {
    use insta::assert_snapshot;
    use serde_json::json;

    use super::super::tests::{config, problems, warnings};
    use super::*;

    #[test]
    fn the_environment_gives_addresses_and_login() {
        let config = config(&[
            ("mb_servers.mb.host_port_list", json!(["${BROKERS}", "three.example.org:3"])),
            ("mb_servers.mb.username", json!("${USER_NAME}")),
            ("mb_servers.mb.passcode", json!("not${USER_NAME}")),
        ]);
        let server = &config.servers["mb"];
        let shown: Vec<String> = server.addresses.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["one.example.org:1", "[::1]:2", "three.example.org:3"]);
        assert_eq!(server.username.as_deref(), Some("from-env"));
        assert_eq!(server.passcode.as_ref().unwrap().expose(), "not${USER_NAME}");
    }

    #[test]
    fn a_variable_that_gives_nothing_is_an_error() {
        assert_snapshot!(problems(&[
            ("mb_servers.mb.host_port_list", json!(["${NO_SUCH}", "${A-B}"])),
            ("mb_servers.mb.username", json!("${EMPTY}")),
            ("mb_servers.mb.passcode", json!("${TWO_LINES}")),
        ]), @r#"
        mb_servers.mb.host_port_list[0]: the environment variable NO_SUCH is not set
        mb_servers.mb.host_port_list[1]: between "${" and "}" must stand a name of letters, digits, _
        mb_servers.mb.username: the environment variable EMPTY is empty
        mb_servers.mb.passcode: the environment variable TWO_LINES contains control characters
        "#);
    }

    #[test]
    fn several_addresses_without_connect_give_a_warning() {
        let list = ("mb_servers.mb.host_port_list", json!(["a:1", "b:2"]));
        assert_snapshot!(warnings(std::slice::from_ref(&list)), @r#"mb_servers.mb: one of a:1, b:2, chosen at random, is read, and the others are not while it is up; say so with "connect": "any", or read them all with "connect": "all""#);
        let connect = ("mb_servers.mb.connect", json!("all"));
        assert_eq!(config(&[list.clone(), connect.clone()]).servers["mb"].connect, Some(Connect::All));
        assert_eq!(warnings(&[list.clone(), connect]), "");
        let only_sends = ("processors", json!({}));
        assert_eq!(warnings(&[list, only_sends]), "");
    }

    #[test]
    fn a_passcode_and_its_file_exclude_each_other() {
        assert_snapshot!(problems(&[
            ("mb_servers.mb.passcode", json!("x")),
            ("mb_servers.mb.passcode_file", json!("secret")),
        ]), @"mb_servers.mb.passcode_file: given together with passcode: keep one of them");
        let file = config(&[("mb_servers.mb.passcode_file", json!("secret"))]);
        let expected = PathBuf::from("/etc/stompbox/secret");
        assert_eq!(file.servers["mb"].passcode_file, Some(expected));
    }

    #[test]
    fn tls_files_are_used_only_with_ssl() {
        let cert = ("mb_servers.mb.cert_file", json!("cert.pem"));
        assert_snapshot!(warnings(std::slice::from_ref(&cert)), @"mb_servers.mb.use_ssl: is false: ca_file, cert_file and key_file are not used");
        let tls = config(&[cert, ("mb_servers.mb.use_ssl", json!(true))]);
        let tls = tls.servers["mb"].tls.clone().unwrap();
        assert_eq!(tls.cert_file, Some(PathBuf::from("/etc/stompbox/cert.pem")));
        assert_snapshot!(problems(&[("mb_servers.mb.key_file", json!("key.pem"))]), @"mb_servers.mb.key_file: given without cert_file: a key is of no use without it");
    }

    #[test]
    fn wrong_values_name_the_right_ones() {
        assert_snapshot!(problems(&[
            ("mb_servers.mb.connect", json!("al")),
            ("mb_servers.mb.send_heartbeat_ms", json!(1.5)),
            ("mb_servers.mb.recv_heartbeat_ms", json!(1e300)),
            ("mb_servers.mb.vhost", json!("/\n")),
            ("mb_servers.mb.client_id", json!(" ")),
        ]), @r#"
        mb_servers.mb.connect: "al" is not a choice here; did you mean "all"?
        mb_servers.mb.vhost: must not contain control characters such as a line break
        mb_servers.mb.client_id: must not be empty
        mb_servers.mb.send_heartbeat_ms: must be a whole number from 0 to 86400000, not 1.5
        mb_servers.mb.recv_heartbeat_ms: must be a whole number from 0 to 86400000, not 1e+300
        "#);
    }

    #[test]
    fn client_id_belongs_to_the_one_durable_subscription_of_a_server() {
        let id = ("mb_servers.mb.client_id", json!("me"));
        let durable = ("queues.q", json!({"server": "mb", "destination": "/topic/q", "subscription": "durable"}));
        assert_snapshot!(problems(std::slice::from_ref(&durable)), @r#"queues.q: its "subscription" needs a "client_id" in mb_servers.mb, a name of your choice: without one ActiveMQ forgets the subscription at each reconnect and Artemis refuses it (RabbitMQ takes any)"#);
        assert_snapshot!(warnings(std::slice::from_ref(&id)), @r#"mb_servers.mb: client_id is not used: no queue that is read from it has a "subscription""#);
        assert_eq!(warnings(&[id.clone(), durable.clone()]), "");
        let second = [
            ("queues.r", json!({"server": "mb", "destination": "/topic/r", "subscription": "two"})),
            ("processors.p2", json!({"module": "m", "name": "N", "in_queue": "r"})),
        ];
        assert_snapshot!(problems(&[vec![id, durable], second.to_vec()].concat()), @"mb_servers.mb: the client_id serves one durable subscription, not those of q, r: give each of these queues a server entry of its own, with a client_id of its own");
    }
}
