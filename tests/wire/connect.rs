//! CONNECT, and what is no answer to it.

use std::time::Duration;

use super::{Consumer, PLAIN, Sender, listen, subscribed, subscription};
use crate::harness::peer::Peer;

/// CONNECT is never escaped: a server would take the escapes for part of a password.
#[test]
fn connect_carries_what_is_configured_unescaped() {
    let (listener, mut options) = listen();
    options.vhost = Some("/virtual:host".into());
    options.username = Some("user\\name".into());
    options.passcode = Some("pass:\\word".into());
    options.client_id = Some("client".into());
    options.send_heartbeat = Duration::from_millis(1_500);
    options.recv_heartbeat = Duration::from_secs(2);
    let _consumer = Consumer::start(options, subscription());
    let connect = Peer::accept(&listener).unwrap().expect("CONNECT").unwrap();
    assert_eq!(
        connect.lines(),
        [
            "accept-version:1.0,1.1,1.2",
            "client-id:client",
            "heart-beat:1500,2000",
            "host:/virtual:host",
            "login:user\\name",
            "passcode:pass:\\word",
        ]
    );
}

#[test]
fn connect_leaves_out_what_is_not_configured() {
    let (listener, options) = listen();
    let _sender = Sender::start(options);
    let connect = Peer::accept(&listener).unwrap().expect("CONNECT").unwrap();
    assert_eq!(connect.lines(), ["accept-version:1.0,1.1,1.2", "heart-beat:0,0"]);
}

#[test]
fn what_opens_no_session_is_left_and_tried_again() {
    let (listener, options) = listen();
    let _consumer = Consumer::start(options, subscription());
    let answers: [&[u8]; 5] = [
        b"ERROR\nmessage:no such user\n\n\0",
        b"CONNECTED\nversion:1.3\n\n\0",
        b"RECEIPT\nreceipt-id:subscribed\n\n\0",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"",
    ];
    for answer in answers {
        let mut peer = Peer::accept(&listener).unwrap();
        peer.expect("CONNECT").unwrap();
        if !answer.is_empty() {
            peer.send_raw(answer).unwrap();
            peer.wait_closed().unwrap();
        }
    }
    subscribed(&listener, PLAIN);
}
