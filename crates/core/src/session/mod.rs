//! The server's half: links, sessions, tabs and virtual sockets, in one [`Registry`] a shard.
//!
//! A link is a WebSocket that was accepted. HELLO begins a session on it, or goes on with one;
//! ATTACH adds tabs; OPEN adds virtual sockets, which the application accepts and then reads and
//! writes. A session outlives its link for a while: what goes down is kept in lanes until the hub
//! has acknowledged it, what comes up is counted, and the next link goes on where the last one
//! broke.
//!
//! The registry cannot know who may have what. It asks the shell by [`Output::Ask`], and the shell
//! answers by [`Registry::answer`], now or later (`asks`).
//!
//! A socket's messages wait with the application once they have used the credit that its tab gave
//! for it, so that one socket cannot fill the lane of its tab; a tab's wait with the tab until the
//! application has dealt with those before. What bounds a session is what its
//! lanes may keep ([`SessionConfig::lane_bytes`]), and what bounds a hub is that the server stops
//! reading.
//!
//! Inside, each record (`Session`, `Tab`, `Socket`) has its methods. They change the record, and
//! all else that they cause goes into the `Effects` that they are handed. The registry finds the
//! record that an input is about, and does what concerns several.

mod account;
mod asks;
mod backlog;
mod commands;
mod config;
mod connect;
mod credentials;
mod credit;
mod detached;
mod effects;
mod frames;
mod io;
mod lane;
mod lanes;
mod ledger;
mod link;
mod links;
mod list;
mod pace;
mod people;
mod places;
mod pressure;
mod publication;
mod recovery;
mod requests;
mod resume;
mod sockets;
mod state;
mod stats;
mod subscriptions;
mod tab;
mod table;
mod topic_table;
mod topics;
mod users;
mod visitor;
mod waiting;
mod wheel;

use std::{borrow::Cow, fmt, time::Duration};

use tabmux_wire::{
    Alias, DecodeError, Denied, HubFrame, MAX_MESSAGE_TEXT, MAX_REASON, RefusedReason, ServerFrame,
    SessionId, TabId, Term, close,
};

pub use self::{
    account::{Account, AccountLimits, Holder},
    asks::{Answer, AnswerError, Ask, AskId, Denial, DenialCode, Secret},
    config::SessionConfig,
    io::{
        Event, Input, LinkDown, LinkId, Output, PeerMisbehaved, SendError, SessionEnd, SocketRef,
        WakeReason,
    },
    lanes::LONG_FRAME,
    pace::Pace,
    people::SessionInfo,
    pressure::Shares,
    publication::{Encoded, Meter, Publication, SlowPolicy},
    stats::{
        AskStats, ChargeStats, LinkStats, MemoryStats, MessageStats, Number, NumberKind,
        SessionStats, SocketStats, Stats, TabStats, TopicStats,
    },
    topics::{
        BadTopicName, Interest, Joined, MAX_SHARDS, Numbered, Shards, TopicFrame, Topics,
        check_topic_name,
    },
    visitor::{Admitted, Farewell, User, Visitor},
};
use self::{
    credentials::Credentials,
    detached::Detached,
    effects::Effects,
    ledger::{Charge, GREETING, LINK},
    link::{Greeting, Phase},
    links::Links,
    state::{Session, SessionPlace, Stage},
    table::Sessions,
    topic_table::TopicTable,
    users::Users,
};
use crate::Timestamp;

