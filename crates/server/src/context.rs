//! What a handler can do while it is called.

use std::{fmt, net::IpAddr, sync::Arc};
#[cfg(unix)]
use std::{io, os::fd::RawFd};

use tabmux_core::{
    session::{Registry, SendError, SocketRef, Stats, Visitor},
    wire::{Payload, ServerFrame, SessionId, TabId},
};

use tokio::sync::futures::OwnedNotified;

#[cfg(unix)]
use crate::shard::streams::Watch;
use crate::{
    HeldCredit, Params, PublishError, ServerHandle, SocketSender,
    handler::kept_headers,
    routes::Routes,
    shard::{
        home::Home,
        service::{Moment, Ready},
    },
};

/// The socket that a handler serves, and its surroundings.
pub struct Ctx<'a> {
    pub(crate) registry: &'a mut Registry,
    pub(crate) home: &'a Home,
    pub(crate) routes: &'a Routes,
    pub(crate) at: Moment<'a>,
    pub(crate) socket: SocketRef,
    pub(crate) tab: TabId,
    pub(crate) target: &'a str,
    /// What of the message that the handler is called with is given back when it returns.
    pub(crate) credit: u64,
    /// There was no room for a publication: done when there may be some.
    pub(crate) room: Option<OwnedNotified>,
    /// What happened to the stream that the handler has watched, if that is why it is called.
    pub(crate) ready: Ready,
}

// Headers hold secrets.
impl fmt::Debug for Ctx<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Ctx");
        debug.field("target", &self.target).field("socket", &self.socket);
        debug.field("tab", &self.tab).field("user", &self.user()).finish_non_exhaustive()
    }
}

