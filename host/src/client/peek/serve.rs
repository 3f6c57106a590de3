//! Keeps the connection of a [`super::Peek`] alive while it is decided about its messages, and writes ACKs.

use std::collections::BTreeMap;

use tokio::{
    sync::{mpsc, oneshot},
    time::{MissedTickBehavior, interval, timeout},
};

use super::{ANSWER, ID};
use crate::{
    client::{ClientError, Connection, error_text, session::ack_frame::ack_headers},
    stomp::{Command, DecodeError, Frame, Headers},
};

/// A message to be taken out of the queue, and whom to tell.
pub(super) struct Ack {
    pub(super) message: Headers,
    pub(super) tell: oneshot::Sender<Result<(), String>>,
}

/// ACKs that the broker has not confirmed, by their receipts.
type Waiting = BTreeMap<String, oneshot::Sender<Result<(), String>>>;

/// Writes ACKs until nobody can ask for more, then leaves.
pub(super) async fn serve(mut connection: Connection, mut asked: mpsc::Receiver<Ack>, destination: String) {
    let mut waiting = Waiting::new();
    let Err(error) = acknowledge(&mut connection, &mut asked, &mut waiting).await else {
        return leave(connection, &destination).await;
    };
    let tell = |tell: oneshot::Sender<_>| drop(tell.send(Err(error.to_string())));
    waiting.into_values().for_each(tell);
    while let Some(ack) = asked.recv().await {
        tell(ack.tell);
    }
}

async fn acknowledge(
    connection: &mut Connection,
    asked: &mut mpsc::Receiver<Ack>,
    waiting: &mut Waiting,
) -> Result<(), ClientError> {
    let mut ticker = interval(connection.beat_every());
    ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut count = 0_u64;
    loop {
        while let Some(frame) = next_frame(connection)? {
            answer(&frame, waiting)?;
        }
        tokio::select! {
            moved = connection.progress(true) => moved?,
            _ = ticker.tick() => connection.beat(true)?,
            ack = asked.recv() => {
                let Some(Ack { message, tell }) = ack else { return Ok(()) };
                count += 1;
                let receipt = format!("{ID}-{count}");
                let named = ack_headers(connection.version, &message, ID).into_iter().flatten();
                let put = connection.put(Command::Ack, named.chain([("receipt", receipt.as_str())]), b"");
                waiting.insert(receipt, tell);
                put?;
            }
        }
    }
}

/// Messages that come now stay un-acked.
fn next_frame(connection: &mut Connection) -> Result<Option<Frame>, ClientError> {
    loop {
        match connection.next_frame() {
            Err(ClientError::Decode(DecodeError::Skipped(_))) => {}
            other => return other,
        }
    }
}

/// An ERROR ends it, whatever the broker would do: what it means for the ACKs behind it differs.
fn answer(frame: &Frame, waiting: &mut Waiting) -> Result<(), ClientError> {
    match frame.command {
        Command::Receipt => {
            if let Some(tell) = frame.headers.get("receipt-id").and_then(|id| waiting.remove(id)) {
                let _ = tell.send(Ok(()));
            }
            Ok(())
        }
        Command::Error => Err(ClientError::Broker(error_text(frame))),
        _ => Ok(()),
    }
}

/// UNSUBSCRIBE first: Artemis counts what a DISCONNECT alone gives back as delivered.
pub(super) async fn leave(mut connection: Connection, destination: &str) {
    let goodbye = async {
        let headers = [("id", ID), ("destination", destination), ("receipt", "unsubscribed")];
        connection.put(Command::Unsubscribe, headers, b"")?;
        connection.read_to_receipt("unsubscribed").await?;
        connection.put(Command::Disconnect, [("receipt", "disconnected")], b"")?;
        connection.read_to_receipt("disconnected").await
    };
    // What was not said arrives as the end of the socket.
    let _: Result<Result<(), ClientError>, _> = timeout(ANSWER, goodbye).await;
}
