//! `use_ssl`, `ca_file`, `cert_file`, `key_file`: who trusts whom, and what is said when somebody does not.

mod brokers;
mod distrust;

use std::path::Path;

use serde_json::{Value, json};
use stompbox::{
    app::{Drained, PrepareError, Prepared},
    client::{Address, ConnectOptions, Tls},
    config::Config,
};
use tempfile::TempDir;
use tokio_rustls::rustls::{
    SupportedProtocolVersion,
    version::{TLS12, TLS13},
};

use super::{at, open};
use crate::harness::{
    certificates::{Authority, Identity, write},
    host::{Host, One, wait_until},
    target::Target,
    tls_front::{Terms, TlsFront},
};

/// The host's side of one test: a folder of files, and connections that use them.
struct Us {
    dir: TempDir,
}

impl Us {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn write(&self, name: &str, text: &str) -> std::path::PathBuf {
        write(self.dir.path(), name, text)
    }

    /// TLS that trusts this authority as well.
    fn trusting(&self, authority: &str) -> Tls {
        Tls { ca_file: Some(self.write("ca.pem", authority)), ..Tls::default() }
    }

    /// The same, with a certificate of ours.
    fn being(&self, authority: &str, identity: &Identity) -> Tls {
        Tls {
            cert_file: Some(self.write("cert.pem", &identity.cert)),
            key_file: Some(self.write("key.pem", &identity.key)),
            ..self.trusting(authority)
        }
    }
}

fn options(host: &str, front: &TlsFront, tls: Tls) -> ConnectOptions {
    let address = Address { host: host.into(), port: front.address.port() };
    ConnectOptions { tls: Some(tls), ..ConnectOptions::new("front", vec![address]) }
}

/// The configuration of a processor whose broker stands behind the front.
fn through(front: &TlsFront, target: &Target, extra: &Value) -> One {
    let mut one = One::new(target, "Echo", json!({}));
    let server = &mut one.config["mb_servers"]["mb"];
    server["host_port_list"] = json!([at("localhost", front.address)]);
    server["use_ssl"] = json!(true);
    for (key, value) in extra.as_object().unwrap() {
        server[key] = value.clone();
    }
    one.config["guard_period"] = json!(0.2);
    one
}

fn path(file: &Path) -> &str {
    file.to_str().unwrap()
}

/// Consuming and sending both go through TLS, and end it in good order.
#[test]
fn use_ssl_and_ca_file_take_messages_through_tls() {
    let (target, authority, us) = (Target::embedded(), Authority::make(), Us::new());
    let front = TlsFront::start(target.address, &Terms::new(&authority.issue(&["localhost"])));
    let ca_file = us.write("ca.pem", &authority.pem());
    let one = through(&front, &target, &json!({"ca_file": path(&ca_file)}));
    let host = Host::start(&one.config);
    let bodies: Vec<String> = (0..500).map(|number| format!("{number} {}", "x".repeat(5_000))).collect();
    target.client().send_all(&one.from, &bodies).unwrap();
    host.wait_ended("one", 500);
    assert_eq!(host.drain(), Drained::Clean);
    let out: Vec<String> = target.drain(&one.to).iter().map(crate::harness::client::Msg::text).collect();
    assert_eq!(out, bodies);
    wait_until("all clients have left", || front.visits().iter().all(|visit| visit.goodbye.is_some()));
    let visits = front.visits();
    assert!(visits.len() >= 2 && visits.iter().all(|visit| visit.goodbye == Some(true)), "{visits:?}");
}

/// An IP address is as good a name as any, when the certificate has it.
#[test]
fn an_address_is_verified_as_a_name_is() {
    let (target, authority, us) = (Target::embedded(), Authority::make(), Us::new());
    let front = TlsFront::start(target.address, &Terms::new(&authority.issue(&["127.0.0.1"])));
    open(&options("127.0.0.1", &front, us.trusting(&authority.pem()))).unwrap();
    let refused = open(&options("localhost", &front, us.trusting(&authority.pem()))).unwrap_err();
    assert!(refused.contains("its certificate is not for localhost but for"), "{refused}");
}

