//! The sockets of one session that were told that there is no room, and which of them lack credit.

use std::collections::BTreeMap;

use tabmux_wire::{Alias, SocketId};

/// Sockets that wait, by tab.
#[derive(Default)]
pub(super) struct Waiting {
    /// Whether each has credit, and so waits for room alone.
    sockets: BTreeMap<(Alias, SocketId), bool>,
    without_credit: usize,
}

impl Waiting {
    pub(super) fn is_empty(&self) -> bool {
        self.sockets.is_empty()
    }

    /// Returns how many wait.
    pub(super) fn len(&self) -> usize {
        self.sockets.len()
    }

    /// How many lack credit.
    pub(super) const fn without_credit(&self) -> usize {
        self.without_credit
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Alias, SocketId)> {
        self.sockets.keys().copied()
    }

    /// Whether a socket of this tab waits.
    pub(super) fn has_tab(&self, tab: Alias) -> bool {
        let next = self.sockets.range((tab, SocketId(0))..).next();
        next.is_some_and(|((of, _), _)| *of == tab)
    }

    pub(super) fn contains(&self, socket: (Alias, SocketId)) -> bool {
        self.sockets.contains_key(&socket)
    }

    /// A socket waits, or goes on waiting and its credit has changed.
    pub(super) fn insert(&mut self, socket: (Alias, SocketId), has_credit: bool) {
        let before = self.sockets.insert(socket, has_credit);
        self.without_credit -= usize::from(before == Some(false));
        self.without_credit += usize::from(!has_credit);
    }

    pub(super) fn remove(&mut self, socket: (Alias, SocketId)) {
        let before = self.sockets.remove(&socket);
        self.without_credit -= usize::from(before == Some(false));
    }

    pub(super) fn remove_tab(&mut self, tab: Alias) {
        while let Some((&socket, _)) = self.sockets.range((tab, SocketId(0))..).next()
            && socket.0 == tab
        {
            self.remove(socket);
        }
    }
}
