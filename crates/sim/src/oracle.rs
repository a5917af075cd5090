//! What a hub was told of its tabs, and has to go by.

use std::collections::{BTreeMap, BTreeSet};

use tabmux_core::{
    hub::{Hub, HubMessage},
    wire::TabId,
};

use crate::{
    invariant::{
        Checked,
        Invariant::{DeadTabsLeave, OnlyWhatWasAsked},
    },
    page::PageMessage,
};

/// The tabs of a hub, and whether each is parked; and those that said bye.
#[derive(Debug, Default)]
pub struct HubView(BTreeMap<TabId, bool>, BTreeSet<TabId>);

impl HubView {
    /// A page's message reached the hub.
    pub fn told(&mut self, tab: TabId, message: &PageMessage) {
        match message {
            PageMessage::Attach(..) => {
                self.0.insert(tab, false);
                self.1.remove(&tab);
            }
            PageMessage::Bye => {
                self.1.insert(tab);
            }
            PageMessage::Park => {
                self.0.entry(tab).and_modify(|parked| *parked = true);
            }
            _ => {}
        }
    }

    /// The hub dropped a tab; it may be one that only the server told it of.
    pub fn dropped(&mut self, tab: TabId) {
        self.0.remove(&tab);
    }

    /// Whether the hub has the tab.
    pub fn knows(&self, tab: TabId) -> bool {
        self.0.contains_key(&tab)
    }

    /// Whether the tab said bye and did not come again.
    pub fn said_bye(&self, tab: TabId) -> bool {
        self.1.contains(&tab)
    }

    /// Whether the hub knows that the tab is parked.
    pub fn is_parked(&self, tab: TabId) -> bool {
        self.0.get(&tab) == Some(&true)
    }

    /// The tabs that are not.
    pub fn present(&self) -> impl Iterator<Item = TabId> {
        self.0.iter().filter(|(_, parked)| !**parked).map(|(tab, _)| *tab)
    }

    /// A message may be posted to this tab.
    ///
    /// # Errors
    /// If not.
    pub fn may_post(&self, tab: TabId, message: &HubMessage) -> Checked {
        match (self.0.get(&tab), message) {
            (None, HubMessage::Resync | HubMessage::Refused { .. }) | (Some(false), _) => Ok(()),
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
        let told = self.0.values().filter(|parked| !**parked).count();
        let says = hub.tabs();
        DeadTabsLeave.unless(told == says, || {
            format!("the hub was told of {told} tabs that are not parked, and has {says}")
        })
    }
}
