//! The plugins of the repository in a running host, found as PanDA's configuration names them.

use serde_json::json;
use stompbox::app::Drained;

use crate::harness::{
    client::Msg,
    host::{Host, One},
    malformed::malformed,
    messages::status_messages,
    target::{Target, on_every_broker},
};

/// Text and bytes, small and large, valid JSON and not.
fn bodies() -> Vec<Vec<u8>> {
    let mut bodies: Vec<Vec<u8>> = status_messages(200, 3).into_iter().map(String::into_bytes).collect();
    bodies.extend(malformed(30).into_iter().map(|case| case.body));
    bodies.extend([Vec::new(), (0..=255).collect(), vec![0; 10], "h\u{e4}lt \u{20ac} \u{1f3b8}".into()]);
    bodies.extend([b"a\nb\r\n\n\\n\\c:".to_vec(), b"x".repeat(300_000), [0xff, 0].repeat(100_000)]);
    bodies
}

/// The body, and whether it travelled as bytes.
fn forms(messages: &[Msg]) -> Vec<(&[u8], bool)> {
    messages.iter().map(|m| (m.body.as_slice(), m.header("content-length").is_some())).collect()
}

fn forwarding_changes_nothing(target: &Target) {
    let module = "pandajedi.jedimsgprocessor.forwarding_msg_processor";
    let one = One::new(target, "ForwardingMsgProcPlugin", json!({"module": module}));
    let bodies = bodies();
    // What the broker makes of these messages without a host between.
    let direct = format!("{}.direct", one.from);
    target.client().send_all(&direct, &bodies).unwrap();
    let host = Host::start(&one.config);
    target.client().send_all(&one.from, &bodies).unwrap();
    host.wait_ended("one", bodies.len() as u64);
    let did = host.did("one");
    assert_eq!(host.drain(), Drained::Clean);
    assert_eq!((did.forwarded.get(), did.failures.get()), (bodies.len() as u64, 0));
    let (sent, expected) = (target.drain(&one.to), target.drain(&direct));
    assert_eq!(sent.iter().map(|message| message.body.clone()).collect::<Vec<_>>(), bodies);
    let wrong: Vec<_> =
        forms(&sent).into_iter().zip(forms(&expected)).filter(|(sent, direct)| sent != direct).collect();
    assert!(wrong.is_empty(), "text must stay text and bytes bytes: {wrong:?}");
    assert_eq!((target.drain(&one.from).len(), target.drain(&one.dead).len()), (0, 0));
}

on_every_broker! {
    forwarding_changes_nothing
}
