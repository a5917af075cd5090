//! What the application tells a registry to do.

use std::time::Duration;

use tabmux_wire::{ErrorCode, GoAwayReason, Payload, ServerFrame, SessionId, close};

use super::{
    LinkDown, LinkId, Output, Registry, SendError, SocketRef,
    asks::{Answer, AnswerError, AskId, Asker, Denial},
    config,
    effects::Effects,
    lanes::RUSH,
    link::Phase,
    state::Session,
    topic_table::{Joined, Refusal},
};
use crate::Timestamp;

impl Registry {
    /// Answers a question.
    ///
    /// # Errors
    /// [`AnswerError::Late`] when the question is over: the shell undoes what it did for the
    /// answer. [`AnswerError::Unfit`] when the answer is one to another kind of question.
    /// [`AnswerError::Unsent`] when a reply was not sent.
    pub fn answer(
        &mut self,
        now: Timestamp,
        ask: AskId,
        answer: Answer<'_>,
    ) -> Result<(), AnswerError> {
        self.advance(now);
        let taken = self.take_answer(ask, answer);
        self.settle();
        taken
    }

    fn take_answer(&mut self, ask: AskId, answer: Answer<'_>) -> Result<(), AnswerError> {
        let asker = self.fx.asks.asker(ask).ok_or(AnswerError::Late)?;
        match asker {
            Asker::Connect(link) => self.connect_answered(ask, link, answer),
            Asker::Renewal(link) => self.renewal_answered(ask, link, answer),
            Asker::Open(_) | Asker::Request(_) => self.tab_answered(ask, asker, answer),
            Asker::Subscribe(_) | Asker::Join(_) | Asker::Recall(_) => {
                self.topic_answered(ask, asker, answer)
            }
        }
    }

    /// Takes the answer to a question of a tab.
    fn tab_answered(
        &mut self,
        ask: AskId,
        asker: Asker,
        answer: Answer<'_>,
    ) -> Result<(), AnswerError> {
        let Self { fx, sessions, .. } = self;
        match (asker, answer) {
            (Asker::Open(SocketRef { session, tab, socket }), Answer::Open { protocol }) => {
                fx.asks.close(ask);
                if let Some(session) = sessions.by_id_mut(session) {
                    session.open_socket(fx, tab, socket, protocol);
                }
            }
            (Asker::Open(SocketRef { session, tab, socket }), Answer::Deny(denial)) => {
                fx.asks.close(ask);
                if let Some(session) = sessions.by_id_mut(session) {
                    session.reject_socket(fx, tab, socket, &denial);
                }
            }
            (
                Asker::Request(SocketRef { session, tab, socket }),
                Answer::Reply { payload, last },
            ) => {
                let session = sessions.by_id_mut(session).ok_or(AnswerError::Late)?;
                let replied = session.reply(fx, ask, (tab, socket), payload, last);
                replied.map_err(AnswerError::Unsent)?;
            }
            (Asker::Request(SocketRef { session, tab, socket }), Answer::Deny(denial)) => {
                fx.asks.close(ask);
                if let Some(session) = sessions.by_id_mut(session) {
                    session.reject_request(fx, tab, socket, &denial);
                }
            }
            (
                Asker::Connect(_)
                | Asker::Renewal(_)
                | Asker::Open(_)
                | Asker::Request(_)
                | Asker::Subscribe(_)
                | Asker::Join(_)
                | Asker::Recall(_),
                Answer::Admit(_)
                | Answer::Open { .. }
                | Answer::Reply { .. }
                | Answer::Allow
                | Answer::Joined { .. }
                | Answer::Recalled(_)
                | Answer::Deny(_),
            ) => return Err(AnswerError::Unfit),
        }
        Ok(())
    }

