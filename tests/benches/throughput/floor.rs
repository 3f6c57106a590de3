//! The floor: a client that does nothing but the protocol, in the shape that was fastest: one thread
//! consumes and sends, one reads RECEIPTs and writes the ACKs of each read in one write.

use std::{
    collections::HashMap,
    io::{Read, Write},
    net::TcpStream,
    sync::{Arc, Mutex},
    thread,
    time::Instant,
};

use anyhow::{Context, bail};
use bytes::{Bytes, BytesMut};
use stompbox::stomp::{Command, Decoder, Frame, FrameLimits, Version, content_length, encode};

use super::Target;

/// Half of a STOMP connection over a blocking socket.
pub(crate) struct Wire {
    stream: TcpStream,
    decoder: Decoder,
    input: BytesMut,
}

impl Wire {
    /// Connects and logs in.
    pub(crate) fn open(target: &Target) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(target.address)?;
        stream.set_nodelay(true)?;
        let mut wire = Self { stream, decoder: Decoder::new(FrameLimits::default()), input: BytesMut::new() };
        let (login, passcode) = target.login.unwrap_or_default();
        let login = [("login", login), ("passcode", passcode)];
        let headers = [("accept-version", "1.2"), ("host", "/"), ("heart-beat", "0,0")];
        wire.write(|out| encode(out, Version::V1_0, Command::Connect, headers.into_iter().chain(login), b""))?;
        let answer = wire.frames()?.pop().context("no answer to CONNECT")?;
        if answer.command != Command::Connected {
            bail!("not connected: {answer:?}");
        }
        Ok(wire)
    }

    fn write<E: std::error::Error + Send + Sync + 'static>(
        &mut self,
        put: impl FnOnce(&mut BytesMut) -> Result<(), E>,
    ) -> anyhow::Result<()> {
        let mut out = BytesMut::new();
        put(&mut out)?;
        self.stream.write_all(&out)?;
        Ok(())
    }

    /// All frames of the next read that brought one.
    fn frames(&mut self) -> anyhow::Result<Vec<Frame>> {
        let mut frames = Vec::new();
        let mut chunk = vec![0; 64 << 10];
        while frames.is_empty() {
            let read = self.stream.read(&mut chunk)?;
            if read == 0 {
                bail!("the broker closed the connection");
            }
            socket2::SockRef::from(&self.stream).set_tcp_quickack(true)?;
            self.input.extend_from_slice(chunk.get(..read).unwrap_or_default());
            while let Some(frame) = self.decoder.decode(&mut self.input)? {
                if frame.command == Command::Error {
                    bail!("the broker reports an error: {frame:?}");
                }
                frames.push(frame);
            }
        }
        Ok(frames)
    }
}

fn send(out: &mut BytesMut, destination: &str, receipt: &str, body: &Bytes) -> anyhow::Result<()> {
    let length = content_length(body).map(|length| length.to_string());
    let headers = [("destination", destination), ("receipt", receipt), ("persistent", "true")];
    encode(
        out,
        Version::V1_2,
        Command::Send,
        headers.into_iter().chain(length.as_deref().map(|l| ("content-length", l))),
        body,
    )?;
    Ok(())
}

/// Fills a queue with persistent messages, confirmed.
pub(crate) fn fill(target: &Target, queue: &str, messages: &[String]) -> anyhow::Result<()> {
    let mut wire = Wire::open(target)?;
    let destination = format!("/queue/{queue}");
    for (number, batch) in messages.chunks(500).enumerate() {
        let mut out = BytesMut::new();
        for (index, body) in batch.iter().enumerate() {
            send(&mut out, &destination, &format!("{number}-{index}"), &Bytes::from(body.clone()))?;
        }
        wire.stream.write_all(&out)?;
        let mut answered = 0;
        while answered < batch.len() {
            answered += wire.frames()?.len();
        }
    }
    Ok(())
}

/// Moves the messages from `<queue>.in` to `<queue>.out`; returns messages a second.
pub(crate) fn run(target: &Target, queue: &str, count: usize) -> anyhow::Result<f64> {
    fill(target, &format!("{queue}.in"), &super::host::bodies(count))?;
    let (mut consumer, mut producer) = (Wire::open(target)?, Wire::open(target)?);
    let mut acks = consumer.stream.try_clone()?;
    let mut sends = producer.stream.try_clone()?;
    let pending: Arc<Mutex<HashMap<String, String>>> = Arc::default();
    let waiting = pending.clone();
    let began = Instant::now();
    let acking = thread::spawn(move || -> anyhow::Result<()> {
        let mut done = 0;
        while done < count {
            let mut out = BytesMut::new();
            let receipts = producer.frames()?;
            let mut pending = waiting.lock().expect("no thread panics");
            for receipt in &receipts {
                let ack =
                    pending.remove(receipt.headers.get("receipt-id").unwrap_or_default()).context("unknown receipt")?;
                encode(&mut out, Version::V1_2, Command::Ack, [("id", ack.as_str())], b"")?;
            }
            drop(pending);
            acks.write_all(&out)?;
            done += receipts.len();
        }
        Ok(())
    });
    let (from, to) = (format!("/queue/{queue}.in"), format!("/queue/{queue}.out"));
    let headers = [("destination", from.as_str()), ("id", "1"), ("ack", "client-individual"), target.window];
    consumer.write(|out| encode(out, Version::V1_2, Command::Subscribe, headers, b""))?;
    let mut taken = 0;
    while taken < count {
        let mut out = BytesMut::new();
        let frames = consumer.frames()?;
        let mut pending = pending.lock().expect("no thread panics");
        for frame in &frames {
            taken += 1;
            let receipt = taken.to_string();
            send(&mut out, &to, &receipt, &frame.body)?;
            pending.insert(receipt, frame.headers.get("ack").context("no ack header")?.to_owned());
        }
        drop(pending);
        sends.write_all(&out)?;
    }
    acking.join().map_err(|_| anyhow::anyhow!("the acknowledging thread panicked"))??;
    let rate = count as f64 / began.elapsed().as_secs_f64();
    consumer.write(|out| encode(out, Version::V1_2, Command::Disconnect, [("receipt", "bye")], b""))?;
    consumer.frames()?;
    Ok(rate)
}
