//! Brokers that are not who they should be, or do not speak TLS as it should be: no connection, and an
//! error that says what to do.

use std::{
    io::{Read, Write},
    net::TcpListener,
    thread,
};

use stompbox::client::{ConnectOptions, Tls};

use super::{Us, open, options};
use crate::harness::{
    certificates::{Authority, Identity, params, self_signed},
    target::Target,
    tls_front::{Terms, TlsFront},
};

/// What the host says of a broker that shows this certificate, under the name `localhost`.
fn verdict(shown: &Identity, trusted: &str) -> String {
    let (target, us) = (Target::embedded(), Us::new());
    let front = TlsFront::start(target.address, &Terms::new(shown));
    let tls = if trusted.is_empty() { Tls::default() } else { us.trusting(trusted) };
    open(&options("localhost", &front, tls)).err().unwrap_or_default()
}

#[test]
fn an_unknown_authority_is_refused() {
    let (authority, other) = (Authority::make(), Authority::make());
    for trusted in [String::new(), other.pem()] {
        let told = verdict(&authority.issue(&["localhost"]), &trusted);
        assert!(told.contains("no TLS with localhost:"), "{told}");
        assert!(
            told.contains("not from an authority that is trusted here: name the authority's certificate in ca_file"),
            "{told}"
        );
    }
}

#[test]
fn a_certificate_for_another_host_is_refused() {
    let authority = Authority::make();
    let told = verdict(&authority.issue(&["broker.example.org"]), &authority.pem());
    assert!(told.contains("its certificate is not for localhost but for"), "{told}");
    assert!(told.contains("broker.example.org"), "{told}");
}

#[test]
fn an_expired_certificate_is_refused() {
    let authority = Authority::make();
    let mut old = params(&["localhost"]);
    old.not_before = rcgen::date_time_ymd(2019, 1, 1);
    old.not_after = rcgen::date_time_ymd(2020, 1, 1);
    let told = verdict(&authority.sign(&old), &authority.pem());
    assert!(told.contains("its certificate has expired"), "{told}");
    (old.not_before, old.not_after) = (rcgen::date_time_ymd(2999, 1, 1), rcgen::date_time_ymd(3000, 1, 1));
    let told = verdict(&authority.sign(&old), &authority.pem());
    assert!(told.contains("its certificate is not valid yet"), "{told}");
}

#[test]
fn a_self_signed_certificate_must_be_in_ca_file() {
    let own = self_signed(&params(&["localhost"]));
    let told = verdict(&own, "");
    assert!(told.contains("name the authority's certificate in ca_file"), "{told}");
    assert_eq!(verdict(&own, &own.cert), "");
}

/// What `openssl req -x509` makes without further options.
#[test]
fn an_authority_is_no_server() {
    let mut both = params(&["localhost"]);
    both.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let own = self_signed(&both);
    let told = verdict(&own, &own.cert);
    assert!(told.contains("one of an authority (CA:TRUE), not of a server"), "{told}");
}

/// What is said when a peer answers the first bytes of TLS with these, and closes.
fn answered(answer: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let peer = thread::spawn(move || {
        let mut stream = listener.accept().unwrap().0;
        let mut hello = [0; 2_000];
        assert!(stream.read(&mut hello).unwrap() > 100 && hello[0] == 22, "a ClientHello");
        stream.write_all(answer).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let _ = stream.read(&mut hello);
    });
    let options = ConnectOptions { tls: Some(Tls::default()), ..ConnectOptions::new("peer", vec![address.into()]) };
    let told = open(&options).unwrap_err();
    peer.join().unwrap();
    told
}

#[test]
fn tls_before_1_2_is_refused() {
    // An alert protocol_version, and a ServerHello of TLS 1.1.
    const ALERT: &[u8] = &[21, 3, 1, 0, 2, 2, 70];
    let mut hello = vec![22, 3, 2, 0, 42, 2, 0, 0, 38, 3, 2];
    hello.extend([7; 32]);
    hello.extend([0, 0, 0x2f, 0]);
    for answer in [ALERT, hello.leak()] {
        let told = answered(answer);
        assert!(told.contains("it does not offer TLS 1.2 or 1.3"), "{told}");
    }
}

#[test]
fn a_port_without_tls_is_recognised() {
    let told = answered(b"ERROR\nmessage:Unknown STOMP action\n\n\0");
    assert!(told.contains("it does not speak TLS on this port"), "{told}");
    let told = answered(b"");
    assert!(told.contains("it closes the connection during the TLS handshake: is this its TLS port?"), "{told}");
}