/// The links, sessions, tabs and virtual sockets of one shard.
///
/// Its methods are of four kinds:
///
/// - getters: [`stats`](Self::stats), [`config`](Self::config), [`tab_id`](Self::tab_id),
///   [`is_pending`](Self::is_pending);
/// - facts: [`handle_input`](Self::handle_input) and [`handle_timeout`](Self::handle_timeout),
///   which never fail and never panic on a peer's bytes;
/// - commands of the application: [`answer`](Self::answer), [`send`](Self::send),
///   [`close`](Self::close), [`broadcast`](Self::broadcast), [`give_back`](Self::give_back),
///   [`publish`](Self::publish), [`tell_user`](Self::tell_user), [`end_user`](Self::end_user),
///   [`end_session`](Self::end_session), [`end_tab`](Self::end_tab),
///   [`recheck_user`](Self::recheck_user),
///   [`drain`](Self::drain), [`shutdown`](Self::shutdown). A command about what is no more does
///   nothing, since news of the end may still wait in the outputs;
/// - polls: [`poll_output`](Self::poll_output) until `None` after any number of facts and
///   commands, then [`poll_timeout`](Self::poll_timeout).
///
/// Time never runs backwards: an earlier `now` counts as the latest one.
pub struct Registry {
    links: Links,
    sessions: Sessions,
    users: Users,
    topics: TopicTable,
    detached: Detached,
    /// The bytes of the account that holds the most here, as the shell is told.
    heaviest: usize,
    /// When set, HELLO is refused with this hint.
    draining: Option<Duration>,
    credentials: Credentials,
    fx: Effects,
}

/// Why a hub is refused, and what it is told.
struct Refusal<'a> {
    reason: RefusedReason,
    /// The session's current term, 0 when there is none to tell.
    term: Term,
    /// When to try again; `None` for never.
    retry: Option<Duration>,
    message: &'a str,
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("draining", &self.draining).finish_non_exhaustive()
    }
}

impl Registry {
    /// Makes an empty registry. A queue smaller than one message is made as large as one message.
    pub fn new(config: SessionConfig, now: Timestamp) -> Self {
        let queue_bytes = config.queue_bytes.max(config.message_bytes);
        let config = SessionConfig { queue_bytes, ..config };
        Self {
            links: Links::new(now),
            sessions: Sessions::default(),
            users: Users::default(),
            topics: TopicTable::default(),
            detached: Detached::default(),
            heaviest: 0,
            draining: None,
            credentials: Credentials::default(),
            fx: Effects::new(config, now),
        }
    }

    /// Returns what it holds and what it has counted.
    pub const fn stats(&self) -> Stats {
        let mut stats = self.fx.stats;
        stats.asks.open = self.fx.asks.len();
        stats
    }

    /// Returns its configuration.
    pub const fn config(&self) -> &SessionConfig {
        &self.fx.config
    }

    /// Returns the id of a tab, by its alias.
    pub fn tab_id(&self, session: SessionId, tab: Alias) -> Option<TabId> {
        Some(self.sessions.by_id(session)?.tabs.get(tab)?.id)
    }

    /// Takes a fact.
    ///
    /// # Panics
    /// When the shell opens a link under a number that is in use, or gives the entropy of a
    /// session that lives. No bytes of a peer can do that.
    pub fn handle_input(&mut self, now: Timestamp, input: Input<'_>) {
        self.advance(now);
        match input {
            Input::LinkOpened { link, entropy, visitor } => {
                self.on_link_opened(link, Greeting { entropy, visitor });
            }
            Input::LinkMessage { link, bytes } => self.on_link_message(link, bytes),
            Input::LinkText { link } => self.misbehaved(link, PeerMisbehaved::Text),
            Input::LinkWritten { link, bytes } => self.on_link_written(link, bytes),
            Input::LinkHolds { link, bytes } => self.on_link_holds(link, bytes),
            Input::LinkHeard { link } => self.on_link_heard(link),
            Input::Shares(shares) => self.on_shares(shares),
            Input::LinkClosed { link } => self.forget_link(link, LinkDown::Closed),
        }
        self.settle();
    }

