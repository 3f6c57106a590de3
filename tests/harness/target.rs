//! A broker that a suite runs on: the embedded one, or a real one that all tests share.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering},
    },
    thread,
};

use serde_json::{Value, json};
use stompbox::dev_broker::{BrokerHandle, BrokerOptions, DevBroker, Faults};
use tokio::runtime::Runtime;

use super::{
    activemq::ActiveMq,
    artemis::Artemis,
    broker::{Broker, Kind, PASSCODE, USERNAME},
    client::{Client, Msg},
    rabbitmq::RabbitMq,
};

/// User and passcode.
pub type Login = (&'static str, &'static str);

/// Where to connect, and how.
pub struct Target {
    pub address: SocketAddr,
    login: Option<Login>,
    /// What the broker calls itself.
    server: String,
    embedded: Option<(BrokerHandle, Runtime)>,
}

impl Target {
    /// An embedded broker of the test's own.
    pub fn embedded() -> Self {
        let runtime = stompbox::commands::runtime().unwrap();
        let bound = DevBroker::bind((Ipv4Addr::LOCALHOST, 0).into(), BrokerOptions::default());
        let broker = runtime.block_on(bound).unwrap();
        let (address, handle) = (broker.local_addr(), broker.handle());
        runtime.spawn(broker.run(std::future::pending::<()>()));
        Self { address, login: None, server: String::new(), embedded: Some((handle, runtime)) }
    }

    /// The ActiveMQ that all tests share.
    pub fn activemq() -> Self {
        Self::real(ActiveMq::shared())
    }

    /// The RabbitMQ that all tests share.
    pub fn rabbitmq() -> Self {
        Self::real(RabbitMq::shared())
    }

    /// The Artemis that all tests share, by its acceptor as generated.
    pub fn artemis() -> Self {
        Self::real(Artemis::shared())
    }

    /// The same, by its acceptor with prefixes.
    pub fn artemis_prefixed() -> Self {
        Self { address: Artemis::shared().prefixed(), ..Self::artemis() }
    }

    /// A real broker of the test's own.
    pub fn real<K: Kind>(broker: &Broker<K>) -> Self {
        let server = broker.connect().unwrap().greeting().header("server").unwrap_or_default().to_owned();
        Self { address: broker.address(), login: Some((USERNAME, PASSCODE)), server, embedded: None }
    }

    /// An embedded broker that takes messages and does not confirm them until [`Target::speak`].
    pub fn silent() -> Self {
        let silent = Self::embedded();
        silent.handle().set_faults(Faults { drop_receipts: true, ..Faults::default() });
        silent
    }

    /// Confirms from now on; what was in flight is sent again.
    pub fn speak(&self) {
        self.handle().set_faults(Faults::default());
        self.handle().cut_all();
    }

    /// Where ActiveMQ refuses every SEND, by an ERROR, and goes on.
    pub const REFUSED_BY_ACTIVEMQ: &str = "/remote-temp-queue/ID:nowhere-1-1-1:1:1";

    /// A queue to which nobody may send, on RabbitMQ and on Artemis.
    pub fn forbidden(name: &str) -> String {
        Self::destination(name).replace("/queue/", "/queue/refused.")
    }

    /// Who logs in.
    pub fn login(&self) -> Option<Login> {
        self.login
    }

    /// A queue from which Artemis takes nothing away, however often it is delivered (`max-delivery-attempts` -1).
    pub fn patient(&self, name: &str) -> String {
        let destination = Self::destination(name);
        if self.is_artemis() { destination.replace("/queue/", "/queue/patient.") } else { destination }
    }

    /// The controls of the embedded broker.
    pub fn handle(&self) -> &BrokerHandle {
        &self.embedded.as_ref().expect("an embedded broker").0
    }

    /// Its name for people.
    pub fn name(&self) -> &'static str {
        match (&self.embedded, self.is_rabbitmq(), self.is_artemis()) {
            (Some(_), ..) => "embedded",
            (None, true, _) => "RabbitMQ",
            (None, _, true) => "Artemis",
            (None, ..) => "ActiveMQ",
        }
    }

    /// Whether it is an Artemis.
    pub fn is_artemis(&self) -> bool {
        self.server.starts_with("ActiveMQ-Artemis/")
    }

    /// Whether it is a RabbitMQ: its message ids are new with each delivery.
    pub fn is_rabbitmq(&self) -> bool {
        self.server.starts_with("RabbitMQ/")
    }

    /// Whether it gives text a content-length too, as RabbitMQ and Artemis do.
    pub fn counts_text(&self) -> bool {
        self.is_artemis() || self.is_rabbitmq()
    }

    /// A client of the tests' own.
    pub fn client(&self) -> Client {
        Client::connect(self.address, self.login).unwrap()
    }

    /// Takes everything out of a queue.
    pub fn drain(&self, destination: &str) -> Vec<Msg> {
        self.client().drain_queue(destination).unwrap()
    }

    /// What the broker itself has taken away from consumers, since the test process began: its own queue for dead
    /// letters is shared by all tests, so that each must look for what is its own.
    pub fn taken_away(&self) -> Vec<Msg> {
        static TAKEN: Mutex<Vec<Msg>> = Mutex::new(Vec::new());
        let queue = match self.name() {
            "ActiveMQ" => "/queue/ActiveMQ.DLQ",
            "Artemis" => "DLQ",
            // Dropped without a trace.
            _ => return Vec::new(),
        };
        let mut taken = TAKEN.lock().unwrap();
        taken.extend(self.drain(queue));
        taken.clone()
    }

    /// The object for `mb_servers`.
    pub fn server(&self) -> Value {
        self.server_by(self.address)
    }

    /// The same by another way to it.
    pub fn server_by(&self, address: SocketAddr) -> Value {
        let (username, passcode) = self.login.unzip();
        json!({"host_port_list": [address.to_string()], "username": username, "passcode": passcode})
    }

    /// A destination that no other test uses.
    pub fn destination(name: &str) -> String {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        format!("/queue/t{}.{}.{name}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
    }
}

/// Runs each of these functions of a suite, which take a `&Target`, on each broker.
#[macro_export]
macro_rules! on_each_broker {
    ($($test:ident)*) => {
        mod embedded { $(#[test] fn $test() { super::$test(&$crate::harness::target::Target::embedded()); })* }
        mod activemq { $(#[test] fn $test() { super::$test(&$crate::harness::target::Target::activemq()); })* }
        mod rabbitmq { $(#[test] fn $test() { super::$test(&$crate::harness::target::Target::rabbitmq()); })* }
        mod artemis { $(#[test] fn $test() { super::$test(&$crate::harness::target::Target::artemis()); })* }
    };
}

/// The same, and on Artemis by each of its acceptors.
#[macro_export]
macro_rules! on_every_broker {
    ($($test:ident)*) => {
        $crate::on_each_broker! { $($test)* }
        mod artemis_prefixed {
            $(#[test] fn $test() { super::$test(&$crate::harness::target::Target::artemis_prefixed()); })*
        }
    };
}

/// Runs a test that mostly waits on these brokers at the same time.
pub fn at_once(targets: &[fn() -> Target], test: fn(&Target)) {
    thread::scope(|scope| {
        for target in targets {
            scope.spawn(|| test(&target()));
        }
    });
}

pub use {on_each_broker, on_every_broker};
