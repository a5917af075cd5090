//! What each frame of a hub does.

use std::time::Duration;

use tabmux_wire::{
    Alias, DecodeError, ErrorCode, HubFrame, Payload, RefusedReason, ServerFrame, SessionId,
    SocketId, TabId, Term, Upstream, close,
};

use super::{
    Event, LinkId, Output, PeerMisbehaved, Refusal, Registry, SocketRef,
    credit::Credit,
    state::{Phase, Presence, Socket},
};

type Handled = Result<(), PeerMisbehaved>;

impl Registry {
    pub(super) fn on_link_message(&mut self, id: LinkId, bytes: &[u8]) {
        let Some(link) = self.links.get_mut(id.0) else {
            return;
        };
        let phase = match &link.phase {
            Phase::Hello(greeting) => Err(**greeting),
            Phase::Session(place) => Ok(*place),
        };
        let handled = match (HubFrame::decode(bytes), phase) {
            (Err(error @ DecodeError::UnsupportedVersion { .. }), Err(_)) => {
                let (reason, term, retry) = (RefusedReason::Version, Term(0), Duration::ZERO);
                let message = &error.to_string();
                self.refuse(id, 1, &Refusal { reason, term, retry, message });
                Ok(())
            }
            (Err(error), _) => Err(PeerMisbehaved::Undecodable(error)),
            (Ok(HubFrame::Hello(hello)), Err(greeting)) => self.on_hello(id, &greeting, &hello),
            (Ok(_), Err(_)) => Err(PeerMisbehaved::BeforeHello),
            (Ok(frame), Ok(place)) => {
                let silent = self.now.saturating_since(link.heard);
                link.heard = self.now;
                if silent > self.config.heartbeat.saturating_mul(5) / 4 {
                    self.pardon(place);
                }
                if let Some(session) = self.sessions.get_mut(place) {
                    session.suspended = None;
                }
                self.on_frame(id, place, frame, bytes.len())
            }
        };
        if let Err(what) = handled {
            self.misbehaved(id, what);
        }
    }

    fn on_frame(&mut self, link: LinkId, place: u32, frame: HubFrame<'_>, len: usize) -> Handled {
        let Some(session) = self.sessions.get(place).map(|session| session.id) else {
            return Ok(());
        };
        if let Some(up) = frame.upstream() {
            if self.count(link, session, up, len)? {
                self.on_reliable(session, up.tab, frame)?;
                self.tell(link, place, false);
            }
            return Ok(());
        }
        match frame {
            HubFrame::Hello(_) => return Err(PeerMisbehaved::HelloTwice),
            HubFrame::Attach { tab, last } => self.on_attach(link, place, tab, last)?,
            HubFrame::Park { tab } => self.on_park(session, tab),
            HubFrame::Gone { tab } => self.on_gone(session, tab),
            HubFrame::Suspend => self.on_suspend(link, place),
            HubFrame::Ping { nonce } => {
                self.forget_stalled(link, place);
                self.tell(link, place, true);
                self.send_frame(link, &ServerFrame::Pong { nonce });
            }
            HubFrame::Ack { lanes, aside } => self.on_ack(place, &lanes, &aside)?,
            HubFrame::Subscribe { request, position, topic } => {
                self.on_subscribe(place, request, position, topic);
            }
            HubFrame::Unsubscribe { topic } => self.on_unsubscribe(place, topic),
            // Frames that this release does not act on, and types of later versions.
            HubFrame::Credentials { .. }
            | HubFrame::Presence { .. }
            | HubFrame::End
            | HubFrame::Unknown { .. } => {}
            // Reliable, and dealt with above.
            HubFrame::Open { .. }
            | HubFrame::Data { .. }
            | HubFrame::Close { .. }
            | HubFrame::Credit { .. }
            | HubFrame::Request(_)
            | HubFrame::Cancel { .. }
            | HubFrame::Publish(_)
            | HubFrame::Recover(_) => {}
        }
        Ok(())
    }

    /// A reliable frame of a tab, counted.
    fn on_reliable(&mut self, session: SessionId, tab: Alias, frame: HubFrame<'_>) -> Handled {
        let name = |socket| SocketRef { session, tab, socket };
        match frame {
            HubFrame::Open { socket, credit, path, protocols, .. } => {
                self.on_open(name(socket), credit, path, &protocols);
                Ok(())
            }
            HubFrame::Data { socket, payload, .. } => {
                self.on_data(name(socket), payload);
                Ok(())
            }
            HubFrame::Close { socket, code, reason, .. } => {
                self.on_close(name(socket), code, reason)
            }
            HubFrame::Credit { socket, bytes, .. } => {
                self.on_credit(name(socket), bytes);
                Ok(())
            }
            // Frames that this release does not act on, and types of later versions.
            HubFrame::Request(_)
            | HubFrame::Cancel { .. }
            | HubFrame::Publish(_)
            | HubFrame::Recover(_)
            | HubFrame::Unknown { .. } => Ok(()),
            // Not reliable, and dealt with above.
            HubFrame::Hello(_)
            | HubFrame::Attach { .. }
            | HubFrame::Park { .. }
            | HubFrame::Gone { .. }
            | HubFrame::Suspend
            | HubFrame::Ack { .. }
            | HubFrame::Ping { .. }
            | HubFrame::Subscribe { .. }
            | HubFrame::Unsubscribe { .. }
            | HubFrame::Credentials { .. }
            | HubFrame::Presence { .. }
            | HubFrame::End => Ok(()),
        }
    }

