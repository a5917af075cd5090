//! HELLO: a session begins, or goes on; and what happens to it while it has no link.

use std::sync::Arc;

use tabmux_wire::{
    Feature, Hello, HubId, IdentityTag, RefusedReason, Resume, ServerFrame, SessionId, Term, Token,
    Welcome, WelcomeTab, WelcomeTail, close,
};

use super::{
    Account, Event, LinkDown, LinkId, PeerMisbehaved, Refusal, Registry, SessionEnd, User, Visitor,
    account::Count,
    charge_link, config,
    detached::Detached,
    effects::Effects,
    ledger::{Charge, GREETING, SESSION},
    link::{Greeting, Hi},
    state::{Birth, Session, SessionPlace, Stage},
    tab::Presence,
    topic_table::TopicTable,
    visitor,
};

use crate::Timestamp;

/// What HELLO claims, held against what there is.
enum Claim {
    /// Nothing is claimed, or what is no more.
    New,
    /// The session at this place; the same hub if `takeover` is not set.
    Resume { place: SessionPlace, takeover: bool },
    /// The token is not the session's.
    Forged,
    /// The token is, but somebody else began it: who logs out leaves tabs and tokens behind.
    Foreign,
    /// Another hub came in between.
    Stale(Term),
}

impl Registry {
    /// Takes the first frame of a link.
    pub(super) fn on_hello(
        &mut self,
        id: LinkId,
        greeting: Greeting,
        hello: &Hello<'_>,
    ) -> Result<(), PeerMisbehaved> {
        let version = hello.version();
        if let Some(Visitor::Refused(farewell)) = greeting.visitor.as_deref() {
            self.refuse_because(id, version, &Refusal::from(farewell), LinkDown::TurnedAway);
            return Ok(());
        }
        if self.draining.is_none() && self.asks_about(&greeting, hello) {
            self.ask_about(id, greeting, hello);
            return Ok(());
        }
        self.enter_session(id, Hi::from(hello))
    }

    /// Begins the session of a link whose user is known, or goes on with the one that it claims.
    pub(super) fn enter_session(&mut self, id: LinkId, hello: Hi) -> Result<(), PeerMisbehaved> {
        let Some(greeting) = self.links.get(id).and_then(|link| link.phase.greeting()) else {
            return Ok(());
        };
        let Greeting { entropy, visitor } = greeting.clone();
        let refusal = |reason, term, retry, message| Refusal { reason, term, retry, message };
        let version = hello.version;
        if let Some(retry) = self.draining {
            let message = "the server is shutting down";
            let refusal = refusal(RefusedReason::Draining, Term(0), Some(retry), message);
            self.refuse(id, version, &refusal);
            return Ok(());
        }
        let retry = Some(self.fx.config.retry_after);
        let user = visitor.as_ref().and_then(|visitor| visitor.user());
        match self.claim(hello, user) {
            Claim::New => self.begin(id, &entropy, visitor, hello),
            Claim::Resume { place, takeover } => {
                self.resume((id, visitor), place, hello, takeover)?;
            }
            claim @ (Claim::Forged | Claim::Foreign) => {
                let is_forged = matches!(claim, Claim::Forged);
                self.fx.stats.sessions.forged += u64::from(is_forged);
                self.fx.stats.sessions.foreign += u64::from(!is_forged);
                // The hub is not told which of the two it was.
                let message = "the token or the user is not that of the session";
                let refusal = refusal(RefusedReason::Denied, Term(0), retry, message);
                self.refuse(id, version, &refusal);
            }
            Claim::Stale(term) => {
                self.fx.stats.sessions.stale += 1;
                let message = "another hub has the session";
                self.refuse(id, version, &refusal(RefusedReason::Stale, term, retry, message));
            }
        }
        Ok(())
    }

    /// Holds a claim against what there is.
    fn claim(&self, hello: Hi, user: Option<&Arc<User>>) -> Claim {
        let Some(Resume { session: id, token, term, .. }) = hello.resume else {
            return Claim::New;
        };
        let Some((place, session)) = self.sessions.place(id).zip(self.sessions.by_id(id)) else {
            return Claim::New;
        };
        if !same(session.token, token) {
            Claim::Forged
        } else if session.user() != user {
            Claim::Foreign
        } else if u32::from(session.version) > hello.version {
            // Its lanes may hold frames that the hub does not know.
            Claim::New
        } else if session.hub == hello.hub {
            // The term it was told may have been lost on the way.
            Claim::Resume { place, takeover: false }
        } else if session.term == term {
            Claim::Resume { place, takeover: true }
        } else {
            Claim::Stale(session.term)
        }
    }

