//! One task per connection: socket <-> frames <-> state.
//!
//! Each wake-up decodes all frames that are there, handles them and takes the deliveries under one
//! lock, encodes without it and writes once. It stops reading where the memory cap holds its SENDs back
//! or where the client does not read its answers; it never stops writing.

use std::{
    collections::VecDeque,
    future::{pending, poll_fn},
    io,
    sync::Arc,
    time::Duration,
};

use tokio::{
    net::TcpStream,
    sync::Notify,
    time::{Instant, Interval, MissedTickBehavior, interval, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::{
    Shared,
    outbox::Outgoing,
    session::{Flow, Session},
    state::PeerId,
    wire::{Progress, Wire},
};
use crate::stomp::{DecodeError, Decoder, Frame, FrameLimits, Version};

/// With more unwritten answers than this the connection is not read.
const MAX_ANSWER_BYTES: usize = 1 << 20;
/// How long a connection may stay without CONNECT.
const CONNECT_LIMIT: Duration = Duration::from_secs(30);
/// How long the last words and the peer's own goodbye may take.
const FINISH_LIMIT: Duration = Duration::from_secs(5);
/// The fault's delay is cut to this.
const MAX_DELAY: Duration = Duration::from_secs(600);
/// How often a connection without heart-beats is looked after.
const CHECK_EVERY: Duration = Duration::from_secs(1);
/// The shortest interval of looking after a connection.
const MIN_CHECK: Duration = Duration::from_millis(5);

/// Owns one connection.
pub(super) struct Peer {
    shared: Arc<Shared>,
    id: PeerId,
    bell: Arc<Notify>,
    cut: CancellationToken,
    wire: Wire,
    decoder: Decoder,
    session: Session,
    /// Decoded and not yet handled; the first one may be held back.
    frames: VecDeque<Frame>,
    /// What was read after `frames` is not STOMP.
    broken: Option<DecodeError>,
    /// Bytes of answers in the output.
    answer_bytes: usize,
    began: Instant,
    /// The fault: not before this the output is written.
    write_at: Option<Instant>,
    delay: Duration,
    ticker: Interval,
}

/// Why a connection ends.
enum End {
    /// By DISCONNECT or after an ERROR: what is in the output is still written.
    Orderly,
    /// The socket broke or was closed, or the broker cuts it.
    Broken(io::Error),
}

impl Peer {
    /// Registers a connection.
    pub(super) fn new(shared: Arc<Shared>, stream: TcpStream) -> Self {
        let (bell, cut) = (Arc::new(Notify::new()), CancellationToken::new());
        let id = shared.lock().add_peer(bell.clone(), cut.clone());
        Self {
            shared,
            id,
            bell,
            cut,
            wire: Wire::new(stream),
            decoder: Decoder::new(FrameLimits::default()),
            session: Session::new(id),
            frames: VecDeque::new(),
            broken: None,
            answer_bytes: 0,
            began: Instant::now(),
            write_at: None,
            delay: Duration::ZERO,
            ticker: ticker(CHECK_EVERY),
        }
    }

    /// Serves until the connection ends.
    pub(super) async fn run(mut self) {
        let end = self.serve().await;
        self.shared.lock().remove_peer(self.id);
        self.shared.changed.notify_waiters();
        match end {
            End::Orderly => self.finish().await,
            End::Broken(error) => debug!(%error, "connection ended"),
        }
    }

    async fn serve(&mut self) -> End {
        loop {
            let left = self.work();
            if self.cut.is_cancelled() {
                return broken("cut by the broker");
            }
            if left {
                return End::Orderly;
            }
            if let Err(end) = self.wait().await {
                return end;
            }
        }
    }

    async fn finish(&mut self) {
        let stopping = self.shared.stopping.clone();
        let last_words = timeout(FINISH_LIMIT + self.delay, self.wire.finish(self.delay));
        if let Some(Ok(Err(error))) = stopping.run_until_cancelled(last_words).await {
            debug!(%error, "connection broke at its end");
        }
    }

    /// Does everything that can be done without waiting; true where the session is over.
    fn work(&mut self) -> bool {
        let mut may_take = self.wire.output.is_empty();
        if may_take {
            self.answer_bytes = 0;
            self.write_at = None;
        }
        loop {
            let exhausted = self.decode();
            if self.handle(std::mem::take(&mut may_take)) {
                return true;
            }
            // A frame that is held back keeps those behind it waiting, decoded or not.
            if exhausted || !self.reads() {
                break;
            }
        }
        if self.write_at.is_none() && !self.delay.is_zero() && !self.wire.output.is_empty() {
            self.write_at = Some(Instant::now() + self.delay);
        }
        self.refuse_broken_bytes()
    }

    /// Whether more may be read and decoded.
    fn reads(&self) -> bool {
        self.frames.is_empty() && self.broken.is_none() && self.answer_bytes <= MAX_ANSWER_BYTES
    }

    /// Cuts frames off the input; true where no further one is complete. Before CONNECT is handled it
    /// takes one at a time, since what follows is read in the version that CONNECT settles.
    fn decode(&mut self) -> bool {
        if !self.reads() {
            return false;
        }
        while self.frames.is_empty() || self.session.version().is_some() {
            match self.decoder.decode(&mut self.wire.input) {
                Ok(Some(frame)) => self.frames.push_back(frame),
                Ok(None) => return true,
                Err(error) => {
                    self.broken = Some(error);
                    return true;
                }
            }
        }
        false
    }

    /// Handles the frames and takes the deliveries under one lock; true where the session is over.
    fn handle(&mut self, may_take: bool) -> bool {
        let (version, before) = (self.session.version(), self.wire.output.len());
        let mut state = self.shared.lock();
        if !state.has_peer(self.id) {
            return true;
        }
        let mut flow = Flow::Next;
        while flow == Flow::Next
            && let Some(frame) = self.frames.front()
        {
            flow = self.session.handle(&mut state, &self.shared.options, frame, &mut self.wire.output);
            if flow != Flow::Held {
                self.frames.pop_front();
            }
        }
        // Nothing is taken at the end of a session: it goes back to its queue.
        let takes = may_take && flow != Flow::Leave;
        let deliveries = if takes { state.take(self.id) } else { VecDeque::new() };
        self.delay = state.faults.delay.min(MAX_DELAY);
        drop(state);
        self.shared.changed.notify_waiters();
        self.answer_bytes += self.wire.output.len() - before;
        self.encode(&deliveries);
        if version != self.session.version() {
            self.open();
        }
        flow == Flow::Leave
    }

    fn encode(&mut self, deliveries: &VecDeque<Outgoing>) {
        let Some(version) = self.session.version() else { return };
        for outgoing in deliveries {
            outgoing.encode(version, &mut self.wire.output);
        }
    }

    /// What follows from the CONNECT that was just handled.
    fn open(&mut self) {
        let beats = self.session.beats();
        self.decoder.set_version(self.session.version().unwrap_or(Version::V1_0));
        let quarters = [beats.send_every, beats.receive_every].into_iter().flatten().map(|every| every / 4);
        self.ticker = ticker(quarters.chain([CHECK_EVERY]).min().unwrap_or(CHECK_EVERY).max(MIN_CHECK));
    }

    fn refuse_broken_bytes(&mut self) -> bool {
        let Some(error) = self.broken.take_if(|_| self.frames.is_empty()) else { return false };
        self.session.refuse_bytes(&error, &mut self.wire.output);
        true
    }

    /// Waits until there is something to do.
    async fn wait(&mut self) -> Result<(), End> {
        let reads = self.reads();
        let hold = self.write_at.filter(|at| *at > Instant::now());
        tokio::select! {
            progress = poll_fn(|cx| self.wire.poll_progress(cx, reads, hold.is_none())) => match progress {
                Ok(Progress::Moved) => Ok(()),
                Ok(Progress::Ended) => Err(End::Orderly),
                Err(error) => Err(End::Broken(error)),
            },
            () = self.bell.notified() => Ok(()),
            () = self.cut.cancelled() => Err(broken("cut by the broker")),
            _ = self.ticker.tick() => self.check(reads),
            () = until(hold) => Ok(()),
        }
    }

    /// Sends a heart-beat where one is due and notices a dead peer. While the connection is not read,
    /// its silence means nothing.
    fn check(&mut self, reads: bool) -> Result<(), End> {
        let beats = self.session.beats();
        if self.session.version().is_none() && self.began.elapsed() > CONNECT_LIMIT {
            return Err(broken("no CONNECT in time"));
        }
        if !reads {
            self.wire.last_read = Instant::now();
            if self.wire.is_broken() {
                return Err(broken("reset while it was held back"));
            }
        }
        if beats.receive_every.is_some_and(|every| self.wire.last_read.elapsed() > every * 2) {
            return Err(broken("silent for twice the heart-beat"));
        }
        if let Some(every) = beats.send_every {
            self.wire.beat(every / 2);
        }
        Ok(())
    }
}

fn broken(why: &str) -> End {
    End::Broken(io::Error::other(why))
}

fn ticker(every: Duration) -> Interval {
    let mut ticker = interval(every);
    ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticker
}

/// Waits for an instant, for ever where there is none.
async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => pending().await,
    }
}
