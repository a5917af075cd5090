//! The server: the real registry, and a small application that answers each message with one of its
//! own.

mod opening;
mod tickets;
mod told;
mod wanted;

use std::{collections::BTreeMap, fmt, time::Duration};

use tabmux_core::{
    OwnedPayload, Timestamp,
    session::{
        AskId, Event, LinkDown, LinkId, Registry, SendError, SessionConfig, SessionEnd, SocketRef,
        Topics,
    },
    wire::{HubId, Payload, ServerFrame, SessionId, TabId, Term},
};

use self::{opening::Opening, tickets::Tickets, told::Told};
pub use self::{
    opening::Question,
    tickets::{Shown, Unshown},
    wanted::Wanted,
};
use crate::{
    credit::CREDIT,
    invariant::{
        Checked,
        Invariant::{Limits, NoError, NothingLost, OneLink, TermsGrow},
    },
    network::Hello,
    reference::Reference,
    seen::{Seen, Sight},
};

/// The code with which the application closes sockets.
const KICK: u16 = 4000;
/// Largest number of answers that may wait for one socket. A page sends fewer messages.
const PENDING: u64 = 10_000;
/// Time that a slow application takes to answer, in seconds.
const LATE_S: u64 = 8;

/// A server while it runs.
pub struct Server {
    /// The registry of the core.
    pub registry: Registry,
    /// The time of the registry's next timeout.
    pub wake_at: Option<Timestamp>,
    /// The sessions that the registry reported.
    pub sessions: BTreeMap<SessionId, Session>,
    /// The sockets that the registry reported.
    pub sockets: BTreeMap<SocketRef, Socket>,
    /// The link whose message is being read.
    pub reading: Option<LinkId>,
    /// True while the server sends hubs away.
    pub draining: bool,
    /// Number of claims with a wrong token that the server was shown, at most.
    pub forged: u64,
    links: BTreeMap<LinkId, SessionId>,
    topics: Topics,
    last_session: u64,
    /// Reasons why sockets may be lost: sessions that ended, and tabs that are gone.
    ended: BTreeMap<SessionId, &'static str>,
    gone: BTreeMap<(SessionId, TabId), &'static str>,
    /// Questions for sockets that the application has not answered yet.
    opening: BTreeMap<AskId, Opening>,
    /// Questions for sockets whose ticket nobody has shown yet.
    tickets: Tickets,
    /// Questions for topics that are not answered yet, and the time of the answer. `None` means
    /// never.
    wanted: BTreeMap<AskId, (Wanted, Option<Timestamp>)>,
    told: Told,
    /// Lost sockets whose reason was not checked yet.
    lost: Vec<(SocketRef, TabId, u32)>,
}

/// A session as the application sees it.
#[derive(Debug)]
pub struct Session {
    /// The session's link, or the time since which it has none.
    pub stage: Result<LinkId, Timestamp>,
    /// The session's tabs, as far as the server was told. The value is true if the tab is parked.
    pub tabs: BTreeMap<TabId, bool>,
    hub: HubId,
    term: Term,
    serial: u64,
    broadcasts: u64,
}

/// The application's side of a socket.
#[derive(Debug)]
pub struct Socket {
    tab: TabId,
    /// The page's number for the socket.
    number: u32,
    pending: u64,
}

impl Server {
    /// Returns a server that has just started. `serial` must be larger than that of any session
    /// before. `limits` are the limits of tabs in a session and of sockets in a tab.
    pub fn new(now: Timestamp, serial: u64, limits: (u32, u32), users: bool) -> Self {
        Self {
            registry: Registry::new(config(limits, users), now),
            wake_at: None,
            sessions: BTreeMap::new(),
            sockets: BTreeMap::new(),
            reading: None,
            draining: false,
            forged: 0,
            links: BTreeMap::new(),
            // The epoch differs from that of any server before.
            topics: Topics::new(now.as_micros() + 1, 100),
            last_session: serial,
            ended: BTreeMap::new(),
            gone: BTreeMap::new(),
            opening: BTreeMap::new(),
            tickets: Tickets::default(),
            wanted: BTreeMap::new(),
            told: Told::default(),
            lost: Vec::new(),
        }
    }

