//! Sending from outside: messages for a queue of a sender's configuration, each confirmed by the broker.
//!
//! The public API for Rust programs, and what `stompbox send` is made of. It reads the configuration of
//! PanDA's message senders (`mb_servers` and `queues`, no `processors`), sends over a [`Producer`] like the
//! host's own outputs, and keeps a bounded number of messages in flight. It never drops a message silently:
//! each [`Confirmation`] tells what became of one.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use stompbox::sender::Sender;
//!
//! let sender = Sender::load("panda_mq_config.json".as_ref(), "jedi_jobtaskstatus")?;
//! let mut confirmations = Vec::new();
//! for taskid in 1..=100 {
//!     let body = format!(r#"{{"msg_type": "task_status", "taskid": {taskid}, "status": "done"}}"#);
//!     // Waits only while too many messages are in flight.
//!     confirmations.push(sender.send(body, &[("priority".into(), "7".into())]).await?);
//! }
//! for confirmation in confirmations {
//!     confirmation.await?; // The broker has the message.
//! }
//! sender.finish().await;
//! # Ok(())
//! # }
//! ```

use std::{
    future::Future,
    path::Path,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use tokio::{
    sync::{Semaphore, oneshot, watch},
    task::JoinHandle,
};

use crate::{
    client::{Phase, Producer, Rejected, SendRequest},
    config::{Config, ConfigError, check_send_header},
    stomp::FrameLimits,
};

/// Messages in flight of a sender that says nothing.
pub const IN_FLIGHT: usize = 100;
/// Bytes in flight, whatever the number of messages; one larger message goes alone.
const IN_FLIGHT_BYTES: u32 = 64 << 20;

/// Why there is no sender for a queue.
#[derive(Debug, thiserror::Error)]
pub enum SenderError {
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The queue is not one of the configuration, or is disabled.
    #[error("{0}")]
    Queue(String),
}

/// Why a message was not sent, or is not confirmed.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// A header cannot be sent.
    #[error("the header {name:?}: {problem}")]
    Header {
        /// Its name.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The body is larger than brokers take.
    #[error("the body has {size} bytes, more than the {} that brokers take", max_body_bytes())]
    TooLarge {
        /// Its size.
        size: usize,
    },
    /// The broker refused it.
    #[error(transparent)]
    Refused(#[from] Rejected),
    /// The sender ended before the broker answered: the message may have arrived or not.
    #[error("the sender ended before the broker answered")]
    Ended,
}

/// The largest body that a sender takes.
#[must_use]
pub fn max_body_bytes() -> usize {
    FrameLimits::default().body_bytes
}

/// Sends to one queue, over one connection that is opened anew when it breaks.
///
/// A message whose connection broke before the broker answered is sent again, marked `stompbox_resent:true`.
/// Dropping the sender closes the connection without waiting for confirmations.
#[derive(Debug)]
pub struct Sender {
    producer: Producer,
    destination: Arc<str>,
    headers: Vec<(String, String)>,
    in_flight: usize,
    messages: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    phase: watch::Sender<Phase>,
    task: JoinHandle<()>,
}

/// What becomes of one message: a future that is ready when the broker has confirmed or refused it.
#[derive(Debug)]
#[must_use = "a message is only sent for sure when its confirmation says so"]
pub struct Confirmation(oneshot::Receiver<Result<(), Rejected>>);

impl Sender {
    /// Reads a configuration file and makes a sender for one of its queues. Must be called within a tokio
    /// runtime; the connection comes up by itself.
    ///
    /// # Errors
    /// The configuration is not valid, or the queue cannot be sent to.
    pub fn load(config: &Path, queue: &str) -> Result<Self, SenderError> {
        Self::open(&Config::load(config, false)?.config, queue)
    }

    /// The same from a configuration that was read before.
    ///
    /// # Errors
    /// The queue cannot be sent to.
    pub fn open(config: &Config, queue: &str) -> Result<Self, SenderError> {
        let queue = config.queue(queue).map_err(SenderError::Queue)?;
        if !queue.enable {
            let message = format!("queues.{}.enable: the queue is disabled, so nothing can be sent to it", queue.name);
            return Err(SenderError::Queue(message));
        }
        let mut options = config.connect_options(&queue.server);
        options.verbose |= queue.verbose;
        let (phase, watched) = watch::channel(Phase::Run);
        let (producer, task) = Producer::new(options, watched);
        Ok(Self {
            producer,
            destination: queue.destination.as_str().into(),
            headers: queue.headers_to_send(),
            in_flight: IN_FLIGHT,
            messages: Arc::new(Semaphore::new(IN_FLIGHT)),
            bytes: Arc::new(Semaphore::new(IN_FLIGHT_BYTES as usize)),
            phase,
            task: tokio::spawn(task.run()),
        })
    }

    /// Bounds the messages in flight, at least 1 [default: 100].
    #[must_use]
    pub fn in_flight(mut self, messages: usize) -> Self {
        self.in_flight = messages.clamp(1, Semaphore::MAX_PERMITS.min(u32::MAX as usize));
        self.messages = Arc::new(Semaphore::new(self.in_flight));
        self
    }

    /// Where the messages go on the broker.
    #[must_use]
    pub fn destination(&self) -> &str {
        &self.destination
    }

    /// Whether these headers can be sent.
    ///
    /// # Errors
    /// The first that cannot: it is the host's own, the queue sets it, it stands there twice, or it cannot be
    /// expressed.
    pub fn check_headers(&self, headers: &[(String, String)]) -> Result<(), SendError> {
        for (index, (name, value)) in headers.iter().enumerate() {
            let before = headers.get(..index).unwrap_or_default();
            let problem = if let Err(problem) = check_send_header(name, value) {
                problem
            } else if self.headers.iter().any(|(own, _)| own == name) {
                "the queue's send_headers set it already"
            } else if before.iter().any(|(other, _)| other == name) {
                "given twice"
            } else if name == "priority" && !matches!(value.as_bytes(), [b'0'..=b'9']) {
                "must be a number from 0 to 9"
            } else {
                continue;
            };
            return Err(SendError::Header { name: name.clone(), problem: problem.to_owned() });
        }
        Ok(())
    }

    /// Sends a message, with headers beside those of the queue. Returns as soon as it is on its way; waits
    /// while too many others are. A body that is text travels as text, others with a `content-length`.
    ///
    /// # Errors
    /// The message cannot be expressed; nothing was sent.
    pub async fn send(&self, body: impl Into<Bytes>, headers: &[(String, String)]) -> Result<Confirmation, SendError> {
        self.check_headers(headers)?;
        let body = body.into();
        if body.len() > max_body_bytes() {
            return Err(SendError::TooLarge { size: body.len() });
        }
        let weight = u32::try_from(body.len()).unwrap_or(u32::MAX).clamp(1, IN_FLIGHT_BYTES);
        let ended = |_| SendError::Ended;
        let room = self.messages.clone().acquire_owned().await.map_err(ended)?;
        let bytes = self.bytes.clone().acquire_many_owned(weight).await.map_err(ended)?;
        let headers = self.headers.iter().chain(headers).cloned().collect();
        let (tell, told) = oneshot::channel();
        let request = SendRequest { destination: self.destination.clone(), headers, body, as_bytes: false };
        let done = move |answer| {
            drop((room, bytes));
            // Nobody may be waiting for this one any more.
            let _ = tell.send(answer);
        };
        self.producer.send(request, false, Box::new(done));
        Ok(Confirmation(told))
    }

    /// Waits until every message is confirmed or refused, then closes the connection in good order.
    pub async fn finish(self) {
        let all = u32::try_from(self.in_flight).unwrap_or(u32::MAX);
        // An error means that the semaphore is closed, which nobody does.
        let _ = self.messages.acquire_many(all).await;
        self.phase.send_replace(Phase::Finish);
        let _ = self.task.await;
    }
}

impl Confirmation {
    /// The answer, if it is there.
    pub fn now(&mut self) -> Option<Result<(), SendError>> {
        match self.0.try_recv() {
            Ok(answer) => Some(answer.map_err(SendError::Refused)),
            Err(oneshot::error::TryRecvError::Empty) => None,
            Err(oneshot::error::TryRecvError::Closed) => Some(Err(SendError::Ended)),
        }
    }
}

impl Future for Confirmation {
    type Output = Result<(), SendError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx).map(|answer| match answer {
            Ok(answer) => answer.map_err(SendError::Refused),
            Err(_) => Err(SendError::Ended),
        })
    }
}
