//! Who is there: the tabs of a hub, from attach to death.

use tabmux_wire::TabId;

use super::{
    io::{HubMessage, WakeReason},
    map::Map,
    resume::Held,
};
use crate::Timestamp;

/// The tabs of a hub.
#[derive(Debug, Default)]
pub(super) struct TabRegistry {
    tabs: Map<TabId, Presence>,
}

/// Whether a tab is there. What is kept for it lives in the states in which nothing may be posted.
#[derive(Debug)]
enum Presence {
    /// Its port is open.
    Attached,
    /// Its lock was granted. It is dead unless it says park or bye before `until`.
    Doubtful { until: Timestamp, held: Held },
    /// It is in the back/forward cache, and is kept until then.
    Parked { until: Timestamp, held: Held },
    /// The server knows it, and it has not attached to this hub yet. It is kept until then: its
    /// page may live and have left, which the hub before this one did not tell the server.
    Awaited { until: Timestamp },
    /// The same, and its lock was granted: it is dead unless it says something before `until`.
    AwaitedDoubtful { until: Timestamp },
}

/// What became of a message to a tab.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Delivery {
    /// Post it.
    Post,
    /// It waits for the tab.
    Held,
    /// More waits for the tab than may.
    Overflow,
    /// There is no such tab.
    Nobody,
}

impl Presence {
    /// Returns true for a tab that the server knows and that has not attached. It may be dead.
    const fn is_awaited(&self) -> bool {
        matches!(self, Self::Awaited { .. } | Self::AwaitedDoubtful { .. })
    }

    /// Returns when the tab counts as dead, and which timer that is.
    const fn ends(&self) -> Option<(Timestamp, WakeReason)> {
        match self {
            Self::Attached => None,
            Self::Doubtful { until, .. } | Self::AwaitedDoubtful { until } => {
                Some((*until, WakeReason::TabGrace))
            }
            Self::Parked { until, .. } | Self::Awaited { until } => {
                Some((*until, WakeReason::ParkedTab))
            }
        }
    }

    /// Takes what is kept for the tab.
    fn take_held(&mut self) -> Held {
        match self {
            Self::Doubtful { held, .. } | Self::Parked { held, .. } => std::mem::take(held),
            Self::Attached | Self::Awaited { .. } | Self::AwaitedDoubtful { .. } => Held::default(),
        }
    }
}

impl TabRegistry {
    /// Called when the tab attaches, for the first time or again. Returns what was held for it.
    pub(super) fn attach(&mut self, tab: TabId) -> Held {
        let presence = self.tabs.entry(tab, || Presence::Attached);
        let held = presence.take_held();
        *presence = Presence::Attached;
        held
    }

    /// Called when the tab enters the back/forward cache. Returns true if this is news.
    pub(super) fn park(&mut self, tab: TabId, until: Timestamp) -> bool {
        let Some(presence) = self.tabs.get_mut(tab) else {
            return false;
        };
        let news = !matches!(presence, Presence::Parked { .. });
        *presence = Presence::Parked { until, held: presence.take_held() };
        news
    }

    /// Called when the server lists a tab. Returns true if this hub does not know it yet.
    pub(super) fn expect(&mut self, tab: TabId, parked: bool, until: Timestamp) -> bool {
        let news = !self.tabs.contains(tab);
        self.tabs.entry(tab, || match parked {
            true => Presence::Parked { until, held: Held::default() },
            false => Presence::Awaited { until },
        });
        news
    }

    /// Called when the tab's lock was granted: the tab may be dead.
    pub(super) fn suspect(&mut self, tab: TabId, until: Timestamp) {
        let Some(presence) = self.tabs.get_mut(tab) else { return };
        match presence {
            Presence::Attached => *presence = Presence::Doubtful { until, held: Held::default() },
            Presence::Awaited { .. } => *presence = Presence::AwaitedDoubtful { until },
            Presence::Doubtful { .. }
            | Presence::Parked { .. }
            | Presence::AwaitedDoubtful { .. } => {}
        }
    }

