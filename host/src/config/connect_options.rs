//! How to log in to a server, out of the configuration; for sessions, producers, senders and `check` alike.

use std::sync::Arc;

use super::Config;
use crate::client::ConnectOptions;

impl Config {
    /// The options of a connection to a server of this configuration.
    ///
    /// # Panics
    /// There is no such server: every queue's is checked.
    #[must_use]
    pub fn connect_options(&self, server: &Arc<str>) -> ConnectOptions {
        #[expect(clippy::expect_used, reason = "Config refuses queues on unknown servers")]
        let server = self.servers.get(server).expect("a checked server");
        ConnectOptions {
            tls: server.tls.clone(),
            username: server.username.clone(),
            passcode: server.passcode.as_ref().map(|secret| secret.expose().to_owned()),
            passcode_file: server.passcode_file.clone(),
            vhost: server.vhost.clone(),
            send_heartbeat: server.send_heartbeat,
            recv_heartbeat: server.recv_heartbeat,
            verbose: server.verbose,
            max_backoff: self.guard_period,
            ..ConnectOptions::new(server.name.clone(), server.addresses.clone())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::super::tests::config;

    #[test]
    fn every_parameter_of_a_server_reaches_its_connections() {
        let server = json!({
            "host_port_list": ["a.example.org:1", "[::1]:2"], "connect": "any",
            "use_ssl": true, "ca_file": "ca.pem", "username": "me", "passcode": "word", "vhost": "/panda",
            "send_heartbeat_ms": 1500, "recv_heartbeat_ms": 2500, "verbose": true,
        });
        let options = config(&[("mb_servers.mb", server)]).connect_options(&"mb".into());
        let addresses: Vec<String> = options.addresses.iter().map(ToString::to_string).collect();
        assert_eq!(addresses, ["a.example.org:1", "[::1]:2"]);
        assert_eq!(options.tls.unwrap().ca_file, Some("/etc/stompbox/ca.pem".into()));
        assert_eq!((options.username.as_deref(), options.passcode.as_deref()), (Some("me"), Some("word")));
        assert_eq!((options.vhost.as_deref(), options.verbose), (Some("/panda"), true));
        let beats = (options.send_heartbeat.as_millis(), options.recv_heartbeat.as_millis());
        assert_eq!(beats, (1_500, 2_500));
    }

    #[test]
    fn guard_period_is_the_ceiling_of_the_back_off() {
        let ceiling = |changes: &[_]| config(changes).connect_options(&"mb".into()).max_backoff;
        assert_eq!(ceiling(&[]), Duration::from_secs(30));
        assert_eq!(ceiling(&[("guard_period", json!(7))]), Duration::from_secs(7));
    }
}
