//! What a tab has heard of lane 0, whether it missed some of that, and whether the server may
//! forget lane 0 without it.

use crate::Timestamp;

/// How far one tab is with lane 0.
#[derive(Debug, Default)]
pub(super) struct Lane0 {
    /// Frames that the tab has heard for sure.
    heard: u64,
    /// The newest message that was posted to the tab, or word that some are missing.
    posted: u64,
    gap: Gap,
    answer: Answer,
}

/// Whether the tab is to be told that messages are missing. Only a tab to which nothing can be
/// posted has a gap for longer than one input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Gap {
    #[default]
    None,
    Untold,
}

/// Whether the tab has answered the last Check, and what waits for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Answer {
    /// It owes no answer, and lane 0 is acknowledged no further than it has heard.
    #[default]
    Given,
    /// It was asked then, and lane 0 waits for its answer.
    Owed { since: Timestamp },
    /// It lags: lane 0 is acknowledged without it until it answers the next Check.
    Lags,
    /// It lags, and was asked.
    LagsAsked,
}

impl Lane0 {
    /// Returns the state of a tab that the server lists and that has not attached to this hub.
    pub(super) fn listed(parked: bool, aside: bool) -> Self {
        Self {
            gap: if aside { Gap::Untold } else { Gap::None },
            answer: if parked || aside { Answer::Lags } else { Answer::Given },
            ..Self::default()
        }
    }

    /// Called when the tab attaches as part of something else than before. What it has missed is
    /// still to be told, if it is part of anything.
    pub(super) fn joined(&mut self, is_part: bool) {
        let gap = if is_part { self.gap } else { Gap::None };
        *self = Self { gap, ..Self::default() };
    }

    /// Called when the tab attaches, and has heard `last0` frames.
    pub(super) fn attached(&mut self, last0: u64) {
        // What was posted to it did not reach it.
        if last0 < self.posted {
            self.gap = Gap::Untold;
        }
        self.heard = self.heard.max(last0);
        self.forget_question();
    }

    /// Called when the tab begins anew: the first `count0` frames do not concern it.
    pub(super) fn begun(&mut self, count0: u64) {
        (self.heard, self.posted) = (count0, 0);
        self.forget_question();
    }

    /// Called when the server may have forgotten frames up to `count0` that did not reach this hub.
    pub(super) fn lost(&mut self, count0: u64) {
        if self.heard < count0 {
            self.gap = Gap::Untold;
        }
    }

    /// Called when the server went on without the tab, and not all that the tab missed was posted
    /// to it by this hub, or is held for it.
    pub(super) const fn set_aside(&mut self) {
        self.gap = Gap::Untold;
    }

    /// Returns true if the tab is to be told now that messages up to `count0` are missing.
    pub(super) fn take_gap(&mut self, count0: u64) -> bool {
        let is_due = self.gap == Gap::Untold;
        if is_due {
            self.posted(count0);
        }
        self.gap = Gap::None;
        is_due
    }

    /// Called when the message with this count is posted, or word that those up to it are missing.
    /// That may not reach the tab.
    pub(super) fn posted(&mut self, count0: u64) {
        self.posted = self.posted.max(count0);
    }

    /// Returns how many frames the tab has heard for sure.
    pub(super) const fn heard(&self) -> u64 {
        self.heard
    }

    /// Returns true if lane 0 is acknowledged without the tab.
    pub(super) const fn lags(&self) -> bool {
        match self.answer {
            Answer::Given | Answer::Owed { .. } => false,
            Answer::Lags | Answer::LagsAsked => true,
        }
    }

    /// Returns true if lane 0 waits for the answer of the tab.
    pub(super) const fn holds_up(&self) -> bool {
        matches!(self.answer, Answer::Owed { .. })
    }

    /// Asks the tab. Returns false if it owes an answer already.
    pub(super) const fn ask(&mut self, now: Timestamp) -> bool {
        self.answer = match self.answer {
            Answer::Given => Answer::Owed { since: now },
            Answer::Lags => Answer::LagsAsked,
            Answer::Owed { .. } | Answer::LagsAsked => return false,
        };
        true
    }

    /// Called when the tab answers that it has heard `count0` frames. Returns false if it was not
    /// asked: then the answer is from before it attached or began anew, and proves nothing.
    pub(super) fn answered(&mut self, count0: u64) -> bool {
        match self.answer {
            Answer::Given | Answer::Lags => return false,
            Answer::Owed { .. } | Answer::LagsAsked => self.answer = Answer::Given,
        }
        self.heard = self.heard.max(count0);
        true
    }

    /// Goes on without the tab if it was asked at `before` or earlier, and has not answered.
    pub(super) fn give_up(&mut self, before: impl Fn(Timestamp) -> bool) {
        if let Answer::Owed { since } = self.answer
            && before(since)
        {
            self.answer = Answer::LagsAsked;
        }
    }

    /// Called when an answer would prove nothing any more.
    pub(super) const fn forget_question(&mut self) {
        self.answer = match self.answer {
            Answer::Given | Answer::Owed { .. } => Answer::Given,
            Answer::Lags | Answer::LagsAsked => Answer::Lags,
        };
    }
}
