//! Mux mode: a link to a tabmux server, in which every socket is a virtual socket of its own.
//!
//! The truth about virtual sockets is with the tab and with the server; the hub carries their
//! frames, knows how far each lane is, and goes on with the session when the link breaks, or when
//! another hub left it.

mod acks;
mod claims;
mod dial;
mod dismissed;
mod frames;
mod identity;
mod line;
mod renewal;

use std::{mem, time::Duration};

use tabmux_wire::{
    HubFrame, MAX_PATH, MAX_PROTOCOL, MAX_PROTOCOLS, Payload, ServerFrame, SessionId, TabId, Term,
    Token, Upstream, close as code,
};

use self::{acks::Acks, dismissed::Dismissal, identity::Identity, renewal::Renewal};
use super::{
    base::{Base, Close, Has, Machine, Said, SocketKey, Subscription},
    config::HubConfig,
    io::{Ask, Event, HubMessage, LinkState, Rules, SubscriptionId, WakeReason},
    link::{Backoff, Connection},
    map::Map,
    resume::{Claim, Held, History, MuxTab, MuxTabs},
    text::text,
    topics::Topics,
};
use crate::{OwnedPayload, Timestamp};

#[derive(Debug)]
pub(super) struct Mux {
    connection: Connection,
    session: Option<Session>,
    /// Others that tabs have shown: they are tried if that one is over, the last of them first.
    others: Vec<Session>,
    tabs: MuxTabs,
    topics: Topics,
    acks: Acks,
    history: History,
    /// Tabs that left since the server last said which it knows; it may not have heard of it.
    gone: Vec<TabId>,
    /// Tabs that the application ended. All of them are at this hub.
    dismissals: Map<TabId, Dismissal>,
    backoff: Backoff,
    /// Why the last link ended; empty while one works.
    reason: String,
    /// What the server last said to a tab that it had no room for.
    no_room: String,
    /// When tabs without room are told so.
    no_room_at: Option<Timestamp>,
    /// Whose the link is, and whose the browser.
    identity: Identity,
    /// When a tab is asked for its credentials.
    renewal: Renewal,
    /// True if no server refused this hub: a tab told that the one before was refused for good.
    is_hearsay: bool,
}

/// When to dial again after a link that failed.
#[derive(Clone, Copy, Debug)]
enum Next {
    /// After a random wait that grows with each failure.
    Backoff,
    /// After the time that the server asked for.
    After(Duration),
    /// Not before another tab attaches, or a tab asks for a new link.
    Never,
}

/// The session that this hub has, or that a tab claims.
#[derive(Debug)]
struct Session {
    id: SessionId,
    token: Token,
    term: Term,
    /// Frames of lane 0 that this very hub has received; `None` until it was welcomed.
    count0: Option<u64>,
    /// How long the server keeps it without a link.
    detached: Duration,
    /// When it is given up, while there is no link.
    expires: Option<Timestamp>,
}

impl Mux {
    pub(super) fn new(config: &HubConfig) -> Self {
        Self {
            connection: Connection::Idle,
            session: None,
            others: Vec::new(),
            tabs: MuxTabs::default(),
            topics: Topics::default(),
            acks: Acks::default(),
            history: History::default(),
            gone: Vec::new(),
            dismissals: Map::default(),
            backoff: Backoff::new(config.backoff_first, config.backoff_last),
            reason: String::new(),
            no_room: String::new(),
            no_room_at: None,
            identity: Identity::default(),
            renewal: Renewal::default(),
            is_hearsay: false,
        }
    }

    /// The link is gone, or there is to be none. What goes on with the next one stays.
    fn link_lost(&mut self, now: Timestamp, base: &mut Base) {
        base.drop_link();
        self.stop_asking_who(base);
        self.renewal = Renewal::default();
        base.stop_asking();
        self.topics.link_lost();
        self.tabs.link_lost();
        self.no_room_at = None;
        self.acks.link_lost();
        if let Some(session) = &mut self.session
            && session.expires.is_none()
        {
            session.expires = Some(now + session.detached);
        }
    }