    /// Begins a session.
    fn begin(
        &mut self,
        link: LinkId,
        entropy: &[u8; 32],
        visitor: Option<Arc<Visitor>>,
        hello: Hi,
    ) {
        let (id, token) = halves(entropy);
        let hub = hello.hub;
        let session = self.sessions.insert(Birth { id, token, hub, link });
        self.fx.stats.sessions.held += 1;
        session.ledger.charge(&mut self.fx, Charge::Sessions, 0, SESSION);
        session.visited_by(&mut self.fx, visitor);
        let place = session.place();
        if let Some(user) = session.user() {
            self.users.add(user, place);
        }
        self.enter(link, place);
        if let Some(session) = self.sessions.get_mut(place) {
            session.welcome(&mut self.fx, &self.topics, hello, false, None);
        }
        self.tell_expiry(link);
    }

    /// Gives a session that lives a new link.
    fn resume(
        &mut self,
        (id, visitor): (LinkId, Option<Arc<Visitor>>),
        place: SessionPlace,
        hello: Hi,
        takeover: bool,
    ) -> Result<(), PeerMisbehaved> {
        let Some(session) = self.sessions.get_mut(place) else {
            return Ok(());
        };
        let have0 = hello.resume.as_ref().and_then(|resume| resume.have0);
        if have0.is_some_and(|have0| have0 > session.lane0.sent()) {
            return Err(PeerMisbehaved::NoSuchFrame);
        }
        if let Stage::Detached { since } = session.stage {
            self.detached.remove((since, session.id), session.ledger.account());
        }
        if let Some(old) = session.replace_link(&mut self.fx, id, hello.hub, takeover) {
            let (reason, cause) = if takeover {
                ("another hub took the session over", LinkDown::Fenced)
            } else {
                ("the hub has a newer link", LinkDown::Replaced)
            };
            self.close_link(old, close::NORMAL, reason.into(), cause);
        }
        self.enter(id, place);
        let Self { fx, sessions, topics, .. } = self;
        if let Some(session) = sessions.get_mut(place) {
            session.visited_by(fx, visitor);
            session.unlink(fx);
            session.forget_unjoined(fx, topics);
            session.forget_overdue(fx);
            session.welcome(fx, topics, hello, true, have0);
            // Whose the link is may be told otherwise than of the one before.
            session.review(fx, topics);
            session.release(fx, topics);
            session.wake_waiting(fx);
        }
        self.tell_expiry(id);
        Ok(())
    }

    /// Makes a link that of a session.
    fn enter(&mut self, id: LinkId, place: SessionPlace) {
        let link = self.links.get(id);
        let held = link.map_or(0, |link| link.held);
        if let Some(pending) = link.and_then(|link| link.phase.pending()) {
            self.fx.charge(Charge::Asks, pending.cost, 0);
        }
        if let Some(greeting) = link.and_then(|link| link.phase.greeting()) {
            self.fx.charge(Charge::Visitors, visitor::cost(greeting.visitor.as_ref()), 0);
        }
        self.fx.charge(Charge::Sessions, GREETING, 0);
        charge_link(&mut self.fx, None, held, 0);
        charge_link(&mut self.fx, self.sessions.get_mut(place), 0, held);
        self.links.enter(id, place, self.fx.now);
        self.links.set_timer(&self.fx.config, id);
    }

    /// The link of a session is gone: the session waits for another one, if that is of any use.
    pub(super) fn detach(&mut self, place: SessionPlace) {
        let Self { fx, sessions, topics, .. } = self;
        let Some(session) = sessions.get_mut(place) else {
            return;
        };
        let of_use = session.tabs.len() > 0 && !session.is_blank();
        if !of_use || fx.config.detached.is_zero() {
            self.forget_session(place);
            return;
        }
        session.stage = Stage::Detached { since: fx.now };
        fx.stats.sessions.detached += 1;
        session.unlink(fx);
        session.release(fx, topics);
        session.wake_waiting(fx);
        let cost = Detached::cost(session.ledger.account());
        session.ledger.charge(fx, Charge::Sessions, 0, cost);
        let account = session.ledger.account().cloned();
        self.detached.insert((fx.now, session.id), account.as_ref());
        if let Some(account) = account {
            self.bound_detached(&account);
        }
    }

    /// Gives up sessions without a link of an account that has too many, those first that wait
    /// longest.
    fn bound_detached(&mut self, account: &Account) {
        let limit = self.fx.limits_of(account).detached;
        while limit > 0 && account.count(Count::Detached) > limit {
            let Some(wait) = self.detached.first_of(account) else {
                return;
            };
            self.forget_detached(wait, SessionEnd::Evicted);
            self.fx.stats.sessions.evicted += 1;
        }
    }

