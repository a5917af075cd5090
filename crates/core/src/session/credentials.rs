//! Until when the credentials count that opened a link. A link ends when they no longer do, and its
//! session waits for another one.

use std::collections::{BTreeMap, BTreeSet};

use tabmux_wire::{GoAwayReason, ServerFrame, close};

use super::{LinkDown, LinkId, Registry, link::Phase};
use crate::Timestamp;

/// The hub and its pages are told this.
const EXPIRED: &str = "the credentials of this link have expired";

/// Links whose credentials expire. Others are not here, and cost nothing.
#[derive(Debug, Default)]
pub(super) struct Credentials {
    links: BTreeMap<LinkId, Timestamp>,
    due: BTreeSet<(Timestamp, LinkId)>,
}

impl Credentials {
    pub(super) fn insert(&mut self, link: LinkId, until: Timestamp) {
        self.remove(link);
        self.links.insert(link, until);
        self.due.insert((until, link));
    }

    pub(super) fn remove(&mut self, link: LinkId) {
        if let Some(until) = self.links.remove(&link) {
            self.due.remove(&(until, link));
        }
    }

    /// Returns when the first of them expire.
    pub(super) fn first(&self) -> Option<Timestamp> {
        self.due.first().map(|(until, _)| *until)
    }

    fn pop_due(&mut self, now: Timestamp) -> Option<LinkId> {
        let (_, link) = *self.due.first().filter(|(until, _)| *until <= now)?;
        self.remove(link);
        Some(link)
    }
}

impl Registry {
    /// Ends the links whose credentials have expired. Their hubs are told to dial again at once, so
    /// that a page can show newer ones.
    pub(super) fn end_expired_links(&mut self) {
        while let Some(link) = self.credentials.pop_due(self.fx.now) {
            if let Some(Phase::Session(place)) = self.links.get(link).map(|link| &link.phase)
                && let Some(session) = self.sessions.get_mut(*place)
            {
                let (reason, target) = (GoAwayReason::Rebalance, "");
                let go_away = ServerFrame::GoAway { reason, after_ms: 0, spread_ms: 0, target };
                session.send_frame(&mut self.fx, &go_away);
            }
            self.fx.stats.links.expired += 1;
            self.close_link(link, close::POLICY, EXPIRED.into(), LinkDown::Expired);
        }
    }
}
