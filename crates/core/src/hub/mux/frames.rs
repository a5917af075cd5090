//! What the server says, frame by frame.

use std::{mem, time::Duration};

use tabmux_wire::{
    Alias, Denied, ErrorCode, HubFrame, IdentityTag, LaneCount, Payload, RefusedReason, Rejected,
    ServerFrame, SocketId, TabId, Term, TopicId, Welcome, close as code,
};

use super::{Mux, Next, Session};
use crate::{
    OwnedPayload, Timestamp,
    hub::{
        base::Base,
        io::{Event, HubMessage, LinkState, Output},
        link::{Connected, Connection, Heartbeat, LONGEST_HINT},
        resume::{Claim, Named},
        text::text,
    },
};

/// How long a tab waits to be told that the server has no room for it, while tabs are awaited that
/// may be dead.
const AWAITED_TOLD: Duration = Duration::from_millis(1500);

/// A frame that is to be heard.
#[derive(Clone, Copy, Debug)]
struct Counted {
    /// Its number in its lane, or 0 if it has none.
    count: u64,
    /// So much came that the tabs are to be asked what they have heard.
    is_much: bool,
}

/// Why the server refuses the HELLO, or ends the session.
#[derive(Clone, Copy, Debug)]
struct Refusal<'a> {
    reason: RefusedReason,
    term: Term,
    /// When to dial again. `None` means not before another tab attaches, or a tab asks for a
    /// new link.
    retry: Option<Duration>,
    message: &'a str,
}

impl Mux {
    pub(super) fn handle_frame(
        &mut self,
        now: Timestamp,
        base: &mut Base,
        frame: ServerFrame<'_>,
        bytes: &[u8],
    ) {
        if let Connection::Connected(connected) = &mut self.connection {
            if let Some(heartbeat) = &mut base.heartbeat {
                heartbeat.heard(now);
            }
            if connected.is_listing && !matches!(frame, ServerFrame::Subscribed(_)) {
                connected.is_listing = false;
                self.topics.link_opened(base);
            }
        }
        let Some(Counted { count, is_much }) = self.count(now, base, &frame, bytes) else {
            return;
        };
        if !may_come(&self.connection, &frame) {
            let why = Self::not_tabmux(base, "sent something else before WELCOME");
            return self.abandon(now, base, code::HUB_PROTOCOL_ERROR, why);
        }
        self.carry_out(now, base, frame, count);
        if is_much {
            self.check(now, base);
        }
    }

    /// Does what a frame says, which is the frame `count` of its lane.
    fn carry_out(&mut self, now: Timestamp, base: &mut Base, frame: ServerFrame<'_>, count: u64) {
        match frame {
            ServerFrame::Welcome(welcome) => self.welcomed(now, base, &welcome),
            ServerFrame::Refused { reason, term, retry_ms, message } => {
                let retry = if retry_ms == 0 { base.config.backoff_last } else { ms(retry_ms) };
                self.refused(now, base, Refusal { reason, term, retry: Some(retry), message });
            }
            ServerFrame::Denied(Denied { code: reason, term, retry_ms, message, target: _ }) => {
                let retry = retry_ms.map(ms);
                self.refused(now, base, Refusal { reason, term, retry, message });
            }
            ServerFrame::Fenced { term } => self.fenced(now, base, term),
            ServerFrame::Attached { tab, alias, next, n_seen, aside: _ } => {
                if self.tabs.answered(tab) {
                    self.attached(base, tab, alias, [next, n_seen]);
                }
            }
            ServerFrame::GoAway { reason: _, after_ms, spread_ms, target: _ } => {
                self.go_away(base, after_ms, spread_ms);
            }
            ServerFrame::Error { code, tab, socket, message } => {
                self.handle_error(now, base, code, tab, socket, message);
            }
            ServerFrame::Opened { tab, socket, credit, protocol } => {
                self.post(base, tab, opened(socket, count, credit, protocol));
            }
            ServerFrame::Data { tab, socket, payload } => {
                let payload = payload.into();
                self.post(base, tab, HubMessage::Message { socket, count, payload });
            }
            ServerFrame::Close { tab, socket, code, reason } => {
                let (clean, reason) = (code != code::ABNORMAL, reason.to_owned());
                self.post(base, tab, HubMessage::Closed { socket, count, code, clean, reason });
            }
            ServerFrame::Credit { tab, socket, bytes } => {
                self.post(base, tab, HubMessage::Credit { socket, count, bytes });
            }
            ServerFrame::Rejected(rejected) => self.rejected(base, count, &rejected),
            ServerFrame::Message { payload } => self.message_to_all(base, count, payload.into()),
            ServerFrame::Direct { lane, payload, .. } => self.direct(base, lane, count, payload),
            ServerFrame::Dismissed(dismissed) => self.dismiss(now, base, &dismissed),
            ServerFrame::Gap { topic: TopicId(0), position: _ } => {
                base.post_all(self.concerned(base, count), &HubMessage::BrowserGap);
            }
            ServerFrame::Gap { topic, position } => self.topics.gap(base, topic, position),
            ServerFrame::Subscribed(listed) if listed.request == 0 => {
                self.topics.listed(base, &listed, &self.history);
            }
            ServerFrame::Subscribed(subscribed) => self.topics.subscribed(base, &subscribed),
            ServerFrame::Unsubscribed(ended) => self.topics.unsubscribed(now, base, &ended),
            ServerFrame::Publication { topic, position, previous, payload } => {
                self.topics.publication(base, topic, position, previous, payload);
            }
            ServerFrame::Ack { lanes } => self.seen(base, &lanes),
            ServerFrame::Pong { nonce } => {
                base.answered(now, nonce);
            }
            ServerFrame::Coming { bytes } => self.announced(base, bytes),
            ServerFrame::Ticket { ticket, path } => show_ticket(base, ticket, path),
            ServerFrame::Credentials(standing) => self.credentials_stand(now, base, &standing),
            // Frames that this release does not act on, and types of later versions.
            ServerFrame::Reply(_)
            | ServerFrame::Published { .. }
            | ServerFrame::Recovered(_)
            | ServerFrame::CaughtUp(_)
            | ServerFrame::Presence(_)
            | ServerFrame::Unknown { .. } => {}
        }
    }