    /// Ends sessions that have waited for a link for too long.
    pub(super) fn expire(&mut self) {
        let limit = self.fx.config.detached;
        while let Some(wait) = self.detached.first().filter(|it| it.0 + limit <= self.fx.now) {
            self.forget_detached(wait, SessionEnd::Expired);
            self.fx.stats.sessions.expired += 1;
        }
    }

    /// Gives up sessions without a link while there are too many.
    pub(super) fn evict(&mut self) {
        while self.detached.len() > self.fx.config.detached_sessions
            && let Some(wait) = self.detached.first_of_most()
        {
            self.forget_detached(wait, SessionEnd::Evicted);
            self.fx.stats.sessions.evicted += 1;
        }
    }

    /// Returns when the session that has waited longest for a link has waited for too long.
    pub(super) fn first_expiry(&self) -> Option<Timestamp> {
        self.detached.first().map(|(since, _)| since + self.fx.config.detached)
    }

    /// Takes out a session that waits for a link.
    fn forget_detached(&mut self, (_, id): (Timestamp, SessionId), end: SessionEnd) {
        if let Some(place) = self.sessions.place(id) {
            self.forget_session(place);
        }
        self.fx.event(Event::SessionEnded { session: id, end });
    }
}

impl Session {
    /// Makes `link` its link. Returns the one that it had, whose hub is told if another one takes
    /// over.
    fn replace_link(
        &mut self,
        fx: &mut Effects,
        link: LinkId,
        hub: HubId,
        takeover: bool,
    ) -> Option<LinkId> {
        let before = std::mem::replace(&mut self.stage, Stage::Attached(link));
        self.hub = hub;
        if takeover {
            self.term.0 += 1;
            fx.stats.sessions.takeovers += 1;
        }
        fx.stats.sessions.resumed += 1;
        match before {
            Stage::Detached { .. } => {
                fx.stats.sessions.detached -= 1;
                let cost = Detached::cost(self.ledger.account());
                self.ledger.charge(fx, Charge::Sessions, cost, 0);
                None
            }
            Stage::Attached(old) => {
                if takeover {
                    fx.send(old, &ServerFrame::Fenced { term: self.term });
                }
                Some(old)
            }
        }
    }

    /// Says WELCOME, and after it what the hub has to know before it hears the rest of lane 0, of
    /// which it has `have0` frames.
    fn welcome(
        &mut self,
        fx: &mut Effects,
        topics: &TopicTable,
        hello: Hi,
        resumed: bool,
        have0: Option<u64>,
    ) {
        self.version = u8::try_from(hello.version).unwrap_or(u8::MAX);
        let (Some(link), Ok((next0, frames))) = (self.link(), self.lane0.after(have0.unwrap_or(0)))
        else {
            return;
        };
        let tabs = self.tabs.iter().take(tabmux_wire::MAX_WELCOME_TABS).map(|tab| {
            let parked = tab.presence == Presence::Parked;
            WelcomeTab { tab: tab.id, alias: tab.alias, parked, aside: tab.aside }
        });
        let offered =
            [(fx.config.requests, Feature::Requests), (fx.config.credentials, Feature::Renewal)];
        let features = offered.into_iter().filter_map(|(is_on, it)| is_on.then_some(it)).collect();
        let identity = match self.ledger.visitor() {
            _ if !fx.config.users => IdentityTag::NoUsers,
            Some(visitor) => visitor.identity(),
            None => IdentityTag::Nobody,
        };
        let tail = WelcomeTail { identity, features };
        let welcome = Welcome {
            session: self.id,
            token: self.token,
            term: self.term,
            resumed,
            next0,
            heartbeat_ms: config::millis(fx.config.heartbeat),
            limits: fx.config.limits(),
            tabs: tabs.collect(),
            tail: (self.version > 1).then_some(tail),
        };
        self.send_frame(fx, &ServerFrame::Welcome(welcome));
        self.list_subscriptions(fx, topics, &frames);
        self.send_kept(fx, frames);
        let (session, hub, term) = (self.id, self.hub, self.term);
        fx.event(Event::LinkUp { link, session, hub, resumed, term });
    }
}

/// Returns the two secrets that a link's entropy makes.
fn halves(entropy: &[u8; 32]) -> (SessionId, Token) {
    let (mut session, mut token) = ([0; 16], [0; 16]);
    session.copy_from_slice(&entropy[..16]);
    token.copy_from_slice(&entropy[16..]);
    (SessionId(session), Token(token))
}

/// Returns true if two tokens are the same, in a time that does not tell where they differ.
fn same(Token(a): Token, Token(b): Token) -> bool {
    a.iter().zip(b).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
}
