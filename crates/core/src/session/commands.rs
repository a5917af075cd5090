//! What the application tells a registry to do.

use std::time::Duration;

use tabmux_wire::{
    ErrorCode, GoAwayReason, MAX_PROTOCOL, MAX_REASON, Payload, ServerFrame, SessionId, close,
};

use super::{
    LinkDown, LinkId, Registry, SendError, SocketRef, cut,
    lanes::RUSH,
    state::{Phase, Socket},
};
use crate::Timestamp;

impl Registry {
    /// Accepts a socket with a sub-protocol, empty for none. Does nothing unless it waits for
    /// this answer.
    pub fn accept(&mut self, now: Timestamp, socket: SocketRef, protocol: &str) {
        self.advance(now);
        let SocketRef { session, tab, socket: number } = socket;
        let entry = self.sessions.by_id_mut(session).and_then(|it| it.tabs.get_mut(&tab));
        if let Some(entry) = entry
            && let Some(Socket::Opening(credit)) = entry.socket(number)
        {
            entry.set_socket(number, Socket::Open(credit));
            let protocol = cut(protocol, MAX_PROTOCOL);
            let credit = self.config.credit_bytes.into();
            let opened = ServerFrame::Opened { tab, socket: number, credit, protocol };
            self.send_lane(session, tab, &opened);
        }
        self.settle();
    }

    /// Refuses a socket: its tab gets the message as an error, and a close with 1006. Does
    /// nothing unless the socket waits for this answer.
    pub fn reject(&mut self, now: Timestamp, socket: SocketRef, code: ErrorCode, message: &str) {
        self.advance(now);
        if let Some(Socket::Opening(_)) = self.socket(socket) {
            self.take_socket(socket);
            self.stats.sockets -= 1;
            self.refuse_socket(socket, code, message);
        }
        self.settle();
    }

    /// Sends a message on an open socket.
    ///
    /// # Errors
    /// [`SendError::Full`] when too much waits to be written or to be acknowledged, or when the tab
    /// has given no more credit; the socket is told when to try again. [`SendError::TooLarge`],
    /// [`SendError::Closed`].
    pub fn send(
        &mut self,
        now: Timestamp,
        socket: SocketRef,
        payload: Payload<'_>,
    ) -> Result<(), SendError> {
        let sent = self.send_data(now, socket, payload, 1);
        if sent == Err(SendError::Full) {
            self.wait(socket);
        }
        sent
    }

    /// The same for a message that cannot wait where it comes from: it overdraws the socket's
    /// credit, four times as much may be unacknowledged, and the socket is not told when there is
    /// room.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn send_rushed(
        &mut self,
        now: Timestamp,
        socket: SocketRef,
        payload: Payload<'_>,
    ) -> Result<(), SendError> {
        self.send_data(now, socket, payload, RUSH)
    }

    fn send_data(
        &mut self,
        now: Timestamp,
        socket: SocketRef,
        payload: Payload<'_>,
        rush: usize,
    ) -> Result<(), SendError> {
        self.advance(now);
        let Some(Socket::Open(credit)) = self.socket(socket) else {
            return Err(SendError::Closed);
        };
        if rush == 1 && !credit.is_left() {
            self.stats.no_credit += 1;
            return Err(SendError::Full);
        }
        let SocketRef { session, tab, socket: number } = socket;
        let frame = ServerFrame::Data { tab, socket: number, payload };
        let sent = self.send_message(session, Some(tab), &frame, payload.len(), rush);
        if sent.is_ok() {
            self.spend_credit(socket, payload.len());
        }
        self.settle();
        sent
    }

    /// Sends a message to all tabs of a browser: one frame on its link.
    ///
    /// # Errors
    /// [`SendError::Full`], [`SendError::TooLarge`]; [`SendError::Closed`] when the session has
    /// ended.
    pub fn broadcast(
        &mut self,
        now: Timestamp,
        session: SessionId,
        payload: Payload<'_>,
    ) -> Result<(), SendError> {
        self.advance(now);
        let frame = ServerFrame::Message { payload };
        let sent = self.send_message(session, None, &frame, payload.len(), 1);
        self.settle();
        sent
    }

    /// Closes an open socket. Its tab sees a clean close with this code and reason; the
    /// application gets its `SocketClosed`.
    ///
    /// The code is one that a WebSocket may carry, from 1000 to 4999; a longer reason than 123
    /// bytes is cut.
    ///
    /// # Errors
    /// [`SendError::Closed`] when it is not open.
    pub fn close(
        &mut self,
        now: Timestamp,
        socket: SocketRef,
        code: u16,
        reason: &str,
    ) -> Result<(), SendError> {
        self.advance(now);
        let Some(Socket::Open(_)) = self.socket(socket) else {
            return Err(SendError::Closed);
        };
        self.close_socket(socket, code, reason);
        self.settle();
        Ok(())
    }

    /// Closes an open socket from this end.
    pub(super) fn close_socket(&mut self, socket: SocketRef, code: u16, reason: &str) {
        self.take_socket(socket);
        let (code, reason) = (code.clamp(1000, 4999), cut(reason, MAX_REASON));
        self.send_close(socket, code, reason);
        self.socket_closed(socket, code, reason, true);
    }

    /// Changes the limit of links, which counts for those that open from now on. Registries
    /// that share one limit need it: only their shell knows the links of all.
    pub const fn limit_links(&mut self, links: usize) {
        self.config.links = links;
    }

    /// Sends away the first of `slices` equal parts of the links there are: their hubs are told to
    /// reconnect after `after` and a random part of `spread`, and the links close with 1001. Every
    /// HELLO is refused from now on. Called with ever fewer slices at even times it empties a
    /// server evenly; with one, at once.
    pub fn drain(&mut self, now: Timestamp, slices: u32, after: Duration, spread: Duration) {
        self.advance(now);
        self.draining = Some(after);
        let count = self.links.len().div_ceil(slices.max(1) as usize);
        let links = self.links.numbers().map(LinkId).take(count).collect::<Vec<_>>();
        let go_away = ServerFrame::GoAway {
            reason: GoAwayReason::Shutdown,
            after_ms: super::config::millis(after),
            spread_ms: super::config::millis(spread),
            target: "",
        };
        for link in links {
            if self.links.get(link.0).is_some_and(|link| matches!(link.phase, Phase::Session(_))) {
                self.send_frame(link, &go_away);
            }
            self.end_link(link);
        }
    }

    /// Closes every link with 1001.
    pub fn shutdown(&mut self, now: Timestamp) {
        self.advance(now);
        let links = self.links.numbers().map(LinkId).collect::<Vec<_>>();
        for link in links {
            self.end_link(link);
        }
    }

    fn end_link(&mut self, link: LinkId) {
        let reason = "the server shuts down".into();
        self.close_link(link, close::GOING_AWAY, reason, LinkDown::Shutdown);
    }
}
