//! What the hub knows of each tab in the session: how the server knows the tab, how far the tab is
//! with its own lane and with lane 0, and what it missed of both.

use tabmux_wire::{Alias, SessionId, TabId, WelcomeTab};

use super::{Held, History, missed::Lane0};
use crate::{
    Timestamp,
    hub::{base::Has, io::HubMessage, map::Map},
};

/// The tabs of a hub, as the server sees them.
#[derive(Debug, Default)]
pub(in crate::hub) struct MuxTabs {
    tabs: Map<TabId, MuxTab>,
    /// ATTACHes that are not answered. A tab may go and come again in the meantime, and an answer
    /// names the tab alone: only the last one tells the alias that is good.
    asked: Map<TabId, u32>,
    /// How often a place at the server may have become free.
    rooms: u64,
}

/// A tab.
#[derive(Debug, Default)]
pub(in crate::hub) struct MuxTab {
    standing: Standing,
    own: OwnLane,
    lane0: Lane0,
    /// Number of `Resume {continues: false}` not yet acknowledged. While above 0, what the tab says
    /// belongs to its previous session and is dropped.
    restarts: u32,
    /// The server was asked for the tab, and had no room for it.
    left_out: bool,
    /// `rooms` of the hub's tabs when the server was last asked for the tab.
    asked_at: u64,
}

/// What a tab is part of: a session, and its alias there.
type Part = (SessionId, Alias);

/// What connects a tab with the session.
#[derive(Debug, Default)]
enum Standing {
    /// Nothing: the tab is part of no session, and no WELCOME on this link listed it.
    #[default]
    Stranger,
    /// WELCOME lists the tab. Its page has not attached to this hub, or not yet as part of this
    /// session.
    Listed(Lane),
    /// The page says that it is part of a session, and the server has not named the tab since.
    Claims(Part),
    /// This hub has served the tab: all that came in lane 0 since then was posted to it, or is
    /// held for it. The server has not named the tab on this link, or is asked to do so again.
    Served(Part),
    /// The same, and the server has named the tab on this link.
    Named(SessionId, Lane),
}

/// The lane of a tab on this link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Lane {
    alias: Alias,
    /// The tab's first messages, which were sent.
    up: u64,
}

/// How far a tab is with its own lane.
#[derive(Debug, Default)]
struct OwnLane {
    /// Frames that were posted to the tab, or that it had before.
    posted: u64,
    /// Frames that the tab has heard for sure.
    heard: u64,
    /// Frames that are acknowledged.
    acknowledged: u64,
    /// Bytes that came since then.
    bytes: usize,
}

/// What follows when the server says that it knows a tab.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::hub) enum Named {
    /// The tab goes on where it was, or begins anew.
    Resumes { continues: bool },
    /// The page begins anew and counts from 1, and the server has messages of it from before. What
    /// the server has, sockets and all, is not the page's own.
    Outdated,
}

impl MuxTabs {
    /// Called when a tab attaches, for the first time or again. `own` is its own claim.
    pub(in crate::hub) fn insert(&mut self, id: TabId, own: Option<Part>, has: Has<'_>) {
        self.tabs.entry(id, MuxTab::default).attach(own, has);
    }

    /// Called when the server lists a tab that this hub does not know.
    pub(in crate::hub) fn listed(&mut self, listed: &WelcomeTab) {
        let standing = Standing::Listed(Lane { alias: listed.alias, up: 0 });
        let lane0 = Lane0::listed(listed.parked, listed.aside);
        self.tabs.insert(listed.tab, MuxTab { standing, lane0, ..MuxTab::default() });
    }

    /// Called when the server lists a tab that this hub knows. `hole`: not all of lane 0 came to
    /// this hub.
    pub(in crate::hub) fn listed_again(
        &mut self,
        listed: &WelcomeTab,
        is_attached: bool,
        hole: bool,
    ) {
        let Some(tab) = self.tabs.get_mut(listed.tab) else { return };
        if !is_attached && tab.part().is_none() {
            // ACK names it so when it is set aside.
            tab.standing = Standing::Listed(Lane { alias: listed.alias, up: 0 });
        }
        if listed.aside && (hole || !tab.was_served()) {
            tab.lane0.set_aside();
        }
    }

    pub(in crate::hub) fn get(&self, tab: TabId) -> Option<&MuxTab> {
        self.tabs.get(tab)
    }

    pub(in crate::hub) fn get_mut(&mut self, tab: TabId) -> Option<&mut MuxTab> {
        self.tabs.get_mut(tab)
    }

