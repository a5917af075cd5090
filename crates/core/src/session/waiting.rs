//! The sockets of one session that were told that there is no room, and which of them lack credit.

use std::collections::{BTreeMap, BTreeSet};

use tabmux_wire::{Alias, SocketId};

/// Sockets that wait.
#[derive(Default)]
pub(super) struct Waiting {
    /// Sockets that have credit, and so wait for room alone.
    for_room: ByTab,
    /// Sockets that wait for credit.
    for_credit: ByTab,
}

/// Sockets by tab: what concerns a tab takes no longer if others have many. No set is empty.
#[derive(Default)]
struct ByTab {
    tabs: BTreeMap<Alias, BTreeSet<SocketId>>,
    len: usize,
}

impl Waiting {
    pub(super) const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns how many wait.
    pub(super) const fn len(&self) -> usize {
        self.for_room.len + self.for_credit.len
    }

    /// Returns how many lack credit.
    pub(super) const fn without_credit(&self) -> usize {
        self.for_credit.len
    }

    /// Returns the tabs with sockets that wait for room alone.
    pub(super) fn tabs_for_room(&self) -> impl Iterator<Item = Alias> {
        self.for_room.tabs.keys().copied()
    }

    /// Takes the sockets of a tab out that wait for room alone.
    pub(super) fn take_for_room(&mut self, tab: Alias) -> BTreeSet<SocketId> {
        self.for_room.remove_tab(tab)
    }

    /// Returns true if a socket of this tab waits.
    pub(super) fn has_tab(&self, tab: Alias) -> bool {
        self.for_room.tabs.contains_key(&tab) || self.for_credit.tabs.contains_key(&tab)
    }

    pub(super) fn contains(&self, socket: (Alias, SocketId)) -> bool {
        self.for_room.contains(socket) || self.for_credit.contains(socket)
    }

    /// Notes that a socket waits, or goes on waiting and its credit has changed.
    pub(super) fn insert(&mut self, socket: (Alias, SocketId), has_credit: bool) {
        self.remove(socket);
        if has_credit { self.for_room.insert(socket) } else { self.for_credit.insert(socket) }
    }

    pub(super) fn remove(&mut self, socket: (Alias, SocketId)) {
        self.for_room.remove(socket);
        self.for_credit.remove(socket);
    }

    pub(super) fn remove_tab(&mut self, tab: Alias) {
        self.for_room.remove_tab(tab);
        self.for_credit.remove_tab(tab);
    }
}

impl ByTab {
    fn contains(&self, (tab, socket): (Alias, SocketId)) -> bool {
        self.tabs.get(&tab).is_some_and(|sockets| sockets.contains(&socket))
    }

    fn insert(&mut self, (tab, socket): (Alias, SocketId)) {
        self.len += usize::from(self.tabs.entry(tab).or_default().insert(socket));
    }

    fn remove(&mut self, (tab, socket): (Alias, SocketId)) {
        let Some(sockets) = self.tabs.get_mut(&tab) else {
            return;
        };
        self.len -= usize::from(sockets.remove(&socket));
        if sockets.is_empty() {
            self.tabs.remove(&tab);
        }
    }

    fn remove_tab(&mut self, tab: Alias) -> BTreeSet<SocketId> {
        let sockets = self.tabs.remove(&tab).unwrap_or_default();
        self.len -= sockets.len();
        sockets
    }
}
