//! I12: nobody does anything over and over. How often each page and worker does what costs others
//! something, within a minute.

use std::{collections::BTreeMap, time::Duration};

use tabmux_core::Timestamp;

use crate::invariant::{Checked, Invariant::NoStorm};

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Deed {
    /// A tab attaches to a hub.
    Attach,
    /// A worker dials.
    Dial,
    /// A worker asks whose its browser is.
    Who,
    /// A lock is asked for.
    Lock,
    /// A client says how it is.
    Status,
    /// Something is said that no application asked for: all messages on channels.
    Channel,
}

impl Deed {
    /// How often it may be within a minute, whatever breaks. The transitions of a plan are a
    /// second apart at most, so some break the same thing again and again.
    const fn ceiling(self) -> u32 {
        match self {
            Self::Attach => 60,
            Self::Dial => 80,
            // Once a second, and once more at once by a hub that was started anew.
            Self::Who => 65,
            Self::Lock => 240,
            Self::Status => 400,
            Self::Channel => 6000,
        }
    }
}

/// The deeds of one page or worker in this minute.
#[derive(Debug, Default)]
pub struct Deeds {
    since: Timestamp,
    count: BTreeMap<Deed, u32>,
}

impl Deeds {
    /// How often something was done in this minute.
    pub fn of(&self, deed: Deed) -> u32 {
        self.count.get(&deed).copied().unwrap_or_default()
    }

    /// One more.
    ///
    /// # Errors
    /// If that is too many.
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
