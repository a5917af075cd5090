//! Who is there, and what the application does with users, browsers and tabs.

use std::{sync::Arc, time::Duration};

use tabmux_wire::{
    Audience, Denied, Dismissed, ErrorCode, GoAwayReason, MAX_MESSAGE_TEXT, MAX_REASON, Payload,
    ServerFrame, SessionId, TabId, Term, close,
};

use super::{
    Farewell, LinkDown, LinkId, Refusal, Registry, SendError, User, Visitor, config, cut,
    link::Phase,
    state::{Session, SessionPlace, Stage},
};
use crate::Timestamp;

/// A session, as the application sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionInfo {
    /// Its id.
    pub session: SessionId,
    /// Its user, if the application named one.
    pub user: Option<Arc<User>>,
    /// False while it waits for a link.
    pub is_linked: bool,
    /// Its tabs, parked ones included.
    pub tabs: Vec<TabId>,
}

impl<'a> From<&'a Farewell> for Refusal<'a> {
    fn from(farewell: &'a Farewell) -> Self {
        let Farewell { code: reason, retry, message } = farewell;
        Self { reason: *reason, term: Term(0), retry: *retry, message }
    }
}

impl Registry {
    /// Returns what is known of who opened the newest link of a session.
    pub fn visitor(&self, session: SessionId) -> Option<&Arc<Visitor>> {
        self.sessions.by_id(session)?.ledger.visitor()
    }

    /// Returns the link of a session, if it has one.
    pub fn link_of(&self, session: SessionId) -> Option<LinkId> {
        self.sessions.by_id(session)?.link()
    }

    /// Returns the sessions, in the order of their places.
    pub fn sessions(&self) -> impl Iterator<Item = SessionInfo> {
        self.sessions.iter().map(Session::info)
    }

    /// Returns the sessions of a user.
    pub fn sessions_of(&self, user: &str) -> Vec<SessionInfo> {
        let places = self.users.of(user).iter();
        places.filter_map(|place| self.sessions.get(*place)).map(Session::info).collect()
    }

    /// Sends a message to all tabs of all browsers of a user, at most once each. Returns how many
    /// browsers took it. One that has no room is left out.
    pub fn tell_user(&mut self, now: Timestamp, user: &str, payload: Payload<'_>) -> usize {
        self.advance(now);
        let Self { fx, sessions, users, .. } = self;
        let mut told = 0;
        for place in users.of(user) {
            if let Some(session) = sessions.get_mut(*place) {
                told += usize::from(session.broadcast(fx, payload).is_ok());
            }
        }
        self.settle();
        told
    }

    /// Sends a message to one tab, at most once.
    ///
    /// # Errors
    /// As [`broadcast`](Self::broadcast). [`SendError::Closed`] also when there is no such tab, or
    /// its hub speaks version 1, which has no such message.
    pub fn tell_tab(
        &mut self,
        now: Timestamp,
        session: SessionId,
        tab: TabId,
        payload: Payload<'_>,
    ) -> Result<(), SendError> {
        self.command(now, session, |session, fx| {
            let is_new = session.version > 1;
            let alias = session.alias(tab).filter(|_| is_new).ok_or(SendError::Closed)?;
            let frame = ServerFrame::Direct { lane: alias.0, audience: Audience::Tab, payload };
            session.send_message(fx, Some(alias), &frame, payload.len(), 1)
        })
    }

    /// Ends a session: its hub is told why, and its link closes. A hub of version 1 is told
    /// nothing, and comes back with a new session.
    ///
    /// # Errors
    /// [`SendError::Closed`] when there is no such session.
    pub fn end_session(
        &mut self,
        now: Timestamp,
        session: SessionId,
        farewell: &Farewell,
    ) -> Result<(), SendError> {
        self.advance(now);
        let place = self.sessions.place(session).ok_or(SendError::Closed)?;
        self.end_at(place, farewell, close::POLICY, LinkDown::Ended);
        self.settle();
        Ok(())
    }

    /// Ends all sessions of a user, as [`end_session`](Self::end_session) does, and the links of
    /// that user that have not said HELLO. Returns how many sessions there were.
    pub fn end_user(&mut self, now: Timestamp, user: &str, farewell: &Farewell) -> usize {
        self.advance(now);
        let places = self.users.of(user).to_vec();
        for place in &places {
            self.end_at(*place, farewell, close::POLICY, LinkDown::Ended);
        }
        self.close_greetings(user, farewell.message.to_string());
        self.settle();
        places.len()
    }

