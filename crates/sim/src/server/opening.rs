//! Questions for sockets, which the application answers at once, late, twice or never.

use std::time::Duration;

use tabmux_core::{
    Timestamp,
    session::{Answer, AnswerError, AskId, Denial, SocketRef},
    wire::{ErrorCode, TabId},
};

use super::{LATE_S, Server, Socket};
use crate::{
    invariant::{Checked, Invariant::NoError},
    reference::Reference,
};

/// A question for a socket.
#[derive(Clone, Copy, Debug)]
pub struct Question {
    /// The registry's name for the question.
    pub ask: AskId,
    /// The socket that is about to open.
    pub at: SocketRef,
    /// The tab that wants the socket.
    pub tab: TabId,
    /// The page's number for the socket.
    pub number: u32,
    /// The time when the registry asked.
    pub asked: Timestamp,
}

/// A question that the application has not answered yet.
#[derive(Debug)]
pub(super) struct Opening {
    question: Question,
    /// The time when the question is answered. `None` means never.
    pub(super) due: Option<Timestamp>,
}

impl Server {
    /// Answers the question for a socket. Some sockets are refused, which depends on the tab alone.
    /// Some questions are answered late, twice or never.
    pub fn open(
        &mut self,
        now: Timestamp,
        reference: &mut Reference,
        question: Question,
    ) -> Checked {
        let (ask, dice) = (question.ask, now.as_micros() ^ question.tab.0);
        let due = match dice % 16 {
            0 => None,
            1..=3 => Some(now + Duration::from_secs(1 + dice / 16 % LATE_S)),
            _ => Some(now),
        };
        self.opening.insert(ask, Opening { question, due });
        self.answer_due(now, reference)?;
        if dice % 16 == 4 {
            self.is_over(now, ask)?;
        }
        Ok(())
    }

    pub(super) fn answer(
        &mut self,
        now: Timestamp,
        reference: &mut Reference,
        &Question { ask, at, tab, number, .. }: &Question,
    ) -> Checked {
        let unlucky = (tab.0 ^ u64::from(number)).is_multiple_of(16);
        let answer = if reference.is_elsewhere(tab, at.session) {
            denial("nobody wants it any more")
        } else if unlucky {
            reference.app_refuses(tab, number)?;
            denial("the dice said so")
        } else {
            reference.app_opens(tab, number, at.session)?;
            self.sockets.insert(at, Socket { tab, number, pending: 0 });
            Answer::Open { protocol: "" }
        };
        let taken = self.registry.answer(now, ask, answer);
        NoError.unless(taken.is_ok(), || format!("{ask:?} is not over, and: {taken:?}"))
    }

    /// Refuses the socket of a question.
    pub(super) fn refuse(
        &mut self,
        now: Timestamp,
        reference: &mut Reference,
        &Question { ask, at, tab, number, .. }: &Question,
        why: &str,
    ) -> Checked {
        if !reference.is_elsewhere(tab, at.session) {
            reference.app_refuses(tab, number)?;
        }
        let taken = self.registry.answer(now, ask, denial(why));
        NoError.unless(taken.is_ok(), || format!("{ask:?} is not over, and: {taken:?}"))
    }

    /// Called when a question is withdrawn that was not answered.
    pub fn withdrawn(&mut self, now: Timestamp, reference: &mut Reference, ask: AskId) -> Checked {
        if self.wanted.remove(&ask).is_some() {
            return self.is_over(now, ask);
        }
        let opening = self.opening.remove(&ask).map(|it| it.question);
        let Some(it) = opening.or_else(|| self.tickets.forget(ask)) else {
            return NoError.broken(format!("{ask:?} is not open, and was withdrawn"));
        };
        let is_overdue = now.saturating_since(it.asked) >= self.registry.config().ask_timeout;
        if is_overdue && !reference.is_elsewhere(it.tab, it.at.session) {
            reference.app_refuses(it.tab, it.number)?;
        }
        self.is_over(now, ask)
    }

    /// Checks that an answer to a question that is over is reported as such.
    pub(super) fn is_over(&mut self, now: Timestamp, ask: AskId) -> Checked {
        let taken = self.registry.answer(now, ask, Answer::Open { protocol: "" });
        NoError.unless(taken == Err(AnswerError::Late), || format!("{ask:?} is over: {taken:?}"))
    }
}

impl Opening {
    /// Returns the question that is not answered yet.
    pub(super) const fn question(&self) -> &Question {
        &self.question
    }
}

/// Returns the answer that refuses a socket for this reason.
fn denial(message: &str) -> Answer<'_> {
    Answer::Deny(Denial { code: ErrorCode::Rejected.into(), message, retry: None })
}