    /// Counts a reliable frame. Returns `None` if it is not to be heard, because its tab is away,
    /// or about to be told where its lane goes on.
    fn count(
        &mut self,
        now: Timestamp,
        base: &mut Base,
        frame: &ServerFrame<'_>,
        bytes: &[u8],
    ) -> Option<Counted> {
        let uncounted = Some(Counted { count: 0, is_much: false });
        let Some(lane) = frame.lane() else { return uncounted };
        let Connection::Connected(connected) = &self.connection else { return uncounted };
        let count = if lane == 0 {
            let count0 = self.session.as_mut()?.count0.as_mut()?;
            // A server can say that it is at the end of all numbers.
            *count0 = count0.saturating_add(1);
            // Nothing is acknowledged while tabs are awaited, and a full lane would stand still.
            let half = usize::try_from(connected.limits.lane_bytes / 2).unwrap_or(usize::MAX);
            self.history.push(*count0, bytes, base.config.held_bytes.min(half));
            *count0
        } else {
            let (id, tab) = self.tabs.by_alias(Alias(lane))?;
            if !base.tabs.is_attached(id) {
                return None;
            }
            tab.count_own(bytes.len())
        };
        let is_much = self.acks.came(now, base, bytes.len());
        Some(Counted { count, is_much })
    }

    /// The server refuses the HELLO, or ends the session.
    fn refused(&mut self, now: Timestamp, base: &mut Base, refusal: Refusal<'_>) {
        let Refusal { reason, term, retry, message } = refusal;
        let why = text!("tabmux: ", base.config.url, " refused: ", message);
        base.close_link(now, code::NORMAL, "");
        // Where the claim was wrong, the next one is another: no need to wait long.
        let claims_again = match (reason, retry, &self.session) {
            (RefusedReason::Stale, Some(_), Some(_)) => Some(self.was_stale(base, term)),
            (RefusedReason::Denied, Some(_), Some(_)) => Some(self.was_not_ours(base, &why)),
            // The application ended the session, or will have none of this hub's.
            (RefusedReason::Ended, _, Some(_)) | (_, None, Some(_)) => {
                self.lose_session(base, &why);
                None
            }
            (RefusedReason::Stale | RefusedReason::Denied, _, None)
            | (
                RefusedReason::Version
                | RefusedReason::Limit
                | RefusedReason::Draining
                | RefusedReason::Ended
                | RefusedReason::Moved
                | RefusedReason::Other(_),
                _,
                _,
            ) => None,
        };
        let next = match claims_again {
            Some(true) => return self.dial_again(now, base),
            Some(false) => Next::Backoff,
            None => retry.map_or(Next::Never, |wait| Next::After(wait.min(LONGEST_HINT))),
        };
        self.fail(now, base, why, next);
    }

