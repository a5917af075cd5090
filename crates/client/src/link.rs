//! One link: a WebSocket in a task of its own.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::{Sink, SinkExt, Stream, StreamExt};
use tabmux_core::{OwnedPayload, hub::AttemptId, wire::close};
use tokio::{sync::mpsc, time::timeout};
use tokio_tungstenite::tungstenite::{self, Message, protocol::CloseFrame};

use crate::destination::Destination;

/// Largest number of events that wait for the client's task. The link is not read while so many
/// wait.
const WAITING: usize = 16;
/// Longest time that the server may take to answer a close.
const LAST_WAIT: Duration = Duration::from_secs(2);

/// News from a link's task.
#[derive(Debug)]
pub(crate) enum Event {
    Opened,
    Message(OwnedPayload),
    /// `failed` is true if the link was never open.
    Closed {
        code: u16,
        reason: String,
        clean: bool,
        failed: bool,
    },
}

/// A link that is open or is being dialled. Dropping it drops the events that were not taken.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) attempt: AttemptId,
    pub(crate) events: mpsc::Receiver<Event>,
    orders: mpsc::UnboundedSender<Message>,
    /// Bytes that were queued and are not written yet.
    unsent: Arc<AtomicU64>,
}

impl Link {
    /// Starts a task that dials.
    pub(crate) fn dial(attempt: AttemptId, destination: Destination) -> Self {
        let (orders, queue) = mpsc::unbounded_channel();
        let (teller, events) = mpsc::channel(WAITING);
        let unsent = Arc::new(AtomicU64::new(0));
        tokio::spawn(run(destination, queue, teller, Arc::clone(&unsent)));
        Self { attempt, events, orders, unsent }
    }

    /// Queues a message. The queue stays short, because the hub sends nothing while too much is
    /// unsent.
    pub(crate) fn send(&self, payload: OwnedPayload) {
        let message = match payload {
            OwnedPayload::Text(text) => Message::Text(text.into()),
            OwnedPayload::Binary(bytes) => Message::Binary(bytes.into()),
        };
        self.unsent.fetch_add(message.len() as u64, Ordering::Relaxed);
        // Sending fails only if the link's task has ended. It has then sent an event that says so.
        let _ = self.orders.send(message);
    }

    /// Closes the link after all queued messages are sent. Code 0 means a close without a code.
    pub(crate) fn close(&self, code: u16, reason: String) {
        let frame = (code != 0).then(|| CloseFrame { code: code.into(), reason: reason.into() });
        let _ = self.orders.send(Message::Close(frame));
    }

    /// Returns the bytes that were queued and not yet given to the network.
    pub(crate) fn unsent(&self) -> u64 {
        self.unsent.load(Ordering::Relaxed)
    }
}

async fn run(
    destination: Destination,
    orders: mpsc::UnboundedReceiver<Message>,
    teller: mpsc::Sender<Event>,
    unsent: Arc<AtomicU64>,
) {
    let dialled = tokio::select! {
        dialled = destination.dial() => dialled,
        // The client has dropped this link.
        () = teller.closed() => return,
    };
    let end = match dialled {
        Ok(socket) => {
            if teller.send(Event::Opened).await.is_err() {
                return;
            }
            let (sink, stream) = socket.split();
            let mut writing = pin!(write(sink, orders, &unsent));
            let mut reading = pin!(read(stream, &teller));
            tokio::select! {
                end = &mut reading => end,
                written = &mut writing => match written {
                    Ok(()) => timeout(LAST_WAIT, reading).await.unwrap_or_else(|_| broken("")),
                    Err(error) => broken(&error.to_string()),
                }
            }
        }
        Err(reason) => Event::Closed { code: close::ABNORMAL, reason, clean: false, failed: true },
    };
    // Sending fails only if the client has dropped this link.
    let _ = teller.send(end).await;
}

/// Writes the queued messages, up to and including a close.
async fn write(
    mut sink: impl Sink<Message, Error = tungstenite::Error> + Unpin,
    mut orders: mpsc::UnboundedReceiver<Message>,
    unsent: &AtomicU64,
) -> Result<(), tungstenite::Error> {
    while let Some(message) = orders.recv().await {
        let (len, is_last) = (message.len() as u64, message.is_close());
        sink.feed(message).await?;
        // Small messages that are queued together are flushed together.
        if orders.is_empty() || is_last {
            sink.flush().await?;
        }
        if is_last {
            return Ok(());
        }
        unsent.fetch_sub(len, Ordering::Relaxed);
    }
    sink.close().await
}

/// Reads messages until the link ends. Returns the event that tells the end.
async fn read(
    mut stream: impl Stream<Item = Result<Message, tungstenite::Error>> + Unpin,
    teller: &mpsc::Sender<Event>,
) -> Event {
    loop {
        let payload = match stream.next().await {
            Some(Ok(Message::Text(text))) => OwnedPayload::Text(text.as_str().to_owned()),
            Some(Ok(Message::Binary(bytes))) => OwnedPayload::Binary(bytes.into()),
            Some(Ok(Message::Close(frame))) => {
                // The library sends its answer to the close while the stream is polled.
                let _ = timeout(LAST_WAIT, stream.next()).await;
                return closed(frame);
            }
            // The library answers pings itself.
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => continue,
            Some(Err(error)) => return broken(&error.to_string()),
            None => return broken("the connection ended"),
        };
        if teller.send(Event::Message(payload)).await.is_err() {
            return broken("");
        }
    }
}

fn closed(frame: Option<CloseFrame>) -> Event {
    let (code, reason) = match frame {
        Some(CloseFrame { code, reason }) => (code.into(), reason.as_str().to_owned()),
        None => (close::NO_STATUS, String::new()),
    };
    Event::Closed { code, reason, clean: true, failed: false }
}

fn broken(why: &str) -> Event {
    let (code, reason) = (close::ABNORMAL, why.to_owned());
    Event::Closed { code, reason, clean: false, failed: false }
}
