//! What each frame of a hub does to its session.

use tabmux_wire::{Alias, ErrorCode, HubFrame, ServerFrame, TabId, Upstream};

use super::{
    Event, PeerMisbehaved, effects::Effects, ledger::Charge, sockets::Open, state::Session,
    tab::Presence, topic_table::TopicTable,
};

type Handled = Result<(), PeerMisbehaved>;

impl Session {
    /// Takes a frame of `len` bytes.
    pub(super) fn on_frame(
        &mut self,
        fx: &mut Effects,
        topics: &mut TopicTable,
        frame: HubFrame<'_>,
        len: usize,
    ) -> Handled {
        if let Some(up) = frame.upstream() {
            if self.count(fx, up, len)? {
                self.on_reliable(fx, up.tab, frame)?;
                self.report(fx, false);
            }
            return Ok(());
        }
        match frame {
            HubFrame::Hello(_) => return Err(PeerMisbehaved::HelloTwice),
            HubFrame::Attach { tab, last } => self.on_attach(fx, tab, last)?,
            HubFrame::Park { tab } => self.on_park(fx, tab),
            HubFrame::Gone { tab } => self.on_gone(fx, tab),
            HubFrame::Ping { nonce } => {
                self.forget_stalled(fx);
                self.report(fx, true);
                self.send_frame(fx, &ServerFrame::Pong { nonce });
            }
            HubFrame::Ack { lanes, aside } => {
                self.on_ack(fx, &lanes, &aside)?;
                self.release(fx, topics);
                self.wake_waiting(fx);
            }
            HubFrame::Subscribe { request, position, topic } => {
                self.on_subscribe(fx, topics, request, position, topic);
            }
            HubFrame::Unsubscribe { topic } => self.on_unsubscribe(fx, topics, topic),
            // Frames that this release does not act on, and types of later versions.
            HubFrame::Credentials { .. } | HubFrame::Presence { .. } | HubFrame::Unknown { .. } => {
            }
            // Matters of the link.
            HubFrame::Suspend | HubFrame::End => {}
            // Reliable, and dealt with above.
            HubFrame::Open { .. }
            | HubFrame::Data { .. }
            | HubFrame::Close { .. }
            | HubFrame::Credit { .. }
            | HubFrame::Request(_)
            | HubFrame::Cancel { .. }
            | HubFrame::Publish(_)
            | HubFrame::Recover(_) => {}
        }
        Ok(())
    }

    /// Takes a reliable frame of a tab, which was counted.
    fn on_reliable(&mut self, fx: &mut Effects, tab: Alias, frame: HubFrame<'_>) -> Handled {
        match frame {
            HubFrame::Open { socket, credit, path, protocols, .. } => {
                self.on_open(fx, tab, Open { socket, credit, path, protocols });
            }
            HubFrame::Data { socket, payload, .. } => self.on_data(fx, tab, socket, payload),
            HubFrame::Close { socket, code, reason, .. } => {
                return self.on_close(fx, tab, socket, code, reason);
            }
            HubFrame::Credit { socket, bytes, .. } => self.on_credit(fx, tab, socket, bytes),
            HubFrame::Request(request) => self.on_request(fx, tab, &request),
            HubFrame::Cancel { socket, .. } => self.on_cancel(fx, tab, socket),
            // Frames that this release does not act on, and types of later versions.
            HubFrame::Publish(_) | HubFrame::Recover(_) | HubFrame::Unknown { .. } => {}
            // Not reliable, and dealt with above.
            HubFrame::Hello(_)
            | HubFrame::Attach { .. }
            | HubFrame::Park { .. }
            | HubFrame::Gone { .. }
            | HubFrame::Suspend
            | HubFrame::Ack { .. }
            | HubFrame::Ping { .. }
            | HubFrame::Subscribe { .. }
            | HubFrame::Unsubscribe { .. }
            | HubFrame::Credentials { .. }
            | HubFrame::Presence { .. }
            | HubFrame::End => {}
        }
        Ok(())
    }

    /// Counts a tab's reliable frame. Returns false if there is nothing to do for it.
    fn count(
        &mut self,
        fx: &mut Effects,
        up: Upstream,
        len: usize,
    ) -> Result<bool, PeerMisbehaved> {
        if let Some(tab) = self.tabs.get_mut(up.tab) {
            let before = tab.cost();
            let counted = tab.count(up.n, len);
            self.ledger.charge(fx, Charge::Sessions, before, tab.cost());
            return counted;
        }
        let message = format!("this session has no tab with alias {}", up.tab.0);
        self.send_error(fx, ErrorCode::UnknownTab, None, None, &message);
        Ok(false)
    }