    /// The claimed term is out of date: the hub before may have died before its tabs heard of the
    /// new one. Returns true if the hub claims the session again at once.
    fn was_stale(&mut self, base: &mut Base, term: Term) -> bool {
        let is_found = self.is_found();
        let Some(session) = &mut self.session else { return false };
        let before = mem::replace(&mut session.term, term);
        let again = is_found && before != term;
        if !again {
            base.release_lock();
        }
        again
    }

    /// The claimed session is not this hub's: with another, or without, there may be a link.
    /// Returns true if the hub dials again at once.
    fn was_not_ours(&mut self, base: &mut Base, why: &str) -> bool {
        let is_found = self.is_found();
        let another = self.take_next_claim();
        if !another && is_found {
            // Of somebody who was here before. Nobody here has lost anything.
            self.forget_session();
        } else if !another {
            self.lose_session(base, why);
        }
        another || is_found
    }

    /// Another hub took the session over.
    fn fenced(&mut self, now: Timestamp, base: &mut Base, term: Term) {
        if let Some(session) = &mut self.session {
            session.term = term;
        }
        // Whoever took over may hold it by right: ask for it anew.
        base.release_lock();
        self.abandon(now, base, code::NORMAL, "tabmux: another hub took over".to_owned());
    }

    /// The server asks the hub to leave, and to come back later.
    fn go_away(&mut self, base: &mut Base, after_ms: u64, spread_ms: u64) {
        let [spread, after] = [spread_ms, after_ms].map(|it| ms(it).min(LONGEST_HINT));
        let wait = after + base.rng.below(spread);
        if let Connection::Connected(connected) = &mut self.connection {
            connected.go_away = Some(wait);
        }
    }

    /// The server has messages of tabs, which need not keep them any longer.
    fn seen(&mut self, base: &mut Base, lanes: &[LaneCount]) {
        for lane in lanes {
            self.post(base, Alias(lane.lane), HubMessage::Seen { n: lane.count });
        }
    }

    /// Redials at once, without backoff: because a tab asks for it, or after a claim of a session
    /// was refused, because the next HELLO carries a different claim. The latter cannot loop: once
    /// welcomed, a hub has no claim that was only found; the same term refused twice falls back to
    /// backoff; each other session is tried once.
    pub(super) fn dial_again(&mut self, now: Timestamp, base: &mut Base) {
        self.link_lost(now, base);
        self.dial(now, base);
    }

    /// Posts a message that names its audience: lane 0 is for all tabs.
    fn direct(&mut self, base: &mut Base, lane: u32, count: u64, payload: Payload<'_>) {
        let payload = payload.into();
        match lane {
            0 => self.message_to_all(base, count, payload),
            _ => self.post(base, Alias(lane), HubMessage::Direct { count, payload }),
        }
    }

    /// Posts a message to all tabs that it concerns.
    fn message_to_all(&mut self, base: &mut Base, count: u64, payload: OwnedPayload) {
        let tabs = self.concerned(base, count);
        for id in tabs.iter().filter(|id| base.tabs.is_attached(**id)) {
            if let Some(tab) = self.tabs.get_mut(*id) {
                tab.posted0(count);
            }
        }
        base.post_all(tabs, &HubMessage::Browser { count0: count, payload });
    }

    /// Returns the tabs to which a frame of lane 0 is news.
    fn concerned(&self, base: &Base, count: u64) -> Vec<TabId> {
        let Some(Session { id: session, .. }) = self.session else { return Vec::new() };
        let mut tabs = base.tabs.all();
        tabs.retain(|id| self.tabs.get(*id).is_some_and(|tab| tab.wants(session, count)));
        tabs
    }

    /// The server refuses a virtual socket. A code that the application chose becomes the close
    /// code, if it is one of those that WebSockets leave to applications.
    fn rejected(&mut self, base: &mut Base, count: u64, rejected: &Rejected<'_>) {
        let Rejected { tab, socket, code, message, .. } = *rejected;
        let is_own = matches!(code, 3_000..=4_999);
        let code = if is_own { code } else { code::ABNORMAL };
        let (clean, reason) = (false, String::new());
        self.post(base, tab, HubMessage::Error { socket, message: message.to_owned() });
        self.post(base, tab, HubMessage::Closed { socket, count, code, clean, reason });
    }