    /// Returns the number of the latest session.
    pub const fn serial(&self) -> u64 {
        self.last_session
    }

    /// Called when the registry or the application has something due.
    pub fn timer(&mut self, now: Timestamp, reference: &mut Reference) -> Checked {
        self.answer_due(now, reference)?;
        self.tell_of_tickets(now, reference)?;
        self.registry.handle_timeout(now);
        Ok(())
    }

    /// Returns the time of the next timeout of either.
    pub fn next_wake(&self) -> Option<Timestamp> {
        let opening = self.opening.values().filter_map(|it| it.due);
        let opening = opening.chain(self.tickets.next_wake());
        let due = opening.chain(self.wanted.values().filter_map(|(_, due)| *due)).min();
        let wake = self.registry.poll_timeout().map(|(wake, _)| wake);
        due.into_iter().chain(wake).min()
    }

    fn answer_due(&mut self, now: Timestamp, reference: &mut Reference) -> Checked {
        let is_due = |it: &Opening| it.due.is_some_and(|due| due <= now);
        while let Some((&ask, _)) = self.opening.iter().find(|(_, it)| is_due(it)) {
            if let Some(it) = self.opening.remove(&ask) {
                self.answer(now, reference, it.question())?;
            }
        }
        let is_due = |due: &Option<Timestamp>| due.is_some_and(|due| due <= now);
        while let Some((&ask, _)) = self.wanted.iter().find(|(_, (_, due))| is_due(due)) {
            if let Some((wanted, _)) = self.wanted.remove(&ask) {
                self.answer_wanted(now, ask, &wanted)?;
            }
        }
        Ok(())
    }

    /// Called when the application receives a message, to which it sends an answer.
    pub fn message(
        &mut self,
        now: Timestamp,
        reference: &mut Reference,
        at: SocketRef,
        said: &str,
    ) -> Checked {
        let session = self.sessions.get(&at.session).map(|session| &session.stage);
        let served = matches!((session, self.reading), (Some(Ok(link)), Some(by)) if *link == by);
        OneLink.unless(served, || {
            format!("{at:?} was heard on {:?}, and its session has {session:?}", self.reading)
        })?;
        let Some(socket) = self.sockets.get(&at) else {
            return NothingLost.broken(format!("{at:?} is not open at the application"));
        };
        if reference.is_of(socket.tab, socket.number, at.session) {
            reference.app_hears(socket.tab, socket.number, said)?;
        }
        self.say(now, reference, at, 1)
    }

    /// Sends `count` more messages on a socket, now or when there is room.
    pub fn say(
        &mut self,
        now: Timestamp,
        reference: &mut Reference,
        at: SocketRef,
        more: u64,
    ) -> Checked {
        let Some(socket) = self.sockets.get_mut(&at) else { return Ok(()) };
        if !reference.is_heard(socket.tab, socket.number, at.session) {
            return Ok(());
        }
        socket.pending = (socket.pending + more).min(PENDING);
        while socket.pending > 0 {
            let said = reference.app_text(socket.tab, socket.number)?;
            match self.registry.send(now, at, Payload::Text(&said)) {
                Ok(()) => {
                    reference.app_said(socket.tab, socket.number, &said)?;
                    socket.pending -= 1;
                }
                Err(SendError::Full | SendError::Closed) => break,
                // The message is too large, or `SendError` has got a new case.
                Err(error) => return Limits.broken(format!("a message was not sent: {error}")),
            }
        }
        Ok(())
    }

