//! An oracle for a hub: what it was told of its tabs, and what it may do with them.

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
/// Time that a tab has to say that it lives, after its lock was free.
const GRACE: Duration = Duration::from_millis(500);

/// What a hub was told of its tabs.
#[derive(Debug, Default)]
pub struct HubView {
    /// The tabs that attached. The value is true if the tab is parked.
    tabs: BTreeMap<TabId, bool>,
    /// Reasons why the hub may give a tab up, unless the tab attaches again first.
    doubts: BTreeMap<TabId, Doubt>,
}

/// A reason why a hub may give up a tab. Times are by the hub's own clock.
#[derive(Clone, Copy, Debug)]
enum Doubt {
    /// The tab said goodbye.
    Left,
    /// The tab is in the back/forward cache. The hub keeps it for ten minutes.
    Parked(Timestamp),
    /// The server lists the tab, which has not attached. The hub keeps it for ten minutes too, or
    /// drops it earlier if it knows better.
    Listed(Timestamp),
    /// The tab's lock was free. That may have been long ago, because a frozen worker is told late.
    Freed(Timestamp),
}

impl HubView {
    /// Called when a tab attached.
    pub fn attached(&mut self, tab: TabId) {
        self.tabs.insert(tab, false);
        self.doubts.remove(&tab);
    }

    /// Called when a tab said goodbye.
    pub fn left(&mut self, tab: TabId) {
        self.doubts.insert(tab, Doubt::Left);
    }

    /// Called when a tab went into the back/forward cache.
    pub fn parked(&mut self, tab: TabId, clock: Timestamp) {
        if let Some(parked) = self.tabs.get_mut(&tab) {
            *parked = true;
            self.doubts.insert(tab, Doubt::Parked(clock));
        }
    }

    /// Called when the server listed a tab.
    pub fn listed(&mut self, tab: TabId, clock: Timestamp) {
        if !self.knows(tab) {
            self.doubts.entry(tab).or_insert(Doubt::Listed(clock));
        }
    }

    /// Called when the hub got the tab's lock.
    pub fn freed(&mut self, tab: TabId, clock: Timestamp) {
        let doubt = self.doubts.entry(tab).or_insert(Doubt::Freed(clock));
        if let Doubt::Listed(_) = doubt {
            *doubt = Doubt::Freed(clock);
        }
    }

    /// Called when the hub dropped a tab, which may be one that only the server told it of.
    pub fn dropped(&mut self, tab: TabId) {
        self.tabs.remove(&tab);
    }

    /// Returns true if the hub has the tab.
    pub fn knows(&self, tab: TabId) -> bool {
        self.tabs.contains_key(&tab)
    }

    /// Returns true if the tab was parked when the hub last heard of it.
    pub fn is_parked(&self, tab: TabId) -> bool {
        self.tabs.get(&tab) == Some(&true)
    }

    /// Returns the reason why the hub may give up a tab that lives.
    ///
    /// # Errors
    /// Returns an error if it may not.
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

    /// Returns the tabs that are not parked.
    pub fn present(&self) -> impl Iterator<Item = TabId> {
        self.tabs.iter().filter(|(_, parked)| !**parked).map(|(tab, _)| *tab)
    }

    /// Checks that the hub may post this message to the tab.
    ///
    /// # Errors
    /// Returns an error if it may not.
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

    /// Checks that the hub counts the tabs that it was told of, and those of an earlier hub that
    /// may be dead.
    ///
    /// # Errors
    /// Returns an error if its counts differ.
    pub fn agrees(&self, hub: &Hub) -> Checked {
        let told = self.tabs.values().filter(|parked| !**parked).count();
        let says = hub.tabs();
        DeadTabsLeave.unless(told == says, || {
            format!("the hub was told of {told} tabs that are not parked, and has {says}")
        })
    }
}
