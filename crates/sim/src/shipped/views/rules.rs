//! Options of mirror mode: which earlier messages a late view hears.

use super::{super::world::World, Mode, SocketState, View, ViewKey, outage::ATTEMPTS};
use crate::{
    invariant::{Checked, Invariant::NothingLost},
    seen::Sight,
};

/// Number of earlier messages that a late view hears, if the pages set the option.
const REPLAYED: u64 = 3;
/// Time for which a connection outlives its last view, in milliseconds, if the pages set the
/// option.
const LINGER_MS: u64 = 2_000;

impl World {
    /// Returns true if the pages of a browser set the options. It follows from a trait, so that no
    /// other draw of a seed changes.
    fn has_rules(&self, browser: usize) -> bool {
        self.browsers[browser].traits.link_ms > 3
    }

    /// Returns the options of a view besides those of its page.
    pub(super) fn rules(&self, browser: usize, mode: Mode, feed: u64) -> String {
        let mut rules = String::new();
        if mode == Mode::Exclusive {
            return rules;
        }
        if self.has_rules(browser) {
            rules += &format!(r#""replayLast":{REPLAYED},"linger":{LINGER_MS},"#);
        }
        if self.has_asks(browser) {
            rules += &format!(r#""shareBy":"feed {feed}","#);
        }
        if self.has_routes(browser) {
            rules += r#""routeBy":"to","#;
        }
        if self.has_policy(browser) {
            rules += &format!(r#""reconnect":{{"minMs":100,"maxMs":2000,"attempts":{ATTEMPTS}}},"#);
        }
        rules
    }

    /// Called when a view joins a connection. If its page has another view there already, the view
    /// hears no earlier messages.
    pub(super) fn view_joins(&mut self, key: ViewKey) {
        let Some(view) = self.view(key) else { return };
        let (mode, feed) = (view.mode, view.feed);
        let others = |page: &super::super::page::Page| {
            page.views.iter().any(|(number, it)| {
                let is_there = it.state != SocketState::Closed;
                *number != key.number && is_there && (it.mode, it.feed) == (mode, feed)
            })
        };
        let browser = &mut self.browsers[key.browser];
        let page = browser.page_of(key.tag).and_then(|number| browser.page(number));
        if mode == Mode::Exclusive || page.is_none_or(|page| others(page)) {
            return;
        }
        if !self.has_rules(key.browser) {
            return;
        }
        let open = self.plain.connections.iter();
        let said = open.map(|(link, it)| (*link, it.said)).collect();
        if let Some(view) = self.view(key) {
            view.late = said;
        }
    }

    /// Checks that the first message of a late view is one of the last that the hub repeats. The
    /// hub has no more of them than the server had sent when the view was open.
    pub(super) fn late_view_hears(&mut self, key: ViewKey, link: u64, m: u64) -> Checked {
        let Some(View { late, was_cached, heard, .. }) = self.view(key) else {
            return Ok(());
        };
        let (late, was_cached, heard) = (std::mem::take(late), *was_cached, *heard);
        let Some(said) = late.get(&link).filter(|_| !was_cached && heard.is_none()) else {
            return Ok(());
        };
        let latest = said.saturating_sub(REPLAYED - 1).max(1);
        if m < *said {
            self.seen.add(Sight::Replayed);
        }
        NothingLost.unless(m <= latest, || {
            format!("{key:?} came late and heard number {m} first, of {said}")
        })
    }
}
