//! Which of the sessions that tabs claim a hub tries, one after another.

use std::{mem, time::Duration};

use super::{Mux, Session};
use crate::hub::{link::Connection, resume::Claim};

/// How long a session is believed in whose server has not yet said how long it keeps it.
const CLAIMED: Duration = Duration::from_secs(120);

/// Sessions that are tried one after another. A browser has had two or three, if any.
const MAX_OTHERS: usize = 8;

impl Mux {
    /// A tab claims a session, which matters before this hub has one.
    pub(super) fn claimed(&mut self, claim: Option<Claim>) {
        let Some(claim) = claim.filter(|_| !matches!(self.connection, Connection::Connected(_)))
        else {
            return;
        };
        let is_asked = matches!(self.connection, Connection::Handshaking { .. });
        // What was only found may be over, and what a tab has is less likely to be.
        let is_better = !is_asked && claim.alias.is_some() && self.is_found();
        let new = Session::from(claim);
        match &mut self.session {
            // Who was away, frozen perhaps, may know an older term than others: with that the
            // server would refuse the hub.
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

    /// What was claimed is over: whether a tab has shown another session, which is to be claimed
    /// now. What this hub has had a link for is given up by the rules, and not for another.
    pub(super) fn claims_another(&mut self) -> bool {
        let is_own = self.session.as_ref().is_some_and(|session| session.count0.is_some());
        let next = self.others.pop();
        if is_own || next.is_none() {
            return false;
        }
        self.session = next;
        true
    }

    /// Whether the session is one that no tab here had a part in: a new tab found the claim.
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