    /// Has the hubs of a user dial again, so that the shell judges their requests anew. Their
    /// sessions go on if they come back as the same user. The hubs spread over `spread`. Returns
    /// how many links there were.
    pub fn recheck_user(&mut self, now: Timestamp, user: &str, spread: Duration) -> usize {
        self.advance(now);
        let go_away = ServerFrame::GoAway {
            reason: GoAwayReason::Rebalance,
            after_ms: 0,
            spread_ms: config::millis(spread),
            target: "",
        };
        let mut links = 0;
        for place in self.users.of(user).to_vec() {
            let Some(session) = self.sessions.get_mut(place) else { continue };
            let Some(link) = session.link() else { continue };
            session.send_frame(&mut self.fx, &go_away);
            let reason = "the server asks again who may use it".into();
            self.close_link(link, close::GOING_AWAY, reason, LinkDown::Rechecked);
            links += 1;
        }
        self.close_greetings(user, "the server asks again who may use it".to_owned());
        self.settle();
        links
    }

    /// Ends a tab: its sockets close, and its hub is told why. To a hub of version 1 the tab is one
    /// that it has to attach anew.
    ///
    /// # Errors
    /// [`SendError::Closed`] when there is no such tab.
    pub fn end_tab(
        &mut self,
        now: Timestamp,
        session: SessionId,
        tab: TabId,
        farewell: &Farewell,
    ) -> Result<(), SendError> {
        self.command(now, session, |session, fx| {
            session.alias(tab).ok_or(SendError::Closed)?;
            session.on_gone(fx, tab);
            let message = cut(&farewell.message, MAX_MESSAGE_TEXT);
            if session.version > 1 {
                let retry_ms = farewell.retry.map(config::millis);
                let dismissed = Dismissed { tab, retry_ms, message };
                session.send_frame(fx, &ServerFrame::Dismissed(dismissed));
            } else {
                session.send_error(fx, ErrorCode::UnknownTab, Some(tab), None, message);
            }
            Ok(())
        })
    }

    /// Ends a session. The hub of one with a link is told why.
    pub(super) fn end_at(
        &mut self,
        place: SessionPlace,
        farewell: &Farewell,
        close: u16,
        cause: LinkDown,
    ) {
        let Some(session) = self.sessions.get_mut(place) else {
            return;
        };
        match session.stage {
            Stage::Attached(link) => {
                if session.version > 1 {
                    let Farewell { code, retry, message } = farewell;
                    let retry_ms = retry.map(config::millis);
                    let message = cut(message, MAX_MESSAGE_TEXT);
                    let (code, term, target) = (*code, Term(0), "");
                    let denied = Denied { code, term, retry_ms, target, message };
                    session.send_frame(&mut self.fx, &ServerFrame::Denied(denied));
                }
                let reason = cut(&farewell.message, MAX_REASON).to_owned();
                self.close_link(link, close, reason.into(), cause);
            }
            Stage::Detached { .. } => self.forget_session(place),
        }
    }

    /// Closes the links of a user that have not said HELLO: they were let in before.
    fn close_greetings(&mut self, user: &str, reason: String) {
        let is_theirs = |link: &LinkId| match self.links.get(*link).map(|link| &link.phase) {
            Some(Phase::Hello(greeting)) => {
                let visitor = greeting.visitor.as_ref();
                visitor.and_then(|it| it.user()).is_some_and(|it| it.name() == user)
            }
            // An answer to a question of before is outdated, as the shell knows.
            Some(Phase::Pending(_) | Phase::Session(_)) | None => false,
        };
        let links = self.links.ids().filter(is_theirs).collect::<Vec<_>>();
        let reason = cut(&reason, MAX_REASON);
        for link in links {
            let (code, why) = (close::GOING_AWAY, reason.to_owned().into());
            self.close_link(link, code, why, LinkDown::Rechecked);
        }
    }
}

impl Session {
    fn info(&self) -> SessionInfo {
        SessionInfo {
            session: self.id,
            user: self.user().cloned(),
            is_linked: self.link().is_some(),
            tabs: self.tabs.iter().map(|tab| tab.id).collect(),
        }
    }
}
