//! The server's half: links, sessions, tabs and virtual sockets, in one [`Registry`] a shard.
//!
//! A link is a WebSocket that was accepted; HELLO begins a session on it, or goes on with one;
//! ATTACH adds tabs; OPEN adds virtual sockets, which the application accepts and then reads and
//! writes. A session outlives its link for a while: what goes down is kept in lanes until the hub
//! has acknowledged it, what comes up is counted, and the next link goes on where the last one
//! broke.
//!
//! A socket's messages wait with the application once they have used the credit that its tab gave
//! for it, so that one socket cannot fill the lane of its tab; a tab's wait with the tab until the
//! application has dealt with those before. What bounds a session is what its
//! lanes may keep ([`SessionConfig::lane_bytes`]), and what bounds a hub is that the server stops
//! reading.

mod backlog;
mod commands;
mod config;
mod credit;
mod frames;
mod io;
mod lane;
mod lanes;
mod list;
mod pace;
mod places;
mod publication;
mod resume;
mod state;
mod stats;
mod subscriptions;
mod table;
mod topics;
mod waiting;
mod wheel;

use std::{
    borrow::Cow,
    collections::{BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use tabmux_wire::{
    Alias, Denied, MAX_REASON, RefusedReason, ServerFrame, SessionId, SocketId, TabId, Term, close,
};

pub use self::{
    config::SessionConfig,
    io::{
        Event, Identity, Input, LinkDown, LinkId, Output, PeerMisbehaved, SendError, SessionEnd,
        SocketRef, WakeReason,
    },
    pace::Pace,
    publication::{Encoded, Publication, SlowPolicy},
    stats::Stats,
    topics::{
        BadTopicName, Joined, MAX_SHARDS, Numbered, Shards, TooManyTopics, Topics, check_topic_name,
    },
};
use self::{
    places::Places,
    state::{Greeting, Link, Phase, Session, Stage, Tab},
    subscriptions::TopicTable,
    table::Sessions,
    wheel::Wheel,
};
use crate::Timestamp;

/// The links, sessions, tabs and virtual sockets of one shard.
///
/// Its methods are of four kinds:
///
/// - getters: [`stats`](Self::stats), [`config`](Self::config), [`tab_id`](Self::tab_id);
/// - facts: [`handle_input`](Self::handle_input) and [`handle_timeout`](Self::handle_timeout),
///   which never fail and never panic on a peer's bytes;
/// - commands of the application: [`accept`](Self::accept), [`reject`](Self::reject),
///   [`send`](Self::send), [`close`](Self::close), [`broadcast`](Self::broadcast),
///   [`give_back`](Self::give_back), [`publish`](Self::publish),
///   [`topic_joined`](Self::topic_joined), [`topic_refused`](Self::topic_refused),
///   [`limit_links`](Self::limit_links), [`drain`](Self::drain),
///   [`shutdown`](Self::shutdown). A command about what is no more does
///   nothing, since news of the end may still wait in the outputs;
/// - polls: [`poll_output`](Self::poll_output) until `None` after any number of facts and
///   commands, then [`poll_timeout`](Self::poll_timeout).
///
/// Time never runs backwards: an earlier `now` counts as the latest one.
pub struct Registry {
    config: SessionConfig,
    now: Timestamp,
    links: Places<Link>,
    sessions: Sessions,
    topics: TopicTable,
    /// One entry a link, at or before its deadline, so that a message need not move it.
    timers: Wheel,
    outputs: VecDeque<Output>,
    /// Links whose queue passed the last limit; closed before the call that did it returns.
    overflowed: Vec<LinkId>,
    /// Sessions in which more is kept than may be; ended in the same way.
    swollen: Vec<SessionId>,
    /// Sessions by when they lost their links; some have one again, or are no more.
    detached: VecDeque<(Timestamp, SessionId)>,
    /// Of those that have none, the ones that keep something: what giving them up would free.
    keeping: BTreeSet<(Timestamp, SessionId)>,
    /// When set, HELLO is refused with this hint.
    draining: Option<Duration>,
    stats: Stats,
}

/// Why a hub is refused, and what it is told.
struct Refusal<'a> {
    reason: RefusedReason,
    /// The session's current term, 0 when there is none to tell.
    term: Term,
    retry: Duration,
    message: &'a str,
}

impl Registry {
    /// An empty registry. A queue smaller than one message is made as large as one message.
    pub fn new(config: SessionConfig, now: Timestamp) -> Self {
        let queue_bytes = config.queue_bytes.max(config.message_bytes);
        Self {
            config: SessionConfig { queue_bytes, ..config },
            now,
            links: Places::new(),
            sessions: Sessions::default(),
            topics: TopicTable::default(),
            timers: Wheel::new(now),
            outputs: VecDeque::new(),
            overflowed: Vec::new(),
            swollen: Vec::new(),
            detached: VecDeque::new(),
            keeping: BTreeSet::new(),
            draining: None,
            stats: Stats::default(),
        }
    }

    /// What it holds and what it has counted.
    pub const fn stats(&self) -> Stats {
        self.stats
    }

    /// Its configuration.
    pub const fn config(&self) -> &SessionConfig {
        &self.config
    }

    /// The id of a tab by its alias.
    pub fn tab_id(&self, session: SessionId, tab: Alias) -> Option<TabId> {
        Some(self.sessions.by_id(session)?.tabs.get(&tab)?.id)
    }

    /// Takes a fact.
    ///
    /// # Panics
    /// When the shell opens a link under a number that is in use, or gives the entropy of a
    /// session that lives. No bytes of a peer can do that.
    pub fn handle_input(&mut self, now: Timestamp, input: Input<'_>) {
        self.advance(now);
        match input {
            Input::LinkOpened { link, entropy, identity } => {
                self.on_link_opened(link, Greeting { entropy, identity });
            }
            Input::LinkMessage { link, bytes } => self.on_link_message(link, bytes),
            Input::LinkText { link } => self.misbehaved(link, PeerMisbehaved::Text),
            Input::LinkWritten { link, bytes } => self.on_link_written(link, bytes),
            Input::LinkClosed { link } => self.forget_link(link, LinkDown::Closed),
        }
        self.settle();
    }

    /// Does what is due at `now`. A call too early or too often does nothing; after it,
    /// `poll_timeout` names a later time, or outputs are pending.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        self.advance(now);
        while let Some(place) = self.timers.pop(self.now) {
            let Some(id) = self.links.at(place).map(LinkId) else {
                continue;
            };
            let Some((deadline, reason)) = self.deadline(id) else {
                continue;
            };
            if deadline > self.now {
                self.enter_wheel(id, deadline);
            } else {
                self.time_out(id, reason);
            }
        }
        self.expire();
        self.settle();
    }

    /// The next order, if there is one.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to call `handle_timeout` next, and why; `None` while there is no link, and no session
    /// that waits for one.
    pub fn poll_timeout(&self) -> Option<(Timestamp, WakeReason)> {
        let detached = self.first_expiry().map(|at| (at, WakeReason::Detached));
        [self.link_timeout(), detached].into_iter().flatten().min()
    }

    fn link_timeout(&self) -> Option<(Timestamp, WakeReason)> {
        let (at, place) = self.timers.peek()?;
        Some((at, self.deadline(LinkId(self.links.at(place)?))?.1))
    }

    fn advance(&mut self, now: Timestamp) {
        self.now = self.now.max(now);
    }

    fn on_link_opened(&mut self, id: LinkId, greeting: Greeting) {
        let full = self.links.len() >= self.config.links;
        let phase = Phase::Hello(Box::new(greeting));
        let tick = self.timers.insert(id.place(), self.now + self.config.handshake_timeout);
        let free = self.links.insert(id.0, Link { phase, heard: self.now, tick });
        assert!(free, "the shell opened a link twice: {id:?}");
        self.stats.links += 1;
        if full {
            let (reason, term, retry) = (RefusedReason::Limit, Term(0), self.config.retry_after);
            let message = "the server is at its limit of links";
            // Nothing is known of the hub yet, so it is told in the words of version 1.
            self.refuse(id, 1, &Refusal { reason, term, retry, message });
        }
    }

    fn on_link_written(&mut self, id: LinkId, bytes: usize) {
        let Some(&Link { phase: Phase::Session(place), .. }) = self.links.get(id.0) else {
            return;
        };
        let Some(session) = self.sessions.get_mut(place) else {
            return;
        };
        let written = bytes.min(session.unwritten);
        session.unwritten -= written;
        self.stats.queued_bytes -= written;
        if session.slow.is_none() {
            return;
        }
        self.release(place);
        self.wake_waiting(place);
    }

    fn time_out(&mut self, id: LinkId, reason: WakeReason) {
        match reason {
            WakeReason::Handshake => {
                self.stats.handshake_timeouts += 1;
                let (code, cause) = (close::HANDSHAKE_TIMEOUT, LinkDown::HandshakeTimeout);
                self.close_link(id, code, "no HELLO came in time".into(), cause);
            }
            WakeReason::Heartbeat => {
                self.stats.heartbeat_timeouts += 1;
                let (code, cause) = (close::HEARTBEAT_TIMEOUT, LinkDown::HeartbeatTimeout);
                self.close_link(id, code, "nothing was heard for too long".into(), cause);
            }
            WakeReason::Suspended => {
                let reason = "all tabs are parked".into();
                self.close_link(id, close::GOING_AWAY, reason, LinkDown::Suspended);
            }
            // Of a session, not of a link.
            WakeReason::Detached => {}
        }
    }

    /// Closes a link for what its hub did; no other link notices.
    fn misbehaved(&mut self, link: LinkId, what: PeerMisbehaved) {
        if self.links.get(link.0).is_some() {
            self.stats.protocol_errors += 1;
            let reason = cut(&what.to_string(), MAX_REASON).to_owned();
            self.close_link(link, what.close_code(), reason.into(), LinkDown::Misbehaved(what));
        }
    }

    /// Refuses a hub, in the words of the newest version that both ends speak.
    fn refuse(&mut self, link: LinkId, version: u32, refusal: &Refusal<'_>) {
        self.stats.refused += 1;
        let Refusal { reason, term, retry, message } = *refusal;
        let code = match reason {
            RefusedReason::Version
            | RefusedReason::Stale
            | RefusedReason::Ended
            | RefusedReason::Moved
            | RefusedReason::Other(_) => close::PROTOCOL_ERROR,
            RefusedReason::Denied => close::POLICY,
            RefusedReason::Limit => close::TRY_AGAIN_LATER,
            RefusedReason::Draining => close::GOING_AWAY,
        };
        let retry_ms = config::millis(retry);
        let frame = if version > 1 {
            let (code, retry_ms) = (reason, Some(retry_ms));
            ServerFrame::Denied(Denied { code, term, retry_ms, target: "", message })
        } else {
            ServerFrame::Refused { reason, term, retry_ms, message }
        };
        self.send_frame(link, &frame);
        let text = cut(message, MAX_REASON).to_owned();
        self.close_link(link, code, text.into(), LinkDown::Refused(reason));
    }

    fn close_link(&mut self, link: LinkId, code: u16, why: Cow<'static, str>, cause: LinkDown) {
        self.outputs.push_back(Output::CloseLink { link, code, reason: why });
        self.forget_link(link, cause);
    }

    /// Forgets a link. Its session waits for another one, unless the hub is at fault or the server
    /// goes.
    fn forget_link(&mut self, id: LinkId, cause: LinkDown) {
        let Some(link) = self.links.remove(id.0) else {
            return;
        };
        self.timers.remove(id.place(), link.tick);
        self.stats.links -= 1;
        if let Phase::Session(place) = link.phase
            && self.sessions.get(place).is_some_and(|it| it.stage == Stage::Attached(id))
        {
            if cause.ends_session() { self.forget_session(place) } else { self.detach(place) }
        }
        self.outputs.push_back(Output::Event(Event::LinkDown { link: id, cause }));
    }

    fn forget_session(&mut self, place: u32) {
        let Some(session) = self.sessions.remove(place) else {
            return;
        };
        self.stats.sessions -= 1;
        if let Stage::Detached { since } = session.stage {
            self.stats.detached -= 1;
            self.keeping.remove(&(since, session.id));
        }
        if let Some(slow) = &session.slow {
            self.stats.queued_bytes -= slow.backlog.bytes();
            self.stats.awaiting_credit -= slow.waiting.without_credit();
        }
        self.stats.queued_bytes -= session.unwritten;
        self.stats.kept_bytes -= session.kept;
        self.forget_subscriptions(place, &session.subscriptions);
        for (alias, tab) in session.tabs {
            self.forget_tab(session.id, alias, &tab);
        }
    }

    /// Tells the handlers of a tab that is no more.
    fn forget_tab(&mut self, session: SessionId, alias: Alias, tab: &Tab) {
        *self.stats.tabs_of(tab.presence) -= 1;
        for socket in tab.sockets() {
            let socket = SocketRef { session, tab: alias, socket };
            self.socket_closed(socket, close::ABNORMAL, "", false);
        }
    }

    /// Tells the handler of a socket that was taken out of its tab.
    fn socket_closed(&mut self, socket: SocketRef, code: u16, reason: &str, clean: bool) {
        self.stats.sockets -= 1;
        let reason = reason.to_owned();
        self.outputs.push_back(Output::SocketClosed { socket, code, reason, clean });
    }

    /// Takes a socket out of its tab.
    fn take_socket(&mut self, socket: SocketRef) -> Option<state::Socket> {
        let session = self.sessions.by_id_mut(socket.session)?;
        if let Some(slow) = &mut session.slow {
            self.stats.awaiting_credit -= slow.waiting.without_credit();
            slow.waiting.remove(place(socket));
            self.stats.awaiting_credit += slow.waiting.without_credit();
            session.tidy_slow();
        }
        session.tabs.get_mut(&socket.tab)?.take_socket(socket.socket)
    }

    fn send_frame(&mut self, link: LinkId, frame: &ServerFrame<'_>) {
        self.send_bytes(link, frame.to_bytes().into());
    }

    fn send_bytes(&mut self, id: LinkId, bytes: Arc<[u8]>) {
        if self.links.get(id.0).is_none() {
            return;
        }
        let limit = self.config.queue_bytes.saturating_add(self.config.control_bytes);
        if let Some(session) = self.session_of(id) {
            session.unwritten += bytes.len();
            // What is kept may all have to be sent again at once.
            let too_much = session.unwritten > limit.saturating_add(session.kept);
            self.stats.queued_bytes += bytes.len();
            if too_much {
                self.overflowed.push(id);
            }
        }
        self.outputs.push_back(Output::Send { link: id, bytes });
    }

    /// The session that a link is the link of.
    fn session_of(&mut self, id: LinkId) -> Option<&mut Session> {
        let Phase::Session(place) = self.links.get(id.0)?.phase else {
            return None;
        };
        self.sessions.get_mut(place).filter(|session| session.stage == Stage::Attached(id))
    }

    /// Closes what the call in progress overflowed: not at once, so that no half of the call
    /// finds its session gone.
    fn settle(&mut self) {
        for id in std::mem::take(&mut self.swollen) {
            let Some(place) = self.sessions.place(id) else {
                continue;
            };
            match self.sessions.get(place).and_then(Session::link) {
                Some(link) => self.overflowed.push(link),
                None => self.forget_session(place),
            }
        }
        for link in std::mem::take(&mut self.overflowed) {
            if self.links.get(link.0).is_some() {
                self.stats.not_reading += 1;
                let reason = "the hub does not read".into();
                self.close_link(link, close::POLICY, reason, LinkDown::NotReading);
            }
        }
        self.evict();
    }

    /// Moves a link's timer to its deadline, which came nearer.
    fn set_timer(&mut self, id: LinkId) {
        let (Some(link), Some((deadline, _))) = (self.links.get(id.0), self.deadline(id)) else {
            return;
        };
        self.timers.remove(id.place(), link.tick);
        self.enter_wheel(id, deadline);
    }

    fn enter_wheel(&mut self, id: LinkId, deadline: Timestamp) {
        let tick = self.timers.insert(id.place(), deadline);
        if let Some(link) = self.links.get_mut(id.0) {
            link.tick = tick;
        }
    }

    /// When something must be done about a link unless a message comes, and what.
    fn deadline(&self, id: LinkId) -> Option<(Timestamp, WakeReason)> {
        let link = self.links.get(id.0)?;
        let suspended = match link.phase {
            Phase::Hello(_) => None,
            Phase::Session(place) => self.sessions.get(place)?.suspended.as_deref().copied(),
        };
        Some(link.deadline(suspended, &self.config))
    }
}

/// The longest beginning of `text` that has at most `max` bytes.
fn cut(text: &str, max: usize) -> &str {
    &text[..text.floor_char_boundary(max)]
}

/// A socket's place in a session, for the set of those that wait.
const fn place(socket: SocketRef) -> (Alias, SocketId) {
    (socket.tab, socket.socket)
}
