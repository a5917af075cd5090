//! Credit: how much more may be sent on a virtual socket before its other end has said that it
//! dealt with what came.

/// The credit of one socket, both ways.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Credit {
    /// What the tab gave and was not used. A message may go out while it is above 0, whatever its
    /// size, so it goes below by less than one message; by more only for messages that cannot wait
    /// where they come from.
    left: i64,
    /// What the tab used of what the application gave, and did not get back.
    used: u32,
    /// What of that the application has dealt with. It is given back with more.
    done: u32,
}

impl Credit {
    /// Returns the credit of a new socket, whose tab has given so much.
    pub(super) fn new(given: u64) -> Self {
        let mut credit = Self { left: 0, used: 0, done: 0 };
        credit.add(given);
        credit
    }

    /// Returns true if a message may be sent to the tab.
    pub(super) const fn is_left(self) -> bool {
        self.left > 0
    }

    /// Returns what messages cost that the application has, and has not dealt with.
    pub(super) const fn held(self) -> usize {
        (self.used - self.done) as usize
    }

    /// Adds what the tab gave. Nobody ever sends as much as it can hold: what is above that is the
    /// same.
    pub(super) fn add(&mut self, given: u64) {
        self.left = self.left.saturating_add(i64::try_from(given).unwrap_or(i64::MAX));
    }

    /// Takes off what a message to the tab costs.
    pub(super) fn spend(&mut self, cost: u64) {
        self.left = self.left.saturating_sub(i64::try_from(cost).unwrap_or(i64::MAX));
    }

    /// Counts a message of the tab, which may send so much. Returns true if there was credit for
    /// it.
    pub(super) fn take(&mut self, limit: u32, cost: u64) -> bool {
        let had = self.used < limit;
        self.used = self.used.saturating_add(saturated(cost));
        had
    }

    /// Counts messages that the application has dealt with: no more than the tab used, whatever the
    /// application says. Returns what the tab is to be given, once that is half of what it may
    /// send.
    pub(super) fn done(&mut self, limit: u32, cost: u64) -> Option<u64> {
        self.done = self.done.saturating_add(saturated(cost)).min(self.used);
        if self.done < limit.div_ceil(2).max(1) {
            return None;
        }
        self.used -= self.done;
        Some(std::mem::take(&mut self.done).into())
    }
}

fn saturated(cost: u64) -> u32 {
    u32::try_from(cost).unwrap_or(u32::MAX)
}