    /// Posts what came in a tab's lane.
    fn post(&mut self, base: &mut Base, alias: Alias, message: HubMessage) {
        if let Some((tab, _)) = self.tabs.by_alias(alias) {
            base.post_now(tab, message);
        }
    }

    fn welcomed(&mut self, now: Timestamp, base: &mut Base, welcome: &Welcome) {
        let Connection::Handshaking { claims, .. } = self.connection else {
            let why = "tabmux: the server said WELCOME twice".to_owned();
            return self.abandon(now, base, code::HUB_PROTOCOL_ERROR, why);
        };
        let Welcome { session: id, token, term, resumed, next0, .. } = *welcome;
        // A server of version 1 tells nothing of users.
        let link = welcome.tail.as_ref().map_or(IdentityTag::NoUsers, |it| it.identity.clone());
        if !self.fits(now, base, link) {
            return;
        }
        if !resumed && self.take_next_claim() {
            base.close_link(now, code::NORMAL, "");
            self.dial_again(now, base);
            return;
        }
        self.renewal.welcomed(welcome.tail.as_ref());
        self.others.clear();
        base.event(Event::Welcomed { session: id, resumed });
        self.reason.clear();
        if !resumed {
            // Each tab learns it when it is attached.
            self.acks.session_lost();
            self.topics.session_lost();
            self.history.end();
        }
        let is_new = self.session.as_ref().is_none_or(|session| session.count0.is_none());
        let same_term = self.session.as_ref().is_some_and(|session| session.term == term);
        if !same_term {
            // They may have come to another hub meanwhile.
            self.gone.clear();
        }
        if resumed && !is_new && same_term {
            // The server is well and the line broke: no reason to wait longer each time.
            self.backoff.reset();
        }
        // Another hub had the session meanwhile.
        let hole = self.session.as_ref().and_then(|session| session.count0);
        let hole = resumed && hole.is_some_and(|count0| count0 < next0.saturating_sub(1));
        if hole {
            self.history.lose();
        }
        let detached = Duration::from_millis(welcome.limits.detached_ms);
        let count0 = Some(next0.saturating_sub(1));
        self.session = Some(Session { id, token, term, count0, detached, expires: None });
        let mut connected = Connected::new(now, welcome, claims && resumed);
        // A server that says 0 would have the hub do nothing else.
        let interval = ms(welcome.heartbeat_ms.max(1000));
        base.heartbeat = Some(Heartbeat::new(now, interval, welcome.version(), &base.config));
        if !base.tabs.any_present() && base.tabs.parked() == 0 {
            connected.linger_until = Some(now + base.config.linger);
        }
        self.connection = Connection::Connected(connected);
        if is_new && resumed {
            self.acks.took_over(next0.saturating_sub(1));
        }
        if resumed {
            self.acks.wait(now, base);
        }
        self.expect(now, base, welcome, hole);
        if claims && !resumed {
            self.topics.link_opened(base);
        }
    }

    /// Waits for the tabs of the session that this hub does not know. `hole`: not all of lane 0
    /// came here.
    fn expect(&mut self, now: Timestamp, base: &mut Base, welcome: &Welcome, hole: bool) {
        let until = now + base.config.parked_ttl;
        let gone = mem::take(&mut self.gone);
        for listed in &welcome.tabs {
            if self.is_dismissed(listed.tab) {
                base.send_control(HubFrame::Gone { tab: listed.tab }.to_bytes());
                continue;
            }
            if gone.contains(&listed.tab) {
                base.send_control(HubFrame::Gone { tab: listed.tab }.to_bytes());
                self.gone.push(listed.tab);
                self.tabs.room_came();
                continue;
            }
            if !base.tabs.expect(listed.tab, listed.parked, until) {
                self.tabs.listed_again(listed, base.tabs.is_attached(listed.tab), hole);
                if base.tabs.is_parked(listed.tab) && !listed.parked {
                    // It went while there was no link to tell it on.
                    base.send_control(HubFrame::Park { tab: listed.tab }.to_bytes());
                }
                continue;
            }
            self.tabs.listed(listed);
            if !listed.parked {
                base.order(Output::WatchTab { tab: listed.tab });
            }
        }
        let count0 = self.count0();
        for (id, tab) in self.tabs.iter_mut() {
            if !welcome.tabs.iter().any(|listed| listed.tab == id) {
                tab.dropped_from(welcome.session, count0, hole);
            }
            // Now, before it hears what comes after that.
            if base.tabs.is_attached(id)
                && let Some(gap) = tab.take_gap(count0)
            {
                base.post_now(id, gap);
            }
        }
        if base.tabs.any_awaited() {
            self.history.begin(now);
            self.acks.wait(now, base);
        }
    }

