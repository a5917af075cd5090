//! Credit: how much more may be sent on a virtual socket before its other end has said that it
//! dealt with what came.

use tabmux_wire::{ServerFrame, close, message_cost};

use super::{Registry, SocketRef, place, state::Socket};
use crate::Timestamp;

/// The credit of one socket, both ways.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Credit {
    /// What the tab gave and was not used. A message may go out while it is above 0, whatever its
    /// size, so it goes below by less than one message; by more only for messages that cannot wait
    /// where they come from.
    left: i64,
    /// What the tab used of what the application gave, and did not get back.
    used: u32,
    /// What of that the application has dealt with. It is given back with more.
    done: u32,
}

impl Credit {
    /// The first of it.
    pub(super) fn new(given: u64) -> Self {
        let mut credit = Self { left: 0, used: 0, done: 0 };
        credit.add(given);
        credit
    }

    /// Whether a message may be sent to the tab.
    pub(super) const fn is_left(self) -> bool {
        self.left > 0
    }

    /// The tab gave more. Nobody ever sends as much as it can hold: what is above that is the same.
    fn add(&mut self, given: u64) {
        self.left = self.left.saturating_add(i64::try_from(given).unwrap_or(i64::MAX));
    }

    /// A message was sent to the tab.
    fn spend(&mut self, cost: u64) {
        self.left = self.left.saturating_sub(i64::try_from(cost).unwrap_or(i64::MAX));
    }

    /// A message came of the tab, which may send so much; whether there was credit for it.
    fn take(&mut self, limit: u32, cost: u64) -> bool {
        let had = self.used < limit;
        self.used = self.used.saturating_add(saturated(cost));
        had
    }

    /// The application has dealt with messages; what the tab is to be given, once that is half of
    /// what it may send. No more than it used, whatever the application says.
    fn done(&mut self, limit: u32, cost: u64) -> Option<u64> {
        self.done = self.done.saturating_add(saturated(cost)).min(self.used);
        if self.done < limit.div_ceil(2).max(1) {
            return None;
        }
        self.used -= self.done;
        Some(std::mem::take(&mut self.done).into())
    }
}

impl Registry {
    /// The application has dealt with messages of a socket that cost so much
    /// ([`message_cost`]): the tab may send as much again. To be said
    /// once for each message that came; what is said of a socket that is not open is ignored.
    pub fn give_back(&mut self, now: Timestamp, socket: SocketRef, cost: u64) {
        self.advance(now);
        let limit = self.config.credit_bytes;
        if let Some(Socket::Open(credit)) = self.socket_mut(socket)
            && let Some(bytes) = credit.done(limit, cost)
        {
            let SocketRef { session, tab, socket } = socket;
            self.send_lane(session, tab, &ServerFrame::Credit { tab, socket, bytes });
        }
        self.settle();
    }

    /// CREDIT of a hub. A socket that is not there is ignored: its close is under way.
    pub(super) fn on_credit(&mut self, socket: SocketRef, bytes: u64) {
        if let Some(Socket::Opening(credit) | Socket::Open(credit)) = self.socket_mut(socket) {
            credit.add(bytes);
        }
        self.count_waiting(socket);
        if let Some(place) = self.sessions.place(socket.session) {
            self.wake_waiting(place);
        }
    }

    /// A message was sent on a socket.
    pub(super) fn spend_credit(&mut self, socket: SocketRef, len: usize) {
        if let Some(Socket::Open(credit)) = self.socket_mut(socket) {
            credit.spend(message_cost(len));
        }
        self.count_waiting(socket);
    }

    /// The credit of a socket has changed: if it waits, that may not be for credit any more.
    fn count_waiting(&mut self, socket: SocketRef) {
        let Some(session) = self.sessions.by_id_mut(socket.session) else {
            return;
        };
        let Some(slow) = session.slow.as_mut().filter(|it| it.waiting.contains(place(socket)))
        else {
            return;
        };
        let open = session.tabs.get(&socket.tab).and_then(|tab| tab.socket(socket.socket));
        let has_credit = open.is_some_and(Socket::has_credit);
        self.stats.awaiting_credit -= slow.waiting.without_credit();
        slow.waiting.insert(place(socket), has_credit);
        self.stats.awaiting_credit += slow.waiting.without_credit();
    }

    /// A message came on a socket; whether it is open and the application is to hear it. A page
    /// that sends what it has no credit for loses the socket, and no other notices.
    pub(super) fn takes(&mut self, socket: SocketRef, len: usize) -> bool {
        let limit = self.config.credit_bytes;
        let Some(Socket::Open(credit)) = self.socket_mut(socket) else {
            return false;
        };
        let had = credit.take(limit, message_cost(len));
        if !had {
            self.stats.over_credit += 1;
            self.close_socket(socket, close::POLICY, "more was sent than there was credit for");
        }
        had
    }

    fn socket_mut(&mut self, socket: SocketRef) -> Option<&mut Socket> {
        let tabs = &mut self.sessions.by_id_mut(socket.session)?.tabs;
        tabs.get_mut(&socket.tab)?.socket_mut(socket.socket)
    }
}

fn saturated(cost: u64) -> u32 {
    u32::try_from(cost).unwrap_or(u32::MAX)
}
