//! The broker over a real socket, with bytes written by hand.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::oneshot,
    task::JoinHandle,
    time::timeout,
};

use super::*;
use crate::{
    client::{AckMode, ConnectOptions, Phase, Producer, Rejected, SendRequest, Session, Subscription},
    delivery::{Delivery, Intake},
};

const LIMIT: Duration = Duration::from_secs(20);

/// A running broker.
struct Running {
    address: SocketAddr,
    handle: BrokerHandle,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Running {
    async fn start(options: BrokerOptions) -> Self {
        let broker = DevBroker::bind("127.0.0.1:0".parse().unwrap(), options).await.unwrap();
        let (address, handle) = (broker.local_addr(), broker.handle());
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(broker.run(stopped));
        Self { address, handle, stop, task }
    }

    async fn client(&self) -> Client {
        Client { stream: TcpStream::connect(self.address).await.unwrap(), read: Vec::new() }
    }

    /// A client with a 1.2 session.
    async fn session(&self) -> Client {
        let mut client = self.client().await;
        client.write("CONNECT\naccept-version:1.0,1.1,1.2\nhost:x\n\n\0").await;
        assert!(client.frame().await.starts_with("CONNECTED\n"));
        client
    }

    async fn wait_for(&self, reached: impl FnMut(&BrokerHandle) -> bool) {
        timeout(LIMIT, self.handle.wait_for(reached)).await.unwrap();
    }

    async fn stop(self) {
        self.stop.send(()).unwrap();
        timeout(LIMIT, self.task).await.unwrap().unwrap();
    }
}

struct Client {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Client {
    async fn write(&mut self, bytes: &str) {
        self.stream.write_all(bytes.as_bytes()).await.unwrap();
    }

