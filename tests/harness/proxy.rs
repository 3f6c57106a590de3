//! A way to a broker that a test can hold up and cut: what a network does to connections.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Condvar, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use fastrand::Rng;
use socket2::{SockFilter, SockRef};

/// Passes bytes on between clients and one broker.
pub struct Proxy {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

/// Which bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum To {
    Client,
    Broker,
}

/// How the bytes of one direction travel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Way {
    #[default]
    Pass,
    /// They wait until the way is another one.
    Hold,
    /// Each piece waits for up to so many milliseconds.
    Delay(u64),
    /// Each byte is a segment of its own.
    Bytes,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    released: Condvar,
}

#[derive(Default)]
struct State {
    connections: Vec<Connection>,
    to_client: Way,
    to_broker: Way,
    /// New connections never say anything to their client.
    mute: bool,
    /// What the clients have said, one after the other.
    said: Vec<u8>,
}

struct Connection {
    client: TcpStream,
    broker: TcpStream,
    /// Nothing passes any more to the client, to the broker.
    dead: [Arc<AtomicBool>; 2],
}

impl Proxy {
    /// A way to this address; it stays until the test process ends.
    pub fn to(behind: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let (address, shared) = (listener.local_addr().unwrap(), Arc::<Shared>::default());
        let passing = shared.clone();
        thread::spawn(move || {
            while let Ok((client, _)) = listener.accept() {
                let Ok(broker) = TcpStream::connect(behind) else { continue };
                passing.pass(client, broker);
            }
        });
        Self { address, shared }
    }

    /// How bytes of a direction travel from now on, in all connections, also in later ones.
    pub fn set(&self, to: To, way: Way) {
        *self.shared.lock().way(to) = way;
        self.shared.released.notify_all();
    }

    /// Keeps back what the broker says, until [`Proxy::cut_all`].
    pub fn hold(&self) {
        self.set(To::Client, Way::Hold);
    }

    /// Breaks all connections, and with them loses what was held; new ones pass.
    pub fn cut_all(&self) {
        let mut state = self.shared.lock();
        for Connection { client, broker, .. } in state.connections.drain(..) {
            let _ = (client.shutdown(Shutdown::Both), broker.shutdown(Shutdown::Both));
        }
        (state.to_client, state.to_broker) = Default::default();
        self.shared.released.notify_all();
    }

    /// The connections of now carry nothing more in this direction, as if the process at the other end were frozen:
    /// its kernel still takes every byte. New ones pass.
    pub fn freeze(&self, to: To) {
        self.shared.lock().connections.iter().for_each(|connection| connection.dead(to).store(true, Ordering::Relaxed));
    }

    /// The connections of now are as if the machine at the other end were gone: nothing answers, not even its kernel.
    #[cfg(target_os = "linux")]
    pub fn vanish(&self) {
        self.freeze(To::Client);
        self.freeze(To::Broker);
        // A classic BPF program of one instruction, "return 0": keep no byte of any segment that comes.
        let nothing = [SockFilter::new(0x06, 0, 0, 0)];
        for connection in &self.shared.lock().connections {
            SockRef::from(&connection.client).attach_filter(&nothing).unwrap();
        }
    }

    /// The broker notices too that nobody is there any more behind connections that were frozen.
    pub fn bury(&self) {
        let state = self.shared.lock();
        let dead = state.connections.iter().filter(|connection| connection.dead(To::Broker).load(Ordering::Relaxed));
        dead.for_each(|connection| drop(connection.broker.shutdown(Shutdown::Both)));
    }

    /// Whether new connections are of a broker that takes everything and says nothing.
    pub fn mute(&self, mute: bool) {
        self.shared.lock().mute = mute;
    }

    /// How many frames with this command the clients have sent.
    pub fn count(&self, command: &str) -> usize {
        let state = self.shared.lock();
        let frames = state.said.split(|byte| *byte == 0);
        frames.filter(|frame| String::from_utf8_lossy(frame).trim_start().lines().next() == Some(command)).count()
    }
}

impl Connection {
    fn dead(&self, to: To) -> &Arc<AtomicBool> {
        &self.dead[usize::from(to == To::Broker)]
    }
}

impl State {
    fn way(&mut self, to: To) -> &mut Way {
        match to {
            To::Client => &mut self.to_client,
            To::Broker => &mut self.to_broker,
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn pass(self: &Arc<Self>, client: TcpStream, broker: TcpStream) {
        for stream in [&client, &broker] {
            stream.set_nodelay(true).unwrap();
        }
        let dead = [Arc::new(AtomicBool::new(self.lock().mute)), Arc::default()];
        let connection = Connection { client: client.try_clone().unwrap(), broker: broker.try_clone().unwrap(), dead };
        for to in [To::Client, To::Broker] {
            let (client, broker) = (client.try_clone().unwrap(), broker.try_clone().unwrap());
            let (shared, dead) = (self.clone(), connection.dead(to).clone());
            thread::spawn(move || match to {
                To::Client => shared.carry(broker, client, to, &dead),
                To::Broker => shared.carry(client, broker, to, &dead),
            });
        }
        self.lock().connections.push(connection);
    }

    /// One direction of one connection, until it ends.
    fn carry(&self, mut from: TcpStream, mut to: TcpStream, direction: To, dead: &AtomicBool) {
        let (mut chunk, mut random) = ([0; 16 << 10], Rng::with_seed(7));
        while let Ok(count @ 1..) = from.read(&mut chunk) {
            let bytes = &chunk[..count];
            let way = self.way_for(direction, bytes);
            let written = match way {
                _ if dead.load(Ordering::Relaxed) => Ok(()),
                Way::Delay(most) => {
                    thread::sleep(Duration::from_millis(random.u64(0..=most)));
                    to.write_all(bytes)
                }
                Way::Bytes => bytes.iter().try_for_each(|byte| to.write_all(&[*byte])),
                Way::Pass | Way::Hold => to.write_all(bytes),
            };
            if written.is_err() {
                break;
            }
        }
        // A dead connection does not even end.
        if !dead.load(Ordering::Relaxed) {
            let _ = to.shutdown(Shutdown::Write);
        }
    }

    /// Waits while this direction is held up; after a cut the write fails.
    fn way_for(&self, direction: To, bytes: &[u8]) -> Way {
        let mut state = self.lock();
        if direction == To::Broker {
            state.said.extend_from_slice(bytes);
        }
        *self.released.wait_while(state, |state| *state.way(direction) == Way::Hold).unwrap().way(direction)
    }
}
