//! Credentials, from one seed. There are a real hub and the real registry. The function of the page
//! answers late, never, or for another user. The application does the same with the registry.
//!
//! Links break, credentials expire at any moment, and pages renew them. What must hold: no link has
//! a session before the application allowed it. A link belongs to the user that was allowed. No
//! link outlives its credentials. A session outlives the link whose credentials have expired.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tabmux_core::{
    Timestamp,
    hub::{self, AskId as PageAsk, AttemptId, Hub, HubConfig, HubMessage, LinkState, TabMessage},
    session::{
        Admitted, Answer, AnswerError, Ask, AskId, Denial, Event, Input, LinkDown, LinkId, Output,
        Registry, SessionConfig, User, Visitor,
    },
    wire::{ErrorCode, HubId, Payload, SessionId, SocketId, TabId},
};

use crate::{
    invariant::{
        Checked,
        Invariant::{Convergence, NoError, NothingLost, OneUser},
    },
    rng::Rng,
};

const STEPS: usize = 300;
const TAB: TabId = TabId(1);
/// Time for which a session without a link is surely kept. The server keeps it a little longer.
const SURELY_KEPT: Duration = Duration::from_secs(200);
/// Largest delay of the timers of links.
const LATE: Duration = Duration::from_millis(100);

/// Runs one seed. Returns how many links were welcomed, and how many credentials were renewed.
///
/// # Errors
/// Returns the first invariant that was broken.
pub fn run(seed: u64) -> Checked<[u64; 2]> {
    let mut world = World::new(seed);
    for _ in 0..STEPS {
        world.step()?;
    }
    world.heal()
}

struct World {
    rng: Rng,
    now: Timestamp,
    hub: Hub,
    registry: Registry,
    links: u64,
    link: Option<Link>,
    /// The token that the page's function returns now. `shown` is the one that it returned last.
    token: String,
    shown: String,
    /// The open question to the page, and the time when the page answers it.
    page: Option<(PageAsk, Timestamp)>,
    /// The open questions to the application.
    asked: BTreeMap<AskId, Question>,
    /// For each link: the user whom the application allowed, and the time until which.
    allowed: BTreeMap<LinkId, (String, Option<Timestamp>)>,
    /// The session of the last welcome with its user, and the time when its link ended.
    session: Option<(SessionId, String)>,
    lost: Option<Timestamp>,
    /// True if the hub was refused for good, or as another user. It then has no claim any more.
    is_given_up: bool,
    /// True if the page and the application do what they should.
    is_healed: bool,
    welcomed: u64,
}

struct Link {
    attempt: AttemptId,
    id: LinkId,
    /// Messages that the server's shell has not read yet, because the link is pending.
    unread: Vec<Vec<u8>>,
}

struct Question {
    link: LinkId,
    renews: bool,
    token: String,
    /// The time when the question is answered. `None` means never.
    due: Option<Timestamp>,
}

impl World {
    fn new(seed: u64) -> Self {
        let now = Timestamp::from_millis(1_000);
        let config = SessionConfig { credentials: true, users: true, ..SessionConfig::default() };
        let hub = HubConfig { asks: true, ..HubConfig::new(hub::Mode::Mux, HubId(7), "sim") };
        let mut world = Self {
            rng: Rng::new(seed),
            now,
            hub: Hub::new(hub, seed),
            registry: Registry::new(config, now),
            links: 0,
            link: None,
            token: "ann 0".to_owned(),
            shown: String::new(),
            page: None,
            asked: BTreeMap::new(),
            allowed: BTreeMap::new(),
            session: None,
            lost: None,
            is_given_up: false,
            is_healed: false,
            welcomed: 0,
        };
        world.tab(TabMessage::Attach { claim: "", last0: 0, last: 0 });
        world.tab(TabMessage::Visible { online: true });
        world
    }

    fn step(&mut self) -> Checked {
        match self.rng.below(12) {
            0 => self.cut(),
            1 => {
                let user = if self.rng.one_in(4) { "bob" } else { "ann" };
                self.token = format!("{user} {}", self.rng.below(1_000));
            }
            2 => self.tab(TabMessage::Renew),
            3 if self.rng.one_in(4) => self.tab(TabMessage::Reconnect),
            4 => self.tab(TabMessage::Visible { online: true }),
            _ => {}
        }
        let longest = if self.rng.one_in(10) { 40_000 } else { 3_000 };
        let pause = self.rng.millis(0, longest);
        self.pass(pause)
    }

