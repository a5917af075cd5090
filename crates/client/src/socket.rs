//! Virtual sockets of a client.

use std::{
    fmt,
    future::poll_fn,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use futures_core::Stream;
use tabmux_core::{OwnedPayload, wire::message_cost};
use tokio::sync::mpsc;

use crate::{OpenError, SendError, driver::Command, inbox::Inbox};

/// A virtual socket that [`Client::open`](crate::Client::open) opened. It is a [`Stream`] of
/// messages. Dropping it closes it with code 1000.
///
/// A broken link does not end the socket. Messages that were sent meanwhile are sent again, and no
/// message arrives twice.
pub struct Socket {
    number: u32,
    shared: Arc<Shared>,
    commands: mpsc::UnboundedSender<Command>,
    protocol: String,
}

/// How and why a socket ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ended {
    /// The close code. It is 1005 if the close carried none, and 1006 if the socket broke without a
    /// close.
    pub code: u16,
    /// The close reason. It is empty if there was none.
    pub reason: String,
    /// True if the socket was closed on purpose by one end.
    pub clean: bool,
    /// A text that says what failed. It is empty if nothing did.
    pub error: String,
}

/// The state that a socket shares with the client's task.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) inbox: Inbox<OwnedPayload>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// The sub-protocol of the server's answer. It is set once the server has opened the socket,
    /// and stays set after the socket has closed.
    protocol: Option<String>,
    phase: Phase,
    /// Tasks that wait for the socket to open, for credit, or for the end.
    waiting: Vec<Waker>,
}

#[derive(Debug)]
enum Phase {
    Opening,
    /// The socket is open. A message of any size may be sent while `credit` is above 0.
    Open {
        credit: i64,
    },
    /// The application has closed the socket, and the server has not answered yet.
    Closing,
    Ended(Ended),
}

impl Socket {
    /// Waits until the socket with this number is open.
    pub(crate) async fn opened(
        number: u32,
        shared: Arc<Shared>,
        commands: mpsc::UnboundedSender<Command>,
    ) -> Result<Self, OpenError> {
        // The socket is made before it is open, so that dropping this future closes it.
        let mut socket = Self { number, shared, commands, protocol: String::new() };
        socket.protocol = poll_fn(|context| socket.shared.poll_open(context)).await?;
        Ok(socket)
    }

    /// Returns the sub-protocol that the server chose. It is empty if the server chose none.
    pub fn protocol(&self) -> &str {
        &self.protocol
    }

    /// Returns the next message, or `None` once the socket is closed.
    pub async fn next(&mut self) -> Option<OwnedPayload> {
        poll_fn(|context| self.poll(context)).await
    }

    /// Sends a message. Waits while the server has given no credit, because its handler is behind.
    /// The message survives a broken link: the client sends it again until the server has it.
    ///
    /// # Errors
    /// Returns [`SendError::Closed`] if the socket is closed.
    pub async fn send(&self, message: impl Into<OwnedPayload>) -> Result<(), SendError> {
        let payload = message.into();
        let cost = message_cost(payload.len());
        poll_fn(|context| self.shared.poll_credit(context, cost)).await?;
        let command = Command::Send { socket: self.number, payload };
        self.commands.send(command).map_err(|_| SendError::Closed)
    }

    /// Closes the socket. `code` must be 1000, or from 3000 to 4999. A reason longer than 123 bytes
    /// is cut. Messages that were sent before still arrive. [`next`](Self::next) returns the
    /// messages that arrive meanwhile, and [`ended`](Self::ended) tells the server's answer.
    pub fn close(&self, code: u16, reason: &str) {
        if self.shared.closing() {
            let reason = reason.to_owned();
            let _ = self.commands.send(Command::Close { socket: self.number, code, reason });
        }
    }

    /// Returns how the socket ended, or `None` while it has not ended.
    pub fn ended(&self) -> Option<Ended> {
        match &self.shared.state().phase {
            Phase::Ended(ended) => Some(ended.clone()),
            Phase::Opening | Phase::Open { .. } | Phase::Closing => None,
        }
    }

    fn poll(&self, context: &Context<'_>) -> Poll<Option<OwnedPayload>> {
        let message = std::task::ready!(self.shared.inbox.poll(context));
        if let Some(message) = &message {
            // Credit for this message is given back, so that the server may send as much again.
            let bytes = message_cost(message.len());
            let _ = self.commands.send(Command::Credit { socket: self.number, bytes });
        }
        Poll::Ready(message)
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.close(1000, "");
    }
}

impl Stream for Socket {
    type Item = OwnedPayload;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<OwnedPayload>> {
        self.poll(context)
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.shared.state();
        f.debug_struct("Socket").field("number", &self.number).field("phase", &state.phase).finish()
    }
}

impl Ended {
    pub(crate) fn broken(error: &str) -> Self {
        let error = error.to_owned();
        Self { code: 1006, reason: String::new(), clean: false, error }
    }
}

impl Shared {
    pub(crate) fn new() -> Self {
        let state = State { protocol: None, phase: Phase::Opening, waiting: Vec::new() };
        Self { inbox: Inbox::new(), state: Mutex::new(state) }
    }

    pub(crate) fn opened(&self, protocol: String, credit: u64) {
        let mut state = self.state();
        if matches!(state.phase, Phase::Opening) {
            state.protocol = Some(protocol);
            state.phase = Phase::Open { credit: saturated(credit) };
        }
        state.wake();
    }

    pub(crate) fn add_credit(&self, bytes: u64) {
        let mut state = self.state();
        if let Phase::Open { credit } = &mut state.phase {
            *credit = credit.saturating_add(saturated(bytes));
        }
        state.wake();
    }

    pub(crate) fn ended(&self, ended: Ended) {
        let mut state = self.state();
        state.phase = Phase::Ended(ended);
        state.wake();
        drop(state);
        self.inbox.end();
    }

    /// Begins to close the socket. Returns true if it was not closed or closing before.
    fn closing(&self) -> bool {
        let mut state = self.state();
        let is_first = matches!(state.phase, Phase::Opening | Phase::Open { .. });
        if is_first {
            state.phase = Phase::Closing;
        }
        state.wake();
        is_first
    }

    fn poll_open(&self, context: &Context<'_>) -> Poll<Result<String, OpenError>> {
        let mut state = self.state();
        match (&state.protocol, &state.phase) {
            (Some(protocol), _) => Poll::Ready(Ok(protocol.clone())),
            (None, Phase::Ended(ended)) => Poll::Ready(Err(OpenError::of(ended))),
            (None, Phase::Opening | Phase::Open { .. } | Phase::Closing) => state.wait(context),
        }
    }

    /// Takes credit for a message. It may take more than there is.
    fn poll_credit(&self, context: &Context<'_>, cost: u64) -> Poll<Result<(), SendError>> {
        let mut state = self.state();
        match &mut state.phase {
            Phase::Open { credit } if *credit > 0 => {
                *credit = credit.saturating_sub(saturated(cost));
                Poll::Ready(Ok(()))
            }
            Phase::Open { .. } | Phase::Opening => state.wait(context),
            Phase::Closing | Phase::Ended(_) => Poll::Ready(Err(SendError::Closed)),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn wait<T>(&mut self, context: &Context<'_>) -> Poll<T> {
        if !self.waiting.iter().any(|waker| waker.will_wake(context.waker())) {
            self.waiting.push(context.waker().clone());
        }
        Poll::Pending
    }

    fn wake(&mut self) {
        self.waiting.drain(..).for_each(Waker::wake);
    }
}

fn saturated(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
