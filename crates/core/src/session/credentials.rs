//! Until when the credentials count that opened a link, and others that renew them. A link ends
//! when they no longer do, and its session waits for another one.

use std::collections::{BTreeMap, BTreeSet};

use tabmux_wire::{GoAwayReason, MAX_MESSAGE_TEXT, ServerFrame, Standing, close};

use super::{
    LinkDown, LinkId, Registry,
    asks::{Answer, AnswerError, Ask, AskId, Asker, Secret},
    config, cut,
    ledger::{ASK, Charge},
    state::SessionPlace,
};
use crate::Timestamp;

/// The hub and its pages are told this.
const EXPIRED: &str = "the credentials of this link have expired";

/// Links whose credentials expire, or are being renewed. Others are not here, and cost nothing.
#[derive(Debug, Default)]
pub(super) struct Credentials {
    links: BTreeMap<LinkId, Timestamp>,
    due: BTreeSet<(Timestamp, LinkId)>,
    renewals: BTreeMap<LinkId, Renewal>,
}

/// Credentials that the shell is asked about.
#[derive(Clone, Copy, Debug)]
struct Renewal {
    ask: AskId,
    /// The number of the hub's frame.
    request: u64,
    /// The memory that is charged for the question.
    cost: usize,
}

impl Credentials {
    /// Sets when the credentials of a link expire, if they do.
    pub(super) fn set(&mut self, link: LinkId, until: Option<Timestamp>) {
        self.remove(link);
        if let Some(until) = until {
            self.links.insert(link, until);
            self.due.insert((until, link));
        }
    }

    pub(super) fn remove(&mut self, link: LinkId) {
        if let Some(until) = self.links.remove(&link) {
            self.due.remove(&(until, link));
        }
    }

    /// Returns when the first of them expire.
    pub(super) fn first(&self) -> Option<Timestamp> {
        self.due.first().map(|(until, _)| *until)
    }

    fn pop_due(&mut self, now: Timestamp) -> Option<LinkId> {
        let (_, link) = *self.due.first().filter(|(until, _)| *until <= now)?;
        self.remove(link);
        Some(link)
    }
}

impl Registry {
    /// Ends the links whose credentials have expired. Their hubs are told to dial again at once, so
    /// that a page can show newer ones.
    pub(super) fn end_expired_links(&mut self) {
        while let Some(link) = self.credentials.pop_due(self.fx.now) {
            let place = self.links.get(link).and_then(|link| link.phase.session());
            if let Some(session) = place.and_then(|place| self.sessions.get_mut(place)) {
                let (reason, target) = (GoAwayReason::Rebalance, "");
                let go_away = ServerFrame::GoAway { reason, after_ms: 0, spread_ms: 0, target };
                session.send_frame(&mut self.fx, &go_away);
            }
            self.fx.stats.links.expired += 1;
            self.close_link(link, close::POLICY, EXPIRED.into(), LinkDown::Expired);
        }
    }

    /// Takes credentials that a hub shows on a link that is open. One question is open at a time,
    /// so that a hub cannot have the shell asked as fast as it can write.
    pub(super) fn on_credentials(
        &mut self,
        link: LinkId,
        place: SessionPlace,
        request: u64,
        credentials: &str,
    ) {
        let Self { fx, sessions, credentials: table, .. } = self;
        // A hub of version 1 has no such frame.
        let Some(session) = sessions.get_mut(place).filter(|session| session.version > 1) else {
            return;
        };
        if !fx.config.credentials {
            return self.tell_standing(link, request, Err("this server takes no credentials"));
        }
        if table.renewals.contains_key(&link) {
            let message = "other credentials of this link are being checked";
            return self.tell_standing(link, request, Err(message));
        }
        let what = Ask::Connect {
            link,
            renews: true,
            visitor: session.ledger.visitor().cloned(),
            credentials: Secret(credentials.into()),
        };
        let Some(ask) = session.ask(fx, Asker::Renewal(link), what) else {
            let message = "too many questions of this browser are open";
            return self.tell_standing(link, request, Err(message));
        };
        let cost = ASK + credentials.len();
        session.ledger.charge(fx, Charge::Asks, 0, cost);
        table.renewals.insert(link, Renewal { ask, request, cost });
    }

    /// Takes the answer to the question about credentials that renew others.
    pub(super) fn renewal_answered(
        &mut self,
        ask: AskId,
        link: LinkId,
        answer: Answer<'_>,
    ) -> Result<(), AnswerError> {
        let visitor = match answer {
            Answer::Admit(visitor) => Ok(visitor),
            Answer::Deny(denial) => Err(denial.message),
            Answer::Open { .. }
            | Answer::Reply { .. }
            | Answer::Allow
            | Answer::Joined { .. }
            | Answer::Recalled(_) => {
                return Err(AnswerError::Unfit);
            }
        };
        self.fx.asks.close(ask);
        let place = self.links.get(link).and_then(|link| link.phase.session());
        let Some(Renewal { request, .. }) = self.end_renewal(link, place) else {
            return Ok(());
        };
        let Self { fx, sessions, topics, credentials, .. } = self;
        let Some(session) = place.and_then(|place| sessions.get_mut(place)) else {
            return Ok(());
        };
        let done = match visitor {
            Ok(visitor) if visitor.user() == session.user() => {
                credentials.set(link, visitor.until());
                session.visited_by(fx, Some(visitor.clone()));
                session.review(fx, topics);
                Ok(())
            }
            Ok(_) => Err("these credentials are of another user"),
            Err(message) => Err(message),
        };
        self.tell_standing(link, request, done);
        Ok(())
    }

    /// Takes back the question about credentials of a link that is gone.
    pub(super) fn stop_renewal(&mut self, link: LinkId, place: Option<SessionPlace>) {
        if let Some(Renewal { ask, .. }) = self.end_renewal(link, place) {
            self.fx.withdraw(ask);
        }
    }

    fn end_renewal(&mut self, link: LinkId, place: Option<SessionPlace>) -> Option<Renewal> {
        let renewal = self.credentials.renewals.remove(&link)?;
        if let Some(session) = place.and_then(|place| self.sessions.get_mut(place)) {
            session.question_ended();
            session.ledger.charge(&mut self.fx, Charge::Asks, renewal.cost, 0);
        }
        Some(renewal)
    }

    /// Tells a hub when its credentials expire, if they do, once it is welcomed.
    pub(super) fn tell_expiry(&mut self, link: LinkId) {
        if self.fx.config.credentials && self.credentials.links.contains_key(&link) {
            self.tell_frame(link, 0, Ok(()));
        }
    }

    /// Answers credentials, and counts how that went.
    fn tell_standing(&mut self, link: LinkId, request: u64, done: Result<(), &str>) {
        match done {
            Ok(()) => self.fx.stats.links.renewed += 1,
            Err(_) => self.fx.stats.links.not_renewed += 1,
        }
        self.tell_frame(link, request, done);
    }

    fn tell_frame(&mut self, link: LinkId, request: u64, done: Result<(), &str>) {
        let until = self.credentials.links.get(&link);
        let expires_ms = until.map(|until| config::millis(until.saturating_since(self.fx.now)));
        let message = cut(done.err().unwrap_or_default(), MAX_MESSAGE_TEXT);
        let standing = Standing { request, accepted: done.is_ok(), expires_ms, message };
        let place = self.links.get(link).and_then(|link| link.phase.session());
        let session = place.and_then(|place| self.sessions.get_mut(place));
        if let Some(session) = session.filter(|session| session.version > 1) {
            session.send_frame(&mut self.fx, &ServerFrame::Credentials(standing));
        }
    }
}