    pub(in crate::hub) fn remove(&mut self, tab: TabId) {
        self.tabs.remove(tab);
    }

    pub(in crate::hub) fn iter_mut(&mut self) -> impl Iterator<Item = (TabId, &mut MuxTab)> {
        self.tabs.iter_mut()
    }

    pub(in crate::hub) fn iter(&self) -> impl Iterator<Item = (TabId, &MuxTab)> {
        self.tabs.iter()
    }

    /// Returns the tab that the server calls so. There are some dozens at most, so looking is
    /// quick.
    pub(in crate::hub) fn by_alias(&mut self, alias: Alias) -> Option<(TabId, &mut MuxTab)> {
        self.tabs.iter_mut().find(|(_, tab)| tab.lane().is_some_and(|lane| lane.alias == alias))
    }

    /// Called when ATTACH goes out for the tab: its lane is not heard until the answer. Returns how
    /// much of its lane the tab has.
    pub(in crate::hub) fn asked(&mut self, tab: TabId) -> u64 {
        *self.asked.entry(tab, || 0) += 1;
        let Some(tab) = self.tabs.get_mut(tab) else { return 0 };
        tab.asked_at = self.rooms;
        tab.unname();
        tab.own.heard
    }

    /// Called when an ATTACH of the tab is answered. Returns true if it was the last one.
    pub(in crate::hub) fn answered(&mut self, tab: TabId) -> bool {
        let Some(count) = self.asked.get_mut(tab) else { return false };
        *count -= 1;
        let is_last = *count == 0;
        if is_last {
            self.asked.remove(tab);
        }
        is_last
    }

    /// Returns true if the server was asked for the tab, and did not take it.
    pub(in crate::hub) fn is_unplaced(&self, id: TabId) -> bool {
        self.get(id).is_some_and(|tab| tab.lane().is_none()) && self.asked.get(id).is_none()
    }

    /// Called when a place at the server may have become free.
    pub(in crate::hub) const fn room_came(&mut self) {
        self.rooms += 1;
    }

    /// Returns true if a place may have become free since the server was asked for the tab.
    pub(in crate::hub) fn has_room_come(&self, id: TabId) -> bool {
        self.get(id).is_some_and(|tab| tab.asked_at != self.rooms)
    }

    /// Called when the tab is to be told that there is no room for it. Returns true if that is so,
    /// and news.
    pub(in crate::hub) fn leave_out(&mut self, id: TabId) -> bool {
        let is_unplaced = self.is_unplaced(id);
        let Some(tab) = self.tabs.get_mut(id) else { return false };
        let is_news = is_unplaced && !tab.left_out;
        tab.left_out |= is_news;
        is_news
    }

    /// Called when the link is gone.
    pub(in crate::hub) fn link_lost(&mut self) {
        self.asked.take();
        for (_, tab) in self.tabs.iter_mut() {
            tab.unname();
            tab.left_out = false;
            tab.lane0.forget_question();
        }
    }

    /// Called when the session is gone, and all counts with it.
    pub(in crate::hub) fn session_lost(&mut self) {
        self.tabs.iter_mut().for_each(|(_, tab)| tab.forget());
    }

    /// Called when the server has ended the tab: nothing connects it with the session any more.
    pub(in crate::hub) fn dismissed(&mut self, tab: TabId) {
        if let Some(tab) = self.tabs.get_mut(tab) {
            tab.forget();
        }
    }
}

/// What a tab is part of, and what it says.
impl MuxTab {
    fn attach(&mut self, own: Option<Part>, has: Has<'_>) {
        if self.part() != own {
            self.standing = own.map_or(Standing::Stranger, Standing::Claims);
            self.own = OwnLane::default();
            self.lane0.joined(own.is_some());
        }
        self.unname();
        (self.own.posted, self.own.heard) = (has.last, has.last);
        self.lane0.attached(has.last0);
        self.restarts = 0;
        self.left_out = false;
    }

    /// Forgets what the tab had of a session. It still answers what it was told.
    fn forget(&mut self) {
        *self = Self { restarts: self.restarts, ..Self::default() };
    }

    /// Returns true if the tab waits for room at the server.
    pub(in crate::hub) const fn is_left_out(&self) -> bool {
        self.left_out
    }

    /// Returns the session of which the tab is part, and its alias there.
    const fn part(&self) -> Option<Part> {
        match self.standing {
            Standing::Stranger | Standing::Listed(_) => None,
            Standing::Claims(part) | Standing::Served(part) => Some(part),
            Standing::Named(session, Lane { alias, .. }) => Some((session, alias)),
        }
    }

