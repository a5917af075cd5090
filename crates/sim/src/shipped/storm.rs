//! I12: nothing is done over and over. Actions that cost others something are counted for each page
//! and worker and minute.

use std::{collections::BTreeMap, time::Duration};

use tabmux_core::Timestamp;

use crate::invariant::{Checked, Invariant::NoStorm};

/// An action that is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Deed {
    /// A tab attaches to a hub.
    Attach,
    /// A worker dials a server.
    Dial,
    /// A worker asks the server for the user of its browser.
    Who,
    /// A worker shows a ticket.
    Ticket,
    /// A realm requests a lock.
    Lock,
    /// A client reports its status.
    Status,
    /// A realm sends a message on a channel. No application asks for these.
    Channel,
}

impl Deed {
    /// Returns how often the action may happen within a minute, whatever breaks. Transitions of a
    /// plan are at most a second apart, so some plans break the same thing again and again.
    const fn ceiling(self) -> u32 {
        match self {
            Self::Attach => 60,
            Self::Dial => 80,
            // A hub asks once a second, and once more at once after it was started anew.
            Self::Who => 65,
            // A server tells six times of the tickets of a socket.
            Self::Ticket => 400,
            Self::Lock => 240,
            Self::Status => 400,
            Self::Channel => 6000,
        }
    }
}

/// The actions of one page or worker in this minute.
#[derive(Debug, Default)]
pub struct Deeds {
    since: Timestamp,
    count: BTreeMap<Deed, u32>,
}

impl Deeds {
    /// Returns how often the action happened in this minute.
    pub fn of(&self, deed: Deed) -> u32 {
        self.count.get(&deed).copied().unwrap_or_default()
    }

    /// Counts one more action.
    ///
    /// # Errors
    /// Returns an error if there were too many.
    pub fn count(&mut self, now: Timestamp, deed: Deed, who: (usize, u32)) -> Checked {
        if now.saturating_since(self.since) >= Duration::from_secs(60) {
            self.since = now;
            self.count.clear();
        }
        let count = self.count.entry(deed).or_default();
        *count += 1;
        NoStorm.unless(*count <= deed.ceiling(), || {
            format!("more than {} times {deed:?} within a minute by {who:?}", deed.ceiling())
        })
    }
}
