//! What the hub asks its tabs, since only a page can know it. There is one question at a time.
//!
//! The tab that was visible last is asked first. Each of the others is asked when those before it
//! have failed, or have been silent for `ask_each`. The first answer counts. A question waits while
//! no tab is there to be asked.

use tabmux_wire::TabId;

use super::{
    base::Base,
    io::{Ask, AskId, HubMessage, Output, WakeReason},
    text::text,
};
use crate::Timestamp;

/// The question, and which tabs were visible when.
#[derive(Debug, Default)]
pub(super) struct Asking {
    /// Tabs that were visible, the last one at the end.
    visible: Vec<TabId>,
    /// The number of the last question.
    last: u32,
    question: Option<Question>,
}

/// A question that is open.
#[derive(Debug)]
struct Question {
    id: AskId,
    what: Ask,
    /// Tabs that were asked and may still answer.
    asked: Vec<TabId>,
    /// Tabs that had no answer, and why the last of them had none.
    failed: Vec<TabId>,
    reason: String,
    /// When the next tab is asked, unless all that were asked have failed before.
    next: Timestamp,
    /// When the question is given up. It is not while it waits for a tab.
    until: Option<Timestamp>,
}

impl Asking {
    /// Called when a tab became visible.
    pub(super) fn saw(&mut self, tab: TabId) {
        self.forget(tab);
        self.visible.push(tab);
    }

    /// Called when a tab is no more.
    pub(super) fn forget(&mut self, tab: TabId) {
        self.visible.retain(|it| *it != tab);
    }

    /// Takes a tab's answer. Returns what was asked if this is the answer to it.
    pub(super) fn answered(
        &mut self,
        tab: TabId,
        id: AskId,
        answer: Result<bool, &str>,
    ) -> Option<Ask> {
        let question = self.question.as_mut().filter(|it| it.id == id)?;
        let at = question.asked.iter().position(|it| *it == tab)?;
        let Err(reason) = answer else {
            return self.question.take().map(|it| it.what);
        };
        question.asked.swap_remove(at);
        question.failed.push(tab);
        reason.clone_into(&mut question.reason);
        None
    }
}

impl Base {
    /// Asks the tabs, in place of what was asked before.
    pub(super) fn ask(&mut self, now: Timestamp, what: Ask) {
        self.asking.last += 1;
        self.asking.question = Some(Question {
            id: AskId(self.asking.last),
            what,
            asked: Vec::new(),
            failed: Vec::new(),
            reason: String::new(),
            next: now,
            until: None,
        });
    }

    /// Nobody needs the answer any more.
    pub(super) fn stop_asking(&mut self) {
        self.asking.question = None;
    }

    /// Asks the tab whose turn it is. Returns what no tab could answer, and why.
    pub(super) fn ask_next(&mut self, now: Timestamp) -> Option<(Ask, String)> {
        let tab = self.to_be_asked();
        let question = self.asking.question.as_mut()?;
        question.asked.retain(|tab| self.tabs.is_attached(*tab));
        let (is_silent, is_due) = (question.asked.is_empty(), question.next <= now);
        let Question { id, what, .. } = *question;
        if question.until.is_some_and(|until| until <= now) {
            let seconds = self.config.dial_timeout.as_secs();
            question.reason = text!("no tab answered within ", seconds, " s");
        } else if let Some(tab) = tab
            && (is_silent || is_due)
        {
            question.asked.push(tab);
            question.next = now + self.config.ask_each;
            question.until.get_or_insert(now + self.config.dial_timeout);
            self.order(Output::PostToTab { tab, message: HubMessage::Ask { id, what } });
            return None;
        } else if tab.is_some() || !is_silent {
            return None;
        } else if !question.failed.iter().any(|tab| self.tabs.is_attached(*tab)) {
            question.until = None;
            return None;
        }
        self.asking.question.take().map(|it| (it.what, it.reason))
    }

    /// Returns when [`ask_next`](Self::ask_next) has something to do.
    pub(super) fn ask_timeout(&self) -> Option<(Timestamp, WakeReason)> {
        let Question { next, until, .. } = self.asking.question.as_ref()?;
        let next = self.to_be_asked().map(|_| *next);
        next.into_iter().chain(*until).min().map(|at| (at, WakeReason::Ask))
    }

    /// Returns the tab that is asked next.
    fn to_be_asked(&self) -> Option<TabId> {
        let Asking { visible, question, .. } = &self.asking;
        let Question { asked, failed, .. } = question.as_ref()?;
        let is_new = |tab: &TabId| !asked.contains(tab) && !failed.contains(tab);
        let mut others = self.tabs.attached();
        others.retain(is_new);
        let seen = visible.iter().rev().find(|tab| others.contains(tab));
        seen.or(others.last()).copied()
    }
}