    /// Takes the answer to a question about a topic.
    fn topic_answered(
        &mut self,
        ask: AskId,
        asker: Asker,
        answer: Answer<'_>,
    ) -> Result<(), AnswerError> {
        let Self { fx, sessions, topics, .. } = self;
        match (asker, answer) {
            (Asker::Subscribe(place), Answer::Allow) => {
                fx.asks.close(ask);
                if let Some(session) = sessions.get_mut(place) {
                    session.wish_granted(fx, topics, ask);
                }
            }
            (Asker::Subscribe(place), Answer::Deny(denial)) => {
                fx.asks.close(ask);
                if let Some(session) = sessions.get_mut(place) {
                    session.wish_denied(fx, topics, ask, &denial);
                }
            }
            (Asker::Join(at), Answer::Joined { topic: id, position, policy }) => {
                fx.asks.close(ask);
                topics.join(fx, sessions, at, Joined { id, position, policy });
            }
            (Asker::Recall(place), Answer::Recalled(_) | Answer::Deny(_)) => {
                fx.asks.close(ask);
                let recalled = if let Answer::Recalled(it) = answer { Some(it) } else { None };
                if let Some(session) = sessions.get_mut(place) {
                    session.recalled(fx, topics, ask, recalled);
                }
            }
            (Asker::Join(at), Answer::Deny(denial)) => {
                fx.asks.close(ask);
                topics.refuse(fx, sessions, at, &Refusal::from(denial));
            }
            (
                Asker::Connect(_)
                | Asker::Renewal(_)
                | Asker::Open(_)
                | Asker::Request(_)
                | Asker::Subscribe(_)
                | Asker::Join(_)
                | Asker::Recall(_),
                Answer::Admit(_)
                | Answer::Open { .. }
                | Answer::Reply { .. }
                | Answer::Allow
                | Answer::Joined { .. }
                | Answer::Recalled(_)
                | Answer::Deny(_),
            ) => return Err(AnswerError::Unfit),
        }
        Ok(())
    }

    /// Answers the questions whose deadline has passed, and tells the shell that they are over.
    pub(super) fn end_overdue_asks(&mut self) {
        while let Some((_, ask)) = self.fx.asks.first().filter(|(at, _)| *at <= self.fx.now) {
            self.fx.stats.asks.overdue += 1;
            let retry = Some(self.fx.config.retry_after);
            let (code, message) = (ErrorCode::Timeout.into(), "the server did not answer in time");
            // It is open, and every question can be denied.
            let _ = self.take_answer(ask, Answer::Deny(Denial { code, message, retry }));
            self.fx.order(Output::Withdrawn(ask));
        }
    }

    /// Asks the shell about every topic that a browser has or wishes for: rights have changed. It
    /// asks nothing if [`SessionConfig::ask_subscriptions`](super::SessionConfig) is not set. The
    /// registry asks by itself about a session that gets another link or other credentials.
    pub fn review(&mut self, now: Timestamp) {
        self.advance(now);
        let Self { fx, sessions, topics, .. } = self;
        let places = sessions.iter().map(Session::place).collect::<Vec<_>>();
        for place in places {
            if let Some(session) = sessions.get_mut(place) {
                session.review(fx, topics);
            }
        }
        self.settle();
    }

    /// Sends a message on an open socket.
    ///
    /// # Errors
    /// [`SendError::Full`] when too much waits to be written or to be acknowledged, or when the tab
    /// has given no more credit; the socket is told when to try again. [`SendError::TooLarge`],
    /// [`SendError::Closed`].
    pub fn send(
        &mut self,
        now: Timestamp,
        socket: SocketRef,
        payload: Payload<'_>,
    ) -> Result<(), SendError> {
        let SocketRef { session, tab, socket } = socket;
        self.command(now, session, |session, fx| {
            let sent = session.send_data(fx, tab, socket, payload, 1);
            if sent == Err(SendError::Full) {
                session.wait(fx, tab, socket);
            }
            sent
        })
    }

