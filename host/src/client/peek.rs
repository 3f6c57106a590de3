//! Looks into a queue and leaves everything there, or takes single messages out of it.
//!
//! For `stompbox dead-letters`. A broker that can show a queue is asked to ([`Flavour::browser`]). Elsewhere, and where
//! messages are to be taken, a subscription gets them, acknowledges none but those that are named, and leaves by
//! UNSUBSCRIBE and then DISCONNECT: so the others are given back, and Artemis does not count the delivery (it takes a
//! message away after ten). Never a NACK, and never a message of its own in the queue.
//!
//! Only a browser is told where a queue ends. Elsewhere the end is a silence, after which the broker answers a
//! question and still has sent nothing.

mod serve;

use std::time::Duration;

use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use self::serve::{Ack, leave, serve};
use super::{ClientError, ConnectOptions, Connection, Flavour, error_text, flavour::as_existing};
use crate::stomp::{Command, DecodeError, Frame, Headers};

/// How long the broker may take to answer.
const ANSWER: Duration = Duration::from_secs(15);
/// The id of the subscription, of the transaction and of receipts.
const ID: &str = "stompbox-look";
/// ACKs that wait to be written.
const ACKS: usize = 128;

/// What is looked at, and how far.
#[derive(Debug, Clone)]
pub struct Look {
    /// The queue.
    pub destination: String,
    /// Whether messages are to be taken out of it.
    pub take: bool,
    /// How long a silence is the end, where the broker does not tell the end.
    pub wait: Duration,
    /// How many messages are read.
    pub max_messages: usize,
    /// How many bytes of bodies are read.
    pub max_bytes: usize,
    /// Ends the reading early, in good order.
    pub stop: CancellationToken,
}

/// What a queue holds.
#[derive(Debug)]
pub struct Seen {
    /// Its messages, in the broker's order.
    pub messages: Vec<Frame>,
    /// Whether there are more than were read.
    pub more: bool,
    /// Messages over the limits of a frame, which cannot be read.
    pub oversized: usize,
    /// Which broker it is.
    pub flavour: Flavour,
}

/// A queue that is looked into; its messages stay ours until [`Peek::close`].
#[derive(Debug)]
pub struct Peek {
    /// None where the queue does not exist.
    open: Option<(mpsc::Sender<Ack>, JoinHandle<()>)>,
}

impl Peek {
    /// Logs in and reads what the queue holds.
    ///
    /// # Errors
    /// The broker cannot be reached, refuses, or does not answer.
    pub async fn open(options: &ConnectOptions, look: &Look) -> Result<(Self, Seen), ClientError> {
        let mut connection = Connection::open(options).await?;
        connection.skip_messages();
        let flavour = connection.flavour;
        let seen = Seen { messages: Vec::new(), more: false, oversized: 0, flavour };
        let browser = if look.take { None } else { flavour.browser() };
        let mut reader = Reader { connection, look, browser, seen, bytes: 0, ended: false };
        let read = reader.read().await;
        let Reader { connection, seen, .. } = reader;
        match read {
            Ok(()) => {
                let (acks, asked) = mpsc::channel(ACKS);
                let task = tokio::spawn(serve(connection, asked, look.destination.clone()));
                Ok((Self { open: Some((acks, task)) }, seen))
            }
            // A queue that nobody has declared is empty.
            Err(ClientError::Broker(text)) if flavour.says_absent(&text) => Ok((Self { open: None }, seen)),
            Err(error) => {
                leave(connection, &look.destination).await;
                Err(error)
            }
        }
    }

    /// Takes a message out of the queue. The answer comes later, so that many may be on their way; none means that
    /// the connection is gone. Unless it is Ok the message may still be in the queue.
    pub async fn ack(&self, message: &Headers) -> oneshot::Receiver<Result<(), String>> {
        let (tell, told) = oneshot::channel();
        if let Some((acks, _)) = &self.open {
            let _ = acks.send(Ack { message: message.clone(), tell }).await;
        }
        told
    }

    /// Gives back what was not taken, and leaves in good order.
    pub async fn close(self) {
        if let Some((acks, task)) = self.open {
            drop(acks);
            let _ = task.await;
        }
    }
}

