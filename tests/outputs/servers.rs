//! Outputs of one message to two servers: it is settled when both have answered. The first is any broker, the
//! second the embedded one, which can be told to withhold or to refuse.

use serde_json::json;
use stompbox::{app::Drained, dev_broker::Faults};

use super::{Fan, fan, is_refused, two_attempts};
use crate::harness::{
    client::Msg,
    host::{Host, wait_until},
    messages::texts,
    proxy::Proxy,
    target::{Target, on_every_broker},
};

on_every_broker! {
    an_input_is_acknowledged_when_all_servers_have_confirmed
    what_one_of_several_servers_refuses_is_a_dead_letter
}

/// The queue `far` is on the second server.
fn across(target: &Target, second: &Target) -> Fan {
    let mut fan = fan(target, json!({"retry": two_attempts()}));
    fan.one.config["mb_servers"]["second"] = second.server();
    fan.one.config["guard_period"] = json!(0.1);
    fan
}

fn an_input_is_acknowledged_when_all_servers_have_confirmed(target: &Target) {
    let second = Target::silent();
    let mut fan = across(target, &second);
    let proxy = Proxy::to(target.address);
    fan.one.config["mb_servers"]["mb"] = target.server_by(proxy.address);
    let host = Host::start(&fan.one.config);
    target.client().send_all(&fan.one.from, &["a\nnear:b\nfar:c", "d"]).unwrap();
    // The second message goes to the first server alone. It is settled, so the first server has answered for the
    // other message as well: its receipts come in order.
    host.wait_ended("one", 1);
    wait_until("both servers have their outputs", || second.handle().queue_depth(&fan.far).waiting == 1);
    wait_until("the second message is acknowledged", || proxy.count("ACK") == 1);
    assert_eq!(host.did("one").ended(), 1, "the first waits for the receipt of the second server");
    second.speak();
    host.wait_ended("one", 2);
    let did = host.did("one");
    assert_eq!(host.drain(), Drained::Clean);
    assert_eq!((did.forwarded.get(), did.outputs.get(), did.calls.get()), (2, 4, 2));
    assert_eq!(target.drain(&fan.one.from), [], "acknowledged");
    assert_eq!([&fan.one.to, &fan.near].map(|queue| texts(&target.drain(queue))), [vec!["a", "d"], vec!["b"]]);
    assert!(second.drain(&fan.far).iter().all(|output| output.text() == "c"));
}

fn what_one_of_several_servers_refuses_is_a_dead_letter(target: &Target) {
    let second = Target::embedded();
    let fan = across(target, &second);
    second.handle().set_faults(Faults { refuse_destinations: vec![fan.far.clone()], ..Faults::default() });
    let host = Host::start(&fan.one.config);
    target.client().send_all(&fan.one.from, &["a\nfar:c"]).unwrap();
    host.wait_ended("one", 1);
    let did = host.did("one");
    assert_eq!(host.drain(), Drained::Clean);
    assert_eq!((did.outputs.get(), did.retried.get(), did.dead_lettered.get()), (0, 1, 1));
    is_refused(&target.drain(&fan.one.dead), "a\nfar:c", &[&fan.far]);
    assert_eq!(target.drain(&fan.one.from), []);
    // The other server has one of each attempt, with the same id; Artemis can tell by it.
    let near = target.drain(&fan.one.to);
    assert_eq!(texts(&near), ["a", "a"][usize::from(target.is_artemis())..]);
    let id = |message: &Msg| message.header("stompbox_id").map(str::to_owned);
    assert!(target.is_rabbitmq() || (id(&near[0]).is_some() && id(&near[0]) == id(near.last().unwrap())), "{near:?}");
}
