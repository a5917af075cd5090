//! Credit: how much more may be sent on a virtual socket before its other end has said that it
//! dealt with what came.

use tabmux_wire::MESSAGE_COST;

use super::{Registry, SocketRef, state::Socket};

/// What a tab lets the application send on one socket.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Credit {
    /// What it gave and what was not used. A message may go out while it is above 0, whatever its
    /// size, so it goes below by less than one message; by more only for messages that cannot wait
    /// where they come from.
    left: i64,
}

impl Credit {
    /// The first of it.
    pub(super) fn new(given: u64) -> Self {
        let mut credit = Self { left: 0 };
        credit.add(given);
        credit
    }

    /// Whether a message may be sent.
    pub(super) const fn is_left(self) -> bool {
        self.left > 0
    }

    /// More was given. Nobody ever sends as much as it can hold, so more than that is the same.
    fn add(&mut self, given: u64) {
        self.left = self.left.saturating_add(i64::try_from(given).unwrap_or(i64::MAX));
    }

    /// A message with so many bytes of payload was sent.
    fn spend(&mut self, len: usize) {
        let cost = MESSAGE_COST.saturating_add(len as u64);
        self.left = self.left.saturating_sub(i64::try_from(cost).unwrap_or(i64::MAX));
    }
}

impl Registry {
    /// CREDIT of a hub. A socket that is not there is ignored: its close is under way.
    pub(super) fn on_credit(&mut self, socket: SocketRef, bytes: u64) {
        if let Some(Socket::Opening(credit) | Socket::Open(credit)) = self.socket_mut(socket) {
            credit.add(bytes);
        }
        if let Some(place) = self.sessions.place(socket.session) {
            self.wake_waiting(place);
        }
    }

    /// A message with so many bytes of payload was sent on a socket.
    pub(super) fn spend_credit(&mut self, socket: SocketRef, len: usize) {
        if let Some(Socket::Open(credit)) = self.socket_mut(socket) {
            credit.spend(len);
        }
    }

    fn socket_mut(&mut self, socket: SocketRef) -> Option<&mut Socket> {
        let tabs = &mut self.sessions.by_id_mut(socket.session)?.tabs;
        tabs.get_mut(&socket.tab)?.socket_mut(socket.socket)
    }
}