    /// Does what is due at `now`. A call too early or too often does nothing; after it,
    /// `poll_timeout` names a later time, or outputs are pending.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        self.advance(now);
        let now = self.fx.now;
        // Before the links: one that is pending ends with its question.
        self.end_overdue_asks();
        while let Some((id, reason)) = self.links.pop_due(&self.fx.config, now) {
            self.time_out(id, reason);
        }
        self.end_expired_links();
        self.expire();
        self.settle();
    }

    /// Passes publications of one topic, in order, to the links that want it. What is handed over
    /// together is looked at together: each session is looked up once for all.
    pub fn publish(&mut self, now: Timestamp, publications: &[Publication]) {
        self.advance(now);
        self.topics.publish(&mut self.fx, &mut self.sessions, publications);
        self.settle();
    }

    /// Returns the next order, if there is one.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.fx.pop()
    }

    /// Returns when to call `handle_timeout` next, and why; `None` while there is no link, no
    /// session that waits for one, no question and no credentials that expire.
    pub fn poll_timeout(&self) -> Option<(Timestamp, WakeReason)> {
        let link = self.links.peek(&self.fx.config);
        let detached = self.first_expiry().map(|at| (at, WakeReason::Detached));
        let ask = self.fx.asks.first().map(|(at, _)| (at, WakeReason::Ask));
        let credentials = self.credentials.first().map(|at| (at, WakeReason::Credentials));
        [link, detached, ask, credentials].into_iter().flatten().min()
    }

    fn advance(&mut self, now: Timestamp) {
        self.fx.now = self.fx.now.max(now);
    }

    fn on_link_opened(&mut self, id: LinkId, greeting: Greeting) {
        let Effects { now, config, stats, .. } = &mut self.fx;
        let full = self.links.len() >= config.links;
        if let Some(until) = greeting.visitor.as_ref().and_then(|visitor| visitor.until()) {
            self.credentials.set(id, Some(until));
        }
        let visitor = visitor::cost(greeting.visitor.as_ref());
        self.links.insert(id, greeting, *now, *now + config.handshake_timeout);
        stats.links.open += 1;
        self.fx.charge(Charge::Sessions, 0, LINK + GREETING);
        self.fx.charge(Charge::Visitors, 0, visitor);
        if full {
            let (reason, term) = (RefusedReason::Limit, Term(0));
            let retry = Some(self.fx.config.retry_after);
            let message = "the server is at its limit of links";
            // Nothing is known of the hub yet, so it is told in the words of version 1.
            self.refuse(id, 1, &Refusal { reason, term, retry, message });
        }
    }

    fn on_link_message(&mut self, id: LinkId, bytes: &[u8]) {
        let Some(link) = self.links.get_mut(id) else {
            return;
        };
        let greeting = match &link.phase {
            Phase::Hello(greeting) => (**greeting).clone(),
            // The shell was told to read no further.
            Phase::Pending(_) => return,
            Phase::Session(place) => {
                let place = *place;
                let handled = HubFrame::decode(bytes).map_err(PeerMisbehaved::Undecodable);
                let handled = handled.and_then(|it| self.on_frame(id, place, it, bytes.len()));
                if let Err(what) = handled {
                    self.misbehaved(id, what);
                }
                return;
            }
        };
        let handled = match HubFrame::decode(bytes) {
            Ok(HubFrame::Hello(hello)) => self.on_hello(id, greeting, &hello),
            Ok(_) => Err(PeerMisbehaved::BeforeHello),
            Err(error @ DecodeError::UnsupportedVersion { .. }) => {
                let (reason, term) = (RefusedReason::Version, Term(0));
                let retry = Some(Duration::ZERO);
                let message = &error.to_string();
                self.refuse(id, 1, &Refusal { reason, term, retry, message });
                Ok(())
            }
            Err(error) => Err(PeerMisbehaved::Undecodable(error)),
        };
        if let Err(what) = handled {
            self.misbehaved(id, what);
        }
    }

    /// Takes a frame of `len` bytes on the link of a session.
    fn on_frame(
        &mut self,
        id: LinkId,
        place: SessionPlace,
        frame: HubFrame<'_>,
        len: usize,
    ) -> Result<(), PeerMisbehaved> {
        if frame == HubFrame::End {
            let reason = "the browser ended the session".into();
            self.close_link(id, close::NORMAL, reason, LinkDown::Ended);
            return Ok(());
        }
        let Self { fx, links, sessions, topics, .. } = self;
        let (Some(link), Some(session)) = (links.get_mut(id), sessions.get_mut(place)) else {
            return Ok(());
        };
        if fx.now.saturating_since(link.heard) > fx.config.heartbeat.saturating_mul(5) / 4 {
            session.pardon(fx);
        }
        link.heard = fx.now;
        link.suspended = matches!(frame, HubFrame::Suspend);
        if link.suspended {
            links.set_timer(&fx.config, id);
        }
        if let HubFrame::Credentials { request, credentials } = frame {
            self.on_credentials(id, place, request, credentials);
            return Ok(());
        }
        session.on_frame(fx, topics, frame, len)
    }

    fn on_link_written(&mut self, id: LinkId, bytes: usize) {
        let Some(&Phase::Session(place)) = self.links.get(id).map(|link| &link.phase) else {
            return;
        };
        let Self { fx, sessions, topics, .. } = self;
        let Some(session) = sessions.get_mut(place) else {
            return;
        };
        let written = bytes.min(session.unwritten);
        session.unwritten -= written;
        fx.stats.memory.queued_bytes -= written;
        if session.slow.is_some() {
            session.release(fx, topics);
            session.wake_waiting(fx);
        }
    }

    /// Notes a sign of life. A link that has not said HELLO gets no more time for it.
    fn on_link_heard(&mut self, id: LinkId) {
        if let Some(link) = self.links.get_mut(id)
            && matches!(link.phase, Phase::Session(_))
            && !link.suspended
        {
            link.heard = self.fx.now;
        }
    }

    fn on_link_holds(&mut self, id: LinkId, bytes: usize) {
        let Some(link) = self.links.get_mut(id) else {
            return;
        };
        let after = u32::try_from(bytes).unwrap_or(u32::MAX);
        let before = std::mem::replace(&mut link.held, after);
        let session = link.phase.session().and_then(|place| self.sessions.get_mut(place));
        charge_link(&mut self.fx, session, before, after);
    }

    fn time_out(&mut self, id: LinkId, reason: WakeReason) {
        match reason {
            WakeReason::Handshake => {
                self.fx.stats.links.handshake_timeouts += 1;
                let (code, cause) = (close::HANDSHAKE_TIMEOUT, LinkDown::HandshakeTimeout);
                self.close_link(id, code, "no HELLO came in time".into(), cause);
            }
            WakeReason::Heartbeat => {
                self.fx.stats.links.heartbeat_timeouts += 1;
                let (code, cause) = (close::HEARTBEAT_TIMEOUT, LinkDown::HeartbeatTimeout);
                self.close_link(id, code, "nothing was heard for too long".into(), cause);
            }
            WakeReason::Suspended => {
                let reason = "all tabs are parked".into();
                self.close_link(id, close::GOING_AWAY, reason, LinkDown::Suspended);
            }
            // Of a session or of a question, or not of the timers of links.
            WakeReason::Detached | WakeReason::Ask | WakeReason::Credentials => {}
        }
    }

    /// Closes a link for what its hub did; no other link notices.
    fn misbehaved(&mut self, link: LinkId, what: PeerMisbehaved) {
        if self.links.get(link).is_some() {
            self.fx.stats.links.protocol_errors += 1;
            let reason = cut(&what.to_string(), MAX_REASON).to_owned();
            self.close_link(link, what.close_code(), reason.into(), LinkDown::Misbehaved(what));
        }
    }

    /// Refuses a hub, in the words of the newest version that both ends speak.
    fn refuse(&mut self, link: LinkId, version: u32, refusal: &Refusal<'_>) {
        self.refuse_because(link, version, refusal, LinkDown::Refused(refusal.reason));
    }

    /// The same, with what is told of the link's end.
    fn refuse_because(
        &mut self,
        link: LinkId,
        version: u32,
        refusal: &Refusal<'_>,
        cause: LinkDown,
    ) {
        self.fx.stats.links.refused += 1;
        let Refusal { reason, term, retry, message } = *refusal;
        let message = cut(message, MAX_MESSAGE_TEXT);
        let code = match reason {
            RefusedReason::Version
            | RefusedReason::Stale
            | RefusedReason::Moved
            | RefusedReason::Other(_) => close::PROTOCOL_ERROR,
            RefusedReason::Denied | RefusedReason::Ended => close::POLICY,
            RefusedReason::Limit => close::TRY_AGAIN_LATER,
            RefusedReason::Draining => close::GOING_AWAY,
        };
        let retry_ms = retry.map(config::millis);
        let frame = if version > 1 {
            let code = reason;
            ServerFrame::Denied(Denied { code, term, retry_ms, target: "", message })
        } else {
            // In version 1 trying again soon is of no use: there is no never.
            let retry_ms = retry_ms.unwrap_or(0);
            ServerFrame::Refused { reason, term, retry_ms, message }
        };
        self.fx.send(link, &frame);
        let text = cut(message, MAX_REASON).to_owned();
        self.close_link(link, code, text.into(), cause);
    }

    fn close_link(&mut self, link: LinkId, code: u16, why: Cow<'static, str>, cause: LinkDown) {
        self.fx.order(Output::CloseLink { link, code, reason: why });
        self.forget_link(link, cause);
    }

    /// Forgets a link. Its session waits for another one, unless the hub is at fault or the server
    /// goes.
    fn forget_link(&mut self, id: LinkId, cause: LinkDown) {
        let Some(link) = self.links.remove(id) else {
            return;
        };
        self.stop_renewal(id, link.phase.session());
        self.credentials.remove(id);
        self.fx.stats.links.open -= 1;
        if let Some(greeting) = link.phase.greeting() {
            self.fx.charge(Charge::Sessions, GREETING, 0);
            self.fx.charge(Charge::Visitors, visitor::cost(greeting.visitor.as_ref()), 0);
        }
        if let Some(pending) = link.phase.pending() {
            self.fx.charge(Charge::Asks, pending.cost, 0);
            self.fx.withdraw(pending.ask);
        }
        self.fx.charge(Charge::Sessions, LINK, 0);
        let session = link.phase.session().and_then(|place| self.sessions.get_mut(place));
        charge_link(&mut self.fx, session, link.held, 0);
        if let Phase::Session(place) = link.phase
            && self.sessions.get(place).is_some_and(|it| it.stage == Stage::Attached(id))
        {
            if cause.ends_session() { self.forget_session(place) } else { self.detach(place) }
        }
        self.fx.order(Output::LinkDown { link: id, cause });
    }

    fn forget_session(&mut self, place: SessionPlace) {
        if let Some(session) = self.sessions.remove(place) {
            if let Stage::Detached { since } = session.stage {
                self.detached.remove((since, session.id), session.ledger.account());
            }
            if let Some(user) = session.user() {
                self.users.remove(user, place);
            }
            session.end(&mut self.fx, &mut self.topics);
        }
    }

    /// Closes what the call in progress overflowed: not at once, so that no half of the call
    /// finds its session gone.
    fn settle(&mut self) {
        let (mut overflowed, swollen) = self.fx.take_excess();
        for id in swollen {
            let Some(place) = self.sessions.place(id) else {
                continue;
            };
            match self.sessions.get(place).and_then(Session::link) {
                Some(link) => overflowed.push(link),
                None => self.forget_session(place),
            }
        }
        for link in overflowed {
            if self.links.get(link).is_some() {
                self.fx.stats.links.not_reading += 1;
                let reason = "the hub does not read".into();
                self.close_link(link, close::POLICY, reason, LinkDown::NotReading);
            }
        }
        self.evict();
        self.relieve();
    }
}

/// Charges what the shell holds for a link: to its session, if it has one.
fn charge_link(fx: &mut Effects, session: Option<&mut Session>, before: u32, after: u32) {
    let (before, after) = (before as usize, after as usize);
    match session {
        Some(session) => session.ledger.charge(fx, Charge::Links, before, after),
        None => fx.charge(Charge::Links, before, after),
    }
}

/// Returns the longest beginning of `text` that has at most `max` bytes.
fn cut(text: &str, max: usize) -> &str {
    &text[..text.floor_char_boundary(max)]
}
