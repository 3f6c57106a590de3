//! One entry of `host_port_list`.
//!
//! Called by the reader of `mb_servers`.

use std::net::Ipv6Addr;

use crate::client::Address;

/// Reads `host:port` or `[IPv6]:port`. The error never repeats the entry: it may hold a password.
pub(super) fn parse_address(entry: &str) -> Result<Address, String> {
    const EXAMPLE: &str = "write \"host:port\", such as \"broker.example.org:61613\"";
    if entry.contains("://") || entry.contains('@') {
        return Err(format!("must have no scheme and no user; {EXAMPLE}"));
    }
    if entry.contains("${") {
        return Err("\"${NAME}\" must be the whole entry, port included".to_owned());
    }
    let Some((host, port)) = entry.rsplit_once(':') else {
        return Err(format!("has no port; {EXAMPLE}"));
    };
    let port = port.parse().ok().filter(|port: &u16| *port != 0 && !entry.contains('+'));
    let Some(port) = port else {
        return Err(format!("must end in a port from 1 to 65535; {EXAMPLE}"));
    };
    Ok(Address { host: parse_host(host)?, port })
}

fn parse_host(host: &str) -> Result<String, String> {
    if let Some(address) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        return match address.parse::<Ipv6Addr>() {
            Ok(_) => Ok(address.to_owned()),
            Err(_) => Err("the text in brackets is not an IPv6 address".to_owned()),
        };
    }
    if host.contains(':') {
        return Err("an IPv6 address must be in brackets, such as \"[::1]:61613\"".to_owned());
    }
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_');
    if host.is_empty() || !host.chars().all(plain) {
        return Err("is not a host name or address before the port".to_owned());
    }
    Ok(host.to_owned())
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, reason = "a failed test is the answer")]
mod tests {
    use insta::assert_snapshot;
    use serde_json::json;

    use super::super::tests::{config, problems};
    use super::*;

    #[test]
    fn addresses_are_names_ipv4_and_ipv6() {
        let list = json!(["a-b.example.org:1", "192.0.2.1:61613", "[2001:db8::1]:65535"]);
        let config = config(&[("mb_servers.mb.host_port_list", list)]);
        let addresses = &config.servers["mb"].addresses;
        assert_eq!(addresses[2], Address { host: "2001:db8::1".to_owned(), port: 65535 });
        let shown: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["a-b.example.org:1", "192.0.2.1:61613", "[2001:db8::1]:65535"]);
    }

    #[test]
    fn wrong_addresses_are_errors() {
        let list = json!([
            "host",
            "host:0",
            "host:65536",
            "host:+1",
            ":1",
            "::1:61613",
            "[x]:1",
            "a b:1",
            "tcp://host:1",
            "me@host:1",
            "${HOST}:1",
            "",
            1,
            "a:1,,b:2"
        ]);
        assert_snapshot!(problems(&[("mb_servers.mb.host_port_list", list)]), @r#"
        mb_servers.mb.host_port_list[11]: must not be empty or contain control characters
        mb_servers.mb.host_port_list[12]: must be a text in quotes, not a number
        mb_servers.mb.host_port_list[0]: has no port; write "host:port", such as "broker.example.org:61613"
        mb_servers.mb.host_port_list[1]: must end in a port from 1 to 65535; write "host:port", such as "broker.example.org:61613"
        mb_servers.mb.host_port_list[2]: must end in a port from 1 to 65535; write "host:port", such as "broker.example.org:61613"
        mb_servers.mb.host_port_list[3]: must end in a port from 1 to 65535; write "host:port", such as "broker.example.org:61613"
        mb_servers.mb.host_port_list[4]: is not a host name or address before the port
        mb_servers.mb.host_port_list[5]: an IPv6 address must be in brackets, such as "[::1]:61613"
        mb_servers.mb.host_port_list[6]: the text in brackets is not an IPv6 address
        mb_servers.mb.host_port_list[7]: is not a host name or address before the port
        mb_servers.mb.host_port_list[8]: must have no scheme and no user; write "host:port", such as "broker.example.org:61613"
        mb_servers.mb.host_port_list[9]: must have no scheme and no user; write "host:port", such as "broker.example.org:61613"
        mb_servers.mb.host_port_list[10]: "${NAME}" must be the whole entry, port included
        mb_servers.mb.host_port_list[13]: has no port; write "host:port", such as "broker.example.org:61613"
        "#);
        assert_snapshot!(problems(&[("mb_servers.mb.host_port_list", json!([]))]), @r#"mb_servers.mb.host_port_list: must hold at least one "host:port""#);
        assert_snapshot!(problems(&[("mb_servers.mb.host_port_list", json!("a:1"))]), @"mb_servers.mb.host_port_list: must be a list [...], not a text");
    }
}