    /// Ends the faults: the page belongs to Ann, and both answer at once. A link must open soon and
    /// stay.
    fn heal(&mut self) -> Checked<[u64; 2]> {
        self.is_healed = true;
        self.pass(Duration::from_secs(120))?;
        let expired = self.registry.stats().links.expired;
        for minute in 0..5 {
            Convergence.unless(self.hub.state() == LinkState::Connected, || {
                format!("the hub is {:?} after {minute} minutes", self.hub.state())
            })?;
            self.pass(Duration::from_secs(60))?;
        }
        let stats = self.registry.stats();
        Convergence.unless(stats.links.expired == expired, || {
            "credentials that could be renewed expired".to_owned()
        })?;
        Convergence.unless(stats.asks.open == self.asked.len(), || {
            format!("{} questions are open, {} known", stats.asks.open, self.asked.len())
        })?;
        Ok([self.welcomed, stats.links.renewed])
    }

    fn tab(&mut self, message: TabMessage<'_>) {
        self.hub.handle_input(self.now, hub::Input::TabMessage { tab: TAB, message });
    }

    /// Lets time pass for both ends, the page and the application.
    fn pass(&mut self, span: Duration) -> Checked {
        let end = self.now + span;
        self.settle()?;
        loop {
            let page = self.page.map(|(_, due)| due);
            let due = self.asked.values().filter_map(|it| it.due).min();
            let wakes = [self.registry.poll_timeout().map(|(at, _)| at), page, due];
            let hub = self.hub.poll_timeout().map(|(at, _)| at);
            let next = wakes.into_iter().flatten().chain(hub).min();
            let Some(at) = next.filter(|at| *at <= end) else { break };
            self.now = self.now.max(at);
            if let Some((id, _)) = self.page.take_if(|(_, due)| *due <= at) {
                self.page_answers(id);
            }
            self.registry.handle_timeout(self.now);
            self.answer_due()?;
            self.hub.handle_timeout(self.now);
            self.settle()?;
            self.look()?;
        }
        self.now = end;
        Ok(())
    }

    /// Carries out the orders of both ends, until neither has more.
    fn settle(&mut self) -> Checked {
        loop {
            if let Some(output) = self.hub.poll_output() {
                self.of_hub(output);
            } else if let Some(output) = self.registry.poll_output() {
                self.of_registry(output)?;
            } else if !self.read_on() {
                return Ok(());
            }
        }
    }

    /// Passes the registry what a link sent while it was pending. Returns false if there was
    /// nothing.
    fn read_on(&mut self) -> bool {
        let Some(link) = &mut self.link else { return false };
        if link.unread.is_empty() || self.registry.is_pending(link.id) {
            return false;
        }
        let (link, bytes) = (link.id, link.unread.remove(0));
        self.registry.handle_input(self.now, Input::LinkMessage { link, bytes: &bytes });
        true
    }

    fn of_hub(&mut self, output: hub::Output) {
        match output {
            hub::Output::RequestLinkLock => {
                self.hub.handle_input(self.now, hub::Input::LinkLockGranted);
            }
            hub::Output::OpenLink { attempt } => self.open(attempt),
            hub::Output::SendLink { attempt, payload } => {
                self.up(attempt, payload.as_payload().as_bytes().to_vec());
            }
            hub::Output::ShowCredentials(attempt, mut frame) => {
                frame.extend_from_slice(self.shown.as_bytes());
                self.up(attempt, frame);
            }
            hub::Output::CloseLink { attempt, .. } => {
                if self.link.as_ref().is_some_and(|link| link.attempt == attempt) {
                    self.cut();
                }
            }
            hub::Output::PostToTab { message, .. } | hub::Output::PostToTabs { message, .. } => {
                self.posted(message);
            }
            hub::Output::ReleaseLinkLock
            | hub::Output::AskWho
            | hub::Output::ShowTicket { .. }
            | hub::Output::TakeTag { .. }
            | hub::Output::WatchTab { .. }
            | hub::Output::DropTab { .. }
            | hub::Output::Event(_) => {}
        }
    }

    fn posted(&mut self, message: HubMessage) {
        match message {
            HubMessage::Ask { id, .. } => {
                let wait = match self.rng.below(6) {
                    _ if self.is_healed => Duration::ZERO,
                    // This stands for never, because the hub does not wait for so long.
                    0 => Duration::from_secs(1_000),
                    1 => self.rng.millis(0, 25_000),
                    _ => Duration::ZERO,
                };
                self.page = Some((id, self.now + wait));
            }
            HubMessage::Check { count0, count } => self.tab(TabMessage::Got { count0, count }),
            HubMessage::Resume { n_seen, continues, .. } => {
                if !continues {
                    self.tab(TabMessage::Got { count0: 0, count: 0 });
                }
                if n_seen == 0 {
                    // The session then contains something, so that it is worth keeping.
                    let (n, socket, path, protocols) = (1, SocketId(1), "/", Vec::new());
                    self.tab(TabMessage::Open { n, socket, path, protocols });
                }
            }
            HubMessage::Resync => {
                self.tab(TabMessage::Attach { claim: "", last0: 0, last: 0 });
            }
            _ => {}
        }
    }

