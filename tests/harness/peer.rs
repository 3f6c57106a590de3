//! The broker's side of one connection, for tests that watch what a client sends.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
};

use anyhow::Result;

use super::client::{frame, parse};

/// One client's connection, answered as an agreeable broker would.
#[derive(Debug)]
pub struct Peer {
    stream: TcpStream,
    input: Vec<u8>,
}

impl Peer {
    pub fn accept(listener: &TcpListener) -> Result<Self> {
        Ok(Self { stream: listener.accept()?.0, input: Vec::new() })
    }

    /// Answers one frame, CONNECT or one with a receipt, and returns its command; none when the client
    /// has closed.
    pub fn serve_one(&mut self) -> Result<Option<String>> {
        loop {
            if let Some((message, used)) = parse(&self.input)? {
                self.input.drain(..used);
                if message.command == "CONNECT" {
                    self.stream.write_all(&frame("CONNECTED", &[("version", "1.2")], b""))?;
                }
                if let Some(receipt) = message.header("receipt") {
                    self.stream.write_all(&frame("RECEIPT", &[("receipt-id", receipt)], b""))?;
                }
                return Ok(Some(message.command));
            }
            let mut chunk = [0; 4096];
            match self.stream.read(&mut chunk)? {
                0 => return Ok(None),
                count => self.input.extend_from_slice(&chunk[..count]),
            }
        }
    }
}