    /// Decides when to dial again, after a link that failed for this reason.
    fn fail(&mut self, now: Timestamp, base: &mut Base, reason: String, next: Next) {
        base.event(Event::LinkDown(reason.clone()));
        self.link_lost(now, base);
        if let Connection::Connected(connected) = &self.connection
            && now.saturating_since(connected.since) >= base.config.backoff_reset
        {
            self.backoff.reset();
        }
        self.reason = reason;
        if !base.tabs.any_present() {
            self.stop(now, base);
            return;
        }
        self.connection = match next {
            Next::Backoff => Connection::Backoff { until: now + self.backoff.next(&mut base.rng) },
            Next::After(wait) => Connection::Backoff { until: now + wait },
            Next::Never => {
                self.look_for_others(now, base);
                Connection::Denied
            }
        };
    }

    /// Closes the link from this end, then as above.
    fn abandon(&mut self, now: Timestamp, base: &mut Base, code: u16, reason: String) {
        let brief = reason.get(..reason.len().min(100)).unwrap_or_default();
        base.abandon_link(code, brief);
        self.fail(now, base, reason, Next::Backoff);
    }

    /// Nobody needs a link any more.
    fn stop(&mut self, now: Timestamp, base: &mut Base) {
        self.link_lost(now, base);
        base.release_lock();
        self.connection = Connection::Idle;
        if base.tabs.len() == 0 {
            self.forget_session();
            self.forget_identity();
        }
    }

    /// Frames of lane 0 that came.
    fn count0(&self) -> u64 {
        self.session.as_ref().and_then(|session| session.count0).unwrap_or(0)
    }

    /// Asks the server for a tab, unless the application ended the tab.
    fn send_attach(&mut self, base: &mut Base, tab: TabId) {
        if self.is_dismissed(tab) {
            return;
        }
        // What was posted and not yet heard dies with this hub, or with the port: the server, which
        // forgets what is named here, keeps it. A tab that has it drops it by its count.
        let last = self.tabs.asked(tab);
        base.send_control(HubFrame::Attach { tab, last }.to_bytes());
    }

    /// Asks for tabs for which the server had no place: now it may have one, or none is to come.
    fn ask_again(&mut self, base: &mut Base) {
        self.tabs.room_came();
        for tab in base.tabs.attached() {
            if self.tabs.is_unplaced(tab) {
                self.send_attach(base, tab);
            }
        }
    }

    /// Every tab that is left is parked. No timer will run once the browser freezes the worker,
    /// so all is done in this task.
    fn suspend(&mut self, now: Timestamp, base: &mut Base) {
        if let Connection::Connected(connected) = &mut self.connection {
            connected.suspended = true;
            base.send_note(HubFrame::Suspend.to_bytes());
            if let Some(heartbeat) = &mut base.heartbeat {
                heartbeat.rest();
            }
            base.flush_all(now);
            base.release_lock();
        } else {
            base.close_link(now, code::NORMAL, "");
            self.stop(now, base);
        }
    }

    /// Sends a message of a tab, in a frame that has its number.
    fn forward(&mut self, base: &mut Base, up: Upstream, key: SocketKey, said: Said<'_>) {
        let (tab, socket) = key;
        let refused = match said {
            Said::Open { path, protocols } => {
                if path.len() <= MAX_PATH
                    && protocols.len() <= MAX_PROTOCOLS
                    && protocols.iter().all(|name| name.len() <= MAX_PROTOCOL)
                {
                    let credit = base.config.credit_bytes;
                    let open = HubFrame::Open { up, socket, credit, path, protocols, ticket: "" };
                    return base.send_control(open.to_bytes());
                }
                text!(
                    "tabmux: a path has ",
                    MAX_PATH,
                    " bytes at most, and there are ",
                    MAX_PROTOCOLS,
                    " sub-protocols of ",
                    MAX_PROTOCOL,
                    " bytes at most",
                )
            }
            Said::Close { code, reason } => {
                let close = HubFrame::Close { up, socket, code, reason };
                return base.send_control(close.to_bytes());
            }
            Said::Credit(bytes) => {
                return base.send_control(HubFrame::Credit { up, socket, bytes }.to_bytes());
            }
            Said::Send(payload) => match self.send(base, up, key, payload) {
                Ok(()) => return,
                Err(refused) => refused,
            },
        };
        // What cannot be sent leaves its number to a CLOSE.
        base.event(Event::Overflow(tab));
        let close = HubFrame::Close { up, socket, code: code::TOO_BIG, reason: "" };
        base.send_control(close.to_bytes());
        base.fail(key, Some(&refused));
    }

