//! One STOMP session: what each frame of a client asks of the state, and the answer to it.
//!
//! Called by [`super::peer`] with the state locked; writes CONNECTED, RECEIPT and ERROR into the output
//! of its own connection. It never touches a socket.

mod connect;

use bytes::BytesMut;
use tracing::{debug, warn};

pub(super) use self::connect::Beats;
use super::{
    BrokerOptions,
    refusal::Refusal,
    state::{AckMode, DeliveryName, PeerId, State, Step, Verdict, Wanted},
};
use crate::stomp::{Command, Frame, Version, encode};

/// The window of a subscription that names none, as ActiveMQ has it.
const DEFAULT_PREFETCH: usize = 1_000;
/// The largest window.
const MAX_PREFETCH: i64 = 100_000;

/// What the connection's task does after a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    /// Goes on to the next frame.
    Next,
    /// Keeps the frame, and reads no more, until there is room.
    Held,
    /// Writes what is to be written and closes.
    Leave,
}

/// One client's session.
#[derive(Debug)]
pub(super) struct Session {
    peer: PeerId,
    version: Option<Version>,
    beats: Beats,
    client_id: Option<String>,
}

impl Session {
    /// Creates a session that waits for CONNECT.
    pub(super) fn new(peer: PeerId) -> Self {
        Self { peer, version: None, beats: Beats::default(), client_id: None }
    }

    /// The version agreed on; none before CONNECT.
    pub(super) fn version(&self) -> Option<Version> {
        self.version
    }

    /// The heart-beats agreed on.
    pub(super) fn beats(&self) -> Beats {
        self.beats
    }

    /// Handles one frame. A held frame must be given again.
    pub(super) fn handle(
        &mut self,
        state: &mut State,
        options: &BrokerOptions,
        frame: &Frame,
        output: &mut BytesMut,
    ) -> Flow {
        let result = match self.version {
            Some(_) => self.command(state, frame),
            None => self.connect(state, options, frame, output),
        };
        match result {
            Ok(Flow::Held) => Flow::Held,
            Ok(flow) if state.faults.drop_receipts => flow,
            Ok(flow) => self.confirm(frame, flow, output),
            Err(refusal) => self.refuse(frame, &refusal, output),
        }
    }

    /// Answers what is not even a frame.
    pub(super) fn refuse_bytes(&self, error: &crate::stomp::DecodeError, output: &mut BytesMut) {
        let empty = Frame::new(Command::Send, [], bytes::Bytes::new());
        self.refuse(&empty, &Refusal::Protocol(error.to_string()), output);
    }

    fn confirm(&self, frame: &Frame, flow: Flow, output: &mut BytesMut) -> Flow {
        let (Some(id), Some(version)) = (frame.headers.get("receipt"), self.version) else { return flow };
        match encode(output, version, Command::Receipt, [("receipt-id", id)], b"") {
            Ok(()) => flow,
            Err(error) => self.refuse(frame, &Refusal::Protocol(error.to_string()), output),
        }
    }

    fn refuse(&self, frame: &Frame, refusal: &Refusal, output: &mut BytesMut) -> Flow {
        let fatal = refusal.is_fatal();
        debug!(command = %frame.command, error = %refusal, fatal, "frame refused");
        let text = refusal.to_string().replace(char::is_control, " ");
        let receipt = frame.headers.get("receipt").filter(|id| !id.contains(char::is_control));
        let versions = (*refusal == Refusal::Version).then_some("1.0,1.1,1.2");
        let headers = [("message", Some(text.as_str())), ("receipt-id", receipt), ("version", versions)].into_iter();
        let given = headers.filter_map(|(name, value)| value.map(|value| (name, value)));
        let version = self.version.unwrap_or(Version::V1_0);
        if let Err(error) = encode(output, version, Command::Error, given, text.as_bytes()) {
            warn!(%error, "an ERROR cannot be expressed");
        }
        if fatal { Flow::Leave } else { Flow::Next }
    }

    fn command(&self, state: &mut State, frame: &Frame) -> Result<Flow, Refusal> {
        let peer = self.peer;
        match frame.command {
            Command::Send => return self.send(state, frame),
            Command::Ack => self.settle(state, frame, Verdict::Ack)?,
            Command::Nack => self.settle(state, frame, Verdict::Nack)?,
            Command::Subscribe => self.subscribe(state, frame)?,
            Command::Unsubscribe => state.unsubscribe(peer, self.subscription_key(frame)?)?,
            Command::Begin => state.begin(peer, required(frame, "transaction")?)?,
            Command::Commit => return state.commit(peer, required(frame, "transaction")?).map(Flow::from),
            Command::Abort => state.abort(peer, required(frame, "transaction")?)?,
            Command::Disconnect => return Ok(Flow::Leave),
            Command::Connect | Command::Stomp => {
                return Err(Refusal::Protocol("this connection has its session already".to_owned()));
            }
            Command::Message | Command::Receipt | Command::Error | Command::Connected => {
                return Err(Refusal::Protocol(format!("{} is for brokers to send", frame.command)));
            }
        }
        Ok(Flow::Next)
    }