    /// Forgets the tab. Returns true if it was there.
    pub(super) fn remove(&mut self, tab: TabId) -> bool {
        self.tabs.remove(tab).is_some()
    }

    /// Returns what is to become of a message to the tab, and holds it if nothing may be posted
    /// now.
    pub(super) fn deliver(&mut self, tab: TabId, message: &HubMessage, limit: usize) -> Delivery {
        match self.tabs.get_mut(tab) {
            Some(Presence::Attached) => Delivery::Post,
            Some(Presence::Doubtful { held, .. } | Presence::Parked { held, .. }) => {
                if held.push(message, limit) { Delivery::Held } else { Delivery::Overflow }
            }
            // What it misses it gets when it attaches, by its counts and positions.
            Some(Presence::Awaited { .. } | Presence::AwaitedDoubtful { .. }) | None => {
                Delivery::Nobody
            }
        }
    }

    /// Keeps a message for a tab that is away, whatever the limit: there is one for each socket at
    /// most.
    pub(super) fn hold(&mut self, tab: TabId, message: HubMessage) {
        if let Some(Presence::Doubtful { held, .. } | Presence::Parked { held, .. }) =
            self.tabs.get_mut(tab)
        {
            held.push_always(message);
        }
    }

    /// Returns the tabs that are dead, or were parked for too long.
    pub(super) fn expired(&self, now: Timestamp) -> Vec<TabId> {
        self.filter(|presence| presence.ends().is_some_and(|(until, _)| until <= now))
    }

    pub(super) fn poll_timeout(&self) -> Option<(Timestamp, WakeReason)> {
        self.tabs.iter().filter_map(|(_, presence)| presence.ends()).min()
    }

    /// Returns the tabs to which messages may be posted now.
    pub(super) fn attached(&self) -> Vec<TabId> {
        self.filter(|presence| matches!(presence, Presence::Attached))
    }

    /// Returns the tabs that attached to this hub and are not parked.
    pub(super) fn present(&self) -> Vec<TabId> {
        self.filter(|it| matches!(it, Presence::Attached | Presence::Doubtful { .. }))
    }

    /// Returns true if messages may be posted to the tab now.
    pub(super) fn is_attached(&self, tab: TabId) -> bool {
        matches!(self.tabs.get(tab), Some(Presence::Attached))
    }

    /// Returns true if the tab is in the back/forward cache.
    pub(super) fn is_parked(&self, tab: TabId) -> bool {
        matches!(self.tabs.get(tab), Some(Presence::Parked { .. }))
    }

    /// Returns true if the server knows the tab, which has not attached yet.
    pub(super) fn is_awaited(&self, tab: TabId) -> bool {
        self.tabs.get(tab).is_some_and(Presence::is_awaited)
    }

    /// Returns true if the server knows a tab that has not attached yet.
    pub(super) fn any_awaited(&self) -> bool {
        self.tabs.iter().any(|(_, presence)| presence.is_awaited())
    }

    /// Returns true if any tab is here and not parked. One that is awaited may be at another hub.
    pub(super) fn any_present(&self) -> bool {
        self.tabs.iter().any(|(_, presence)| match presence {
            Presence::Attached | Presence::Doubtful { .. } | Presence::AwaitedDoubtful { .. } => {
                true
            }
            Presence::Parked { .. } | Presence::Awaited { .. } => false,
        })
    }

    /// Returns the number of tabs in the back/forward cache.
    pub(super) fn parked(&self) -> usize {
        self.filter(|presence| matches!(presence, Presence::Parked { .. })).len()
    }

    pub(super) fn all(&self) -> Vec<TabId> {
        self.filter(|_| true)
    }

    pub(super) fn contains(&self, tab: TabId) -> bool {
        self.tabs.contains(tab)
    }

    pub(super) fn len(&self) -> usize {
        self.tabs.len()
    }

    fn filter(&self, wanted: impl Fn(&Presence) -> bool) -> Vec<TabId> {
        self.tabs.keys_where(|_, presence| wanted(presence))
    }
}
