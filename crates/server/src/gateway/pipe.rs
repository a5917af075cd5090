//! Carrying messages between a virtual socket and an upstream.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_core::Stream as _;
use futures_sink::Sink as _;
use tabmux_core::OwnedPayload;
use tokio::{
    sync::watch,
    time::{Sleep, sleep, timeout},
};
use tokio_tungstenite::tungstenite::{Error, Message, protocol::CloseFrame};
use tracing::debug;

use super::{
    LAST_WAIT,
    dial::Ws,
    ends::{Closes, End, Goodbye},
};
use crate::TaskSocket;

/// A virtual socket and its upstream.
struct Pipe {
    socket: TaskSocket,
    upstream: Ws,
    /// For pages in the back/forward cache; nothing if they are waited for.
    patience: Option<Box<Patience>>,
    /// The message that the upstream is to take next.
    next: Option<Message>,
    /// Something was sent and not flushed.
    is_unflushed: bool,
}

/// How long a page in the back/forward cache is waited for.
struct Patience {
    limit: Duration,
    /// Runs out while the page is there.
    since: Option<Pin<Box<Sleep>>>,
}

/// Carries messages both ways until one of the two closes, and closes the other.
/// `parked` is how long the upstream of a page in the back/forward cache is kept.
pub(super) async fn carry(
    socket: TaskSocket,
    upstream: Ws,
    stop: watch::Receiver<bool>,
    parked: Option<Duration>,
) {
    let patience = parked.map(|limit| Box::new(Patience { limit, since: None }));
    let mut pipe = Pipe { socket, upstream, patience, next: None, is_unflushed: false };
    let end = tokio::select! {
        end = poll_fn(|context| pipe.poll(context)) => end,
        () = stopped(stop) => End::Stopped,
    };
    Box::pin(pipe.end(end)).await;
}

/// Waits until upstream connections are to be closed.
pub(super) async fn stopped(mut stop: watch::Receiver<bool>) {
    if stop.wait_for(|stop| *stop).await.is_err() {
        // Nobody can stop it any more.
        std::future::pending().await
    }
}

impl Pipe {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<End> {
        if let Poll::Ready(end) = self.poll_up(context) {
            return Poll::Ready(end);
        }
        let down = self.poll_down(context);
        self.socket.tell();
        if down.is_pending() && self.poll_parked(context).is_ready() {
            return Poll::Ready(End::Parked);
        }
        down
    }

    /// Ready when the page has been in the back/forward cache for too long.
    fn poll_parked(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some(patience) = &mut self.patience else {
            return Poll::Pending;
        };
        loop {
            match &mut patience.since {
                None => {
                    ready!(self.socket.poll_parked(context, true));
                    patience.since = Some(Box::pin(sleep(patience.limit)));
                }
                Some(since) => {
                    if self.socket.poll_parked(context, false).is_pending() {
                        return since.as_mut().poll(context);
                    }
                    patience.since = None;
                }
            }
        }
    }

    /// Takes messages of the tab as long as the upstream takes them.
    fn poll_up(&mut self, context: &mut Context<'_>) -> Poll<End> {
        loop {
            if self.next.is_none() {
                self.next = match self.socket.poll_message(context) {
                    Poll::Ready(Some(message)) => Some(to_upstream(message)),
                    Poll::Ready(None) => return Poll::Ready(End::Tab),
                    Poll::Pending => break,
                };
            }
            let mut upstream = Pin::new(&mut self.upstream);
            match upstream.as_mut().poll_ready(context) {
                Poll::Ready(Ok(())) => {}
                // Reading tells more about the end.
                Poll::Ready(Err(_)) => break,
                Poll::Pending => {
                    // The tab's end is to be noticed although none of its messages is taken.
                    if self.socket.poll_ended(context).is_ready() {
                        return Poll::Ready(End::Tab);
                    }
                    return Poll::Pending;
                }
            }
            if let Some(message) = self.next.take() {
                self.is_unflushed = true;
                let _ = upstream.start_send(message);
            }
        }
        if self.is_unflushed
            && let Poll::Ready(_) = Pin::new(&mut self.upstream).poll_flush(context)
        {
            self.is_unflushed = false;
        }
        Poll::Pending
    }

    /// Takes messages of the upstream as long as the tab takes them.
    fn poll_down(&mut self, context: &mut Context<'_>) -> Poll<End> {
        loop {
            // A closed socket says so upwards.
            if !matches!(self.socket.poll_room(context), Poll::Ready(Ok(()))) {
                return Poll::Pending;
            }
            let message = match Pin::new(&mut self.upstream).poll_next(context) {
                Poll::Ready(Some(Ok(message))) => message,
                Poll::Ready(Some(Err(error))) => return Poll::Ready(End::Broken(error)),
                Poll::Ready(None) => return Poll::Ready(End::Broken(Error::ConnectionClosed)),
                Poll::Pending => return Poll::Pending,
            };
            let payload = match message {
                Message::Text(text) => OwnedPayload::Text(text.as_str().to_owned()),
                Message::Binary(bytes) => OwnedPayload::Binary(bytes.to_vec()),
                Message::Close(frame) => return Poll::Ready(End::Upstream(frame)),
                // Pings were answered.
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => continue,
            };
            if let Err(error) = self.socket.queue(payload) {
                debug!("a message of an upstream is lost: {error}");
            }
        }
    }

    /// Closes the one that is still open.
    async fn end(mut self, end: End) {
        let tab = || self.socket.ended().map(|ended| (ended.code, ended.reason));
        let Closes { tab, upstream } = end.closes(tab);
        if let Some((code, reason)) = tab {
            self.socket.close(code, &reason);
        }
        match upstream {
            Goodbye::Say(frame) => self.close_upstream(frame).await,
            Goodbye::Hear => self.finish().await,
            Goodbye::None => {}
        }
    }

    /// Closes the upstream, after all that the tab has sent.
    async fn close_upstream(&mut self, frame: Option<CloseFrame>) {
        let next = self.next.take();
        let upstream = &mut self.upstream;
        let closing = async {
            if let Some(message) = next {
                poll_fn(|context| Pin::new(&mut *upstream).poll_ready(context)).await?;
                Pin::new(&mut *upstream).start_send(message)?;
            }
            upstream.close(frame).await
        };
        if matches!(timeout(LAST_WAIT, closing).await, Ok(Ok(()))) {
            self.finish().await;
        }
    }

    /// Waits until the upstream has ended the connection, which is for it to do.
    async fn finish(&mut self) {
        let upstream = &mut self.upstream;
        let finishing = async {
            while let Some(Ok(_)) =
                poll_fn(|context| Pin::new(&mut *upstream).poll_next(context)).await
            {}
        };
        tokio::select! {
            () = finishing => {}
            () = sleep(LAST_WAIT) => {}
        }
    }
}

/// Returns a message as an upstream gets it.
pub(super) fn to_upstream(message: OwnedPayload) -> Message {
    match message {
        OwnedPayload::Text(text) => Message::text(text),
        OwnedPayload::Binary(bytes) => Message::binary(bytes),
    }
}