    fn on_attach(&mut self, fx: &mut Effects, tab: TabId, last: u64) -> Handled {
        let limit = fx.config.tabs as usize;
        let known = self.alias(tab);
        if known.is_none() && self.tabs.len() >= limit {
            self.forget_parked(fx);
        }
        let alias = match known {
            Some(alias) => Some(alias),
            None if self.tabs.len() >= limit => None,
            None => self.add_tab(fx, tab),
        };
        let Some(alias) = alias else {
            fx.stats.tabs.refused += 1;
            let message = format!("a browser may have {limit} tabs on this server");
            self.send_error(fx, ErrorCode::TabLimit, Some(tab), None, &message);
            return Ok(());
        };
        // What was never sent in this lane is of an earlier one: the tab may say so twice before it
        // hears of the new one. Or its page makes it up, which is no fault of the other tabs.
        let lane = self.tabs.get(alias).and_then(|tab| tab.lane());
        let last = if lane.is_some_and(|lane| lane.sent() >= last) { last } else { 0 };
        self.acknowledge(fx, alias, last)?;
        let Some(entry) = self.tabs.get_mut(alias) else {
            return Ok(());
        };
        *fx.stats.tabs.of(entry.presence) -= 1;
        fx.stats.tabs.attached += 1;
        entry.presence = Presence::Attached;
        let aside = std::mem::take(&mut entry.aside);
        let rest = entry.lane().map_or(Ok((1, Vec::new())), |lane| lane.after(last));
        let (next, frames) = rest.map_err(|_| PeerMisbehaved::NoSuchFrame)?;
        let n_seen = entry.seen();
        if let Some(slow) = &mut self.slow {
            let of_tab = slow.stalled.iter_mut().filter(|(stalled, _)| *stalled == alias);
            of_tab.for_each(|(_, since)| *since = fx.now);
        }
        self.send_frame(fx, &ServerFrame::Attached { tab, alias, next, n_seen, aside });
        self.send_kept(fx, frames);
        self.wake_waiting(fx);
        fx.event(Event::TabAttached { session: self.id, tab });
        Ok(())
    }

    /// Forgets the tab that was parked first: nobody says when its page leaves the cache, which
    /// has room for a few only, and a page that is there is worth more.
    fn forget_parked(&mut self, fx: &mut Effects) {
        let parked = self.tabs.iter().filter(|it| it.presence == Presence::Parked);
        // One that has nothing to lose comes before all that have.
        let first = parked.min_by_key(|it| it.parked_since()).map(|it| it.id);
        if let Some(tab) = first {
            self.on_gone(fx, tab);
        }
    }

    fn on_park(&mut self, fx: &mut Effects, tab: TabId) {
        let alias = self.alias(tab);
        if let Some(entry) = alias.and_then(|alias| self.tabs.get_mut(alias))
            && entry.presence != Presence::Parked
        {
            *fx.stats.tabs.of(entry.presence) -= 1;
            entry.park(fx.now);
            fx.stats.tabs.parked += 1;
            fx.event(Event::TabParked { session: self.id, tab });
            // What its lane keeps counts apart from now on, which others may wait for.
            self.wake_waiting(fx);
        }
    }

    /// Forgets a tab, with its sockets and its questions.
    pub(super) fn on_gone(&mut self, fx: &mut Effects, tab: TabId) {
        let Some(alias) = self.alias(tab) else {
            return;
        };
        let Some(entry) = self.tabs.remove(alias) else {
            return;
        };
        if let Some(slow) = &mut self.slow {
            fx.stats.sockets.awaiting_credit -= slow.waiting.without_credit();
            slow.waiting.remove_tab(alias);
            fx.stats.sockets.awaiting_credit += slow.waiting.without_credit();
            slow.stalled.retain(|(stalled, _)| *stalled != alias);
            self.tidy_slow(fx);
        }
        self.kept -= entry.kept();
        fx.stats.memory.kept_bytes -= entry.kept();
        self.discharge_tab(fx, &entry);
        (0..entry.asking_count()).for_each(|_| self.question_ended());
        entry.end(fx, self.id);
        fx.event(Event::TabGone { session: self.id, tab });
        // What it kept may be what others wait for, of whom nothing need come.
        self.wake_waiting(fx);
    }
}