    /// Counts a tab's reliable frame; `false` if there is nothing to do for it.
    fn count(
        &mut self,
        link: LinkId,
        session: SessionId,
        up: Upstream,
        len: usize,
    ) -> Result<bool, PeerMisbehaved> {
        let session = self.sessions.by_id_mut(session);
        if let Some(tab) = session.and_then(|session| session.tabs.get_mut(&up.tab)) {
            return tab.count(up.n, len);
        }
        let message = format!("this session has no tab with alias {}", up.tab.0);
        self.send_error(link, ErrorCode::UnknownTab, None, None, &message);
        Ok(false)
    }

    fn on_attach(&mut self, link: LinkId, place: u32, tab: TabId, last: u64) -> Handled {
        let limit = self.config.tabs as usize;
        let Some(session) = self.sessions.get(place) else {
            return Ok(());
        };
        let (id, known) = (session.id, session.alias(tab));
        if known.is_none() && session.tabs.len() >= limit {
            self.forget_parked(place);
        }
        let Some(session) = self.sessions.get_mut(place) else {
            return Ok(());
        };
        let alias = match known {
            Some(alias) => Some(alias),
            None if session.tabs.len() >= limit => None,
            None => session.add_tab(tab).inspect(|_| self.stats.awaited += 1),
        };
        let Some(alias) = alias else {
            self.stats.tabs_refused += 1;
            let message = format!("a browser may have {limit} tabs on this server");
            self.send_error(link, ErrorCode::TabLimit, Some(tab), None, &message);
            return Ok(());
        };
        // What was never sent in this lane is of an earlier one: the tab may say so twice before it
        // hears of the new one. Or its page makes it up, which is no fault of the other tabs.
        let lane = session.tabs.get(&alias).and_then(|tab| tab.lane());
        let last = if lane.is_some_and(|lane| lane.sent() >= last) { last } else { 0 };
        self.acknowledge(place, alias, last)?;
        let session = self.sessions.get_mut(place);
        let Some(entry) = session.and_then(|session| session.tabs.get_mut(&alias)) else {
            return Ok(());
        };
        *self.stats.tabs_of(entry.presence) -= 1;
        self.stats.tabs += 1;
        entry.presence = Presence::Attached;
        let aside = std::mem::take(&mut entry.aside);
        let rest = entry.lane().map_or(Ok((1, Vec::new())), |lane| lane.after(last));
        let (next, frames) = rest.map_err(|_| PeerMisbehaved::NoSuchFrame)?;
        let n_seen = entry.seen();
        let now = self.now;
        if let Some(slow) = self.sessions.get_mut(place).and_then(|it| it.slow.as_mut()) {
            let of_tab = slow.stalled.iter_mut().filter(|(stalled, _)| *stalled == alias);
            of_tab.for_each(|(_, since)| *since = now);
        }
        self.send_frame(link, &ServerFrame::Attached { tab, alias, next, n_seen, aside });
        self.send_kept(link, frames);
        self.wake_waiting(place);
        self.outputs.push_back(Output::Event(Event::TabAttached { session: id, tab }));
        Ok(())
    }

    /// Forgets the tab that was parked first: nobody says when its page leaves the cache, which
    /// has room for a few only, and a page that is there is worth more.
    fn forget_parked(&mut self, place: u32) {
        let Some(session) = self.sessions.get(place) else {
            return;
        };
        let parked = session.tabs.iter().filter(|(_, it)| it.presence == Presence::Parked);
        // One that has nothing to lose comes before all that have.
        let first = parked.min_by_key(|(_, it)| it.parked_since());
        let (id, first) = (session.id, first.map(|(_, it)| it.id));
        if let Some(tab) = first {
            self.on_gone(id, tab);
        }
    }

    fn on_park(&mut self, session: SessionId, tab: TabId) {
        let now = self.now;
        let entry = self.sessions.by_id_mut(session).and_then(|session| {
            let alias = session.alias(tab)?;
            session.tabs.get_mut(&alias)
        });
        if let Some(entry) = entry
            && entry.presence != Presence::Parked
        {
            *self.stats.tabs_of(entry.presence) -= 1;
            entry.park(now);
            self.stats.parked += 1;
            self.outputs.push_back(Output::Event(Event::TabParked { session, tab }));
            // What its lane keeps counts apart from now on, which others may wait for.
            if let Some(place) = self.sessions.place(session) {
                self.wake_waiting(place);
            }
        }
    }

