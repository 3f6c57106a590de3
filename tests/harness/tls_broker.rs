//! A real broker that takes clients inside TLS, and only those with a certificate of ours.
//!
//! The scripts in `tests/brokers` do it where the environment has `BROKER_TLS_PORT` and `BROKER_TLS_DIR`,
//! a folder with `ca.pem`, `cert.pem` and `key.pem`.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;

use super::{
    certificates::{Authority, Identity, write},
    client::Client,
    free_port, root,
};

/// A virtual machine on a busy machine takes its time.
const LIMIT: Duration = Duration::from_secs(180);

/// A running broker; it ends with this value.
pub struct TlsBroker {
    script: Child,
    /// Where it takes clients without TLS.
    pub plain: SocketAddr,
    /// Where it takes clients inside TLS.
    pub secure: SocketAddr,
    dir: TempDir,
}

impl TlsBroker {
    /// Starts `tests/brokers/NAME.sh`, which takes that many ports besides the first.
    pub fn start(name: &str, more_ports: usize, authority: &Authority, identity: &Identity) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in [("ca.pem", &authority.pem()), ("cert.pem", &identity.cert), ("key.pem", &identity.key)] {
            write(dir.path(), name, text);
        }
        let [plain, secure] = [free_port(), free_port()].map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        let script = Command::new(root().join(format!("tests/brokers/{name}.sh")))
            .args(["start".into(), dir.path().join("broker"), PathBuf::from(plain.port().to_string())])
            .args((0..more_ports).map(|_| free_port().to_string()))
            .env("BROKER_TLS_PORT", secure.port().to_string())
            .env("BROKER_TLS_DIR", dir.path())
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let mut broker = Self { script, plain, secure, dir };
        broker.wait();
        broker
    }

    /// A client without TLS, for what a test puts in and takes out.
    pub fn client(&self) -> Client {
        Client::connect(self.plain, Some((super::activemq::USERNAME, super::activemq::PASSCODE))).unwrap()
    }

    fn wait(&mut self) {
        let limit = Instant::now() + LIMIT;
        let login = Some((super::activemq::USERNAME, super::activemq::PASSCODE));
        while Client::connect(self.plain, login).is_err() || TcpStream::connect(self.secure).is_err() {
            let ended = self.script.try_wait().unwrap();
            assert!(
                ended.is_none() && Instant::now() < limit,
                "the broker does not start; see {}",
                self.dir.path().display()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for TlsBroker {
    fn drop(&mut self) {
        // Its end of the pipe says that the owner is gone: the script kills the broker and cleans up.
        drop(self.script.stdin.take());
        let _ = self.script.wait();
    }
}