    fn page_answers(&mut self, id: PageAsk) {
        if !self.is_healed && self.rng.one_in(8) {
            return self.tab(TabMessage::Answer { id, answer: Err("logged out") });
        }
        if self.is_healed {
            // A login service returns another token each time.
            self.token = format!("ann {}", self.rng.next());
        }
        let is_new = self.shown != self.token;
        self.shown.clone_from(&self.token);
        self.tab(TabMessage::Answer { id, answer: Ok(is_new) });
    }

    fn open(&mut self, attempt: AttemptId) {
        self.cut();
        self.links += 1;
        let id = LinkId(self.links);
        let mut entropy = [7; 32];
        entropy[8..16].copy_from_slice(&self.links.to_be_bytes());
        let visitor = self.rng.one_in(2).then(|| Arc::new(Visitor::Undecided(None)));
        self.registry.handle_input(self.now, Input::LinkOpened { link: id, entropy, visitor });
        self.link = Some(Link { attempt, id, unread: Vec::new() });
        let (protocol, extensions) = ("", "");
        self.hub.handle_input(self.now, hub::Input::LinkOpened { attempt, protocol, extensions });
    }

    fn up(&mut self, attempt: AttemptId, bytes: Vec<u8>) {
        if let Some(link) = self.link.as_mut().filter(|link| link.attempt == attempt) {
            link.unread.push(bytes);
        }
    }

    /// Breaks the link for both ends.
    fn cut(&mut self) {
        if let Some(Link { attempt, id, .. }) = self.link.take() {
            self.registry.handle_input(self.now, Input::LinkClosed { link: id });
            self.closed(attempt, 1006);
        }
    }

    fn closed(&mut self, attempt: AttemptId, code: u16) {
        let (reason, clean, failed) = ("", false, false);
        let closed = hub::Input::LinkClosed { attempt, code, reason, clean, failed };
        self.hub.handle_input(self.now, closed);
    }

    fn of_registry(&mut self, output: Output) -> Checked {
        match output {
            Output::Send { link, bytes } => {
                if let Some(Link { attempt, .. }) = self.link.as_ref().filter(|it| it.id == link) {
                    let (attempt, payload) = (*attempt, Payload::Binary(&bytes));
                    let message = hub::Input::LinkMessage { attempt, payload };
                    self.hub.handle_input(self.now, message);
                }
            }
            Output::CloseLink { link, code, .. } => {
                if let Some(Link { attempt, .. }) = self.link.take_if(|it| it.id == link) {
                    self.closed(attempt, code);
                }
            }
            Output::Ask { ask, what: Ask::Open { .. } } => {
                let taken = self.registry.answer(self.now, ask, Answer::Open { protocol: "" });
                NoError.unless(taken.is_ok(), || format!("{taken:?}"))?;
            }
            Output::Ask { ask, what: Ask::Connect { link, renews, credentials, .. } } => {
                let due = match self.rng.below(6) {
                    _ if self.is_healed => Some(self.now),
                    0 => None,
                    1 | 2 => Some(self.now + self.rng.millis(0, 15_000)),
                    _ => Some(self.now),
                };
                let token = credentials.0.to_string();
                self.asked.insert(ask, Question { link, renews, token, due });
            }
            Output::Withdrawn(ask) => {
                let known = self.asked.remove(&ask).is_some();
                NoError.unless(known, || format!("{ask:?} is not open, and was withdrawn"))?;
                self.is_over(ask)?;
            }
            Output::LinkDown { link, cause } => {
                self.allowed.remove(&link);
                self.link_down(cause)?;
            }
            Output::Event(Event::LinkUp { link, session, resumed, .. }) => {
                self.link_up(link, session, resumed)?;
            }
            Output::Event(_) | Output::SocketClosed { .. } => {}
            other => return NoError.broken(format!("unasked: {other:?}")),
        }
        Ok(())
    }

