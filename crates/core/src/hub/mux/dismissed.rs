//! Tabs that the application ended. The hub asks the server for none of them before its time.

use std::time::Duration;

use tabmux_wire::{Dismissed, TabId};

use super::Mux;
use crate::{
    Timestamp,
    hub::{
        base::{Base, Machine},
        io::{HubMessage, LinkState},
        link::LONGEST_HINT,
        text::text,
    },
};

/// How a tab was ended. The hub keeps this until the tab may come back, or is gone.
#[derive(Debug)]
pub(super) struct Dismissal {
    /// When the tab may come back. `None` means never.
    until: Option<Timestamp>,
    /// What the tab is told.
    reason: String,
}

impl Dismissal {
    /// Returns what the tab is told of the link.
    const fn state(&self) -> LinkState {
        match self.until {
            Some(_) => LinkState::Full,
            None => LinkState::Refused,
        }
    }
}

impl Mux {
    /// Called when the server says that the application ended a tab.
    pub(super) fn dismiss(&mut self, now: Timestamp, base: &mut Base, dismissed: &Dismissed<'_>) {
        let Dismissed { tab, retry_ms, message } = *dismissed;
        if !base.tabs.contains(tab) {
            return;
        }
        let wait = retry_ms.map(|retry| Duration::from_millis(retry).min(LONGEST_HINT));
        let reason = text!("tabmux: the server ended this tab: ", message);
        let until = wait.map(|wait| now + wait);
        self.dismissals.insert(tab, Dismissal { until, reason });
        self.tabs.dismissed(tab);
        base.forget_sent(tab);
        self.topics.tab_away(base, tab, true);
        self.tell_dismissed(base, tab);
        self.ask_again(base);
    }

    /// Tells a tab that it is ended, and that what it had open is lost, in this order: a socket
    /// that the page opens when it hears of the loss fails for the same reason.
    pub(super) fn tell_dismissed(&self, base: &mut Base, tab: TabId) {
        let Some(dismissal) = self.dismissals.get(tab) else { return };
        let (state, tabs) = (dismissal.state(), base.tab_count());
        let reason = dismissal.reason.clone();
        base.post_now(tab, HubMessage::State { state, tabs, reason: reason.clone() });
        base.post_now(tab, HubMessage::Lost { reason });
    }

    /// Tells a tab that is back why the server will not have this hub, and that what the tab had
    /// open is lost.
    pub(super) fn tell_denied(&self, base: &mut Base, tab: TabId) {
        let (state, reason) = self.state();
        let (tabs, reason) = (base.tab_count(), reason.to_owned());
        base.post_now(tab, HubMessage::State { state, tabs, reason: reason.clone() });
        base.post_now(tab, HubMessage::Lost { reason });
    }

    pub(super) fn is_dismissed(&self, tab: TabId) -> bool {
        self.dismissals.contains(tab)
    }

    /// Returns what a tab that was ended is told of the link.
    pub(super) fn dismissal_of(&self, tab: TabId) -> Option<(LinkState, &str)> {
        self.dismissals.get(tab).map(|it| (it.state(), &*it.reason))
    }

    /// Attaches the tabs whose time has come.
    pub(super) fn readmit_due(&mut self, now: Timestamp, base: &mut Base) {
        let is_due = |_, it: &Dismissal| it.until.is_some_and(|until| until <= now);
        for tab in self.dismissals.keys_where(is_due) {
            self.readmit(base, tab);
        }
    }

    /// Attaches a tab that was ended, whose time has come or which asks for it.
    pub(super) fn readmit(&mut self, base: &mut Base, tab: TabId) {
        self.dismissals.remove(tab);
        if !base.tabs.is_attached(tab) {
            return;
        }
        let (state, reason) = self.state();
        let (tabs, reason) = (base.tab_count(), reason.to_owned());
        base.post_now(tab, HubMessage::State { state, tabs, reason });
        if self.connection.is_open() {
            self.send_attach(base, tab);
        }
        let may_ask = self.connection.may_ask();
        self.topics.tab_back(base, tab, may_ask, &self.history);
    }

    /// Returns when the next tab may come back.
    pub(super) fn readmits(&self) -> Option<Timestamp> {
        self.dismissals.iter().filter_map(|(_, it)| it.until).min()
    }
}