    /// Returns the tab's lane on this link, if the server has named it.
    const fn lane(&self) -> Option<Lane> {
        match self.standing {
            Standing::Stranger | Standing::Claims(_) | Standing::Served(_) => None,
            Standing::Listed(lane) | Standing::Named(_, lane) => Some(lane),
        }
    }

    /// Returns true if this hub has posted to the tab, or holds for it, all of lane 0 that came
    /// here since it attached.
    const fn was_served(&self) -> bool {
        match self.standing {
            Standing::Stranger | Standing::Listed(_) | Standing::Claims(_) => false,
            Standing::Served(_) | Standing::Named(..) => true,
        }
    }

    /// Called when what the tab has of its lane may be of another one, until the server names that.
    const fn unname(&mut self) {
        match self.standing {
            Standing::Stranger | Standing::Claims(_) | Standing::Served(_) => {}
            Standing::Listed(_) => self.standing = Standing::Stranger,
            Standing::Named(session, lane) => {
                self.standing = Standing::Served((session, lane.alias));
            }
        }
    }

    /// Returns true if the tab is part of this session.
    pub(in crate::hub) fn is_part_of(&self, session: SessionId) -> bool {
        self.part().is_some_and(|(part, _)| part == session)
    }

    /// Called when the server knows the tab by this alias, has `n_seen` of its messages, and sends
    /// the frame `next` of its lane next.
    pub(in crate::hub) fn named(
        &mut self,
        (session, alias): Part,
        count0: u64,
        [next, n_seen]: [u64; 2],
    ) -> Named {
        let continues = self.part() == Some((session, alias));
        if !continues && n_seen > 0 {
            (self.own.heard, self.own.posted) = (0, 0);
            return Named::Outdated;
        }
        let posted = next.saturating_sub(1);
        if !continues {
            self.lane0.begun(count0);
            (self.own.heard, self.own.acknowledged) = (posted, 0);
        }
        self.own.posted = posted;
        // A page can say that it has what was never sent, and a server does not believe it.
        self.own.heard = self.own.heard.min(posted);
        self.standing = Standing::Named(session, Lane { alias, up: n_seen });
        self.left_out = false;
        Named::Resumes { continues }
    }

    /// Called when `Resume {continues: false}` is posted to the tab.
    pub(in crate::hub) const fn restarts(&mut self) {
        self.restarts += 1;
    }

    /// Called when the tab says that it has heard of that.
    pub(in crate::hub) const fn restarted(&mut self) {
        self.restarts = self.restarts.saturating_sub(1);
    }

    /// Returns the alias under which message `n` of the tab is to be sent. Returns `None` while
    /// the server does not know the tab, and if the message is out of its turn or belongs to
    /// another session.
    pub(in crate::hub) fn next_up(&mut self, n: u64) -> Option<Alias> {
        let (Standing::Listed(lane) | Standing::Named(_, lane)) = &mut self.standing else {
            return None;
        };
        if self.restarts > 0 || n.checked_sub(1) != Some(lane.up) {
            return None;
        }
        lane.up = n;
        Some(lane.alias)
    }
}

/// What a tab has heard, and what it missed.
impl MuxTab {
    /// Returns what a tab that is back is told of lane 0, in this order: that messages are
    /// missing, if so; what was `held` for it while it was parked; and what is kept for tabs that
    /// had not attached.
    pub(in crate::hub) fn returned(
        &mut self,
        session: Option<SessionId>,
        count0: u64,
        held: Held,
        history: &History,
    ) -> Vec<HubMessage> {
        // A tab may have gone away before it heard that it is part of the session. When it is back,
        // the server takes it for new there, and what was said to all before does not concern it.
        let is_in = session.is_some_and(|session| self.is_in(session));
        if is_in {
            self.lane0.posted(held.newest_to_all().min(count0));
        }
        // More came than is kept for it, and the server may not have been told so yet.
        if history.is_lost() && self.part().is_some() && !self.was_served() {
            self.lane0.lost(count0);
        }
        let mut told = held.into_messages();
        if !is_in {
            told.retain(|it| !matches!(it, HubMessage::Browser { .. } | HubMessage::BrowserGap));
        }
        if let Some(gap) = self.take_gap(count0) {
            told.insert(0, gap);
        }
        if is_in {
            for (count0, payload) in history.messages(self.lane0.heard()) {
                self.lane0.posted(count0);
                told.push(HubMessage::Browser { count0, payload });
            }
        }
        told
    }