impl Ctx<'_> {
    /// Sends a message to the tab.
    ///
    /// # Errors
    /// [`SendError::Full`] when too much waits to be written to this browser, or its page is behind
    /// with this socket: [`SocketHandler::writable`](crate::SocketHandler::writable) tells when to
    /// try again.
    /// [`SendError::TooLarge`]. [`SendError::Closed`] when the socket is not open.
    pub fn send(&mut self, message: Payload<'_>) -> Result<(), SendError> {
        self.registry.send(self.at.now, self.socket, message)
    }

    /// Sends a text message; errors as for [`send`](Self::send).
    ///
    /// # Errors
    /// See [`send`](Self::send).
    pub fn send_text(&mut self, text: &str) -> Result<(), SendError> {
        self.send(Payload::Text(text))
    }

    /// Sends a binary message; errors as for [`send`](Self::send).
    ///
    /// # Errors
    /// See [`send`](Self::send).
    pub fn send_binary(&mut self, bytes: &[u8]) -> Result<(), SendError> {
        self.send(Payload::Binary(bytes))
    }

    /// Sends a message to every tab of this browser, at the cost of one.
    ///
    /// # Errors
    /// As for [`send`](Self::send); `writable` does not tell when to try again.
    pub fn broadcast(&mut self, message: Payload<'_>) -> Result<(), SendError> {
        self.registry.broadcast(self.at.now, self.socket.session, message)
    }

    /// Sends a text message to every tab of this browser.
    ///
    /// # Errors
    /// See [`broadcast`](Self::broadcast).
    pub fn broadcast_text(&mut self, text: &str) -> Result<(), SendError> {
        self.broadcast(Payload::Text(text))
    }

    /// Sends a binary message to every tab of this browser.
    ///
    /// # Errors
    /// See [`broadcast`](Self::broadcast).
    pub fn broadcast_binary(&mut self, bytes: &[u8]) -> Result<(), SendError> {
        self.broadcast(Payload::Binary(bytes))
    }

    /// Publishes a message to every browser that is subscribed to a topic. Any name of 1 to 256
    /// bytes is a topic. Its position is not known yet: a broker may have to be asked.
    ///
    /// # Errors
    /// [`PublishError::Name`], [`PublishError::TooLarge`]. [`PublishError::Full`] when the shards
    /// or the broker are behind: [`SocketHandler::publishable`](crate::SocketHandler::publishable)
    /// tells when to try again. [`PublishError::Broker`] when a broker refuses at once; one that
    /// refuses later is only told of in the log.
    pub fn publish(&mut self, topic: &str, message: Payload<'_>) -> Result<(), PublishError> {
        self.home.fanout.publish_now(topic, message, &mut self.room)
    }

    /// Closes the socket with a code from 1000 to 4999; the handler's `close` follows. Nothing
    /// happens when it is closed already. A reason longer than 123 bytes is cut.
    ///
    /// Two codes are never written on a WebSocket, and stand for what its page sees. After 1005 it
    /// sees a clean close without a code. After 1006 it sees what it would of a connection that
    /// broke: `wasClean` is false. Neither has a reason. With 1006, `reason` becomes the text of an
    /// `error` event that comes before; without one there is no such event.
    pub fn close(&mut self, code: u16, reason: &str) {
        // The only error is that it is not open.
        let _ = self.registry.close(self.at.now, self.socket, code, reason);
    }

    /// Says, in [`SocketHandler::message`](crate::SocketHandler::message), that the message is not
    /// dealt with when the handler returns: its place in the tab's credit is taken until the
    /// [`HeldCredit`] is dropped. A tab without credit waits; other sockets go on. Without this
    /// call the credit is given back when `message` returns. A second call for one message, and one
    /// outside of `message`, holds nothing.
    pub fn hold_credit(&mut self) -> HeldCredit {
        HeldCredit::new(self.socket, std::mem::take(&mut self.credit), &self.home.mailbox)
    }

    /// Takes the place of the message in the tab's credit, until [`Self::return_credit`] is called.
    pub(crate) const fn keep_credit(&mut self) {
        self.credit = 0;
    }

    /// Gives credit back that was kept.
    pub(crate) fn return_credit(&mut self, cost: u64) {
        self.registry.give_back(self.at.now, self.socket, cost);
    }

    /// Has the shard watch a stream for this handler, whose `writable` is called when something
    /// happens to it.
    ///
    /// # Errors
    /// Returns an error if the system cannot watch the stream.
    #[cfg(unix)]
    pub(crate) fn watch(&self, fd: RawFd) -> io::Result<Watch> {
        self.home.streams.watch(self.socket, fd)
    }

    /// What the tab may send before it has to wait for credit.
    pub const fn first_credit(&self) -> u64 {
        self.registry.config().credit_bytes as u64
    }

    /// Returns how many bytes a message on this socket may have: the rest of `limits.message_bytes`
    /// is its frame's.
    pub(crate) fn longest_message(&self) -> usize {
        let SocketRef { tab, socket, .. } = self.socket;
        let empty = ServerFrame::Data { tab, socket, payload: Payload::Binary(&[]) };
        self.registry.config().message_bytes.saturating_sub(empty.to_bytes().len())
    }

    /// A way to send on this socket after this call, from anywhere.
    pub fn sender(&self) -> SocketSender {
        SocketSender::new(self.socket, &self.home.mailbox)
    }

    /// The tab.
    pub const fn tab(&self) -> TabId {
        self.tab
    }

    /// The session of its browser.
    pub const fn session(&self) -> SessionId {
        self.socket.session
    }

    /// The socket's name in this server.
    pub const fn socket(&self) -> SocketRef {
        self.socket
    }

    /// Path and query that the socket was opened with.
    pub const fn target(&self) -> &str {
        self.target
    }

    /// Returns the parameters of the path, as [`Builder::socket`](crate::Builder::socket) named
    /// them. The path is matched again, so keep what you need often.
    pub fn params(&self) -> Params<'_> {
        let path = self.target.split_once('?').map_or(self.target, |(path, _)| path);
        self.routes.params(path)
    }

    /// Returns the user of the browser, as [`Builder::judge`](crate::Builder::judge),
    /// [`Builder::user`](crate::Builder::user) or `user_header` named it.
    pub fn user(&self) -> Option<&str> {
        Some(self.visitor()?.user()?.name())
    }

    /// Returns the first value of a header that the judge had the server keep, of the request that
    /// opened the browser's newest link. The name may be in any case.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// Returns the headers that the judge had the server keep, their names in lower case.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let kept = self.visitor().map_or(&[][..], kept_headers);
        kept.iter().map(|(name, value)| (&**name, &**value))
    }

    /// Returns the address of the browser's newest link, behind `trusted_proxies`. In an app that
    /// does not tell it, that is the other end of the stream. It is `None` while the browser has no
    /// link, and where the stream has no address.
    pub fn address(&self) -> Option<IpAddr> {
        let link = self.registry.link_of(self.socket.session)?;
        self.at.clients.address(link)
    }

    /// Returns what is kept of who opened the link.
    pub(crate) fn shared_visitor(&self) -> Option<Arc<Visitor>> {
        self.registry.visitor(self.socket.session).cloned()
    }

    fn visitor(&self) -> Option<&Visitor> {
        self.registry.visitor(self.socket.session).map(|visitor| &**visitor)
    }

    /// The numbers of this moment.
    pub fn stats(&self) -> Stats {
        self.home.board.stats_with(self.home.index, self.registry.stats())
    }

    /// The server.
    pub fn server(&self) -> ServerHandle {
        ServerHandle::new(&self.home.control)
    }
}
