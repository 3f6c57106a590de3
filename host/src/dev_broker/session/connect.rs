//! The opening of a session: login, version, heart-beats.

use std::time::Duration;

use bytes::BytesMut;

use super::{BrokerOptions, Flow, Refusal, Session, State};
use crate::stomp::{Command, Frame, Version, encode};

/// The `server` header; the client tells its broker by it.
const SERVER: &str = concat!("stompbox-dev-broker/", env!("CARGO_PKG_VERSION"));
/// No heart-beat is more frequent.
const MIN_BEAT_MS: u64 = 10;
/// We beat at least this often once heart-beats are on, and expect none that is rarer.
const MAX_BEAT_MS: u64 = 3_600_000;

/// The heart-beats agreed on; none for a direction without.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::dev_broker) struct Beats {
    /// We promised to send something at least this often.
    pub(in crate::dev_broker) send_every: Option<Duration>,
    /// The client promised to send something at least this often.
    pub(in crate::dev_broker) receive_every: Option<Duration>,
}

impl Beats {
    /// Reads the client's `heart-beat` header: what it can send, what it wants.
    fn agree(header: Option<&str>) -> Result<Self, Refusal> {
        let Some(text) = header else { return Ok(Self::default()) };
        let bad = || Refusal::Protocol("heart-beat is not two numbers of milliseconds".to_owned());
        let (sends, wants) = text.split_once(',').ok_or_else(bad)?;
        let number = |text: &str| text.trim().parse::<u64>().map_err(|_| bad());
        let (sends, wants) = (number(sends)?, number(wants)?);
        let send = (wants > 0).then(|| wants.clamp(MIN_BEAT_MS, MAX_BEAT_MS));
        let receive = (1..=MAX_BEAT_MS).contains(&sends).then(|| sends.max(MIN_BEAT_MS));
        Ok(Self { send_every: send.map(Duration::from_millis), receive_every: receive.map(Duration::from_millis) })
    }

    /// The `heart-beat` header of CONNECTED: what we will send, what we want.
    fn header(self) -> String {
        let millis = |beat: Option<Duration>| beat.map_or(0, |beat| beat.as_millis());
        format!("{},{}", millis(self.send_every), millis(self.receive_every))
    }
}

impl Session {
    /// Handles the first frame of a connection.
    pub(super) fn connect(
        &mut self,
        state: &State,
        options: &BrokerOptions,
        frame: &Frame,
        output: &mut BytesMut,
    ) -> Result<Flow, Refusal> {
        if !matches!(frame.command, Command::Connect | Command::Stomp) {
            return Err(Refusal::Protocol(format!("{} before CONNECT", frame.command)));
        }
        let is = |wanted: &Option<String>, name| wanted.is_none() || wanted.as_deref() == frame.headers.get(name);
        if state.faults.refuse_logins || !is(&options.username, "login") || !is(&options.passcode, "passcode") {
            return Err(Refusal::Login);
        }
        let version = negotiate(frame.headers.get("accept-version")).ok_or(Refusal::Version)?;
        if version > Version::V1_0 {
            self.beats = Beats::agree(frame.headers.get("heart-beat"))?;
        }
        let (session, beats) = (format!("dev-{}", self.peer.number()), self.beats.header());
        let headers =
            [("server", SERVER), ("version", version.as_str()), ("session", &session), ("heart-beat", &beats)];
        encode(output, version, Command::Connected, headers, b"").map_err(|e| Refusal::Protocol(e.to_string()))?;
        self.version = Some(version);
        self.client_id = frame.headers.get("client-id").map(str::to_owned);
        Ok(Flow::Next)
    }
}

/// The highest version that both sides speak; a client that names none speaks 1.0.
fn negotiate(accepted: Option<&str>) -> Option<Version> {
    let Some(accepted) = accepted else { return Some(Version::V1_0) };
    accepted.split(',').filter_map(|text| Version::parse(Some(text.trim()))).max()
}
