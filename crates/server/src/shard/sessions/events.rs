//! What happens to links and tabs, as far as a shard or its handlers act on it.

use tabmux_core::{
    session::{Event, SocketRef},
    wire::{Alias, SessionId, SocketId, TabId},
};

use super::{Moment, Sessions};

impl Sessions {
    /// Acts on what happened to a link or a tab.
    pub(super) fn hear_of(&mut self, at: Moment<'_>, event: &Event) {
        match *event {
            Event::LinkUp { link, .. } => self.judging.forget(&mut self.registry, at.now, link),
            Event::TabParked { session, tab } => self.tell_parked(at, session, tab, true),
            Event::TabAttached { session, tab } => self.tell_parked(at, session, tab, false),
            Event::SessionEnded { .. } | Event::TabGone { .. } => {}
        }
    }

    /// Tells the handlers of a tab that it is in the back/forward cache, or back.
    fn tell_parked(&mut self, at: Moment<'_>, session: SessionId, tab: TabId, parked: bool) {
        let first = SocketRef { session, tab: Alias(0), socket: SocketId(0) };
        let of_session = self.sockets.range(first..).take_while(|(it, _)| it.session == session);
        let of_tab = of_session.filter(|(_, mounted)| mounted.tab == tab);
        for socket in of_tab.map(|(socket, _)| *socket).collect::<Vec<_>>() {
            self.call(at, socket, |handler, ctx| handler.parked(ctx, parked));
        }
    }
}