    /// Called when the server answers ATTACH: it knows the tab as before, or as a new one.
    fn attached(&mut self, base: &mut Base, id: TabId, alias: Alias, [next, n_seen]: [u64; 2]) {
        let count0 = self.count0();
        let (Some(session), Some(tab)) = (&self.session, self.tabs.get_mut(id)) else {
            return;
        };
        if self.dismissals.contains(id) {
            // It was asked for before the server ended it.
            return base.send_control(HubFrame::Gone { tab: id }.to_bytes());
        }
        let was_left_out = tab.is_left_out();
        let continues = match tab.named((session.id, alias), count0, [next, n_seen]) {
            Named::Resumes { continues } => continues,
            Named::Outdated => {
                base.send_control(HubFrame::Gone { tab: id }.to_bytes());
                return self.send_attach(base, id);
            }
        };
        let Session { id: session, token, term, .. } = *session;
        let claim = Claim { session, token, term, alias: Some(alias) }.write();
        if !continues {
            base.forget_sent(id);
            if base.tabs.is_attached(id) {
                tab.restarts();
            }
        }
        if was_left_out {
            let (state, tabs, reason) = (LinkState::Connected, base.tab_count(), String::new());
            base.post_now(id, HubMessage::State { state, tabs, reason });
        }
        self.tell_user(base, id, false);
        base.post_now(id, HubMessage::Resume { n_seen, continues, count0, claim });
    }

    /// Tells the tabs that the server has no room for, once it is time to.
    pub(super) fn tell_no_room(&mut self, now: Timestamp, base: &mut Base) {
        if self.no_room_at.is_none_or(|at| at > now) {
            return;
        }
        self.no_room_at = None;
        for id in base.tabs.attached() {
            if self.tabs.leave_out(id) {
                let (state, tabs) = (LinkState::Full, base.tab_count());
                let reason = self.no_room.clone();
                base.post_now(id, HubMessage::State { state, tabs, reason });
            }
        }
    }

    fn handle_error(
        &mut self,
        now: Timestamp,
        base: &mut Base,
        code: ErrorCode,
        tab: Option<TabId>,
        socket: Option<SocketId>,
        message: &str,
    ) {
        let Some(id) = tab else { return };
        let message = text!("tabmux: ", message);
        if let Some(socket) = socket {
            return base.post(id, HubMessage::Error { socket, message });
        }
        // The server is asked again when another tab goes, parks, or turns out to be dead.
        if code == ErrorCode::TabLimit && self.tabs.answered(id) {
            if self.tabs.has_room_come(id) {
                self.send_attach(base, id);
            }
            self.no_room = message;
            // Those that are awaited may all be dead, which is known soon.
            let wait = if base.tabs.any_awaited() { AWAITED_TOLD } else { Duration::ZERO };
            let at = now + wait;
            self.no_room_at = Some(self.no_room_at.map_or(at, |before| before.min(at)));
            return self.tell_no_room(now, base);
        }
        // The server forgot the tab, which may be there all the same.
        if code == ErrorCode::UnknownTab && base.tabs.is_attached(id) {
            self.send_attach(base, id);
        }
    }
}

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn opened(socket: SocketId, count: u64, credit: u64, protocol: &str) -> HubMessage {
    let (protocol, extensions, reused) = (protocol.to_owned(), String::new(), false);
    HubMessage::Opened { socket, count, reused, protocol, extensions, credit: Some(credit) }
}

/// Returns true if the server may send this frame now. Before WELCOME it says only what answers
/// HELLO.
const fn may_come(connection: &Connection, frame: &ServerFrame<'_>) -> bool {
    let answers_hello = matches!(
        frame,
        ServerFrame::Welcome(_)
            | ServerFrame::Refused { .. }
            | ServerFrame::Denied(_)
            | ServerFrame::Fenced { .. }
    );
    answers_hello || matches!(connection, Connection::Connected(_))
}

/// Has the shell show a ticket. One that no sub-protocol could be, and one for no path, is dropped:
/// the server refuses the socket in the end.
fn show_ticket(base: &mut Base, ticket: &str, path: &str) {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if ticket.bytes().all(fits) && path.starts_with('/') {
        let (ticket, path) = (ticket.to_owned(), path.to_owned());
        base.order(Output::ShowTicket { ticket, path });
    }
}
