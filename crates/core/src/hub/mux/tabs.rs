//! What the link knows of each tab: its lane, how far that is, and how far the tab is with it.

use tabmux_wire::{Alias, SessionId, TabId, WelcomeTab};

use super::claims::Claim;
use crate::{
    Timestamp,
    hub::{
        base::Has,
        io::HubMessage,
        map::Map,
        resume::{Held, History},
    },
};

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
    /// What it was part of when it was last told.
    pub(super) part: Option<(SessionId, Alias)>,
    /// Frames of its lane that were posted to it, or that it had before.
    pub(super) posted: u64,
    /// Frames of its lane, and of lane 0, that it has heard for sure.
    pub(super) heard: u64,
    pub(super) heard0: u64,
    /// It was told so often that it begins anew, and has not answered: what it says is of before.
    pub(super) unheard: u32,
    /// What of its lane is acknowledged.
    pub(super) acknowledged: u64,
    /// Bytes of its lane that came since.
    pub(super) bytes: usize,
    /// Since when it has not answered a Check.
    pub(super) checked: Option<Timestamp>,
    /// Lane 0 is acknowledged without it.
    pub(super) aside: bool,
    /// Whether it was attached through this hub before: what was posted to it, it has.
    pub(super) was_here: bool,
    /// The last message to all tabs, or word that some are missing, that was posted to it.
    pub(super) browser0: u64,
    /// Whether it missed messages to all tabs, and was not told yet: lane 0 was acknowledged
    /// without it, or what was posted did not reach it.
    pub(super) missed: bool,
}

/// How the server knows a tab on this link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Lane {
    /// It does not, or has not said so yet.
    #[default]
    Unknown,
    /// By this alias; the tab's first `up` messages were sent to it.
    Known { alias: Alias, up: u64 },
}

impl MuxTabs {
    /// A tab attached, for the first time or again.
    pub(super) fn insert(&mut self, id: TabId, own: Option<Claim>, has: Has<'_>) {
        let part = own.and_then(|claim| Some((claim.session, claim.alias?)));
        let tab = self.tabs.entry(id, MuxTab::default);
        if tab.part != part {
            *tab = MuxTab { part, missed: tab.missed && part.is_some(), ..MuxTab::default() };
        }
        tab.missed |= has.last0 < tab.browser0;
        (tab.posted, tab.heard) = (has.last, has.last);
        tab.heard0 = tab.heard0.max(has.last0);
        (tab.lane, tab.checked, tab.unheard) = (Lane::Unknown, None, 0);
    }

    /// The server lists a tab that this hub does not know.
    pub(super) fn listed(&mut self, listed: &WelcomeTab) {
        let lane = Lane::Known { alias: listed.alias, up: 0 };
        let aside = listed.parked || listed.aside;
        let missed = listed.aside;
        self.tabs.insert(listed.tab, MuxTab { lane, aside, missed, ..MuxTab::default() });
    }

    /// The server lists a tab again that has not attached to this hub: by this name it is aside.
    pub(super) fn listed_again(&mut self, listed: &WelcomeTab) {
        if let Some(tab) = self.tabs.get_mut(listed.tab).filter(|tab| tab.part.is_none()) {
            tab.lane = Lane::Known { alias: listed.alias, up: 0 };
        }
    }

    pub(super) fn get(&self, tab: TabId) -> Option<&MuxTab> {
        self.tabs.get(tab)
    }

    pub(super) fn get_mut(&mut self, tab: TabId) -> Option<&mut MuxTab> {
        self.tabs.get_mut(tab)
    }

