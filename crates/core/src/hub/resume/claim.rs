//! What a tab shows to a hub so that the hub may go on with a session.

use tabmux_wire::{Alias, SessionId, Term, Token};

use crate::hub::text::{Part, add_hex};

/// What stands before the reason, in the place of a claim, where a tab was refused for good.
const REFUSED: char = '!';

/// What a tab shows to a hub, so that it may go on with a session: the tab's own, or one that the
/// tab has found where others left word of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::hub) struct Claim {
    pub(in crate::hub) session: SessionId,
    pub(in crate::hub) token: Token,
    pub(in crate::hub) term: Term,
    /// What the tab is called there; nothing if the claim is only found.
    pub(in crate::hub) alias: Option<Alias>,
}

impl Claim {
    /// The text that a tab keeps.
    pub(in crate::hub) fn write(&self) -> String {
        let mut text = String::with_capacity(80);
        for byte in self.session.0.iter().chain(&self.token.0) {
            add_hex(&mut text, *byte);
        }
        self.term.0.add_to(&mut text);
        if let Some(alias) = self.alias {
            text.push(' ');
            alias.0.add_to(&mut text);
        }
        text
    }

    /// What a tab shows: its own, and after a comma what it found.
    pub(in crate::hub) fn both(text: &str) -> [Option<Self>; 2] {
        let (own, found) = text.split_once(',').unwrap_or((text, ""));
        [Self::read(own), Self::read(found)]
    }

    /// Returns why the tab was refused for good, if the hub before told it so. Such a tab claims
    /// no session.
    pub(in crate::hub) fn refusal(text: &str) -> Option<&str> {
        text.strip_prefix(REFUSED)
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
    fn a_tab_that_was_refused_shows_why_and_claims_nothing() {
        assert_eq!(Claim::refusal("!log in, please"), Some("log in, please"));
        assert_eq!(Claim::both("!log in, please"), [None, None]);
        assert_eq!(Claim::refusal(&"0".repeat(65)), None);
    }

    #[test]
    fn what_is_no_claim_is_none() {
        let good = "0".repeat(64);
        for bad in ["", "x", &good, &format!("{good}1 "), &format!("{good}1 x"), &"é".repeat(40)] {
            assert_eq!(Claim::read(bad), None, "{bad:?}");
        }
    }
}