    /// Queues data; else why it cannot be sent.
    fn send(
        &self,
        base: &mut Base,
        up: Upstream,
        (tab, socket): SocketKey,
        payload: Payload<'_>,
    ) -> Result<(), String> {
        let Connection::Connected(connected) = &self.connection else {
            return Ok(());
        };
        let limit = connected.limits.message_bytes;
        let frame = HubFrame::Data { up, socket, payload }.to_bytes();
        if frame.len() as u64 > limit {
            let bytes = frame.len();
            return Err(text!(
                "tabmux: the server takes messages of ",
                limit,
                " bytes at most, and this one has ",
                bytes,
                " with its header",
            ));
        }
        if base.send(OwnedPayload::Binary(frame), tab, up.n, payload.len()) {
            return Ok(());
        }
        Err(text!("tabmux: more than ", base.config.outbox_bytes, " bytes wait to be sent"))
    }
}

impl Machine for Mux {
    fn tab_attached(&mut self, now: Timestamp, base: &mut Base, tab: TabId, has: Has<'_>) {
        // The server remembers by itself what became of a tab that this hub awaits.
        let is_awaited = self.tabs.get(tab).is_some();
        let [own, found] = Claim::both(has.claim);
        // One that was here before, and is back: `tab_returned` tells it how the link is.
        let is_back = is_awaited || own.is_some();
        // One that the application ended is part of no session, whatever it shows.
        let part = own.filter(|_| !self.is_dismissed(tab));
        let part = part.and_then(|claim| Some((claim.session, claim.alias?)));
        self.tabs.insert(tab, part, has);
        if let (Some(Session { id, count0: Some(count0), .. }), Some(tab)) =
            (&self.session, self.tabs.get_mut(tab).filter(|_| !is_awaited))
        {
            tab.dropped_from(*id, *count0, false);
        }
        self.gone.retain(|it| *it != tab);
        self.history.tab_came(now);
        self.consider_claim(own);
        self.consider_claim(found);
        let refusal = Claim::refusal(has.claim);
        match &mut self.connection {
            Connection::Denied if refusal.is_some() || is_back && !self.is_hearsay => {}
            Connection::Idle | Connection::Denied => match refusal {
                Some(reason) => self.stay_refused(now, base, reason),
                None => self.dial(now, base),
            },
            Connection::Handshaking { .. } => self.send_attach(base, tab),
            Connection::Connected(connected) => {
                connected.linger_until = None;
                if mem::take(&mut connected.suspended) {
                    // The link may have died meanwhile; the lock is needed for the next one.
                    base.has_lock();
                    base.probe(now);
                    self.take_tag_again(base);
                }
                self.send_attach(base, tab);
                if is_awaited && !base.tabs.any_awaited() {
                    self.ask_again(base);
                }
            }
            Connection::WaitingForLock
            | Connection::Asking
            | Connection::Dialling { .. }
            | Connection::Backoff { .. } => {}
        }
    }

    fn admits(&mut self, now: Timestamp, base: &mut Base, tab: TabId, has: &Has<'_>) -> bool {
        Self::admits(self, now, base, tab, has)
    }

    fn is_waiting(&self, tab: TabId) -> bool {
        self.identity.is_waiting(tab)
    }

    fn asks_whose(&mut self, now: Timestamp, base: &mut Base, tab: TabId) {
        self.asked_whose(now, base, tab);
    }

    fn logout(&mut self, now: Timestamp, base: &mut Base) {
        self.log_out(now, base);
    }

    fn tag_taken(&mut self, now: Timestamp, base: &mut Base) {
        self.tag_is_taken(now, base);
    }

    fn who_answered(&mut self, now: Timestamp, base: &mut Base, text: &str) {
        Self::who_answered(self, now, base, text);
    }

    fn tab_returned(&mut self, _: Timestamp, base: &mut Base, tab: TabId, _: u64, held: Held) {
        let (session, count0) = (self.session.as_ref().map(|session| session.id), self.count0());
        if let Some(missed) = self.tabs.get_mut(tab) {
            for message in missed.returned(session, count0, held, &self.history) {
                base.post_now(tab, message);
            }
        }
        if self.is_dismissed(tab) {
            return self.tell_dismissed(base, tab);
        }
        if matches!(self.connection, Connection::Denied) {
            self.tell_denied(base, tab);
        }
        let may_ask = self.connection.may_ask();
        self.topics.tab_back(base, tab, may_ask, &self.history);
    }

