//! Links that are pending: the application is asked whose they are, and nothing is read of them.

use std::{mem, sync::Arc};

use tabmux_core::{
    Timestamp,
    session::{LinkId, Visitor},
};

use super::{super::link::Phase, EventLoop, Service};

impl<S: Service> EventLoop<S> {
    /// Returns true for a link of which nothing is read now.
    pub(super) fn is_held(&mut self, id: LinkId) -> bool {
        self.links.get_mut(id).is_some_and(|link| link.is_held)
    }

    /// Reads a link no further if it is pending, and keeps what was read behind its first message.
    /// Returns true if so.
    pub(super) fn hold_pending(&mut self, id: LinkId, rest: &[u8]) -> bool {
        let Some(link) = self.links.get_mut(id).filter(|_| self.service.is_pending(id)) else {
            return false;
        };
        link.is_held = true;
        if !rest.is_empty() {
            self.held.insert(id, rest.to_vec());
        }
        true
    }

    /// Takes what was read of a link before it was pending.
    pub(super) fn take_held(&mut self, now: Timestamp, id: LinkId) {
        if let Some(mut bytes) = self.held.remove(&id) {
            (self.messages, self.inflated) = (0, 0);
            self.take_in(now, id, &mut bytes);
            self.tell_memory(now, id);
            self.carry_out(now);
        }
    }

    /// Reads a link again that was pending, in the next turn: no event tells of what came
    /// meanwhile.
    pub(super) fn release(&mut self, id: LinkId) {
        if let Some(link) = self.links.get_mut(id)
            && mem::take(&mut link.is_held)
        {
            self.unread.push((id, true));
        }
    }

    /// Notes whose a link is. A user whose place the link had before gets it back.
    pub(super) fn seat(&mut self, id: LinkId, visitor: Arc<Visitor>, was_pending: bool) {
        let Some(link) = self.links.get_mut(id) else {
            return;
        };
        let before = link.stream.seat(visitor);
        if was_pending {
            if let Some(user) = before.as_ref().and_then(|it| it.user()) {
                self.board.tickets().leave_seat(user);
            }
            if link.phase == Phase::Open {
                self.release(id);
            }
        }
    }
}
