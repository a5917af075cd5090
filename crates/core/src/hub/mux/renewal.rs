//! Credentials of a link that is open. Before they expire, a tab is asked for newer ones. A hub
//! that was refused for good asks as well, now and then: somebody may have logged in.

use std::time::Duration;

use tabmux_wire::{Feature, HubFrame, Standing, WelcomeTail};

use super::{Mux, line::LOGGED_OUT};
use crate::{
    Timestamp,
    hub::{
        base::{Base, Machine},
        io::{Ask, HubMessage, LinkState, WakeReason},
        link::Connection,
        text::text,
    },
};

/// How long before the end a tab is asked, if the credentials live long. Else it is asked when a
/// quarter of the time is left.
const AHEAD: Duration = Duration::from_secs(90);
/// A tab is not asked earlier than this after the last time, nor for a time that is shorter.
const PAUSE: Duration = Duration::from_secs(1);
/// How often a hub that was refused for good asks whether there are other credentials.
const LOOK: Duration = Duration::from_secs(30);

/// How the credentials of the link stand.
#[derive(Debug, Default)]
pub(super) struct Renewal {
    /// True if the server takes newer ones on a link that is open.
    is_offered: bool,
    /// When the link ends, as far as the server told.
    expires: Option<Timestamp>,
    /// When a tab is asked next.
    at: Option<Timestamp>,
    /// When a tab was asked last.
    last: Option<Timestamp>,
    /// CREDENTIALS that were sent on this link.
    request: u64,
}

impl Renewal {
    /// Called when the server welcomed the hub.
    pub(super) fn welcomed(&mut self, tail: Option<&WelcomeTail>) {
        self.is_offered = tail.is_some_and(|tail| tail.features.contains(&Feature::Renewal));
    }

    /// Returns true if a tab is to be asked.
    pub(super) const fn is_planned(&self) -> bool {
        self.at.is_some()
    }

    pub(super) fn poll_timeout(&self) -> Option<(Timestamp, WakeReason)> {
        self.at.map(|at| (at, WakeReason::Renewal))
    }

    /// Decides when a tab is asked next. Shortly before the end there is no use in it: the next
    /// link shows newer credentials.
    fn plan(&mut self, now: Timestamp) {
        let left = self.expires.map(|expires| expires.saturating_since(now));
        let wait = left.map(|left| left - AHEAD.min(left / 4)).filter(|wait| *wait >= PAUSE);
        self.at = wait.map(|wait| now + wait);
    }
}

impl Mux {
    /// Takes what the server says of the credentials.
    pub(super) fn credentials_stand(
        &mut self,
        now: Timestamp,
        base: &mut Base,
        standing: &Standing<'_>,
    ) {
        let Standing { request, accepted, expires_ms, message } = *standing;
        let span = expires_ms.map(Duration::from_millis);
        self.renewal.expires = span.map(|span| now + span);
        self.renewal.plan(now);
        if accepted {
            self.tell_reason(base, String::new());
        } else if request > 0 {
            let url = &base.config.url;
            let reason = text!("tabmux: ", url, " refused the credentials: ", message);
            self.tell_reason(base, reason);
        }
    }

    /// Called when a tab told its credentials, or none could. Those that were shown before are not
    /// shown again.
    pub(super) fn credentials_answered(&mut self, base: &mut Base, answer: Result<bool, &str>) {
        if !matches!(self.connection, Connection::Connected(_)) {
            return;
        }
        match answer {
            Ok(false) => {}
            Ok(true) => {
                self.renewal.request += 1;
                let (request, credentials) = (self.renewal.request, "");
                let frame = HubFrame::Credentials { request, credentials };
                base.show_credentials(frame.to_bytes());
            }
            Err(why) => {
                let reason = text!("tabmux: the page could not renew its credentials: ", why);
                self.tell_reason(base, reason);
            }
        }
    }

    /// Asks a tab now, since the page wants it or since somebody may have logged in. A tab is asked
    /// once a second at most.
    pub(super) fn renew_now(&mut self, now: Timestamp, base: &Base) {
        let is_of_use = match &self.connection {
            Connection::Connected(_) => self.renewal.is_offered,
            Connection::Denied => true,
            Connection::Idle
            | Connection::WaitingForLock
            | Connection::Asking
            | Connection::Dialling { .. }
            | Connection::Handshaking { .. }
            | Connection::Backoff { .. } => false,
        };
        if base.config.asks && is_of_use {
            let next = self.renewal.last.map_or(now, |last| now.max(last + PAUSE));
            self.renewal.at = Some(next);
        }
    }

    /// Has the tabs asked now and then, since the server refused the hub for good.
    pub(super) fn look_for_others(&mut self, now: Timestamp, base: &Base) {
        self.renewal.at = base.config.asks.then(|| now + LOOK);
    }

    pub(super) fn renewal_timeout(&mut self, now: Timestamp, base: &mut Base) {
        if self.renewal.at.is_none_or(|at| at > now) {
            return;
        }
        self.renewal.at = None;
        self.renewal.last = Some(now);
        match &self.connection {
            Connection::Connected(_) if base.config.asks => {
                base.ask(now, Ask::Credentials);
                self.renewal.plan(now);
            }
            Connection::Denied => {
                base.ask(now, Ask::Address);
                // After a log-out the hub asks when a page wants it, and never by itself.
                if self.reason != LOGGED_OUT {
                    self.look_for_others(now, base);
                }
            }
            Connection::Connected(_)
            | Connection::Idle
            | Connection::WaitingForLock
            | Connection::Asking
            | Connection::Dialling { .. }
            | Connection::Handshaking { .. }
            | Connection::Backoff { .. } => {}
        }
    }

    /// Tells the tabs of the link something that does not change its state.
    fn tell_reason(&mut self, base: &mut Base, reason: String) {
        if self.reason == reason {
            return;
        }
        self.reason.clone_from(&reason);
        let mut others = base.tabs.attached();
        others.retain(|tab| self.left_out(*tab).is_none());
        let (state, tabs) = (LinkState::Connected, base.tab_count());
        base.post_all(others, &HubMessage::State { state, tabs, reason });
    }
}
