//! What a hub was told of its tabs, and has to go by.

use std::{collections::BTreeMap, time::Duration};

use tabmux_core::{
    Timestamp,
    hub::{Hub, HubMessage},
    wire::TabId,
};

use crate::invariant::{
    Checked,
    Invariant::{DeadTabsLeave, NothingLost, OnlyWhatWasAsked},
};

/// How long a hub keeps a tab that is in the back/forward cache.
const PARKED: Duration = Duration::from_secs(600);
/// How long a tab may take to say that it lives, once its lock was free.
const GRACE: Duration = Duration::from_millis(500);

/// What a hub was told of its tabs.
#[derive(Debug, Default)]
pub struct HubView {
    /// Those that attached, and whether each is parked.
    tabs: BTreeMap<TabId, bool>,
    /// Why each may be given up, unless it attaches before that.
    doubts: BTreeMap<TabId, Doubt>,
}

/// Why a hub may give up a tab, and since when by its own clock.
#[derive(Clone, Copy, Debug)]
enum Doubt {
    /// It said bye.
    Left,
    /// It is in the back/forward cache: for ten minutes it is kept.
    Parked(Timestamp),
    /// The server lists it, and it did not attach: it is kept as long. The hub may know better.
    Listed(Timestamp),
    /// Its lock was free. That may have been long ago: a frozen worker is told late.
    Freed(Timestamp),
}

impl HubView {
    /// A tab attached.
    pub fn attached(&mut self, tab: TabId) {
        self.tabs.insert(tab, false);
        self.doubts.remove(&tab);
    }

    /// A tab said bye.
    pub fn left(&mut self, tab: TabId) {
        self.doubts.insert(tab, Doubt::Left);
    }

    /// A tab is in the back/forward cache.
    pub fn parked(&mut self, tab: TabId, clock: Timestamp) {
        if let Some(parked) = self.tabs.get_mut(&tab) {
            *parked = true;
            self.doubts.insert(tab, Doubt::Parked(clock));
        }
    }

    /// The server lists a tab.
    pub fn listed(&mut self, tab: TabId, clock: Timestamp) {
        if !self.knows(tab) {
            self.doubts.entry(tab).or_insert(Doubt::Listed(clock));
        }
    }

    /// The hub got the tab's lock.
    pub fn freed(&mut self, tab: TabId, clock: Timestamp) {
        let doubt = self.doubts.entry(tab).or_insert(Doubt::Freed(clock));
        if let Doubt::Listed(_) = doubt {
            *doubt = Doubt::Freed(clock);
        }
    }

    /// The hub dropped a tab; it may be one that only the server told it of.
    pub fn dropped(&mut self, tab: TabId) {
        self.tabs.remove(&tab);
    }

    /// Whether the hub has the tab.
    pub fn knows(&self, tab: TabId) -> bool {
        self.tabs.contains_key(&tab)
    }

    /// Whether the last that the hub heard of the tab is that it is parked.
    pub fn is_parked(&self, tab: TabId) -> bool {
        self.tabs.get(&tab) == Some(&true)
    }

    /// Why the hub, which gives up a tab that lives, may do so.
    ///
    /// # Errors
    /// If it may not.
    pub fn may_give_up(&self, tab: TabId, clock: Timestamp) -> Checked<&'static str> {
        let doubt = self.doubts.get(&tab);
        let since = |at: &Timestamp| clock.saturating_since(*at);
        match doubt {
            Some(Doubt::Left) => Ok("it left this hub"),
            Some(Doubt::Parked(at) | Doubt::Listed(at)) if since(at) >= PARKED => {
                Ok("away for 10 min")
            }
            Some(Doubt::Freed(at)) if since(at) >= GRACE => Ok("its lock was free"),
            _ => NothingLost.broken(format!("{tab} was given up at {clock:?}, and is {doubt:?}")),
        }
    }

    /// The tabs that are not parked.
    pub fn present(&self) -> impl Iterator<Item = TabId> {
        self.tabs.iter().filter(|(_, parked)| !**parked).map(|(tab, _)| *tab)
    }

    /// A message may be posted to this tab.
    ///
    /// # Errors
    /// If not.
    pub fn may_post(&self, tab: TabId, message: &HubMessage) -> Checked {
        match (self.tabs.get(&tab), message) {
            (
                None,
                HubMessage::Resync
                | HubMessage::Refused { .. }
                | HubMessage::Wait { .. }
                | HubMessage::Elsewhere { .. }
                | HubMessage::User { .. },
            )
            | (Some(false), _) => Ok(()),
            (None, _) => OnlyWhatWasAsked
                .broken(format!("posted to {tab}, which the hub has not: {message:?}")),
            (Some(true), _) => {
                OnlyWhatWasAsked.broken(format!("posted to {tab}, which is parked: {message:?}"))
            }
        }
    }

    /// The hub counts what it was told, and tabs of a hub before it that may be dead.
    ///
    /// # Errors
    /// If not.
    pub fn agrees(&self, hub: &Hub) -> Checked {
        let told = self.tabs.values().filter(|parked| !**parked).count();
        let says = hub.tabs();
        DeadTabsLeave.unless(told == says, || {
            format!("the hub was told of {told} tabs that are not parked, and has {says}")
        })
    }
}