    /// The same for a message that cannot wait where it comes from: it overdraws the socket's
    /// credit, four times as much may be unacknowledged, and the socket is not told when there is
    /// room.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn send_rushed(
        &mut self,
        now: Timestamp,
        socket: SocketRef,
        payload: Payload<'_>,
    ) -> Result<(), SendError> {
        let SocketRef { session, tab, socket } = socket;
        self.command(now, session, |session, fx| session.send_data(fx, tab, socket, payload, RUSH))
    }

    /// Sends a message to all tabs of a browser: one frame on its link.
    ///
    /// # Errors
    /// [`SendError::Full`], [`SendError::TooLarge`]; [`SendError::Closed`] when the session has
    /// ended.
    pub fn broadcast(
        &mut self,
        now: Timestamp,
        session: SessionId,
        payload: Payload<'_>,
    ) -> Result<(), SendError> {
        self.command(now, session, |session, fx| session.broadcast(fx, payload))
    }

    /// Closes an open socket. Its tab sees a clean close with this code and reason; the
    /// application gets its `SocketClosed`.
    ///
    /// The code is one from 1000 to 4999; a longer reason than 123 bytes is cut. 1005 closes it
    /// without a code, and 1006 as if its connection broke; neither has a reason. With 1006, the
    /// reason is the text of an `error` event that comes before.
    ///
    /// # Errors
    /// [`SendError::Closed`] when it is not open.
    pub fn close(
        &mut self,
        now: Timestamp,
        socket: SocketRef,
        code: u16,
        reason: &str,
    ) -> Result<(), SendError> {
        let SocketRef { session, tab, socket } = socket;
        self.command(now, session, |session, fx| {
            let is_open = session.socket(tab, socket).is_some_and(|it| it.open().is_some());
            if is_open {
                session.close_socket(fx, tab, socket, code, reason);
            }
            if is_open { Ok(()) } else { Err(SendError::Closed) }
        })
    }

    /// Asks the hub of a socket that is about to open to show a ticket at the path of the socket.
    /// The hub opens a WebSocket there, with the cookies that a native socket would have. If the
    /// session has no link, or one of version 1, nothing happens.
    ///
    /// # Errors
    /// [`SendError::Closed`] when no question for the socket is open.
    pub fn send_ticket(
        &mut self,
        now: Timestamp,
        socket: SocketRef,
        ticket: &str,
        path: &str,
    ) -> Result<(), SendError> {
        let SocketRef { session, tab, socket } = socket;
        self.command(now, session, |session, fx| {
            session.send_ticket(fx, (tab, socket), ticket, path)
        })
    }

    /// Charges the bytes that the application keeps for a socket that is about to open, such as its
    /// ticket, to the browser that wants it. They count in place of what was charged before, until
    /// the socket opens or its question ends.
    ///
    /// # Errors
    /// [`SendError::Closed`] when no question for the socket is open.
    pub fn keep_for_opening(
        &mut self,
        now: Timestamp,
        socket: SocketRef,
        bytes: usize,
    ) -> Result<(), SendError> {
        let SocketRef { session, tab, socket } = socket;
        self.command(now, session, |session, fx| session.keep_for_opening(fx, (tab, socket), bytes))
    }

    /// The application has dealt with messages of a socket that cost so much
    /// ([`message_cost`](tabmux_wire::message_cost)): the tab may send as much again. To be said
    /// once for each message that came; what is said of a socket that is not open is ignored.
    pub fn give_back(&mut self, now: Timestamp, socket: SocketRef, cost: u64) {
        let SocketRef { session, tab, socket } = socket;
        // A session that has ended has nobody to give it to.
        let _ = self.command(now, session, |session, fx| {
            session.give_back(fx, tab, socket, cost);
            Ok(())
        });
    }

    pub(super) fn command(
        &mut self,
        now: Timestamp,
        session: SessionId,
        what: impl FnOnce(&mut Session, &mut Effects) -> Result<(), SendError>,
    ) -> Result<(), SendError> {
        self.advance(now);
        let session = self.sessions.by_id_mut(session).ok_or(SendError::Closed)?;
        let done = what(session, &mut self.fx);
        self.settle();
        done
    }

    /// Sends away the first of `slices` equal parts of the links there are: their hubs are told to
    /// reconnect after `after` and a random part of `spread`, and the links close with 1001. Every
    /// HELLO is refused from now on. Called with ever fewer slices at even times it empties a
    /// server evenly; with one, at once.
    pub fn drain(&mut self, now: Timestamp, slices: u32, after: Duration, spread: Duration) {
        self.advance(now);
        self.draining = Some(after);
        let count = self.links.len().div_ceil(slices.max(1) as usize);
        let go_away = ServerFrame::GoAway {
            reason: GoAwayReason::Shutdown,
            after_ms: config::millis(after),
            spread_ms: config::millis(spread),
            target: "",
        };
        for link in self.links.ids().take(count).collect::<Vec<_>>() {
            if let Some(Phase::Session(place)) = self.links.get(link).map(|link| &link.phase)
                && let Some(session) = self.sessions.get_mut(*place)
            {
                session.send_frame(&mut self.fx, &go_away);
            }
            self.end_link(link);
        }
    }

    /// Closes every link with 1001.
    pub fn shutdown(&mut self, now: Timestamp) {
        self.advance(now);
        for link in self.links.ids().collect::<Vec<_>>() {
            self.end_link(link);
        }
    }

    fn end_link(&mut self, link: LinkId) {
        let reason = "the server shuts down".into();
        self.close_link(link, close::GOING_AWAY, reason, LinkDown::Shutdown);
    }
}
