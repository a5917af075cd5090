//! What the link knows of each tab: its lane and its virtual sockets.

use tabmux_wire::{Alias, SocketId, TabId, Upstream};

use crate::hub::map::Map;

/// The tabs of a hub, as the server sees them.
#[derive(Debug, Default)]
pub(super) struct MuxTabs {
    tabs: Map<TabId, MuxTab>,
    /// ATTACHes that are not answered. A tab may go and come again in the meantime, and an answer
    /// names the tab alone: only the last one tells the alias that is good.
    asked: Map<TabId, u32>,
}

/// A tab.
#[derive(Debug, Default)]
pub(super) struct MuxTab {
    pub(super) lane: Lane,
    pub(super) sockets: Map<SocketId, Socket>,
}

/// How the server knows a tab.
#[derive(Debug, Default)]
pub(super) enum Lane {
    /// It does not, or has not said so yet.
    #[default]
    Unknown,
    /// By this alias; `n` reliable frames were sent.
    Known { alias: Alias, n: u64 },
    /// It will not have the tab.
    Refused { error: String },
}

/// A virtual socket.
#[derive(Debug)]
pub(super) enum Socket {
    /// To be opened once the server knows the tab. `reused`: the link was there before the wish.
    Wanted { path: String, protocols: Vec<String>, reused: bool },
    /// OPEN is sent.
    Opening { reused: bool },
    /// The server said OPENED.
    Open,
    /// CLOSE is sent.
    Closing,
}

impl MuxTabs {
    pub(super) fn insert(&mut self, tab: TabId) {
        self.tabs.entry(tab, MuxTab::default);
    }

    pub(super) fn get_mut(&mut self, tab: TabId) -> Option<&mut MuxTab> {
        self.tabs.get_mut(tab)
    }

    pub(super) fn remove(&mut self, tab: TabId) {
        self.tabs.remove(tab);
    }

    /// The tab the server calls so. There are some dozens at most, so looking is quick.
    pub(super) fn by_alias(&mut self, alias: Alias) -> Option<(TabId, &mut MuxTab)> {
        self.tabs
            .iter_mut()
            .find(|(_, tab)| matches!(tab.lane, Lane::Known { alias: known, .. } if known == alias))
    }

    /// On a new link nothing is asked yet.
    pub(super) fn new_link(&mut self) {
        self.asked.take();
    }

    /// ATTACH goes out for the tab.
    pub(super) fn asked(&mut self, tab: TabId) {
        *self.asked.entry(tab, || 0) += 1;
    }

    /// An ATTACH of the tab is answered. Returns whether it was the last one.
    pub(super) fn answered(&mut self, tab: TabId) -> bool {
        let Some(count) = self.asked.get_mut(tab) else { return false };
        *count -= 1;
        let is_last = *count == 0;
        if is_last {
            self.asked.remove(tab);
        }
        is_last
    }

    /// The server calls the tab so, and has seen `n_seen` of its frames.
    pub(super) fn set_alias(&mut self, tab: TabId, alias: Alias, n_seen: u64) {
        let Some(tab) = self.tabs.get_mut(tab) else {
            return;
        };
        if !matches!(tab.lane, Lane::Known { alias: known, .. } if known == alias) {
            tab.lane = Lane::Known { alias, n: n_seen };
        }
    }

    /// The link is gone, and the session with it: every socket is lost.
    pub(super) fn reset(&mut self) -> Vec<(TabId, SocketId, Socket)> {
        let mut lost = Vec::new();
        for (id, tab) in self.tabs.iter_mut() {
            tab.lane = Lane::Unknown;
            lost.extend(tab.sockets.take().into_iter().map(|(socket, state)| (id, socket, state)));
        }
        lost
    }

    /// The server forgets the tab: its alias means nothing any more.
    pub(super) fn forget(&mut self, tab: TabId) -> Vec<SocketId> {
        let Some(tab) = self.tabs.get_mut(tab) else {
            return Vec::new();
        };
        tab.lane = Lane::Unknown;
        tab.sockets.take().into_iter().map(|(socket, _)| socket).collect()
    }
}

impl MuxTab {
    /// The header of the tab's next reliable frame.
    pub(super) const fn next_up(&mut self) -> Option<Upstream> {
        match &mut self.lane {
            Lane::Known { alias, n } => {
                *n += 1;
                Some(Upstream { tab: *alias, n: *n })
            }
            Lane::Unknown | Lane::Refused { .. } => None,
        }
    }
}
