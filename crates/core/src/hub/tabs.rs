//! Who is there: the tabs of a hub, from attach to death.

use std::collections::VecDeque;

use tabmux_wire::TabId;

use super::{
    io::{HubMessage, WakeReason},
    map::Map,
};
use crate::Timestamp;

/// The tabs of a hub.
#[derive(Debug, Default)]
pub(super) struct TabRegistry {
    tabs: Map<TabId, Tab>,
}

#[derive(Debug)]
struct Tab {
    presence: Presence,
    held: Held,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Presence {
    /// Its port is open.
    Attached,
    /// Its lock was granted; unless it says park or bye by then, it is dead.
    Doubtful { until: Timestamp, awaited: bool },
    /// It is in the back/forward cache, and is kept until then.
    Parked { until: Timestamp },
    /// The server knows it, and it has not attached to this hub yet. It is kept until then: its
    /// page may live and have left, which the hub before this one did not tell the server.
    Awaited { until: Timestamp },
}

/// Messages for a tab to which nothing may be posted now.
#[derive(Debug, Default)]
struct Held {
    messages: VecDeque<HubMessage>,
    bytes: usize,
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
    /// Whether the server knows a tab that has not attached, though it may be dead.
    const fn is_awaited(self) -> bool {
        matches!(self, Self::Awaited { .. } | Self::Doubtful { awaited: true, .. })
    }
}

impl TabRegistry {
    /// The tab is there, for the first time or again. Returns what waited for it.
    pub(super) fn attach(&mut self, tab: TabId) -> VecDeque<HubMessage> {
        let tab =
            self.tabs.entry(tab, || Tab { presence: Presence::Attached, held: Held::default() });
        tab.presence = Presence::Attached;
        std::mem::take(&mut tab.held).messages
    }

    /// The tab is in the back/forward cache. Returns whether this is news.
    pub(super) fn park(&mut self, tab: TabId, until: Timestamp) -> bool {
        let Some(tab) = self.tabs.get_mut(tab) else {
            return false;
        };
        let news = !matches!(tab.presence, Presence::Parked { .. });
        tab.presence = Presence::Parked { until };
        news
    }

    /// The server knows a tab that this hub does not. Returns whether this is news.
    pub(super) fn expect(&mut self, tab: TabId, parked: bool, until: Timestamp) -> bool {
        let news = !self.tabs.contains(tab);
        let presence =
            if parked { Presence::Parked { until } } else { Presence::Awaited { until } };
        self.tabs.entry(tab, || Tab { presence, held: Held::default() });
        news
    }

    /// The tab's lock was granted.
    pub(super) fn doubt(&mut self, tab: TabId, until: Timestamp) {
        if let Some(tab) = self.tabs.get_mut(tab)
            && matches!(tab.presence, Presence::Attached | Presence::Awaited { .. })
        {
            let awaited = tab.presence != Presence::Attached;
            tab.presence = Presence::Doubtful { until, awaited };
        }
    }

    /// The tab is no more. Returns whether it was there.
    pub(super) fn remove(&mut self, tab: TabId) -> bool {
        self.tabs.remove(tab).is_some()
    }

    /// Where a message to the tab goes.
    pub(super) fn deliver(&mut self, tab: TabId, message: &HubMessage, limit: usize) -> Delivery {
        let Some(tab) = self.tabs.get_mut(tab) else {
            return Delivery::Nobody;
        };
        match tab.presence {
            Presence::Attached => return Delivery::Post,
            // What it misses it gets when it attaches, by its counts and positions.
            Presence::Awaited { .. } | Presence::Doubtful { awaited: true, .. } => {
                return Delivery::Nobody;
            }
            Presence::Doubtful { .. } | Presence::Parked { .. } => {}
        }
        let held = &mut tab.held;
        if held.bytes + message.cost() > limit {
            *held = Held::default();
            return Delivery::Overflow;
        }
        held.bytes += message.cost();
        held.messages.push_back(message.clone());
        Delivery::Held
    }

    /// A message that is kept whatever the limit: there is one for each socket at most.
    pub(super) fn hold(&mut self, tab: TabId, message: HubMessage) {
        if let Some(tab) = self.tabs.get_mut(tab) {
            tab.held.messages.push_back(message);
        }
    }

    /// Tabs that are dead, or were parked for too long.
    pub(super) fn expired(&self, now: Timestamp) -> Vec<TabId> {
        let due = |tab: &Tab| match tab.presence {
            Presence::Attached => false,
            Presence::Doubtful { until, .. }
            | Presence::Awaited { until }
            | Presence::Parked { until } => until <= now,
        };
        self.tabs.keys_where(|_, tab| due(tab))
    }

    pub(super) fn poll_timeout(&self) -> Option<(Timestamp, WakeReason)> {
        self.tabs
            .iter()
            .filter_map(|(_, tab)| match tab.presence {
                Presence::Attached => None,
                Presence::Doubtful { until, .. } => Some((until, WakeReason::TabGrace)),
                Presence::Awaited { until } | Presence::Parked { until } => {
                    Some((until, WakeReason::ParkedTab))
                }
            })
            .min()
    }

    /// Tabs to which messages may be posted now.
    pub(super) fn attached(&self) -> Vec<TabId> {
        self.filter(|presence| presence == Presence::Attached)
    }

    /// Tabs that are not parked.
    pub(super) fn present(&self) -> Vec<TabId> {
        self.filter(|it| {
            matches!(it, Presence::Attached | Presence::Doubtful { awaited: false, .. })
        })
    }

    /// Whether messages may be posted to the tab now.
    pub(super) fn is_attached(&self, tab: TabId) -> bool {
        self.tabs.get(tab).is_some_and(|tab| tab.presence == Presence::Attached)
    }

    /// Whether the tab is in the back/forward cache.
    pub(super) fn is_parked(&self, tab: TabId) -> bool {
        self.tabs.get(tab).is_some_and(|tab| matches!(tab.presence, Presence::Parked { .. }))
    }

    /// Whether the server knows the tab, which has not attached yet.
    pub(super) fn is_awaited(&self, tab: TabId) -> bool {
        self.tabs.get(tab).is_some_and(|tab| tab.presence.is_awaited())
    }

    /// Whether the server knows a tab that has not attached yet.
    pub(super) fn any_awaited(&self) -> bool {
        self.tabs.iter().any(|(_, tab)| tab.presence.is_awaited())
    }

    /// Whether any tab is here and not parked. One that is awaited may be at another hub.
    pub(super) fn any_present(&self) -> bool {
        self.tabs
            .iter()
            .any(|(_, tab)| matches!(tab.presence, Presence::Attached | Presence::Doubtful { .. }))
    }

    /// How many are in the back/forward cache.
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

    fn filter(&self, wanted: impl Fn(Presence) -> bool) -> Vec<TabId> {
        self.tabs.keys_where(|_, tab| wanted(tab.presence))
    }
}
