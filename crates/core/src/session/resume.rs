//! HELLO: a session begins, or goes on; and what happens to it while it has no link.

use tabmux_wire::{
    Hello, HubId, IdentityTag, RefusedReason, Resume, ServerFrame, SessionId, Term, Token, Welcome,
    WelcomeTab, WelcomeTail, close,
};

use super::{
    Event, Identity, LinkDown, LinkId, Output, PeerMisbehaved, Refusal, Registry, SessionEnd,
    state::{Greeting, Phase, Presence, Stage},
};
use crate::Timestamp;

/// What HELLO claims, held against what there is.
enum Claim {
    /// Nothing is claimed, or what is no more.
    New,
    /// The session at this place; the same hub if `takeover` is not set.
    Resume { place: u32, takeover: bool },
    /// The token is not the session's.
    Forged,
    /// The token is, but somebody else began it: who logs out leaves tabs and tokens behind.
    Foreign,
    /// Another hub came in between.
    Stale(Term),
}

impl Registry {
    /// The first frame of a link.
    pub(super) fn on_hello(
        &mut self,
        id: LinkId,
        greeting: &Greeting,
        hello: &Hello<'_>,
    ) -> Result<(), PeerMisbehaved> {
        let version = hello.version();
        if let Some(retry) = self.draining {
            let (reason, term) = (RefusedReason::Draining, Term(0));
            let message = "the server is shutting down";
            self.refuse(id, version, &Refusal { reason, term, retry, message });
            return Ok(());
        }
        match self.claim(hello, greeting.identity) {
            Claim::New => {
                let ((name, token), identity) = (halves(&greeting.entropy), greeting.identity);
                let (place, _) = self.sessions.insert(name, token, identity, hello.hub, id);
                self.stats.sessions += 1;
                self.enter(id, place, version);
                self.welcome(id, place, hello.hub, false, None);
                Ok(())
            }
            Claim::Resume { place, takeover } => {
                let have0 = hello.resume.as_ref().and_then(|resume| resume.have0);
                let sent = self.sessions.get(place).map_or(0, |session| session.lane0.sent());
                if have0.is_some_and(|have0| have0 > sent) {
                    return Err(PeerMisbehaved::NoSuchFrame);
                }
                self.resume(id, place, hello, takeover);
                self.welcome(id, place, hello.hub, true, have0);
                self.release(place);
                self.wake_waiting(place);
                Ok(())
            }
            Claim::Forged => {
                self.stats.forged += 1;
                self.deny(id, version);
                Ok(())
            }
            Claim::Foreign => {
                self.stats.foreign += 1;
                self.deny(id, version);
                Ok(())
            }
            Claim::Stale(term) => {
                self.stats.stale += 1;
                let (reason, retry) = (RefusedReason::Stale, self.config.retry_after);
                let message = "another hub has the session";
                self.refuse(id, version, &Refusal { reason, term, retry, message });
                Ok(())
            }
        }
    }

    /// Refuses a claim, and does not tell what is wrong with it.
    fn deny(&mut self, id: LinkId, version: u32) {
        let (reason, term, retry) = (RefusedReason::Denied, Term(0), self.config.retry_after);
        let message = "the token or the user is not that of the session";
        self.refuse(id, version, &Refusal { reason, term, retry, message });
    }

    /// Holds a claim against what there is.
    fn claim(&self, hello: &Hello<'_>, identity: Option<Identity>) -> Claim {
        let Some(Resume { session: id, token, term, .. }) = hello.resume else {
            return Claim::New;
        };
        let Some(place) = self.sessions.place(id) else {
            return Claim::New;
        };
        match self.sessions.get(place) {
            None => Claim::New,
            Some(session) if !same(session.token, token) => Claim::Forged,
            Some(session) if session.identity != identity => Claim::Foreign,
            // The term it was told may have been lost on the way.
            Some(session) if session.hub == hello.hub => Claim::Resume { place, takeover: false },
            Some(session) if session.term == term => Claim::Resume { place, takeover: true },
            Some(session) => Claim::Stale(session.term),
        }
    }