    fn tab_parked(&mut self, now: Timestamp, base: &mut Base, tab: TabId) {
        self.topics.tab_away(base, tab, false);
        self.identity.forget(tab);
        if self.connection.is_open() {
            base.send_note(HubFrame::Park { tab }.to_bytes());
            // The server forgets a parked tab for one that is there.
            self.ask_again(base);
        }
        if !base.tabs.any_present() {
            self.suspend(now, base);
        }
    }

    fn tab_gone(&mut self, now: Timestamp, base: &mut Base, tab: TabId) {
        self.tabs.remove(tab);
        self.dismissals.remove(tab);
        self.identity.forget(tab);
        if self.gone.len() >= base.config.tabs {
            self.gone.remove(0);
        }
        self.gone.push(tab);
        self.topics.tab_gone(base, tab);
        if self.connection.is_open() {
            base.send_control(HubFrame::Gone { tab }.to_bytes());
            self.ask_again(base);
        }
        if base.tabs.any_present() {
            return;
        }
        if base.tabs.parked() > 0 {
            self.suspend(now, base);
        } else if let Connection::Connected(connected) = &mut self.connection {
            connected.linger_until = Some(now + base.config.linger);
        } else {
            base.close_link(now, code::NORMAL, "");
            self.stop(now, base);
        }
    }

    fn tab_overflowed(&mut self, _: Timestamp, base: &mut Base, tab: TabId) {
        base.tabs.hold(tab, HubMessage::BrowserGap);
        self.topics.tab_away(base, tab, true);
    }

    fn said(&mut self, _: Timestamp, base: &mut Base, n: u64, key: SocketKey, said: Said<'_>) {
        // While the server does not know the tab, and out of its turn, a message is ignored: the
        // tab keeps it, and says it again when it is told how far the server is.
        if let Connection::Connected(_) = self.connection
            && let Some(tab) = self.tabs.get_mut(key.0).and_then(|tab| tab.next_up(n))
        {
            self.forward(base, Upstream { tab, n }, key, said);
        }
    }

    fn got(&mut self, now: Timestamp, base: &mut Base, tab: TabId, counts: [u64; 2]) {
        self.tab_got(now, base, tab, counts);
    }

    fn subscribe(&mut self, base: &mut Base, wish: Subscription<'_>) {
        let (may_ask, is_away) = (self.connection.may_ask(), self.is_dismissed(wish.tab));
        self.topics.subscribe(base, wish, may_ask, is_away, &self.history);
    }

    fn unsubscribe(&mut self, base: &mut Base, tab: TabId, number: SubscriptionId) {
        self.topics.unsubscribe(base, tab, number);
    }

    fn lock_granted(&mut self, now: Timestamp, base: &mut Base) {
        if matches!(self.connection, Connection::WaitingForLock) {
            self.dial(now, base);
        }
    }

    fn answered(&mut self, now: Timestamp, base: &mut Base, what: Ask, answer: Result<bool, &str>) {
        match what {
            Ask::Address => self.address_answered(now, base, answer),
            Ask::Credentials => self.credentials_answered(base, answer),
        }
    }

    fn renew(&mut self, now: Timestamp, base: &mut Base) {
        self.renew_now(now, base);
    }

    fn link_opened(&mut self, now: Timestamp, base: &mut Base, _: &str, _: &str) {
        if matches!(self.connection, Connection::Dialling { .. }) {
            self.say_hello(now, base);
        }
    }

    fn link_message(&mut self, now: Timestamp, base: &mut Base, payload: Payload<'_>) {
        let welcomed = matches!(self.connection, Connection::Connected(_));
        let why = match payload {
            Payload::Binary(bytes) => match ServerFrame::decode(bytes) {
                Ok(frame) => return self.handle_frame(now, base, frame, bytes),
                Err(error) => {
                    base.event(Event::BadFrame(error));
                    error.summary()
                }
            },
            Payload::Text(_) => "sent a text message",
        };
        let why = if welcomed {
            text!("tabmux: the server sent what is no frame: ", why)
        } else {
            Self::not_tabmux(base, "did not answer HELLO with WELCOME")
        };
        self.abandon(now, base, code::HUB_PROTOCOL_ERROR, why);
    }

    fn rules(&mut self, _: &mut Base, _: Rules) {}

    fn link_message_to(&mut self, now: Timestamp, base: &mut Base, _: &str, text: &str) {
        self.link_message(now, base, Payload::Text(text));
    }

