//! Which of the sessions that tabs claim a hub tries, one after another.

use std::{mem, time::Duration};

use super::{Mux, Session};
use crate::hub::{base::Base, io::HubMessage, link::Connection, resume::Claim};

/// How long a session is believed in whose server has not yet said how long it keeps it.
const CLAIMED: Duration = Duration::from_secs(210);

/// Sessions that are tried one after another. A browser has had two or three, if any.
const MAX_OTHERS: usize = 8;

impl Mux {
    /// There is no session any more, or none that this hub may have.
    pub(super) fn forget_session(&mut self) {
        self.session = None;
        self.tabs.session_lost();
        self.acks.session_lost();
        self.topics.session_lost();
        self.history.end();
        self.gone.clear();
    }

    /// The same, and tabs may have had a part in it.
    pub(super) fn lose_session(&mut self, base: &mut Base, reason: &str) {
        self.forget_session();
        for tab in base.tabs.attached() {
            base.post_now(tab, HubMessage::Lost { reason: reason.to_owned() });
        }
    }

    /// Called when a tab claims a session: takes the claim for the next HELLO, or keeps it to be
    /// tried later. Once this hub has a session, it ignores claims.
    pub(super) fn consider_claim(&mut self, claim: Option<Claim>) {
        let Some(claim) = claim.filter(|_| !matches!(self.connection, Connection::Connected(_)))
        else {
            return;
        };
        let is_asked = matches!(self.connection, Connection::Handshaking { .. });
        // What was only found may be over, and what a tab has is less likely to be.
        let is_better = !is_asked && claim.alias.is_some() && self.is_found();
        let new = Session::from(claim);
        match &mut self.session {
            // A tab that was away, frozen perhaps, may know an older term than others: with that
            // the server would refuse the hub.
            Some(session) if session.id == new.id => {
                session.term = session.term.max(new.term);
            }
            None if !is_asked => self.session = Some(new),
            Some(session) if is_better => {
                let found = mem::replace(session, new);
                self.try_later(false, found);
            }
            _ => self.try_later(claim.alias.is_some(), new),
        }
    }

    fn try_later(&mut self, is_first: bool, other: Session) {
        if self.others.len() < MAX_OTHERS && self.others.iter().all(|it| it.id != other.id) {
            let at = if is_first { self.others.len() } else { 0 };
            self.others.insert(at, other);
        }
    }

    /// Called when the claimed session is over. Returns true if a tab has shown another one, which
    /// the next HELLO then claims. A session for which this hub has had a link is given up by the
    /// rules, and not for another one.
    pub(super) fn take_next_claim(&mut self) -> bool {
        let is_own = self.session.as_ref().is_some_and(|session| session.count0.is_some());
        let next = self.others.pop();
        if is_own || next.is_none() {
            return false;
        }
        self.session = next;
        true
    }

    /// Returns true if no tab here had a part in the session: a new tab found the claim.
    pub(super) fn is_found(&self) -> bool {
        let had = |id| self.tabs.iter().any(|(_, tab)| tab.is_part_of(id));
        self.session.as_ref().is_some_and(|it| it.count0.is_none() && !had(it.id))
    }
}

impl From<Claim> for Session {
    fn from(Claim { session: id, token, term, .. }: Claim) -> Self {
        Self { id, token, term, count0: None, detached: CLAIMED, expires: None }
    }
}
