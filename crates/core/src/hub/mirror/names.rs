//! The names by which a server can address one tab, and the tabs that left a short while ago.

use std::{collections::VecDeque, time::Duration};

use tabmux_wire::TabId;

use crate::{Timestamp, hub::map::Map};

/// How long a message for a tab that left is dropped. After that its name may be one of another
/// browser.
const REMEMBER: Duration = Duration::from_secs(60);
/// So many names of tabs that left are remembered; the oldest is forgotten first.
const MAX_LEFT: usize = 1024;
/// A longer name is none.
const MAX_NAME: usize = 64;

/// Names of tabs.
#[derive(Debug, Default)]
pub(super) struct Names {
    tabs: Map<TabId, String>,
    left: VecDeque<(String, Timestamp)>,
}

/// Whose a name is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// A tab of this hub.
    Tab(TabId),
    /// A tab of this hub that left within the last minute.
    Left,
    /// Nobody that this hub knows: a tab of another browser perhaps.
    Unknown,
}

impl Names {
    /// Called when a tab says its name.
    pub(super) fn learn(&mut self, tab: TabId, name: &str) {
        if !name.is_empty() && name.len() <= MAX_NAME {
            self.tabs.insert(tab, name.to_owned());
        }
    }

    /// Called when a tab is gone for good.
    pub(super) fn forget(&mut self, now: Timestamp, tab: TabId) {
        if let Some(name) = self.tabs.remove(tab) {
            if self.left.len() == MAX_LEFT {
                self.left.pop_front();
            }
            self.left.push_back((name, now + REMEMBER));
        }
    }

    /// Returns whose a name is.
    pub(super) fn owner(&mut self, now: Timestamp, name: &str) -> Owner {
        if let Some(tab) = self.tabs.keys_where(|_, known| known == name).first() {
            return Owner::Tab(*tab);
        }
        while self.left.front().is_some_and(|(_, until)| *until <= now) {
            self.left.pop_front();
        }
        if self.left.iter().any(|(left, _)| left == name) { Owner::Left } else { Owner::Unknown }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_remembered_for_a_minute_after_its_tab_left() {
        let (mut names, start) = (Names::default(), Timestamp::default());
        names.learn(TabId(1), "one");
        assert_eq!(names.owner(start, "one"), Owner::Tab(TabId(1)));
        assert_eq!(names.owner(start, "other"), Owner::Unknown);
        names.forget(start, TabId(1));
        assert_eq!(names.owner(start + Duration::from_secs(59), "one"), Owner::Left);
        assert_eq!(names.owner(start + Duration::from_secs(60), "one"), Owner::Unknown);
    }

    #[test]
    fn a_name_that_is_empty_or_too_long_is_none() {
        let (mut names, start) = (Names::default(), Timestamp::default());
        names.learn(TabId(1), "");
        names.learn(TabId(2), &"x".repeat(MAX_NAME + 1));
        assert_eq!(names.owner(start, ""), Owner::Unknown);
        assert_eq!(names.owner(start, &"x".repeat(MAX_NAME + 1)), Owner::Unknown);
    }

    #[test]
    fn the_oldest_names_of_tabs_that_left_are_forgotten_at_the_limit() {
        let (mut names, start) = (Names::default(), Timestamp::default());
        for tab in 0..=MAX_LEFT as u64 {
            names.learn(TabId(tab), &tab.to_string());
            names.forget(start, TabId(tab));
        }
        assert_eq!(names.left.len(), MAX_LEFT);
        assert_eq!(names.owner(start, "0"), Owner::Unknown);
        assert_eq!(names.owner(start, "1"), Owner::Left);
    }
}
