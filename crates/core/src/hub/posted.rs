//! What was posted to tabs a short while ago, in mirror mode.
//!
//! `WebKit` drops some of what is on its way to a page that enters the back/forward cache. So a tab
//! hears nothing from then on. When it is back, it says how much it has heard, and is posted the
//! rest again.

use std::collections::VecDeque;

use tabmux_wire::TabId;

use super::{io::HubMessage, map::Map};

/// How many messages each tab was posted, and the last of them.
#[derive(Debug, Default)]
pub(super) struct Posted {
    counts: Map<TabId, u64>,
    /// The oldest first, each with the tabs that it was posted to.
    last: VecDeque<(Vec<TabId>, HubMessage)>,
    bytes: usize,
}

impl Posted {
    /// Counts a message for these tabs. Keeps it among the last `limit` bytes.
    pub(super) fn add(&mut self, tabs: &[TabId], message: &HubMessage, limit: usize) {
        for tab in tabs {
            *self.counts.entry(*tab, || 0) += 1;
        }
        self.bytes += message.cost();
        self.last.push_back((tabs.to_vec(), message.clone()));
        while self.bytes > limit {
            let Some((_, oldest)) = self.last.pop_front() else { return };
            self.bytes -= oldest.cost();
        }
    }

    /// Returns what a tab that heard so many messages was posted since. Returns nothing if not all
    /// of that is kept: then the tab counts on from what it heard.
    pub(super) fn missed(&mut self, tab: TabId, heard: u64) -> Option<Vec<HubMessage>> {
        let Some(count) = self.counts.get_mut(tab) else {
            return Some(Vec::new());
        };
        let missing = usize::try_from(count.saturating_sub(heard)).unwrap_or(usize::MAX);
        let its = self.last.iter().rev().filter(|(tabs, _)| tabs.contains(&tab));
        let mut all = its.take(missing).map(|(_, message)| message.clone()).collect::<Vec<_>>();
        if all.len() < missing {
            *count = heard;
            return None;
        }
        all.reverse();
        Some(all)
    }

    /// Called when a tab is gone for good.
    pub(super) fn forget(&mut self, tab: TabId) {
        self.counts.remove(tab);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::OwnedPayload;

    const LIMIT: usize = 4096;

    fn message(text: &str) -> HubMessage {
        HubMessage::Mirror { payload: OwnedPayload::Text(text.to_owned()) }
    }

    #[test]
    fn a_tab_misses_what_it_was_posted_and_did_not_hear() {
        let mut posted = Posted::default();
        let (one, other) = (TabId(1), TabId(2));
        posted.add(&[one, other], &message("a"), LIMIT);
        posted.add(&[other], &message("b"), LIMIT);
        posted.add(&[one, other], &message("c"), LIMIT);
        assert_eq!(posted.missed(one, 2), Some(vec![]));
        assert_eq!(posted.missed(one, 1), Some(vec![message("c")]));
        assert_eq!(posted.missed(other, 0), Some(["a", "b", "c"].map(message).to_vec()));
        // What a page says of itself may be anything.
        assert_eq!(posted.missed(other, u64::MAX), Some(vec![]));
        posted.forget(other);
        assert_eq!(posted.missed(other, 0), Some(vec![]));
    }

    #[test]
    fn at_the_limit_the_oldest_is_dropped_and_a_tab_that_missed_it_is_told() {
        let mut posted = Posted::default();
        let tab = TabId(1);
        let large = "x".repeat(LIMIT / 2);
        posted.add(&[tab], &message("first"), LIMIT);
        posted.add(&[tab], &message(&large), LIMIT);
        posted.add(&[tab], &message(&large), LIMIT);
        assert!(posted.bytes <= LIMIT && posted.last.len() == 1);
        assert_eq!(posted.missed(tab, 2), Some(vec![message(&large)]));
        assert_eq!(posted.missed(tab, 1), None);
        // It goes on from there.
        assert_eq!(posted.missed(tab, 1), Some(vec![]));
    }
}