    /// The text of the next frame, up to its NUL; none at the end of the connection.
    async fn next(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.read.iter().position(|byte| *byte == 0) {
                let frame: Vec<u8> = self.read.drain(..=end).collect();
                let text = String::from_utf8(frame).unwrap();
                return Some(text.trim_start_matches('\n').trim_end_matches('\0').to_owned());
            }
            match timeout(LIMIT, self.stream.read_buf(&mut self.read)).await.expect("the broker is silent") {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    async fn frame(&mut self) -> String {
        self.next().await.expect("the connection ended")
    }
}

#[tokio::test]
async fn the_way_of_a_message_in_1_2() {
    let broker = Running::start(BrokerOptions::default()).await;
    let mut client = broker.client().await;
    client.write("\nCONNECT\r\naccept-version:1.1,1.2,9.9\r\nheart-beat:0,0\r\n\r\n\0").await;
    let connected = client.frame().await;
    let server = concat!("server:stompbox-dev-broker/", env!("CARGO_PKG_VERSION"), "\n");
    assert!(connected.contains(server) && connected.contains("version:1.2\n"), "{connected}");
    client
        .write(
            "SEND\ndestination:/queue/a\nreceipt:r\\c1\nk:v\\cw\\nx\nredelivered:true\npersistent:false\n\nhello\0\n\
             SEND\ndestination:/queue/a\ncontent-length:3\n\na\0b\0\n\
             SUBSCRIBE\nid:s:0\ndestination:/queue/a\nack:client-individual\nreceipt:r2\n\n\0",
        )
        .await;
    assert_eq!(client.frame().await, "RECEIPT\nreceipt-id:r\\c1\n\n");
    assert_eq!(client.frame().await, "RECEIPT\nreceipt-id:r2\n\n");
    let message = client.frame().await;
    let (head, body) = message.split_once("\n\n").unwrap();
    assert_eq!(body, "hello");
    let mut lines: Vec<&str> = head.lines().collect();
    let ack = lines.remove(3).strip_prefix("ack:").unwrap().to_owned();
    assert_eq!(
        lines,
        [
            "MESSAGE",
            "message-id:ID\\cdev-1",
            "subscription:s\\c0",
            "destination:/queue/a",
            "k:v\\cw\\nx",
            "persistent:false"
        ]
    );
    let second = client.frame().await;
    assert!(second.contains("content-length:3\n") && second.ends_with("\n\na"), "{second}");
    assert_eq!(client.frame().await, "b");
    client.write(&format!("ACK\nid:{ack}\nreceipt:r3\n\n\0DISCONNECT\nreceipt:bye\n\n\0")).await;
    assert_eq!(client.frame().await, "RECEIPT\nreceipt-id:r3\n\n");
    assert_eq!(client.frame().await, "RECEIPT\nreceipt-id:bye\n\n");
    assert_eq!(client.next().await, None);
    assert_eq!(broker.handle.queue_depth("/queue/a"), Depth { waiting: 1, unacked: 0, consumers: 0 });
    broker.stop().await;
}

#[tokio::test]
async fn the_way_of_a_message_in_1_0_and_1_1() {
    let broker = Running::start(BrokerOptions::default()).await;
    let mut old = broker.client().await;
    old.write("CONNECT\n\n\0SUBSCRIBE\ndestination:/queue/a\nack:client\n\n\0").await;
    assert!(old.frame().await.contains("version:1.0\n"));
    let mut newer = broker.client().await;
    newer.write("STOMP\naccept-version:1.1\n\n\0SEND\ndestination:/queue/a\nk:a\\cb\nl:a\\nb\n\n1\0").await;
    assert!(newer.frame().await.contains("version:1.1\n"));
    let expected = "MESSAGE\nmessage-id:ID:dev-1\ndestination:/queue/a\nk:a:b\n\n1";
    assert_eq!(old.frame().await, expected, "1.0 has no escapes, so a header with a line feed is left out");
    old.write("ACK\nmessage-id:ID:dev-1\nreceipt:1\n\n\0UNSUBSCRIBE\ndestination:/queue/a\nreceipt:2\n\n\0").await;
    assert_eq!((old.frame().await, old.frame().await), receipts("1", "2"));
    newer.write("SUBSCRIBE\nid:7\ndestination:/queue/a\nack:client\n\n\0SEND\ndestination:/queue/a\n\n2\0").await;
    assert!(newer.frame().await.starts_with("MESSAGE\nmessage-id:ID\\cdev-2\nsubscription:7\ndestination:"));
    newer.write("ACK\nmessage-id:ID\\cdev-2\nsubscription:7\nreceipt:1\n\n\0").await;
    assert_eq!(newer.frame().await, "RECEIPT\nreceipt-id:1\n\n");
    assert_eq!(broker.handle.stats().acked, 2);
    broker.stop().await;
}

fn receipts(first: &str, second: &str) -> (String, String) {
    let receipt = |id| format!("RECEIPT\nreceipt-id:{id}\n\n");
    (receipt(first), receipt(second))
}

#[tokio::test]
async fn every_split_of_the_bytes_is_read_alike() {
    let broker = Running::start(BrokerOptions::default()).await;
    let mut client = broker.client().await;
    for byte in "CONNECT\naccept-version:1.1\n\n\0SEND\ndestination:/queue/a\nreceipt:1\n\nbody\0".chars() {
        client.write(&byte.to_string()).await;
    }
    assert!(client.frame().await.starts_with("CONNECTED"));
    assert_eq!(client.frame().await, "RECEIPT\nreceipt-id:1\n\n");
    broker.stop().await;
}

#[tokio::test]
async fn errors_keep_or_close_the_connection() {
    let broker = Running::start(BrokerOptions::default()).await;
    let mut client = broker.session().await;
    for (bad, message) in [
        ("ACK\nid:nothing\nreceipt:1\n\n\0", "no un-acked delivery nothing"),
        ("COMMIT\ntransaction:t\nreceipt:1\n\n\0", "no transaction t"),
        ("UNSUBSCRIBE\nid:s\nreceipt:1\n\n\0", "no subscription s"),
        ("SUBSCRIBE\nid:s\ndestination:/queue/a\nselector:a=1\nreceipt:1\n\n\0", "no selectors"),
    ] {
        client.write(bad).await;
        let error = client.frame().await;
        assert!(error.starts_with("ERROR\nmessage:") && error.contains(message), "{error}");
        assert!(error.contains("receipt-id:1\n"), "{error}");
    }
    client.write("SEND\ndestination:/queue/a\nreceipt:2\n\n\0").await;
    assert_eq!(client.frame().await, "RECEIPT\nreceipt-id:2\n\n");
    for bad in ["SEND\n\n\0", "CONNECT\n\n\0", "GET / HTTP/1.1\n\n\0", "SUBSCRIBE\nid:1\ndestination:d\nack:x\n\n\0"] {
        let mut client = broker.session().await;
        client.write(bad).await;
        assert!(client.frame().await.starts_with("ERROR\n"), "{bad}");
        assert_eq!(client.next().await, None, "{bad}");
    }
    let mut client = broker.client().await;
    client.write("CONNECT\naccept-version:3.0\n\n\0").await;
    assert!(client.frame().await.contains("version:1.0,1.1,1.2\n"));
    assert_eq!(client.next().await, None);
    broker.stop().await;
}

#[tokio::test]
async fn logins_are_checked() {
    let options = BrokerOptions { username: Some("u".into()), passcode: Some("p".into()), ..BrokerOptions::default() };
    let broker = Running::start(options).await;
    let login = async |text: &str| {
        let mut client = broker.client().await;
        client.write(text).await;
        client.frame().await
    };
    assert!(login("CONNECT\nlogin:u\npasscode:p\n\n\0").await.starts_with("CONNECTED"));
    for wrong in ["CONNECT\n\n\0", "CONNECT\nlogin:u\n\n\0", "CONNECT\nlogin:u\npasscode:q\n\n\0"] {
        assert!(login(wrong).await.starts_with("ERROR\nmessage:the login is refused\n"));
    }
    broker.handle.set_faults(Faults { refuse_logins: true, ..broker.handle.faults() });
    assert!(login("CONNECT\nlogin:u\npasscode:p\n\n\0").await.starts_with("ERROR"));
    broker.stop().await;
}

#[tokio::test]
async fn faults_act_at_run_time() {
    let broker = Running::start(BrokerOptions::default()).await;
    let mut client = broker.session().await;
    let refuse_destinations = vec!["/queue/bad".to_owned()];
    broker.handle.set_faults(Faults { drop_receipts: true, refuse_destinations, ..Faults::default() });
    client.write("SEND\ndestination:/queue/a\nreceipt:1\n\n\0SEND\ndestination:/queue/bad\nreceipt:2\n\n\0").await;
    let error = client.frame().await;
    assert!(error.contains("message:destination /queue/bad is refused\nreceipt-id:2\n"), "{error}");
    assert_eq!(broker.handle.queue_depth("/queue/a").waiting, 1);
    broker.handle.set_faults(Faults { delay: Duration::from_millis(50), ..Faults::default() });
    let asked = std::time::Instant::now();
    client.write("SEND\ndestination:/queue/a\nreceipt:3\n\n\0").await;
    assert_eq!(client.frame().await, "RECEIPT\nreceipt-id:3\n\n");
    assert!(asked.elapsed() >= Duration::from_millis(50));
    broker.stop().await;
}

#[tokio::test]
async fn cut_all_ends_every_connection_and_gives_back() {
    let broker = Running::start(BrokerOptions::default()).await;
    let mut client = broker.session().await;
    client.write("SUBSCRIBE\nid:1\ndestination:/queue/a\nack:client\n\n\0SEND\ndestination:/queue/a\n\nx\0").await;
    assert!(client.frame().await.starts_with("MESSAGE"));
    let mut other = broker.client().await;
    broker.wait_for(|handle| handle.stats().connections == 2).await;
    broker.handle.cut_all();
    assert_eq!(broker.handle.queue_depth("/queue/a"), Depth { waiting: 1, unacked: 0, consumers: 0 });
    assert_eq!((client.next().await, other.next().await), (None, None));
    let mut client = broker.session().await;
    client.write("SUBSCRIBE\nid:1\ndestination:/queue/a\n\n\0").await;
    assert!(client.frame().await.contains("\nredelivered:true\n"));
    broker.stop().await;
}

#[tokio::test]
async fn at_the_memory_cap_the_sender_is_not_read_and_nothing_is_lost() {
    const COUNT: usize = 2_000;
    let broker = Running::start(BrokerOptions { memory_bytes: 20_000, ..BrokerOptions::default() }).await;
    let mut sender = broker.session().await;
    let body = "x".repeat(1_000);
    let many = format!("SEND\ndestination:/queue/a\n\n{body}\0").repeat(COUNT) + "DISCONNECT\nreceipt:bye\n\n\0";
    let sending = tokio::spawn(async move {
        sender.write(&many).await;
        sender.frame().await
    });
    broker.wait_for(|handle| handle.stats().held == 1).await;
    let stored = broker.handle.stats();
    assert!(stored.memory_bytes <= 20_000 && stored.sent < 20, "{stored:?}");
    let mut large = broker.session().await;
    large.write(&format!("SEND\ndestination:/queue/b\nreceipt:1\n\n{}\0", "x".repeat(30_000))).await;
    assert!(large.frame().await.contains("exceeds the memory cap"));
    let mut consumer = broker.session().await;
    consumer.write("SUBSCRIBE\nid:1\ndestination:/queue/a\nack:client\n\n\0").await;
    for number in 1..=COUNT {
        let message = consumer.frame().await;
        assert!(message.contains(&format!("message-id:ID\\cdev-{number}\n")), "{message}");
        let ack = message.lines().find_map(|line| line.strip_prefix("ack:")).unwrap();
        consumer.write(&format!("ACK\nid:{ack}\n\n\0")).await;
    }
    assert_eq!(timeout(LIMIT, sending).await.unwrap().unwrap(), "RECEIPT\nreceipt-id:bye\n\n");
    broker.wait_for(|handle| handle.stats().memory_bytes == 0).await;
    broker.stop().await;
}

#[tokio::test]
async fn heart_beats_are_kept_and_expected() {
    let broker = Running::start(BrokerOptions::default()).await;
    let mut client = broker.client().await;
    client.write("CONNECT\naccept-version:1.2\nheart-beat:100,20\n\n\0").await;
    assert!(client.frame().await.contains("heart-beat:20,100\n"));
    let mut beats = Vec::new();
    while timeout(LIMIT, client.stream.read_buf(&mut beats)).await.unwrap().is_ok_and(|read| read > 0) {}
    // The client stayed silent: closed after 200 ms, with a line end at least every 20 ms until then.
    assert!(beats.len() >= 5 && beats.iter().all(|byte| *byte == b'\n'), "{beats:?}");
    broker.wait_for(|handle| handle.stats().connections == 0).await;
    broker.stop().await;
}

#[tokio::test]
async fn what_is_not_sent_at_disconnect_stays_in_the_queue() {
    let broker = Running::start(BrokerOptions::default()).await;
    let mut client = broker.session().await;
    client
        .write(
            "SUBSCRIBE\nid:1\ndestination:/queue/a\n\n\0SEND\ndestination:/queue/a\n\nx\0\
             DISCONNECT\nreceipt:bye\n\n\0",
        )
        .await;
    let first = client.frame().await;
    let delivered = first.starts_with("MESSAGE");
    let receipt = if delivered { client.frame().await } else { first };
    assert_eq!(receipt, "RECEIPT\nreceipt-id:bye\n\n");
    assert_eq!(client.next().await, None);
    assert_eq!(broker.handle.queue_depth("/queue/a").waiting, usize::from(!delivered));
    broker.stop().await;
}

/// Acknowledges what it gets and remembers it.
#[derive(Default)]
struct Sink {
    room: Notify,
    bodies: Mutex<std::collections::BTreeSet<String>>,
}

impl Intake for Sink {
    fn push(&self, deliveries: &mut Vec<Delivery>) {
        for delivery in deliveries.drain(..) {
            let body = String::from_utf8(delivery.message.body.to_vec()).unwrap();
            self.bodies.lock().unwrap().insert(body);
            let _ = delivery.ack();
        }
    }

    fn has_room(&self) -> bool {
        true
    }

    fn room(&self) -> &Notify {
        &self.room
    }
}

fn connect_options(address: SocketAddr) -> ConnectOptions {
    ConnectOptions {
        send_heartbeat: Duration::from_secs(1),
        recv_heartbeat: Duration::from_secs(1),
        max_backoff: Duration::from_millis(200),
        ..ConnectOptions::new("test", vec![address.into()])
    }
}

#[tokio::test]
async fn the_clients_of_the_host_lose_nothing_when_everything_is_cut() {
    const COUNT: usize = 5_000;
    let broker = Running::start(BrokerOptions::default()).await;
    let (phase, phases) = tokio::sync::watch::channel(Phase::Run);
    let (producer, sending) = Producer::new(connect_options(broker.address), phases.clone());
    let subscription = Subscription {
        queue: "q".into(),
        destination: "/queue/a".into(),
        ack_mode: AckMode::ClientIndividual,
        window: 100,
        report_blocked: Duration::from_secs(10),
        headers: Vec::new(),
        durable: None,
        ordered: false,
    };
    let sink = Arc::new(Sink::default());
    let (session, _) = Session::new(connect_options(broker.address), subscription, sink.clone(), phases);
    let tasks = [tokio::spawn(sending.run()), tokio::spawn(session.run())];
    for number in 0..COUNT {
        let body = bytes::Bytes::from(number.to_string());
        let request = SendRequest { destination: "/queue/a".into(), headers: Vec::new(), body, as_bytes: false };
        producer.send(request, false, Box::new(|result: Result<(), Rejected>| result.unwrap()));
    }
    broker.wait_for(|handle| handle.stats().acked >= 100).await;
    broker.handle.cut_all();
    let done = |handle: &BrokerHandle| {
        let depth = handle.queue_depth("/queue/a");
        sink.bodies.lock().unwrap().len() == COUNT && depth.waiting + depth.unacked == 0
    };
    broker.wait_for(done).await;
    phase.send_replace(Phase::Finish);
    for task in tasks {
        timeout(LIMIT, task).await.unwrap().unwrap();
    }
    assert_eq!(producer.unconfirmed(), 0);
    broker.stop().await;
}
