//! One link: an axum WebSocket on one side, the shard on the other, one task between them.

use std::{future::pending, sync::Arc, time::Duration};

use axum::extract::ws::{CloseFrame, Message, WebSocket};
use futures_util::{
    SinkExt, StreamExt,
    stream::{SplitSink, SplitStream},
};
use tabmux_core::{
    session::{Input, LinkId},
    wire::close,
};
use tokio::{sync::oneshot, time::sleep};
use tracing::warn;
use tungstenite::Error as WsError;

use crate::shard::{Incoming, Order, Shard};

/// How long a closing handshake may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a link that cannot be read stays open after its close, so that the close arrives
/// before the reset that unread bytes cause.
const LINGER: Duration = Duration::from_secs(1);

/// Why a task is done with its link.
enum End {
    /// The WebSocket is closed, or broken.
    Closed,
    /// What came cannot be read; close with this.
    Unreadable(u16, String),
}

/// Serves a link until it is closed.
pub(crate) async fn serve(socket: WebSocket, mut incoming: Incoming) {
    let (mut sink, mut stream) = socket.split();
    let Incoming { link, ref mut orders, ref mut closing, ref shard } = incoming;
    let written = |bytes| shard.input(Input::LinkWritten { link, bytes });
    let write = async {
        while let Some(order) = orders.recv().await {
            let sent = match order {
                Order::Send(bytes) => {
                    let len = bytes.len();
                    let sent = sink.send(Message::Binary(bytes.into())).await;
                    written(len);
                    sent
                }
                Order::Close(code, reason) => sink.send(close_message(code, reason)).await,
            };
            if sent.is_err() {
                return;
            }
        }
        // Closed by the shard: what is left is the peer's answer, which the reader sees.
        pending().await
    };
    let end = tokio::select! {
        end = read(&mut stream, shard, link) => end,
        () = write => End::Closed,
        () = overdue(closing) => End::Closed,
    };
    if let End::Unreadable(code, reason) = end {
        warn!(link = link.0, "link closed: {reason}");
        say_goodbye(&mut sink, code, reason).await;
    }
}

async fn read(stream: &mut SplitStream<WebSocket>, shard: &Arc<Shard>, link: LinkId) -> End {
    while let Some(message) = stream.next().await {
        match message {
            Ok(Message::Binary(bytes)) => shard.input(Input::LinkMessage { link, bytes: &bytes }),
            Ok(Message::Text(_)) => shard.input(Input::LinkText { link }),
            // Pings are answered, and a close too, by the next reads.
            Ok(Message::Ping(_) | Message::Pong(_) | Message::Close(_)) => {}
            Err(error) => return unreadable(error),
        }
    }
    End::Closed
}

/// The close that an error of the WebSocket itself deserves.
fn unreadable(error: axum::Error) -> End {
    let inner = error.into_inner();
    match inner.downcast_ref::<WsError>() {
        Some(WsError::Capacity(_)) => {
            End::Unreadable(close::TOO_BIG, "a message was larger than the limit".to_owned())
        }
        Some(WsError::Utf8(_)) => End::Unreadable(1007, "a text was not UTF-8".to_owned()),
        // A peer that went without a closing handshake is no news.
        Some(WsError::Protocol(
            tungstenite::error::ProtocolError::ResetWithoutClosingHandshake,
        ))
        | None => End::Closed,
        Some(WsError::Protocol(fault)) => End::Unreadable(close::PROTOCOL_ERROR, fault.to_string()),
        Some(_) => End::Closed,
    }
}

/// Ends some time after the shard has done with the link.
async fn overdue(closing: &mut oneshot::Receiver<()>) {
    // Nothing is ever sent: the other end is dropped.
    let _ = closing.await;
    sleep(CLOSE_TIMEOUT).await;
}

async fn say_goodbye(sink: &mut SplitSink<WebSocket, Message>, code: u16, reason: String) {
    let farewell = async {
        if sink.send(close_message(code, reason)).await.is_ok() {
            sleep(LINGER).await;
        }
    };
    // A peer that does not read is not waited for.
    let _ = tokio::time::timeout(CLOSE_TIMEOUT, farewell).await;
}

fn close_message(code: u16, reason: String) -> Message {
    Message::Close(Some(CloseFrame { code, reason: reason.into() }))
}
