//! Telling the server what the tabs have heard, so that it need not keep it.
//!
//! A tab is asked now and then whether it has heard all that was posted to it: the last message of
//! a burst cannot know that it is the last one. Hidden tabs' timers crawl, so tabs use none.

use tabmux_wire::{HubFrame, LaneCount, TabId};

use super::Mux;
use crate::{
    Timestamp,
    hub::{base::Base, io::WakeReason, link::Connection, resume::MuxTab},
};

/// What was received and is not acknowledged.
#[derive(Debug, Default)]
pub(super) struct Acks {
    /// When the tabs are asked, at the latest.
    due: Option<Timestamp>,
    /// When those that have not answered are given up.
    late: Option<Timestamp>,
    /// Frames and bytes since the tabs were last asked.
    frames: u64,
    bytes: usize,
    /// What of lane 0 is acknowledged.
    acknowledged0: u64,
}

impl Acks {
    /// Called when a reliable frame came. Returns true if so much came that the tabs are to be
    /// asked as soon as the frame is dealt with.
    pub(super) fn came(&mut self, now: Timestamp, base: &Base, len: usize) -> bool {
        self.frames += 1;
        self.bytes += len;
        self.due.get_or_insert(now + base.config.ack_delay);
        self.is_due_early(base)
    }

    /// So much came since the tabs were asked that they need not be given more time; unless they
    /// still owe an answer.
    fn is_due_early(&self, base: &Base) -> bool {
        let much = self.frames >= base.config.ack_frames || self.bytes >= base.config.ack_bytes;
        much && self.late.is_none()
    }

    /// Tabs are to be asked, whether anything comes or not.
    pub(super) fn wait(&mut self, now: Timestamp, base: &Base) {
        self.due.get_or_insert(now + base.config.ack_delay);
    }

    /// A session that another hub had: what came there of lane 0 was acknowledged.
    pub(super) const fn took_over(&mut self, count0: u64) {
        self.acknowledged0 = count0;
    }

    pub(super) fn poll_timeout(&self) -> Option<(Timestamp, WakeReason)> {
        let due = self.due.filter(|_| self.late.is_none());
        [due, self.late].into_iter().flatten().min().map(|at| (at, WakeReason::Ack))
    }

    /// The link is gone, and perhaps with it the last that was acknowledged: it is said again.
    pub(super) fn link_lost(&mut self) {
        *self = Self::default();
    }

    /// Another session: nothing came.
    pub(super) fn session_lost(&mut self) {
        *self = Self::default();
    }
}

impl Mux {
    /// Returns when what is kept of lane 0 is dropped, and topics that no tab wants are let go of.
    /// That is not while tabs are awaited, nor before the server has listed the session's topics:
    /// a tab may have said what it wants while there was no link.
    pub(super) fn history_ends(&self, base: &Base) -> Option<Timestamp> {
        let Connection::Connected(connected) = &self.connection else { return None };
        if connected.is_listing || base.tabs.any_awaited() {
            return None;
        }
        self.history.until()
    }

    /// Asks the tabs whether they have heard all that was posted to them.
    pub(super) fn check(&mut self, now: Timestamp, base: &mut Base) {
        let count0 = self.count0();
        let until = now + base.config.check_timeout;
        let acks = &mut self.acks;
        (acks.due, acks.late, acks.frames, acks.bytes) = (None, Some(until), 0, 0);
        for (id, tab) in self.tabs.iter_mut() {
            ask(now, base, id, tab, count0);
        }
        self.acknowledge_if_all_answered(now, base);
    }

    /// A tab has heard so many frames of lane 0 and of its lane.
    pub(super) fn tab_got(
        &mut self,
        now: Timestamp,
        base: &mut Base,
        id: TabId,
        [count0, count]: [u64; 2],
    ) {
        let limit0 = self.count0();
        let Some(tab) = self.tabs.get_mut(id) else {
            return;
        };
        // No Check asks for that: it has heard that it begins anew.
        if (count0, count) == (0, 0) {
            return tab.restarted();
        }
        if !tab.answered([count0, count], limit0) {
            return;
        }
        if tab.has_unheard(limit0) {
            // More came while it owed this answer. If that filled its lane, nothing will come to
            // have it asked again.
            self.acks.wait(now, base);
        }
        self.acknowledge_if_all_answered(now, base);
        // A burst that was in the link already may have filled the lane: what was acknowledged is
        // then too little for the server to go on.
        if self.acks.is_due_early(base) {
            self.check(now, base);
        } else if self.acks.late.is_some() {
            self.go_on_alone(now, base, id);
        }
    }

