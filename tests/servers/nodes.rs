//! Embedded brokers on several addresses of this machine, all on one port as the nodes behind a name are,
//! and consumers that read from them.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, mpsc},
};

use stompbox::{
    client::{AckMode, Addresses, ConnectOptions, Consumers, Phase, ReadFrom, SessionState, Subscription},
    delivery::{Delivery, Intake},
    dev_broker::{BrokerHandle, BrokerOptions, DevBroker},
};
use tokio::{
    runtime::Runtime,
    sync::{Notify, oneshot, watch},
};

use super::runtime;
use crate::harness::{
    client::Client,
    host::{LIMIT, wait_until},
};

/// The queue of these tests.
pub const QUEUE: &str = "/queue/nodes";

/// One broker.
pub struct Node {
    pub address: SocketAddr,
    serving: Option<(BrokerHandle, oneshot::Sender<()>, Runtime)>,
}

impl Node {
    /// A node that does not run yet.
    pub fn at(ip: &str, port: u16) -> Self {
        Self { address: SocketAddr::new(ip.parse::<IpAddr>().unwrap(), port), serving: None }
    }

    pub fn started(ip: &str, port: u16) -> Self {
        let mut node = Self::at(ip, port);
        node.start();
        node
    }

    pub fn start(&mut self) {
        let runtime = runtime();
        let broker = runtime.block_on(DevBroker::bind(self.address, BrokerOptions::default())).unwrap();
        let (stop, stopped) = oneshot::channel();
        let handle = broker.handle();
        runtime.spawn(broker.run(stopped));
        self.serving = Some((handle, stop, runtime));
    }

    /// Closes all its sockets; what it held is gone.
    pub fn stop(&mut self) {
        let (_, stop, runtime) = self.serving.take().unwrap();
        drop(stop);
        runtime.shutdown_timeout(LIMIT);
        wait_until("the node is gone", || std::net::TcpStream::connect(self.address).is_err());
    }

    pub fn handle(&self) -> &BrokerHandle {
        &self.serving.as_ref().expect("it runs").0
    }

    pub fn consumers(&self) -> usize {
        self.handle().queue_depth(QUEUE).consumers
    }

    pub fn client(&self) -> Client {
        Client::connect(self.address, None).unwrap()
    }

    pub fn send(&self, bodies: &[&str]) {
        self.client().send_all(QUEUE, bodies).unwrap();
    }
}

/// The consumers of [`QUEUE`], whose deliveries the test settles.
pub struct Reading {
    pub state: watch::Receiver<SessionState>,
    pub addresses: watch::Receiver<Addresses>,
    pub deliveries: mpsc::Receiver<Delivery>,
    phase: watch::Sender<Phase>,
    _runtime: Runtime,
}

struct Passing {
    deliveries: mpsc::Sender<Delivery>,
    room: Notify,
}

impl Intake for Passing {
    fn push(&self, deliveries: &mut Vec<Delivery>) {
        deliveries.drain(..).for_each(|delivery| self.deliveries.send(delivery).unwrap_or_default());
    }
    fn has_room(&self) -> bool {
        true
    }
    fn room(&self) -> &Notify {
        &self.room
    }
}

impl Reading {
    pub fn start(options: ConnectOptions, from: ReadFrom, window: usize) -> Self {
        let subscription = Subscription {
            queue: "in".into(),
            destination: QUEUE.into(),
            ack_mode: AckMode::ClientIndividual,
            window,
            report_blocked: LIMIT,
            headers: Vec::new(),
            durable: None,
            ordered: false,
        };
        let (passed, deliveries) = mpsc::channel();
        let intake = Passing { deliveries: passed, room: Notify::new() };
        let (phase, is_phase) = watch::channel(Phase::Run);
        let (consumers, state) = Consumers::new(options, from, subscription, Arc::new(intake), is_phase);
        let addresses = consumers.addresses();
        let runtime = runtime();
        runtime.spawn(consumers.run());
        Self { state, addresses, deliveries, phase, _runtime: runtime }
    }

    pub fn reaches(&self, wanted: SessionState) {
        wait_until(&format!("{wanted:?}"), || *self.state.borrow() == wanted);
    }

    /// The next delivery; not acknowledged.
    pub fn take(&self) -> Delivery {
        self.deliveries.recv_timeout(LIMIT).expect("no delivery came")
    }

    /// Takes and acknowledges one with this body.
    pub fn settle(&self, body: &str) {
        let delivery = self.take();
        assert_eq!(delivery.message.body, body.as_bytes());
        assert!(delivery.ack());
    }

    pub fn enter(&self, phase: Phase) {
        self.phase.send_replace(phase);
    }
}