    fn send(&self, state: &mut State, frame: &Frame) -> Result<Flow, Refusal> {
        let destination = required(frame, "destination")?;
        let Some(transaction) = frame.headers.get("transaction") else {
            admit(state, destination)?;
            return state.send(self.peer, destination, frame).map(Flow::from);
        };
        let staged =
            admit(state, destination).and_then(|()| state.stage_send(self.peer, transaction, destination, frame));
        if staged.is_err() {
            state.fail_transaction(self.peer, transaction);
        }
        staged.map(|()| Flow::Next)
    }

    fn settle(&self, state: &mut State, frame: &Frame, verdict: Verdict) -> Result<(), Refusal> {
        let name = if self.version == Some(Version::V1_2) {
            DeliveryName::Ack(required(frame, "id")?)
        } else {
            DeliveryName::Message {
                id: required(frame, "message-id")?,
                subscription: frame.headers.get("subscription"),
            }
        };
        if state.faults.refuse_acks {
            return Err(Refusal::Ack);
        }
        let delivered = state.find(self.peer, name)?;
        match frame.headers.get("transaction") {
            Some(transaction) => state.stage_settle(self.peer, transaction, delivered, verdict),
            None => {
                state.settle(delivered, verdict);
                Ok(())
            }
        }
    }

    fn subscribe(&self, state: &mut State, frame: &Frame) -> Result<(), Refusal> {
        let destination = required(frame, "destination")?;
        admit(state, destination)?;
        if frame.headers.get("selector").is_some() {
            return Err(Refusal::Selector);
        }
        let id = match self.version {
            Some(Version::V1_0) if frame.headers.get("id").is_none() => None,
            _ => Some(required(frame, "id")?),
        };
        let mode = match frame.headers.get("ack") {
            None | Some("auto") => AckMode::Auto,
            Some("client") => AckMode::Client,
            Some("client-individual") => AckMode::Individual,
            Some(other) => return Err(Refusal::Protocol(format!("there is no ack mode {other}"))),
        };
        let durable = self.durable_name(frame)?;
        let durable = durable.as_deref();
        state.subscribe(self.peer, Wanted { id, destination, mode, prefetch: prefetch(frame)?, durable })
    }

    /// As in ActiveMQ, a durable subscription belongs to a client id.
    fn durable_name(&self, frame: &Frame) -> Result<Option<String>, Refusal> {
        let Some(name) = frame.headers.get("activemq.subscriptionName") else { return Ok(None) };
        match &self.client_id {
            Some(client) => Ok(Some(format!("durable {client} {name}"))),
            None => Err(Refusal::Protocol("a durable subscription needs a client-id in CONNECT".to_owned())),
        }
    }

    /// UNSUBSCRIBE names the subscription by its id; 1.0 clients that gave none by the destination.
    fn subscription_key<'a>(&self, frame: &'a Frame) -> Result<&'a str, Refusal> {
        match frame.headers.get("id") {
            None if self.version == Some(Version::V1_0) => required(frame, "destination"),
            _ => required(frame, "id"),
        }
    }
}

impl From<Step> for Flow {
    fn from(step: Step) -> Self {
        match step {
            Step::Done => Self::Next,
            Step::Held => Self::Held,
        }
    }
}

fn admit(state: &State, destination: &str) -> Result<(), Refusal> {
    if state.faults.refuse_destinations.iter().any(|refused| refused == destination) {
        return Err(Refusal::Destination(destination.to_owned()));
    }
    Ok(())
}

/// A header that the frame must have. Control characters are refused, since what is named here is
/// written to consumers of all versions.
fn required<'a>(frame: &'a Frame, name: &str) -> Result<&'a str, Refusal> {
    let problem = match frame.headers.get(name) {
        None | Some("") => "has no",
        Some(value) if value.contains(char::is_control) => "has control characters in",
        Some(value) => return Ok(value),
    };
    Err(Refusal::Protocol(format!("{} {problem} {name}", frame.command)))
}

fn prefetch(frame: &Frame) -> Result<usize, Refusal> {
    let Some(text) = frame.headers.get("activemq.prefetchSize") else { return Ok(DEFAULT_PREFETCH) };
    let wanted: i64 =
        text.trim().parse().map_err(|_| Refusal::Protocol("activemq.prefetchSize is not a number".to_owned()))?;
    Ok(usize::try_from(wanted.clamp(1, MAX_PREFETCH)).unwrap_or(DEFAULT_PREFETCH))
}
