//! What tabs show to a hub so that it may go on with a session, and which of several it tries.

use std::{fmt::Write, mem, time::Duration};

use tabmux_wire::{Alias, SessionId, Term, Token};

use super::{Mux, Session};
use crate::hub::link::Connection;

/// How long a session is believed in whose server has not yet said how long it keeps it.
const CLAIMED: Duration = Duration::from_secs(120);

/// Sessions that are tried one after another. A browser has had two or three, if any.
const MAX_OTHERS: usize = 8;

/// What a tab shows to a hub, so that it may go on with a session: the tab's own, or one that the
/// tab has found where others left word of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) session: SessionId,
    pub(super) token: Token,
    pub(super) term: Term,
    /// What the tab is called there; nothing if the claim is only found.
    pub(super) alias: Option<Alias>,
}

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

impl Claim {
    /// The text that a tab keeps.
    pub(super) fn write(&self) -> String {
        let mut text = String::with_capacity(80);
        for byte in self.session.0.iter().chain(&self.token.0) {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
        }
        let _ = write!(text, "{}", self.term.0);
        if let Some(alias) = self.alias {
            let _ = write!(text, " {}", alias.0);
        }
        text
    }

    /// What a tab shows: its own, and after a comma what it found.
    pub(super) fn both(text: &str) -> [Option<Self>; 2] {
        let (own, found) = text.split_once(',').unwrap_or((text, ""));
        [Self::read(own), Self::read(found)]
    }

    /// What a tab kept; nothing if it is no such text. Up to the space it may be another tab's.
    fn read(text: &str) -> Option<Self> {
        let (session, rest) = bytes(text)?;
        let (token, rest) = bytes(rest)?;
        let (term, alias) = match rest.split_once(' ') {
            Some((term, alias)) => (term, Some(Alias(alias.parse().ok()?))),
            None => (rest, None),
        };
        let (session, token) = (SessionId(session), Token(token));
        Some(Self { session, token, term: Term(term.parse().ok()?), alias })
    }
}

/// Sixteen bytes in hexadecimal, and what follows.
fn bytes(text: &str) -> Option<([u8; 16], &str)> {
    let (digits, rest) = text.split_at_checked(32)?;
    let mut bytes = [0; 16];
    for (byte, pair) in bytes.iter_mut().zip(digits.as_bytes().chunks(2)) {
        for digit in pair {
            let value = char::from(*digit).to_digit(16)?;
            *byte = *byte << 4 | u8::try_from(value).ok()?;
        }
    }
    Some((bytes, rest))
}

impl From<Claim> for Session {
    fn from(Claim { session: id, token, term, .. }: Claim) -> Self {
        Self { id, token, term, count0: None, detached: CLAIMED, expires: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_is_read_as_it_was_written() {
        let (session, token) = (SessionId([0xab; 16]), Token([7; 16]));
        let claim = Claim { session, token, term: Term(u64::MAX), alias: Some(Alias(12)) };
        let text = claim.write();
        assert_eq!(Claim::read(&text), Some(claim));
        let found = Claim { alias: None, ..claim };
        let left = text.split(' ').next().unwrap();
        assert_eq!(Claim::read(left), Some(found));
        assert_eq!(Claim::both(&format!("{text},{left}")), [Some(claim), Some(found)]);
        assert_eq!(Claim::both(&format!(",{left}")), [None, Some(found)]);
        assert_eq!(Claim::both(&format!("{text},undefined")), [Some(claim), None]);
    }

    #[test]
    fn what_is_no_claim_is_none() {
        let good = "0".repeat(64);
        for bad in ["", "x", &good, &format!("{good}1 "), &format!("{good}1 x"), &"é".repeat(40)] {
            assert_eq!(Claim::read(bad), None, "{bad:?}");
        }
    }
}