    pub(super) fn on_gone(&mut self, session_id: SessionId, tab: TabId) {
        let Some(session) = self.sessions.by_id_mut(session_id) else {
            return;
        };
        let Some(alias) = session.alias(tab) else {
            return;
        };
        let Some(entry) = session.tabs.remove(&alias) else {
            return;
        };
        if let Some(slow) = &mut session.slow {
            self.stats.awaiting_credit -= slow.waiting.without_credit();
            slow.waiting.remove_tab(alias);
            self.stats.awaiting_credit += slow.waiting.without_credit();
            slow.stalled.retain(|(stalled, _)| *stalled != alias);
            session.tidy_slow();
        }
        session.kept -= entry.kept();
        self.stats.kept_bytes -= entry.kept();
        self.forget_tab(session_id, alias, &entry);
        self.outputs.push_back(Output::Event(Event::TabGone { session: session_id, tab }));
        // What it kept may be what others wait for, of whom nothing need come.
        if let Some(place) = self.sessions.place(session_id) {
            self.wake_waiting(place);
        }
    }

    fn on_suspend(&mut self, id: LinkId, place: u32) {
        if let Some(session) = self.sessions.get_mut(place) {
            session.suspended = Some(Box::new(self.now));
            self.set_timer(id);
        }
    }

    fn on_open(&mut self, socket: SocketRef, credit: u64, path: &str, protocols: &[&str]) {
        let limit = self.config.sockets as usize;
        let Some(session) = self.sessions.by_id_mut(socket.session) else {
            return;
        };
        let Some(tab) = session.tabs.get_mut(&socket.tab) else {
            return;
        };
        // The hub passes on what its tabs say: a number in use is a page's fault, and costs it
        // alone.
        if tab.socket(socket.socket).is_some() {
            self.stats.bad_opens += 1;
            return;
        }
        if tab.socket_count() >= limit {
            self.stats.sockets_refused += 1;
            let message = format!("a tab may have {limit} sockets on this server");
            self.refuse_socket(socket, ErrorCode::SocketLimit, &message);
            return;
        }
        tab.set_socket(socket.socket, Socket::Opening(Credit::new(credit)));
        self.stats.sockets += 1;
        self.outputs.push_back(Output::SocketOpen {
            socket,
            tab: tab.id,
            path: path.to_owned(),
            protocols: protocols.iter().map(|&name| name.to_owned()).collect(),
        });
    }

    /// A message on a socket that is not open is ignored: its close may be under way.
    fn on_data(&mut self, socket: SocketRef, payload: Payload<'_>) {
        if self.takes(socket, payload.len()) {
            self.stats.messages_in += 1;
            let payload = payload.into();
            let message = Output::SocketMessage { socket, payload };
            self.outputs.push_back(message);
        }
    }

    /// A tab closes a socket: the handler is told, and the frame goes back, which completes the
    /// closing handshake. A socket that was never open fails, as a WebSocket does.
    fn on_close(&mut self, socket: SocketRef, code: u16, reason: &str) -> Handled {
        let code = match code {
            0 => close::NO_STATUS,
            1000..=4999 => code,
            _ => return Err(PeerMisbehaved::BadCloseCode),
        };
        // An unknown socket was closed by the server, and the two closes crossed.
        let Some(state) = self.take_socket(socket) else {
            return Ok(());
        };
        let clean = matches!(state, Socket::Open(_));
        let (code, reason) = if clean { (code, reason) } else { (close::ABNORMAL, "") };
        self.socket_closed(socket, code, reason, clean);
        self.send_close(socket, code, reason);
        Ok(())
    }

    pub(super) fn socket(&self, socket: SocketRef) -> Option<Socket> {
        self.sessions.by_id(socket.session)?.tabs.get(&socket.tab)?.socket(socket.socket)
    }

    /// Tells a tab that its socket failed, and why.
    pub(super) fn refuse_socket(&mut self, socket: SocketRef, code: ErrorCode, message: &str) {
        let Some(session) = self.sessions.by_id(socket.session) else {
            return;
        };
        let (link, tab) = (session.link(), session.tabs.get(&socket.tab).map(|tab| tab.id));
        if let Some(link) = link {
            self.send_error(link, code, tab, Some(socket.socket), message);
        }
        self.send_close(socket, close::ABNORMAL, "");
    }

    pub(super) fn send_close(&mut self, socket: SocketRef, code: u16, reason: &str) {
        let SocketRef { session, tab, socket } = socket;
        self.send_lane(session, tab, &ServerFrame::Close { tab, socket, code, reason });
    }

    pub(super) fn send_error(
        &mut self,
        link: LinkId,
        code: ErrorCode,
        tab: Option<TabId>,
        socket: Option<SocketId>,
        message: &str,
    ) {
        let message = super::cut(message, tabmux_wire::MAX_MESSAGE_TEXT);
        self.send_frame(link, &ServerFrame::Error { code, tab, socket, message });
    }
}