    /// Makes a link, which speaks this version, that of a session.
    fn enter(&mut self, id: LinkId, place: u32, version: u32) {
        if let Some(session) = self.sessions.get_mut(place) {
            session.version = version;
        }
        if let Some(link) = self.links.get_mut(id.0) {
            (link.phase, link.heard) = (Phase::Session(place), self.now);
            self.set_timer(id);
        }
    }

    /// Gives a session that lives a new link.
    fn resume(&mut self, id: LinkId, place: u32, hello: &Hello<'_>, takeover: bool) {
        let Some(session) = self.sessions.get_mut(place) else {
            return;
        };
        let before = std::mem::replace(&mut session.stage, Stage::Attached(id));
        (session.hub, session.suspended) = (hello.hub, None);
        if takeover {
            session.term.0 += 1;
            self.stats.takeovers += 1;
        }
        let (name, term) = (session.id, session.term);
        self.stats.resumed += 1;
        match before {
            Stage::Detached { since } => {
                self.stats.detached -= 1;
                self.keeping.remove(&(since, name));
            }
            Stage::Attached(old) if takeover => {
                self.send_frame(old, &ServerFrame::Fenced { term });
                let reason = "another hub took the session over".into();
                self.close_link(old, close::NORMAL, reason, LinkDown::Fenced);
            }
            Stage::Attached(old) => {
                let reason = "the hub has a newer link".into();
                self.close_link(old, close::NORMAL, reason, LinkDown::Replaced);
            }
        }
        self.unlink(place);
        self.forget_wishes(place);
        self.forget_overdue(place);
        self.enter(id, place, hello.version());
    }

    /// Forgets tabs that were parked for too long. Each hub sees to it, but a hub that is new does
    /// not know since when; where each page brings one, none lives long enough.
    fn forget_overdue(&mut self, place: u32) {
        let Some(session) = self.sessions.get(place) else {
            return;
        };
        let (id, limit) = (session.id, self.config.parked);
        let late = |since| self.now.saturating_since(since) >= limit;
        let overdue = session.tabs.iter().filter(|(_, tab)| tab.parked_since().is_some_and(late));
        for tab in overdue.map(|(_, tab)| tab.id).collect::<Vec<_>>() {
            self.on_gone(id, tab);
        }
    }

    /// What a session had of its link is no more.
    fn unlink(&mut self, place: u32) {
        let Some(session) = self.sessions.get_mut(place) else {
            return;
        };
        self.stats.queued_bytes -= std::mem::take(&mut session.unwritten);
        for (_, tab) in session.tabs.iter_mut() {
            if tab.presence == Presence::Attached {
                tab.presence = Presence::Awaited;
                self.stats.tabs -= 1;
                self.stats.awaited += 1;
            }
        }
        self.pardon(place);
    }

    /// WELCOME, and after it what the hub has to know before it hears the rest of lane 0.
    fn welcome(&mut self, link: LinkId, place: u32, hub: HubId, resumed: bool, have0: Option<u64>) {
        let Some(session) = self.sessions.get(place) else {
            return;
        };
        let (id, takes) = (session.id, session.lane0.after(have0.unwrap_or(0)));
        let Ok((next0, frames)) = takes else {
            return;
        };
        let tabs = session.tabs.iter().take(tabmux_wire::MAX_WELCOME_TABS).map(|(alias, tab)| {
            let parked = tab.presence == Presence::Parked;
            WelcomeTab { tab: tab.id, alias: *alias, parked, aside: tab.aside }
        });
        let tail = WelcomeTail { identity: IdentityTag::NoUsers, features: Vec::new() };
        let welcome = Welcome {
            session: id,
            token: session.token,
            term: session.term,
            resumed,
            next0,
            heartbeat_ms: super::config::millis(self.config.heartbeat),
            limits: self.config.limits(),
            tabs: tabs.collect(),
            tail: (session.version > 1).then_some(tail),
        };
        let term = session.term;
        self.send_frame(link, &ServerFrame::Welcome(welcome));
        self.list_subscriptions(place, &frames);
        self.send_kept(link, frames);
        let event = Event::LinkUp { link, session: id, hub, resumed, term };
        self.outputs.push_back(Output::Event(event));
    }