    /// Returns what a tab is told now of messages to all tabs up to `count0` that it missed.
    pub(in crate::hub) fn take_gap(&mut self, count0: u64) -> Option<HubMessage> {
        self.lane0.take_gap(count0).then_some(HubMessage::BrowserGap)
    }

    /// Called when the server does not have the tab in the session any more, and says so only after
    /// what comes next in lane 0. `hole`: not all of lane 0 came to this hub.
    pub(in crate::hub) fn dropped_from(&mut self, session: SessionId, count0: u64, hole: bool) {
        if self.is_part_of(session) && (hole || !self.was_served()) {
            self.lane0.lost(count0);
        }
    }

    /// Returns true if what is said to all tabs of a session concerns the tab. To one that is new
    /// there, what was said before the server knew it does not.
    fn is_in(&self, session: SessionId) -> bool {
        self.lane().is_some() || self.is_part_of(session)
    }

    /// Returns true if this frame of lane 0 is news to the tab.
    pub(in crate::hub) fn wants(&self, session: SessionId, count: u64) -> bool {
        self.lane0.heard() < count && self.is_in(session)
    }

    /// Called when a message to all tabs is posted to the tab.
    pub(in crate::hub) fn posted0(&mut self, count: u64) {
        self.lane0.posted(count);
    }

    /// Called when a frame of the tab's own lane is about to be posted. Returns its count.
    pub(in crate::hub) const fn count_own(&mut self, bytes: usize) -> u64 {
        self.own.posted = self.own.posted.saturating_add(1);
        self.own.bytes = self.own.bytes.saturating_add(bytes);
        self.own.posted
    }

    /// Returns true if the tab has not yet said that it heard all that was posted to it.
    pub(in crate::hub) const fn has_unheard(&self, count0: u64) -> bool {
        self.lane0.heard() < count0 || self.lane().is_some() && self.own.heard < self.own.posted
    }

    /// Returns the Check that the tab is to be asked, unless it has heard all or owes an answer.
    pub(in crate::hub) fn ask(&mut self, now: Timestamp, count0: u64) -> Option<HubMessage> {
        if !self.has_unheard(count0) || !self.lane0.ask(now) {
            return None;
        }
        let count = if self.lane().is_some() { self.own.posted } else { 0 };
        Some(HubMessage::Check { count0, count })
    }

    /// Called when the tab answers a Check, in a session with `limit0` frames of lane 0. Returns
    /// false if the answer proves nothing: it is from before the tab came back or began anew, or
    /// from no tab at all.
    pub(in crate::hub) fn answered(&mut self, [count0, count]: [u64; 2], limit0: u64) -> bool {
        if self.restarts > 0 || !self.lane0.answered(count0.min(limit0)) {
            return false;
        }
        self.own.heard = self.own.heard.max(count.min(self.own.posted));
        true
    }

    /// Returns true if the acknowledgement of lane 0 waits for the answer of the tab.
    pub(in crate::hub) const fn holds_up(&self) -> bool {
        self.lane0.holds_up()
    }

    /// Lets lane 0 go on without the tab if `is_late` for the moment at which it was asked.
    pub(in crate::hub) fn give_up(&mut self, is_late: impl Fn(Timestamp) -> bool) {
        self.lane0.give_up(is_late);
    }

    /// Returns true if lane 0 is acknowledged without the tab.
    pub(in crate::hub) const fn lags(&self) -> bool {
        self.lane0.lags()
    }

    /// Returns how many frames of lane 0 the tab has heard for sure.
    pub(in crate::hub) const fn heard0(&self) -> u64 {
        self.lane0.heard()
    }

    /// Returns what the server calls the tab in a session: on this link, or on an earlier one since
    /// when the tab is parked.
    pub(in crate::hub) fn alias_in(&self, session: Option<SessionId>) -> Option<Alias> {
        match (self.lane(), self.part()) {
            (Some(lane), _) => Some(lane.alias),
            (None, Some((part, alias))) if Some(part) == session => Some(alias),
            (None, _) => None,
        }
    }

    /// Returns how much of its own lane the tab has heard, as far as that is not acknowledged. It
    /// counts as acknowledged from now on.
    pub(in crate::hub) fn acknowledge(&mut self) -> Option<u64> {
        let is_news = self.lane().is_some() && self.own.heard > self.own.acknowledged;
        is_news.then(|| {
            (self.own.acknowledged, self.own.bytes) = (self.own.heard, 0);
            self.own.heard
        })
    }

    /// Returns true if so many bytes of the tab's own lane came since it was last acknowledged.
    pub(in crate::hub) const fn is_filling(&self, bytes: usize) -> bool {
        self.own.bytes >= bytes
    }
}
