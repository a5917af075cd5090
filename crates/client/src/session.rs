//! The tab's side of a session. It numbers what the tab sends, and keeps it until the server has
//! it. It also counts what the tab has received, so that nothing is received twice.

use std::collections::VecDeque;

use tabmux_core::{OwnedPayload, hub::TabMessage, wire::SocketId};

/// The lanes in which a tab receives messages.
#[derive(Clone, Copy)]
pub(crate) enum Lane {
    /// Lane 0, with messages to all tabs.
    All = 0,
    /// The tab's own lane, with the messages of its sockets.
    Own = 1,
}

/// A reliable message that the tab sends about a socket.
#[derive(Debug)]
pub(crate) enum Said {
    Open { path: String, protocols: Vec<String> },
    Send(OwnedPayload),
    Close { code: u16, reason: String },
    Credit(u64),
}

/// A message that was sent and that the server may not have received.
#[derive(Debug)]
pub(crate) struct Entry {
    n: u64,
    socket: SocketId,
    said: Said,
}

/// One tab's part in a session.
#[derive(Debug, Default)]
pub(crate) struct Session {
    /// The claim that the tab shows to a hub. It is empty before the first session.
    claim: String,
    /// The count of the last message that was received in each [`Lane`].
    heard: [u64; 2],
    unseen: VecDeque<Entry>,
    /// The number of the last message that was sent.
    said: u64,
    /// True while the hub accepts messages of this tab.
    pub(crate) is_up: bool,
}

impl Session {
    /// Returns the message with which the tab attaches to the hub.
    pub(crate) fn attach(&self) -> TabMessage<'_> {
        let [last0, last] = self.heard;
        TabMessage::Attach { claim: &self.claim, last0, last }
    }

    /// Returns true if there was a session before.
    pub(crate) fn had_one(&self) -> bool {
        !self.claim.is_empty()
    }

    /// Stores the claim of the session that goes on or begins.
    pub(crate) fn set_claim(&mut self, claim: String) {
        self.claim = claim;
    }

    /// Forgets the counts of a lost session. In the next session, lane 0 is at `count0`.
    pub(crate) fn forget(&mut self, count0: u64) {
        *self = Self { heard: [count0, 0], is_up: self.is_up, ..Self::default() };
    }

    /// Numbers a message about a socket, and keeps it until the server has it.
    pub(crate) fn number(&mut self, socket: SocketId, said: Said) -> &Entry {
        self.said += 1;
        self.unseen.push_back(Entry { n: self.said, socket, said });
        &self.unseen[self.unseen.len() - 1]
    }

    /// Drops the messages up to number `n`, which the server has received.
    pub(crate) fn seen(&mut self, n: u64) {
        while self.unseen.front().is_some_and(|entry| entry.n <= n) {
            self.unseen.pop_front();
        }
    }

    /// Returns the messages that the server may not have received, in order.
    pub(crate) fn unseen(&self) -> impl Iterator<Item = &Entry> {
        self.unseen.iter()
    }

    /// Returns true if the message with this count was received before. Otherwise marks it as
    /// received and returns false.
    pub(crate) const fn is_heard(&mut self, lane: Lane, count: u64) -> bool {
        let heard = &mut self.heard[lane as usize];
        if count <= *heard {
            return true;
        }
        *heard = count;
        false
    }
}

impl Entry {
    /// Returns the entry as a message to the hub.
    pub(crate) fn message(&self) -> TabMessage<'_> {
        let Self { n, socket, ref said } = *self;
        match said {
            Said::Open { path, protocols } => {
                let protocols = protocols.iter().map(String::as_str).collect();
                TabMessage::Open { n, socket, path, protocols }
            }
            Said::Send(payload) => TabMessage::Send { n, socket, payload: payload.as_payload() },
            Said::Close { code, reason } => TabMessage::Close { n, socket, code: *code, reason },
            Said::Credit(bytes) => TabMessage::Credit { n, socket, bytes: *bytes },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: SocketId = SocketId(1);

    fn numbers(session: &Session) -> Vec<u64> {
        session.unseen().map(|entry| entry.n).collect()
    }

    #[test]
    fn what_is_said_is_kept_until_it_is_seen() {
        let mut session = Session::default();
        for text in ["a", "b", "c"] {
            session.number(ONE, Said::Send(text.into()));
        }
        session.seen(2);
        assert_eq!(numbers(&session), [3]);
        session.number(ONE, Said::Credit(1));
        assert_eq!(numbers(&session), [3, 4]);
    }

    #[test]
    fn nothing_is_heard_twice_in_one_lane() {
        let mut session = Session::default();
        assert!(!session.is_heard(Lane::Own, 2));
        assert!(session.is_heard(Lane::Own, 1) && session.is_heard(Lane::Own, 2));
        assert!(!session.is_heard(Lane::All, 1));
    }

    #[test]
    fn another_session_counts_anew() {
        let mut session = Session { is_up: true, ..Session::default() };
        session.set_claim("claim".to_owned());
        session.number(ONE, Said::Credit(1));
        session.is_heard(Lane::Own, 5);
        session.forget(7);
        assert!(session.is_up && !session.had_one() && numbers(&session).is_empty());
        assert!(session.is_heard(Lane::All, 7) && !session.is_heard(Lane::Own, 1));
        session.number(ONE, Said::Credit(1));
        assert_eq!(numbers(&session), [1]);
    }
}