    /// Called when a hub was welcomed.
    fn link_up(&mut self, link: LinkId, session: SessionId, resumed: bool) -> Checked {
        let Some((user, _)) = self.allowed.get(&link) else {
            return OneUser.broken(format!("{link:?} was welcomed, and nobody allowed it"));
        };
        let visitor = self.registry.visitor(session).and_then(|it| it.user().cloned());
        let named = visitor.as_ref().map(|user| user.name().to_owned());
        OneUser.unless(named.as_deref() == Some(user), || {
            format!("{link:?} is of {named:?}, and {user} was allowed")
        })?;
        if let Some((before, whose)) = &self.session {
            let span = self.lost.map_or(Duration::ZERO, |lost| self.now.saturating_since(lost));
            OneUser.unless(!resumed || before != &session || whose == user, || {
                format!("{user} goes on with the session of {whose}")
            })?;
            // A hub gives up a session that was refused to it, and begins another one.
            let is_lost = whose == user && !resumed && span < SURELY_KEPT;
            let lives = self.registry.sessions().any(|it| it.session == *before);
            NothingLost.unless(!is_lost || !lives || self.is_given_up, || {
                format!("{user} got a new session {span:?} after the link went")
            })?;
        }
        self.session = Some((session, user.clone()));
        (self.lost, self.is_given_up) = (None, false);
        self.welcomed += 1;
        Ok(())
    }

    fn link_down(&mut self, cause: LinkDown) -> Checked {
        if cause == LinkDown::Expired
            && let Some((session, _)) = &self.session
        {
            let lives = self.registry.sessions().any(|it| it.session == *session);
            NothingLost.unless(lives, || "a session ended with its credentials".to_owned())?;
        }
        self.is_given_up |= matches!(cause, LinkDown::Refused(_));
        self.lost.get_or_insert(self.now);
        Ok(())
    }

    /// Checks each link against what the application allowed.
    fn look(&self) -> Checked {
        for info in self.registry.sessions().filter(|info| info.is_linked) {
            let link = self.registry.link_of(info.session);
            let Some((user, until)) = link.and_then(|link| self.allowed.get(&link)) else {
                return OneUser.broken(format!("nobody allowed the link of {:?}", info.session));
            };
            let name = info.user.as_ref().map(|user| user.name());
            OneUser.unless(name == Some(user), || format!("{name:?} has the link of {user}"))?;
            let is_over = until.is_some_and(|until| until + LATE < self.now);
            NoError.unless(!is_over, || "a link outlived its credentials".to_owned())?;
        }
        Ok(())
    }

    fn answer_due(&mut self) -> Checked {
        let now = self.now;
        let due = |(id, it): (&AskId, &Question)| it.due.filter(|due| *due <= now).map(|_| *id);
        for ask in self.asked.iter().filter_map(due).collect::<Vec<_>>() {
            if let Some(question) = self.asked.remove(&ask) {
                self.answer(ask, &question)?;
            }
        }
        Ok(())
    }

    /// Lets the application allow the user that a token names, or refuse.
    fn answer(&mut self, ask: AskId, question: &Question) -> Checked {
        let user = question.token.split(' ').next().unwrap_or_default().to_owned();
        let lives = if self.is_healed { 45 } else { 2 + self.rng.below(60) };
        let until =
            (!self.rng.one_in(5) || self.is_healed).then(|| self.now + Duration::from_secs(lives));
        let record = Some(Arc::new(User::new(&user, 0)));
        let visitor = Admitted { user: record, until, ..Admitted::default() };
        let visitor = Arc::new(Visitor::Admitted(visitor));
        let refusal = self.rng.below(12);
        let retry = (refusal == 0).then(|| Duration::from_secs(3));
        let refuses = user.is_empty() || !self.is_healed && refusal < 2;
        let (code, message) = (ErrorCode::Denied.into(), "the dice said so");
        let answer = if refuses {
            self.is_given_up |= !question.renews && retry.is_none();
            Answer::Deny(Denial { code, message, retry })
        } else {
            // Credentials may be renewed only for the same user.
            let before = self.allowed.get(&question.link);
            if !question.renews || before.is_some_and(|(before, _)| *before == user) {
                self.allowed.insert(question.link, (user, until));
            }
            Answer::Admit(&visitor)
        };
        let taken = self.registry.answer(self.now, ask, answer);
        NoError.unless(taken == Ok(()), || format!("{ask:?}: {taken:?}"))?;
        self.is_over(ask)
    }

    /// Checks that a second or late answer is reported as such.
    fn is_over(&mut self, ask: AskId) -> Checked {
        let visitor = Arc::new(Visitor::Admitted(Admitted::default()));
        let taken = self.registry.answer(self.now, ask, Answer::Admit(&visitor));
        NoError.unless(taken == Err(AnswerError::Late), || format!("{ask:?} is over: {taken:?}"))
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_link_has_only_sessions_that_were_allowed_and_sessions_outlive_credentials() {
        let (mut welcomed, mut renewed) = (0, 0);
        for seed in 0..300 {
            let seen = super::run(seed).unwrap_or_else(|broken| panic!("seed {seed}: {broken}"));
            welcomed += seen[0];
            renewed += seen[1];
        }
        assert!(welcomed > 3_000 && renewed > 2_000, "{welcomed} links, {renewed} renewals");
    }
}