    /// Others have not answered. That is no reason for the lane of a tab which did to fill up.
    fn go_on_alone(&mut self, now: Timestamp, base: &mut Base, id: TabId) {
        let count0 = self.count0();
        if let Some(tab) = self.tabs.get_mut(id)
            && tab.is_filling(base.config.ack_bytes)
            && let Some(alias) = tab.alias_in(None)
            && let Some(count) = tab.acknowledge()
        {
            let lanes = vec![LaneCount { lane: alias.0, count }];
            // As below: it must not wait for what else is to be sent.
            base.send_first(HubFrame::Ack { lanes, aside: Vec::new() }.to_bytes());
            ask(now, base, id, tab, count0);
        }
    }

    /// Does what is due.
    pub(super) fn acks_timeout(&mut self, now: Timestamp, base: &mut Base) {
        if self.acks.late.is_some_and(|at| at <= now) {
            for (_, tab) in self.tabs.iter_mut() {
                // It may have been asked again since.
                tab.give_up(|asked| asked + base.config.check_timeout <= now);
            }
            self.acknowledge(now, base);
        }
        if self.acks.late.is_none() && self.acks.due.is_some_and(|at| at <= now) {
            self.check(now, base);
        }
    }

    fn acknowledge_if_all_answered(&mut self, now: Timestamp, base: &mut Base) {
        if !self.tabs.iter().any(|(_, tab)| tab.holds_up()) {
            self.acknowledge(now, base);
        }
    }

    /// Tells the server what was heard. A tab that has not answered, or that is in the
    /// back/forward cache, holds up its own lane and no other.
    fn acknowledge(&mut self, now: Timestamp, base: &mut Base) {
        self.acks.late = None;
        let lost = self.history.is_lost();
        let lags = |id: TabId, tab: &MuxTab| {
            tab.lags() || base.tabs.is_parked(id) || lost && base.tabs.is_awaited(id)
        };
        let heard0 = |(id, tab): (TabId, &MuxTab)| (!lags(id, tab)).then_some(tab.heard0());
        let count0 = self.tabs.iter().filter_map(heard0).min().unwrap_or(u64::MAX);
        let count0 = count0.min(self.count0());
        let (mut lanes, mut aside) = (Vec::new(), Vec::new());
        let more0 = count0 > self.acks.acknowledged0;
        if more0 {
            self.acks.acknowledged0 = count0;
            lanes.push(LaneCount { lane: 0, count: count0 });
        }
        let session = self.session.as_ref().map(|session| session.id);
        for (_, tab) in self.tabs.iter_mut() {
            let Some(alias) = tab.alias_in(session) else { continue };
            if more0 && tab.heard0() < count0 {
                aside.push(alias);
            }
            if let Some(count) = tab.acknowledge() {
                // In the order of lanes. A sort would be 3 kB of the wasm module.
                let at = lanes.partition_point(|other| other.lane < alias.0);
                lanes.insert(at, LaneCount { lane: alias.0, count });
            }
        }
        if base.tabs.any_awaited() {
            // Lane 0 stands still until they have attached or are gone, of which nothing else
            // tells.
            self.acks.wait(now, base);
        }
        if self.connection.is_open() {
            // With a PING a server looks which tabs have left a full lane as it is. PING does not
            // wait for what else is to be sent, so this must not either. Lane 0 keeps its place:
            // an ATTACH before it undoes that its tab is aside.
            let behind = matches!(self.connection, Connection::Connected(_)) && base.is_behind();
            let own = if behind { usize::from(more0) } else { lanes.len() };
            let own = lanes.split_off(own);
            if !own.is_empty() {
                base.send_first(HubFrame::Ack { lanes: own, aside: Vec::new() }.to_bytes());
            }
            if !lanes.is_empty() {
                base.send_note(HubFrame::Ack { lanes, aside }.to_bytes());
            }
        }
    }
}

/// Asks a tab, unless it has heard all, or owes an answer.
fn ask(now: Timestamp, base: &mut Base, id: TabId, tab: &mut MuxTab, count0: u64) {
    if base.tabs.is_attached(id)
        && let Some(check) = tab.ask(now, count0)
    {
        base.post_now(id, check);
    }
}
