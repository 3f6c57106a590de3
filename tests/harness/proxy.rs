//! A way to a broker that a test can hold up and cut: what a network does to connections.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex},
    thread,
};

/// Passes bytes on between clients and one broker.
pub struct Proxy {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    released: Condvar,
}

#[derive(Default)]
struct State {
    /// Both ends of each connection.
    streams: Vec<TcpStream>,
    /// Nothing passes from the broker to the clients.
    held: bool,
    /// What the clients have said, one after the other.
    said: Vec<u8>,
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
                pass(&passing, &client, &broker);
            }
        });
        Self { address, shared }
    }

    /// Keeps back what the broker says, until [`Proxy::cut_all`].
    pub fn hold(&self) {
        self.shared.state.lock().unwrap().held = true;
    }

    /// Breaks all connections, and with them loses what was held; new ones pass.
    pub fn cut_all(&self) {
        let mut state = self.shared.state.lock().unwrap();
        for stream in state.streams.drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
        state.held = false;
        self.shared.released.notify_all();
    }

    /// How many frames with this command the clients have sent.
    pub fn count(&self, command: &str) -> usize {
        let state = self.shared.state.lock().unwrap();
        let frames = state.said.split(|byte| *byte == 0);
        frames.filter(|frame| String::from_utf8_lossy(frame).trim_start().lines().next() == Some(command)).count()
    }
}

fn pass(shared: &Arc<Shared>, client: &TcpStream, broker: &TcpStream) {
    for stream in [client, broker] {
        stream.set_nodelay(true).unwrap();
    }
    let copies = [client, broker].map(|stream| stream.try_clone().unwrap());
    shared.state.lock().unwrap().streams.extend(copies);
    for (from, to, is_client) in [(client, broker, true), (broker, client, false)] {
        let (from, to, shared) = (from.try_clone().unwrap(), to.try_clone().unwrap(), shared.clone());
        thread::spawn(move || carry(&shared, from, to, is_client));
    }
}

/// One direction of one connection, until it ends.
fn carry(shared: &Shared, mut from: TcpStream, mut to: TcpStream, is_client: bool) {
    let mut chunk = [0; 16 << 10];
    while let Ok(count @ 1..) = from.read(&mut chunk) {
        let mut state = shared.state.lock().unwrap();
        if is_client {
            state.said.extend_from_slice(&chunk[..count]);
        } else {
            // After a cut the write fails.
            state = shared.released.wait_while(state, |state| state.held).unwrap();
        }
        drop(state);
        if to.write_all(&chunk[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}
