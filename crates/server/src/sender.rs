//! Sending from outside a handler.

use std::sync::{Arc, Weak};

use tabmux_core::{
    OwnedPayload,
    session::{AskId, SendError, SocketRef},
    wire::Payload,
};

use crate::{
    Decision,
    shard::{
        mailbox::{Mail, Mailbox},
        post::{Command, Post, Word},
    },
};

/// Sends on one virtual socket from any task or thread. Cheap to clone; it keeps nothing alive.
///
/// What it sends goes to the shard's inbox first. If the link then turns out to be full, or the
/// message too large, the socket is closed with 1013 or 1009, since nobody is there to be told.
#[derive(Clone, Debug)]
pub struct SocketSender {
    socket: SocketRef,
    mailbox: Weak<Mailbox<Word>>,
}

impl SocketSender {
    pub(crate) fn new(socket: SocketRef, mailbox: &Arc<Mailbox<Word>>) -> Self {
        Self { socket, mailbox: Arc::downgrade(mailbox) }
    }

    /// The socket's name in this server.
    pub const fn socket(&self) -> SocketRef {
        self.socket
    }

    /// Sends a message to the tab. To a socket that is closed, it does nothing.
    ///
    /// # Errors
    /// [`SendError::Full`] when the inbox is full; [`SendError::Closed`] when the server is gone.
    pub fn send(&self, message: Payload<'_>) -> Result<(), SendError> {
        self.post(Command::Send(OwnedPayload::from(message)))
    }

    /// Sends a text message.
    ///
    /// # Errors
    /// See [`send`](Self::send).
    pub fn send_text(&self, text: &str) -> Result<(), SendError> {
        self.send(Payload::Text(text))
    }

    /// Sends a binary message.
    ///
    /// # Errors
    /// See [`send`](Self::send).
    pub fn send_binary(&self, bytes: &[u8]) -> Result<(), SendError> {
        self.send(Payload::Binary(bytes))
    }

    /// Closes the socket. The codes are those of [`Ctx::close`](crate::Ctx::close).
    ///
    /// # Errors
    /// See [`send`](Self::send).
    pub fn close(&self, code: u16, reason: &str) -> Result<(), SendError> {
        self.post(Command::Close { code, reason: reason.to_owned() })
    }

    /// Has the shard call the handler's `writable`.
    pub(crate) fn poke(&self) -> Result<(), SendError> {
        let mailbox = self.mailbox.upgrade().ok_or(SendError::Closed)?;
        let post = Post { socket: self.socket, command: Command::Poke };
        // At no cost: a handler is poked once for all that its task has queued within a limit.
        mailbox.push(Mail::Word(Word::Post(post)), 0)
    }

    /// Has the hub show a ticket at the path of the socket, which is about to open.
    pub(crate) fn send_ticket(&self, ticket: &str) -> Result<(), SendError> {
        self.post(Command::Ticket(ticket.into()))
    }

    /// Charges the browser so many bytes that are kept for the socket, which is about to open.
    pub(crate) fn keep_for_opening(&self, bytes: usize) -> Result<(), SendError> {
        self.post(Command::Keep(bytes))
    }

    fn post(&self, command: Command) -> Result<(), SendError> {
        let mailbox = self.mailbox.upgrade().ok_or(SendError::Closed)?;
        let post = Post { socket: self.socket, command };
        let cost = post.cost();
        mailbox.push(Mail::Word(Word::Post(post)), cost)
    }
}

/// Answers a tab that wants to open a socket, later than
/// [`SocketHandler::open`](crate::SocketHandler::open) returns. Dropping it refuses the socket.
///
/// An answer that comes too late does nothing: the tab is gone, or has waited for too long.
#[derive(Debug)]
pub struct OpenAnswer {
    ask: AskId,
    socket: SocketRef,
    mailbox: Weak<Mailbox<Word>>,
    is_given: bool,
}

impl OpenAnswer {
    pub(crate) fn new(ask: AskId, socket: SocketRef, mailbox: &Arc<Mailbox<Word>>) -> Self {
        Self { ask, socket, mailbox: Arc::downgrade(mailbox), is_given: false }
    }

    /// Opens the socket without a sub-protocol.
    pub fn accept(self) {
        self.give(Decision::accept());
    }

    /// Opens the socket with a sub-protocol, which must be one of those offered.
    pub fn accept_protocol(self, protocol: impl Into<String>) {
        self.give(Decision::accept_protocol(protocol));
    }

    /// Refuses the socket. The tab's programmer reads the message.
    pub fn reject(self, message: impl Into<String>) {
        self.give(Decision::reject(message));
    }

    /// Refuses the socket with a code from 3000 to 4999, which the tab's program can act on.
    pub fn reject_with(self, code: u16, message: impl Into<String>) {
        self.give(Decision::reject_with(code, message));
    }

    fn give(mut self, decision: Decision) {
        self.is_given = true;
        self.post(decision);
    }

    fn post(&self, decision: Decision) {
        let Some(mailbox) = self.mailbox.upgrade() else {
            // The server is gone.
            return;
        };
        let post =
            Post { socket: self.socket, command: Command::Answer { ask: self.ask, decision } };
        // At no cost: each question is answered once, and the registry limits questions.
        let _ = mailbox.push(Mail::Word(Word::Post(post)), 0);
    }
}

impl Drop for OpenAnswer {
    fn drop(&mut self) {
        if !self.is_given {
            self.post(Decision::reject("the handler gave no answer"));
        }
    }
}