#[test]
fn cert_file_and_key_file_show_who_we_are_in_both_versions_of_tls() {
    static OLD: &[&SupportedProtocolVersion] = &[&TLS12];
    static NEW: &[&SupportedProtocolVersion] = &[&TLS13];
    let (target, authority, us) = (Target::embedded(), Authority::make(), Us::new());
    let server = authority.issue(&["localhost"]);
    for (versions, wanted) in [(OLD, "it may want a client certificate"), (NEW, "it wants a client certificate")] {
        let front =
            TlsFront::start(target.address, &Terms { clients: Some(&authority), versions, ..Terms::new(&server) });
        open(&options("localhost", &front, us.being(&authority.pem(), &authority.issue(&["me"])))).unwrap();
        assert!(front.visits()[0].certificate.is_some());
        let anonymous = open(&options("localhost", &front, us.trusting(&authority.pem()))).unwrap_err();
        assert!(anonymous.contains(wanted) || anonymous.contains("it wants a client certificate"), "{anonymous}");
        let stranger = us.being(&authority.pem(), &Authority::make().issue(&["me"]));
        let stranger = open(&options("localhost", &front, stranger)).unwrap_err();
        assert!(stranger.contains("does it trust the authority of our certificate"), "{stranger}");
    }
}

/// A Grid proxy: certificate, key and the certificate of whoever signed it, in one file, with an extension
/// that no TLS library knows.
#[test]
fn without_key_file_the_key_is_in_cert_file_as_in_a_grid_proxy() {
    let (target, authority, us) = (Target::embedded(), Authority::make(), Us::new());
    let server = authority.issue(&["localhost"]);
    let front = TlsFront::start(target.address, &Terms { clients: Some(&authority), ..Terms::new(&server) });
    let person = authority.below();
    let proxy = person.issue(&["me"]);
    let one_file = format!("{}{}{}", proxy.cert, proxy.key, person.pem());
    let cert_file = Some(us.write("proxy.pem", &one_file));
    open(&options("localhost", &front, Tls { cert_file, ..us.trusting(&authority.pem()) })).unwrap();

    let mut params = crate::harness::certificates::params(&["me"]);
    let mut info = rcgen::CustomExtension::from_oid_content(
        &[1, 3, 6, 1, 5, 5, 7, 1, 14],
        vec![0x30, 0x0c, 0x30, 0x0a, 0x06, 0x08, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x15, 0x01],
    );
    info.set_criticality(true);
    params.custom_extensions.push(info);
    let proxy = person.sign(&params);
    let file = us.write("proxy.pem", &format!("{}{}{}", proxy.cert, proxy.key, person.pem()));
    assert_eq!(Tls { cert_file: Some(file), ..Tls::default() }.problems(), []);
}

#[test]
fn a_renewed_certificate_is_used_from_the_next_connect_on() {
    let (target, authority, us) = (Target::embedded(), Authority::make(), Us::new());
    let server = authority.issue(&["localhost"]);
    let front = TlsFront::start(target.address, &Terms { clients: Some(&authority), ..Terms::new(&server) });
    let tls = us.being(&authority.pem(), &authority.issue(&["first"]));
    let [ca, cert, key] = [&tls.ca_file, &tls.cert_file, &tls.key_file].map(|file| path(file.as_ref().unwrap()));
    let one = through(&front, &target, &json!({"ca_file": ca, "cert_file": cert, "key_file": key}));
    let host = Host::start(&one.config);
    target.client().send(&one.from, &[], b"x").unwrap();
    host.wait_ended("one", 1);
    let first = front.visits();
    assert!(first.iter().all(|visit| visit.certificate == first[0].certificate), "{first:?}");
    let _renewed = us.being(&authority.pem(), &authority.issue(&["second"]));
    front.cut();
    wait_until("connections with the new certificate", || front.visits().len() >= first.len() * 2);
    let second = front.visits().split_off(first.len());
    assert!(second.iter().all(|visit| visit.certificate != first[0].certificate), "{second:?}");
    target.client().send(&one.from, &[], b"y").unwrap();
    host.wait_ended("one", 2);
    assert_eq!(host.drain(), Drained::Clean);
}