    /// Called when a socket has ended.
    pub fn closed(&mut self, reference: &mut Reference, at: SocketRef, clean: bool) -> Checked {
        let Some(socket) = self.sockets.remove(&at) else {
            return NothingLost.broken(format!("{at:?} was closed twice"));
        };
        if !reference.is_heard(socket.tab, socket.number, at.session) {
            return Ok(());
        }
        match (clean, reference.is_closed(socket.tab, socket.number)) {
            (true, false) => reference.app_closes(socket.tab, socket.number),
            // The application closed the socket.
            (true, true) => Ok(()),
            (false, _) => {
                self.lost.push((at, socket.tab, socket.number));
                Ok(())
            }
        }
    }

    /// Lets the application close a socket.
    pub fn kick(&mut self, now: Timestamp, reference: &mut Reference, at: SocketRef) -> Checked {
        match self.sockets.get(&at) {
            Some(&Socket { tab, number, .. })
                if self.registry.close(now, at, KICK, "kicked").is_ok() =>
            {
                if !reference.is_heard(tab, number, at.session) {
                    return Ok(());
                }
                reference.app_kicks(tab, number)
            }
            // The socket is closed already, and its end waits in the outputs.
            _ => Ok(()),
        }
    }

    /// Sends a numbered message to all tabs of a browser.
    pub fn broadcast(&mut self, now: Timestamp, id: SessionId) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        let text = format!("{} {} {}", session.serial, session.broadcasts + 1, now.as_micros());
        if self.registry.broadcast(now, id, Payload::Text(&text)).is_ok() {
            session.broadcasts += 1;
        }
    }

    /// Checks a frame that goes out on a link. The link must be the last one of its session, unless
    /// the frame says that it is not.
    pub fn sent(&mut self, link: LinkId, bytes: &[u8]) -> Checked {
        self.told.server_says(link, bytes)?;
        let Some(session) = self.links.get(&link) else { return Ok(()) };
        let stage = self.sessions.get(session).map(|session| session.stage);
        let last_word = matches!(ServerFrame::decode(bytes), Ok(ServerFrame::Fenced { .. }));
        OneLink.unless(stage == Some(Ok(link)) || last_word, || {
            format!("{link:?} gets a frame, and its session {session:?} is at {stage:?}")
        })
    }

    /// Called when a link has ended, and for some causes its session.
    pub fn link_down(
        &mut self,
        now: Timestamp,
        reference: &mut Reference,
        link: LinkId,
        cause: LinkDown,
    ) -> Checked {
        NoError
            .unless(!matches!(cause, LinkDown::Misbehaved(_)), || format!("{link:?}: {cause:?}"))?;
        let Some(id) = self.links.remove(&link) else { return Ok(()) };
        let Some(session) = self.sessions.get_mut(&id) else { return Ok(()) };
        if session.stage != Ok(link) {
            return Ok(());
        }
        session.stage = Err(now);
        match cause {
            LinkDown::Shutdown => self.end(reference, id, "the server shuts down"),
            LinkDown::Ended => self.end(reference, id, "the application ended it"),
            LinkDown::Evicted => self.end(reference, id, "memory was short"),
            LinkDown::NotReading => self.end(reference, id, "the hub does not read"),
            LinkDown::Closed
            | LinkDown::TurnedAway
            | LinkDown::Misbehaved(_)
            | LinkDown::Refused(_)
            | LinkDown::HandshakeTimeout
            | LinkDown::HeartbeatTimeout
            | LinkDown::Suspended
            | LinkDown::Replaced
            | LinkDown::Fenced
            | LinkDown::Rechecked
            | LinkDown::Expired => {}
        }
        Ok(())
    }

    /// Records an event of the registry. `hello` is the HELLO of the link in question.
    pub fn event(
        &mut self,
        now: Timestamp,
        reference: &mut Reference,
        event: &Event,
        hello: Option<Hello>,
    ) -> Checked {
        match *event {
            Event::LinkUp { link, session, hub, resumed, term } => {
                self.links.insert(link, session);
                self.link_up((link, session, hub, term), resumed, hello)?;
                if let Some(it) = self.sessions.get(&session) {
                    reference.session_begins(it.serial, session);
                }
            }
            Event::SessionEnded { session, end } => {
                let since = self.sessions.get(&session).map(|session| session.stage);
                let waited = match since {
                    Some(Err(since)) => now.saturating_since(since),
                    _ => Duration::ZERO,
                };
                let right = end == SessionEnd::Expired && waited >= detached();
                NothingLost.unless(right, || {
                    format!("{session:?} ended, {end:?}, after {waited:?} without a link")
                })?;
                self.end(reference, session, "no link for too long");
            }
            Event::TabAttached { session, tab } => {
                if let Some(session) = self.sessions.get_mut(&session) {
                    session.tabs.insert(tab, false);
                }
            }
            Event::TabGone { session, tab } => {
                if let Some(it) = self.sessions.get_mut(&session) {
                    it.tabs.remove(&tab);
                }
            }
            Event::TabParked { session, tab } => {
                if let Some(session) = self.sessions.get_mut(&session) {
                    session.tabs.insert(tab, true);
                }
            }
        }
        Ok(())
    }

    /// I1 and I2: a link may take a session over only with the session's current term. The term
    /// then grows by one.
    fn link_up(
        &mut self,
        (link, id, hub, term): (LinkId, SessionId, HubId, Term),
        resumed: bool,
        hello: Option<Hello>,
    ) -> Checked {
        let claims = hello.and_then(|hello| hello.claims);
        let Some(session) = self.sessions.get_mut(&id) else {
            TermsGrow.unless(!resumed && term == Term(1), || {
                format!("{id:?} begins in {term:?}, resumed: {resumed}")
            })?;
            self.last_session += 1;
            let (serial, tabs) = (self.last_session, BTreeMap::new());
            let session = Session { stage: Ok(link), tabs, hub, term, serial, broadcasts: 0 };
            self.sessions.insert(id, session);
            return Ok(());
        };
        let (before, same_hub) = (session.term, session.hub == hub);
        let claimed = claims.filter(|(claimed, _)| *claimed == id).map(|(_, term)| term);
        OneLink.unless(same_hub || claimed == Some(before.0), || {
            format!("{id:?} in {before:?} was given to a hub that came with {claims:?}")
        })?;
        let expected = if same_hub { before.0 } else { before.0 + 1 };
        TermsGrow.unless(resumed && term == Term(expected), || {
            format!("{id:?} goes from {before:?} to {term:?}, same hub: {same_hub}")
        })?;
        (session.stage, session.hub, session.term) = (Ok(link), hub, term);
        Ok(())
    }

    fn end(&mut self, reference: &mut Reference, session: SessionId, why: &'static str) {
        self.sessions.remove(&session);
        self.ended.insert(session, why);
        reference.session_ends(session);
    }

    /// Called when a tab has gone, with the reason.
    pub fn tab_gone(
        &mut self,
        reference: &mut Reference,
        session: SessionId,
        tab: TabId,
        why: &'static str,
    ) {
        self.gone.insert((session, tab), why);
        reference.gives_up(tab, session);
    }

    /// Checks that sockets were lost for a reason only.
    pub fn judge(&mut self, reference: &mut Reference) -> Checked {
        for (at, tab, number) in std::mem::take(&mut self.lost) {
            let why = self.ended.get(&at.session).or_else(|| self.gone.get(&(at.session, tab)));
            reference.app_loses(tab, number, why.copied())?;
        }
        // The reasons are not needed again, since a tab that comes back has a new alias.
        self.gone.clear();
        Ok(())
    }

    /// Checks that the registry's numbers match its events and are within limits.
    pub fn agrees(&self) -> Checked {
        let stats = self.registry.stats();
        let linked = self.sessions.values().filter(|session| session.stage.is_ok()).count();
        let waiting = self.opening.len() + self.tickets.len();
        let told = (linked, self.sockets.len() + waiting);
        let says = (stats.sessions.held - stats.sessions.detached, stats.sockets.open);
        NoError.unless(told == says, || {
            format!("the registry told of {told:?}, counts {says:?}: {stats:?}")
        })?;
        let forged = stats.sessions.forged.saturating_sub(self.forged);
        let errors = (
            stats.links.protocol_errors,
            forged,
            stats.links.not_reading,
            stats.messages.too_large,
        );
        let errors = (errors, stats.sockets.over_credit);
        NoError.unless(errors == ((0, 0, 0, 0), 0), || format!("{stats:?}"))?;
        let config = self.registry.config();
        let both = config.session_bytes + config.absent_bytes;
        let most = 4 * both + config.message_bytes + config.control_bytes;
        let within = stats.memory.kept_bytes <= stats.sessions.held * most
            && stats.memory.queued_bytes
                <= linked * (config.queue_bytes + config.control_bytes)
                    + stats.sessions.held * (config.backlog_bytes + config.message_bytes);
        Limits.unless(within && stats.sessions.evicted == 0, || format!("{stats:?}"))
    }

    /// Records what happened to publications for slow readers.
    pub fn see(&self, seen: &mut Seen) {
        let topics = self.registry.stats().topics;
        for (count, sight) in [
            (topics.dropped_gap, Sight::Dropped),
            (topics.dropped_replaced, Sight::Replaced),
            (topics.slow_subscriptions, Sight::Slow),
            (topics.recovered, Sight::Recovered),
            (topics.recovery_gaps, Sight::Overrun),
        ] {
            if count > 0 {
                seen.add(sight);
            }
        }
    }

    /// Returns whether the tab is parked, if any session has it.
    pub fn knows(&self, tab: TabId) -> Option<bool> {
        self.sessions.values().filter_map(|session| session.tabs.get(&tab).copied()).max()
    }

    /// Returns true if the server has the session.
    pub fn has(&self, session: SessionId) -> bool {
        self.sessions.contains_key(&session)
    }

    /// Returns true if nothing waits to be sent.
    pub fn is_idle(&self) -> bool {
        let is_asked = !self.opening.is_empty() || self.tickets.len() > 0;
        !is_asked && self.sockets.values().all(|socket| socket.pending == 0)
    }

    /// Removes sessions that ended without an event, because they contained nothing.
    pub fn forget_blank(&mut self, now: Timestamp, reference: &mut Reference) {
        let late = |it: &Session| match it.stage {
            Ok(_) => false,
            Err(since) => now.saturating_since(since) > detached() + Duration::from_secs(1),
        };
        let blank = self.sessions.iter().filter(|(_, it)| late(it));
        for id in blank.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.sessions.remove(&id);
            reference.session_ends(id);
        }
    }
}

/// Returns how long both ends keep a session that has no link.
pub(crate) fn detached() -> Duration {
    SessionConfig::default().detached
}

/// Returns the text of a message. The simulator sends only text.
pub(crate) fn text(payload: &OwnedPayload) -> &str {
    match payload {
        OwnedPayload::Text(text) => text,
        OwnedPayload::Binary(_) => "",
    }
}

/// The limits are small, so that a stalled link, or a tab that does not acknowledge, fills its
/// queue.
fn config((tabs, sockets): (u32, u32), users: bool) -> SessionConfig {
    SessionConfig {
        users,
        tabs,
        sockets,
        message_bytes: 1024,
        queue_bytes: 1024,
        control_bytes: 64 << 10,
        window_bytes: 150,
        backlog_bytes: 400,
        lane_bytes: 600,
        session_bytes: 2000,
        // The limit is below that of a lane, because credit lets only some tabs get enough messages
        // to fill it.
        absent_bytes: 300,
        credit_bytes: CREDIT,
        ask_subscriptions: true,
        history: true,
        recall_bytes: 300,
        ..SessionConfig::default()
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("sessions", &self.sessions).finish_non_exhaustive()
    }
}