    fn reconnect(&mut self, now: Timestamp, base: &mut Base, tab: TabId) {
        self.reconnect_for(now, base, tab);
    }

    fn reset(&mut self, _: Timestamp, _: &mut Base) {}

    fn link_closed(&mut self, now: Timestamp, base: &mut Base, close: Close<'_>) {
        let Close { code, reason, .. } = close;
        let url = &base.config.url;
        let (why, next) = match &self.connection {
            Connection::Handshaking { .. } => {
                (Self::not_tabmux(base, "closed before WELCOME"), Next::Backoff)
            }
            Connection::Connected(connected) => (
                text!("tabmux: the link was closed (", code, " ", reason, ")"),
                connected.go_away.map_or(Next::Backoff, Next::After),
            ),
            Connection::Idle
            | Connection::WaitingForLock
            | Connection::Asking
            | Connection::Dialling { .. }
            | Connection::Denied
            | Connection::Backoff { .. } => (
                text!(
                    "tabmux: could not connect to ",
                    url,
                    ": the server is not there, it refused this page's origin, or the connect-src \
                     of the policy on worker.js's own response forbids it",
                ),
                Next::Backoff,
            ),
        };
        self.fail(now, base, why, next);
    }

    fn network_changed(&mut self, now: Timestamp, base: &mut Base, online: bool) {
        self.line_changed(now, base, online);
    }

    fn handle_timeout(&mut self, now: Timestamp, base: &mut Base) {
        self.topics.handle_timeout(now, base, self.connection.may_ask());
        self.acks_timeout(now, base);
        self.tell_no_room(now, base);
        self.readmit_due(now, base);
        self.who_timeout(now, base);
        self.renewal_timeout(now, base);
        if self.history_ends(base).is_some_and(|at| at <= now) {
            self.history.end();
            self.topics.all_came(base);
        }
        let expires = self.session.as_ref().and_then(|session| session.expires);
        if expires.is_some_and(|at| at <= now) {
            self.lose_session(base, "tabmux: the link was gone for too long");
        }
        match &mut self.connection {
            Connection::Dialling { until } if *until <= now => {
                let why = text!("tabmux: ", base.config.url, " did not answer in time");
                self.abandon(now, base, 0, why);
            }
            Connection::Handshaking { until, .. } if *until <= now => {
                let seconds = base.config.handshake_timeout.as_secs();
                let what = text!("did not say WELCOME within ", seconds, " s");
                let why = Self::not_tabmux(base, &what);
                self.abandon(now, base, code::HANDSHAKE_TIMEOUT, why);
            }
            Connection::Backoff { until } if *until <= now && base.is_online => {
                self.dial(now, base);
            }
            Connection::Connected(connected) => {
                if connected.linger_until.is_some_and(|until| until <= now) {
                    base.close_link(now, code::NORMAL, "");
                    self.stop(now, base);
                    return;
                }
                self.beat(now, base);
            }
            Connection::Idle
            | Connection::Denied
            | Connection::WaitingForLock
            | Connection::Asking
            | Connection::Dialling { .. }
            | Connection::Handshaking { .. }
            | Connection::Backoff { .. } => {}
        }
    }

    fn poll_timeout(&self, base: &Base) -> Option<(Timestamp, WakeReason)> {
        let expires = self.session.as_ref().and_then(|session| session.expires);
        let session = expires.map(|at| (at, WakeReason::Session));
        let history = self.history_ends(base).map(|at| (at, WakeReason::History));
        let no_room = self.no_room_at.map(|at| (at, WakeReason::NoRoom));
        let readmits = self.readmits().map(|at| (at, WakeReason::Dismissed));
        let link = [self.line_timeout(base), self.topics.poll_timeout()];
        link.into_iter()
            .chain([self.acks.poll_timeout(), session, history, no_room, readmits])
            .chain([self.identity.poll_timeout(), self.renewal.poll_timeout()])
            .flatten()
            .min()
    }

    fn state(&self) -> (LinkState, &str) {
        (self.connection.state(), &self.reason)
    }

    fn left_out(&self, tab: TabId) -> Option<(LinkState, &str)> {
        let is_left_out = self.tabs.get(tab).is_some_and(MuxTab::is_left_out);
        let no_room = is_left_out.then_some((LinkState::Full, &*self.no_room));
        self.dismissal_of(tab).or(no_room)
    }
}