/// No test of another kind would see that the platform's authorities are asked: `SSL_CERT_FILE` stands for them.
#[test]
fn without_ca_file_the_authorities_of_the_platform_are_trusted() {
    let (target, authority, us) = (Target::embedded(), Authority::make(), Us::new());
    let front = TlsFront::start(target.address, &Terms::new(&authority.issue(&["localhost"])));
    let mut one = through(&front, &target, &json!({}));
    one.config["plugins"] = json!([crate::harness::guests::plugins_dir()]);
    let file = us.write("config.json", &one.config.to_string());
    let mut command = crate::harness::process::program();
    let command =
        command.args(["run", "--config", path(&file)]).env("SSL_CERT_FILE", us.write("all.pem", &authority.pem()));
    let mut host = command.stderr(std::process::Stdio::null()).spawn().unwrap();
    wait_until("the program is subscribed", || target.handle().queue_depth(&one.from).consumers == 1);
    host.kill().unwrap();
    host.wait().unwrap();
}

fn problems(config: &Value) -> Vec<String> {
    let mut config = config.clone();
    config["plugins"] = json!([crate::harness::guests::plugins_dir()]);
    let loaded = Config::parse(&config.to_string(), "/etc/stompbox/test.json".as_ref(), true, &|_| None).unwrap();
    match Prepared::new(loaded.config, crate::harness::compile_config()) {
        Ok(_) => Vec::new(),
        Err(PrepareError::Processors(problems)) => problems.iter().map(ToString::to_string).collect(),
        Err(other) => panic!("{other}"),
    }
}

/// `check` and the start tell it with the path in the configuration, and all at once.
#[test]
fn files_that_cannot_be_used_are_problems_of_the_configuration() {
    let (target, authority, us) = (Target::embedded(), Authority::make(), Us::new());
    let one = One::new(&target, "Echo", json!({}));
    let told = |server: Value| {
        let mut config = one.config.clone();
        for (key, value) in server.as_object().unwrap() {
            config["mb_servers"]["mb"][key] = value.clone();
        }
        config["mb_servers"]["mb"]["use_ssl"] = json!(true);
        problems(&config)
    };
    let (mine, other) = (authority.issue(&["me"]), authority.issue(&["you"]));
    let file = |name: &str, text: &str| path(&us.write(name, text)).to_owned();
    let (cert, key, foreign) = (file("c.pem", &mine.cert), file("k.pem", &mine.key), file("o.pem", &other.key));
    let (empty, der) = (file("empty.pem", ""), file("der.crt", "\u{1}\u{2}"));
    let locked =
        file("locked.pem", "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n");
    assert_eq!(told(json!({"ca_file": cert, "cert_file": cert, "key_file": key})), Vec::<String>::new());
    assert_eq!(
        told(json!({"ca_file": "gone.pem", "cert_file": "gone2.pem", "passcode_file": "gone3"})),
        [
            "mb_servers.mb.passcode_file: /etc/stompbox/gone3: there is no such file",
            "mb_servers.mb.ca_file: /etc/stompbox/gone.pem: there is no such file",
            "mb_servers.mb.cert_file: /etc/stompbox/gone2.pem: there is no such file",
        ]
    );
    for (server, words) in [
        (json!({"ca_file": key}), "ca_file: KEY: it holds no certificate"),
        (
            json!({"ca_file": der}),
            "ca_file: DER: it is not in PEM format: a certificate begins with -----BEGIN CERTIFICATE----- there",
        ),
        (json!({"ca_file": empty}), "it is not in PEM format"),
        (json!({"ca_file": us.dir.path()}), "it is a directory, not a file"),
        (json!({"cert_file": cert}), "cert_file: CERT: it holds no private key: name the file that does in key_file"),
        (json!({"cert_file": cert, "key_file": cert}), "key_file: CERT: it holds no private key"),
        (json!({"cert_file": cert, "key_file": locked}), "its private key has a pass phrase"),
        (
            json!({"cert_file": cert, "key_file": foreign}),
            "its private key does not belong to the first certificate of CERT",
        ),
    ] {
        let words = words.replace("KEY", &key).replace("DER", &der).replace("CERT", &cert);
        let words = words.replace(&format!("BEGIN {cert}IFICATE"), "BEGIN CERTIFICATE");
        let told = told(server);
        assert!(told.len() == 1 && told[0].contains(&words), "{words}: {told:?}");
    }
}