    pub(super) fn remove(&mut self, tab: TabId) {
        self.tabs.remove(tab);
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (TabId, &mut MuxTab)> {
        self.tabs.iter_mut()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (TabId, &MuxTab)> {
        self.tabs.iter()
    }

    /// The tab the server calls so. There are some dozens at most, so looking is quick.
    pub(super) fn by_alias(&mut self, alias: Alias) -> Option<(TabId, &mut MuxTab)> {
        self.tabs
            .iter_mut()
            .find(|(_, tab)| matches!(tab.lane, Lane::Known { alias: known, .. } if known == alias))
    }

    /// ATTACH goes out for the tab: its lane is not to be heard until the answer.
    pub(super) fn asked(&mut self, tab: TabId) {
        *self.asked.entry(tab, || 0) += 1;
        if let Some(tab) = self.tabs.get_mut(tab) {
            tab.lane = Lane::Unknown;
        }
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

    /// Whether the server was asked for the tab, and did not take it.
    pub(super) fn is_left_out(&self, id: TabId) -> bool {
        self.get(id).is_some_and(|tab| !tab.is_known()) && self.asked.get(id).is_none()
    }

    /// The link is gone.
    pub(super) fn link_lost(&mut self) {
        self.asked.take();
        for (_, tab) in self.tabs.iter_mut() {
            (tab.lane, tab.checked) = (Lane::Unknown, None);
        }
    }

    /// The session is gone, and all counts with it.
    pub(super) fn session_lost(&mut self) {
        for (_, tab) in self.tabs.iter_mut() {
            // It still answers what it was told.
            *tab = MuxTab { unheard: tab.unheard, ..MuxTab::default() };
        }
    }
}

impl MuxTab {
    /// Whether it missed messages to all tabs, of which it is told now. That may not reach it, as a
    /// message may not.
    pub(super) fn take_missed(&mut self, count0: u64) -> bool {
        if self.missed {
            self.browser0 = self.browser0.max(count0);
        }
        std::mem::take(&mut self.missed)
    }

    /// Returns what a tab that is back is told of lane 0, in this order: that messages are
    /// missing, if so; what was `held` for it while it was parked; and what is kept for tabs that
    /// had not attached.
    pub(super) fn returned(
        &mut self,
        session: Option<SessionId>,
        count0: u64,
        held: Held,
        history: &History,
    ) -> Vec<HubMessage> {
        self.browser0 = self.browser0.max(held.newest_to_all().min(count0));
        // More came than is kept for it, and the server may not have been told so yet.
        let lost = history.is_lost() && !self.was_here && self.part.is_some();
        self.missed |= lost && self.heard0 < count0;
        let gap = self.take_missed(count0).then_some(HubMessage::BrowserGap);
        let is_in = session.is_some_and(|session| self.is_in(session));
        let kept = history.messages(if is_in { self.heard0 } else { u64::MAX });
        if let Some((newest, _)) = kept.last() {
            self.browser0 = self.browser0.max(*newest);
        }
        let kept = kept.into_iter();
        let kept = kept.map(|(count0, payload)| HubMessage::Browser { count0, payload });
        gap.into_iter().chain(held).chain(kept).collect()
    }

    /// Whether what is said to all tabs of a session concerns it: to one that is new there, what
    /// was said before the server knew it does not.
    pub(super) fn is_in(&self, session: SessionId) -> bool {
        self.is_known() || self.part.is_some_and(|(part, _)| part == session)
    }

    /// Whether the server knows it. What it has of a lane until then may be of another one.
    pub(super) const fn is_known(&self) -> bool {
        matches!(self.lane, Lane::Known { .. })
    }

    /// Whether it has not yet said that it heard all that was posted to it.
    pub(super) const fn owes(&self, count0: u64) -> bool {
        self.heard0 < count0 || self.is_known() && self.heard < self.posted
    }

    /// The server has given it up, and says so only after what comes next in lane 0. `hole`: not
    /// all of that came here.
    pub(super) fn given_up(&mut self, session: SessionId, count0: u64, hole: bool) {
        let was_part = self.part.is_some_and(|(part, _)| part == session);
        self.missed |= was_part && (hole || !self.was_here) && self.heard0 < count0;
    }
}