struct Reader<'a> {
    connection: Connection,
    look: &'a Look,
    browser: Option<(&'static str, &'static str)>,
    seen: Seen,
    bytes: usize,
    /// The broker has said that this is all.
    ended: bool,
}

impl Reader<'_> {
    async fn read(&mut self) -> Result<(), ClientError> {
        self.subscribe()?;
        self.answered().await?;
        let silence = if self.browser.is_some() { ANSWER } else { self.look.wait };
        let stop = self.look.stop.clone();
        while !self.ended && !self.seen.more {
            let next = tokio::select! {
                next = timeout(silence, self.frame()) => next,
                () = stop.cancelled() => return Ok(()),
            };
            match next {
                Ok(frame) => self.take(frame?)?,
                Err(_) if !self.is_quiet().await? => {}
                Err(_) if self.browser.is_some() => {
                    return Err(ClientError::Silent { what: "end of the queue", limit: ANSWER });
                }
                Err(_) => return Ok(()),
            }
        }
        Ok(())
    }

    fn subscribe(&mut self) -> Result<(), ClientError> {
        let (look, flavour) = (self.look, self.connection.flavour);
        // On RabbitMQ looking must not declare the queue.
        let place = if flavour.declares(&look.destination) {
            as_existing(&look.destination)
        } else {
            look.destination.as_str().into()
        };
        let ack = if self.browser.is_some() { "auto" } else { "client-individual" };
        // Nothing is acknowledged while it is read, so all of it must fit into the window: one more tells of more.
        let window = flavour.window_header(look.max_messages.saturating_add(1), look.max_bytes.saturating_mul(2));
        let window = window.as_ref().map(|(name, value)| (*name, value.as_str()));
        let own = [("destination", &*place), ("id", ID), ("ack", ack), ("receipt", ID)];
        let routing = flavour.subscription_type(&look.destination);
        let all = own.into_iter().chain(self.browser).chain(routing).chain(window);
        Ok(self.connection.put(Command::Subscribe, all, b"")?)
    }

    /// Whether the broker answers a question and has sent nothing before.
    async fn is_quiet(&mut self) -> Result<bool, ClientError> {
        let before = self.seen.messages.len();
        self.connection.put(Command::Begin, [("transaction", ID)], b"")?;
        self.connection.put(Command::Abort, [("transaction", ID), ("receipt", ID)], b"")?;
        self.answered().await?;
        Ok(before == self.seen.messages.len())
    }

    /// Reads up to the receipt that was asked for.
    async fn answered(&mut self) -> Result<(), ClientError> {
        let answer = async {
            loop {
                let frame = self.frame().await?;
                if frame.command == Command::Receipt && frame.headers.get("receipt-id") == Some(ID) {
                    return Ok(());
                }
                self.take(frame)?;
            }
        };
        timeout(ANSWER, answer).await.unwrap_or(Err(ClientError::Silent { what: "answer", limit: ANSWER }))
    }

    async fn frame(&mut self) -> Result<Frame, ClientError> {
        loop {
            match self.connection.next_frame() {
                Ok(Some(frame)) => return Ok(frame),
                Ok(None) => self.connection.progress(true).await?,
                Err(ClientError::Decode(DecodeError::Skipped(_))) => self.seen.oversized += 1,
                Err(error) => return Err(error),
            }
        }
    }

    fn take(&mut self, frame: Frame) -> Result<(), ClientError> {
        match frame.command {
            Command::Error => return Err(ClientError::Broker(error_text(&frame))),
            Command::Message if self.browser.is_some() && self.connection.flavour.ends_browsing(&frame.headers) => {
                self.ended = true;
            }
            Command::Message => self.keep(frame),
            _ => {}
        }
        Ok(())
    }

    fn keep(&mut self, frame: Frame) {
        let full = self.seen.messages.len() >= self.look.max_messages || self.bytes >= self.look.max_bytes;
        if full {
            self.seen.more = true;
            return;
        }
        self.bytes += frame.body.len();
        self.seen.messages.push(frame);
    }
}