    /// The link of a session is gone: it waits for another one, if that is of any use.
    pub(super) fn detach(&mut self, place: u32) {
        let Some(session) = self.sessions.get_mut(place) else {
            return;
        };
        let of_use = session.tabs.len() > 0 && !session.is_blank();
        if !of_use || self.config.detached.is_zero() {
            self.forget_session(place);
            return;
        }
        session.stage = Stage::Detached { since: self.now };
        session.suspended = None;
        self.detached.push_back((self.now, session.id));
        self.stats.detached += 1;
        self.tidy_detached();
        self.unlink(place);
        self.release(place);
        self.wake_waiting(place);
        if let Some(session) = self.sessions.get(place).filter(|session| session.kept > 0) {
            self.keeping.insert((self.now, session.id));
        }
    }

    /// Forgets that sessions were without a link which have one again: a link that comes and goes
    /// and comes would be remembered each time.
    fn tidy_detached(&mut self) {
        if self.detached.len() > 2 * self.stats.detached + 64 {
            let sessions = &self.sessions;
            self.detached.retain(|(since, id)| {
                let stage = sessions.by_id(*id).map(|session| session.stage);
                stage == Some(Stage::Detached { since: *since })
            });
        }
    }

    /// Ends sessions that have waited for a link for too long.
    pub(super) fn expire(&mut self) {
        while self.first_expiry().is_some_and(|at| at <= self.now) {
            if self.forget_oldest(SessionEnd::Expired) {
                self.stats.expired += 1;
            }
        }
    }

    /// Gives up sessions without a link while there are too many; and while too much is kept, those
    /// that keep something. None is looked at twice, nor any that stays. What only waits to be
    /// written is of hubs that do not read, who could else end the sessions of all others.
    pub(super) fn evict(&mut self) {
        while !self.detached.is_empty() && self.stats.detached > self.config.detached_sessions {
            if self.forget_oldest(SessionEnd::Evicted) {
                self.stats.evicted += 1;
            }
        }
        while self.stats.kept_bytes > self.config.total_queue_bytes {
            let Some((since, id)) = self.keeping.pop_first() else {
                return;
            };
            if self.forget_detached(since, id, SessionEnd::Evicted) {
                self.stats.evicted += 1;
            }
        }
    }

    /// When the session that has waited longest for a link has waited for too long.
    pub(super) fn first_expiry(&self) -> Option<Timestamp> {
        self.detached.front().map(|(since, _)| *since + self.config.detached)
    }

    /// Takes out the session that lost its link first; `false` if it has one again.
    fn forget_oldest(&mut self, end: SessionEnd) -> bool {
        let first = self.detached.pop_front();
        first.is_some_and(|(since, id)| self.forget_detached(since, id, end))
    }

    /// Takes out a session that lost its link at a moment; `false` if it has one again, or is no
    /// more.
    fn forget_detached(&mut self, since: Timestamp, id: SessionId, end: SessionEnd) -> bool {
        let place = self.sessions.place(id);
        let waits = place.filter(|place| {
            let stage = self.sessions.get(*place).map(|session| session.stage);
            stage == Some(Stage::Detached { since })
        });
        let Some(place) = waits else {
            return false;
        };
        self.forget_session(place);
        self.outputs.push_back(Output::Event(Event::SessionEnded { session: id, end }));
        true
    }
}

/// The two secrets that a link's entropy makes.
fn halves(entropy: &[u8; 32]) -> (SessionId, Token) {
    let (mut session, mut token) = ([0; 16], [0; 16]);
    session.copy_from_slice(&entropy[..16]);
    token.copy_from_slice(&entropy[16..]);
    (SessionId(session), Token(token))
}

/// Whether two tokens are the same, in a time that does not tell where they differ.
fn same(Token(a): Token, Token(b): Token) -> bool {
    a.iter().zip(b).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
}
