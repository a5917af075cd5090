//! Whether a tab that comes is of the user whose the link is.
//!
//! A browser may log in as somebody else while the hub has a link. The link stays what it is, as a
//! native socket does, and so do the tabs that use it. A tab that comes later must not share it. So
//! the hub asks the server whose the browser is now, and sends a tab of somebody else to another
//! hub. It asks at most once a second, and an answer serves all tabs that came before it was asked.

use std::{mem, time::Duration};

use tabmux_wire::{IdentityTag, TabId};

use super::Mux;
use crate::{
    Timestamp,
    hub::{
        base::{Base, Has},
        io::{HubMessage, Output, WakeReason},
        link::Connection,
        text::text,
    },
};

/// The time between two questions.
const PAUSE: Duration = Duration::from_secs(1);
/// How long the server may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// A server that answers none of so many questions has no way to tell: a proxy may stand before it.
/// Then tabs attach as they come.
const TRIES: u32 = 3;
/// Tabs that may wait, and that may attach without another question. More than a browser has that
/// come at once.
const MOST: usize = 256;

/// What the server says of the browser.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Browser {
    Is(IdentityTag),
    /// It may have no link.
    Refused,
}

/// Whose the link is, and whose the browser.
#[derive(Debug, Default)]
pub(super) struct Identity {
    /// What the last WELCOME said.
    link: Option<IdentityTag>,
    /// When the server was asked last.
    last: Option<Timestamp>,
    /// When the question that is open counts as failed.
    until: Option<Timestamp>,
    /// Questions in a row that came to nothing.
    failures: u32,
    /// Tabs that came before the question that is open was asked.
    asked: Vec<TabId>,
    /// Tabs that came later, when the browser may have been somebody else's. The next question is
    /// for them.
    waiting: Vec<TabId>,
    /// Tabs that are to attach again, for which the server was asked.
    cleared: Vec<TabId>,
}

impl Identity {
    /// Called when the server welcomed the hub.
    pub(super) fn welcomed(&mut self, link: Option<IdentityTag>) {
        self.link = link;
    }

    /// Returns true for a tab that waits for an answer.
    pub(super) fn is_waiting(&self, tab: TabId) -> bool {
        self.asked.contains(&tab) || self.waiting.contains(&tab)
    }

    pub(super) fn poll_timeout(&self) -> Option<(Timestamp, WakeReason)> {
        let next = self.last.filter(|_| !self.waiting.is_empty()).map(|last| last + PAUSE);
        self.until.or(next).map(|at| (at, WakeReason::Who))
    }

    /// Asks the server for the tabs that wait, if no question is open and none was a moment ago.
    fn ask(&mut self, now: Timestamp, base: &mut Base) {
        let is_too_soon = self.last.is_some_and(|last| now < last + PAUSE);
        if self.waiting.is_empty() || self.until.is_some() || is_too_soon {
            return;
        }
        self.asked = mem::take(&mut self.waiting);
        (self.last, self.until) = (Some(now), Some(now + PATIENCE));
        base.order(Output::AskWho);
    }

    /// Has a tab attach again, and say again all that it wants.
    fn let_in(&mut self, base: &mut Base, tab: TabId) {
        if self.cleared.len() >= MOST {
            self.cleared.remove(0);
        }
        self.cleared.push(tab);
        base.order(Output::PostToTab { tab, message: HubMessage::Resync });
    }
}

impl Mux {
    /// Returns true if a tab may attach now. Else it is told to wait, or where to go.
    pub(super) fn admits(
        &mut self,
        now: Timestamp,
        base: &mut Base,
        tab: TabId,
        has: &Has<'_>,
    ) -> bool {
        let knows_users = !matches!(self.identity.link, None | Some(IdentityTag::NoUsers));
        let is_cleared = self.identity.cleared.iter().position(|it| *it == tab);
        if let Some(at) = is_cleared {
            self.identity.cleared.swap_remove(at);
        }
        // A tab that was in the session before stays with what it has there. Without a link the
        // next one shows whose the browser is.
        let was_here = has.claim.split(',').next().is_some_and(|own| !own.is_empty());
        let is_connected = matches!(self.connection, Connection::Connected(_));
        if !base.config.asks_who
            || !knows_users
            || !is_connected
            || was_here
            || is_cleared.is_some()
        {
            return true;
        }
        let identity = &mut self.identity;
        let reason = text!("tabmux: ", base.config.url, " is asked whose this browser is");
        base.order(Output::PostToTab { tab, message: HubMessage::Wait { reason } });
        if !identity.is_waiting(tab) {
            identity.waiting.push(tab);
        }
        if identity.waiting.len() > MOST {
            let oldest = identity.waiting.remove(0);
            base.order(Output::DropTab { tab: oldest });
        }
        identity.ask(now, base);
        false
    }

    /// Takes the server's answer: its text, `refused` if it closed with that, or nothing if it gave
    /// none.
    pub(super) fn who_answered(&mut self, now: Timestamp, base: &mut Base, text: &str) {
        let browser = match text {
            "no users" => Browser::Is(IdentityTag::NoUsers),
            "nobody" => Browser::Is(IdentityTag::Nobody),
            "refused" => Browser::Refused,
            _ => match text.strip_prefix("user ") {
                Some(tag) if is_tag(tag) => Browser::Is(IdentityTag::User(tag.into())),
                Some(_) | None => return self.who_failed(now, base),
            },
        };
        let identity = &mut self.identity;
        let is_ours = match &browser {
            Browser::Is(tag) => identity.link.as_ref() == Some(tag),
            Browser::Refused => false,
        };
        (identity.until, identity.failures) = (None, 0);
        for tab in mem::take(&mut identity.asked) {
            if is_ours {
                identity.let_in(base, tab);
            } else {
                send_elsewhere(base, tab, &browser);
            }
        }
        identity.ask(now, base);
    }

    /// The link is gone: the next one shows whose the browser is.
    pub(super) fn stop_asking_who(&mut self, base: &mut Base) {
        let identity = &mut self.identity;
        (identity.until, identity.failures) = (None, 0);
        let tabs = mem::take(&mut identity.asked).into_iter();
        for tab in tabs.chain(mem::take(&mut identity.waiting)) {
            identity.let_in(base, tab);
        }
    }

    pub(super) fn who_timeout(&mut self, now: Timestamp, base: &mut Base) {
        if self.identity.until.is_some_and(|until| until <= now) {
            self.who_failed(now, base);
        }
        self.identity.ask(now, base);
    }

    fn who_failed(&mut self, now: Timestamp, base: &mut Base) {
        let identity = &mut self.identity;
        if identity.until.take().is_none() {
            return;
        }
        identity.failures += 1;
        if identity.failures >= TRIES {
            return self.stop_asking_who(base);
        }
        let later = mem::take(&mut identity.waiting);
        identity.waiting = mem::take(&mut identity.asked);
        identity.waiting.extend(later);
        identity.ask(now, base);
    }
}

/// Sends a tab to the hub of the user that it has.
fn send_elsewhere(base: &mut Base, tab: TabId, browser: &Browser) {
    let user = match browser {
        Browser::Is(IdentityTag::User(tag)) => String::from(&**tag),
        // What is no tag: these hubs dial as everybody does, and hear for themselves.
        Browser::Is(IdentityTag::Nobody | IdentityTag::NoUsers) => "nobody.".to_owned(),
        Browser::Refused => "refused.".to_owned(),
    };
    base.order(Output::PostToTab { tab, message: HubMessage::Elsewhere { user } });
    base.order(Output::DropTab { tab });
}

/// Returns true for what may be a tag: it becomes a part of names.
fn is_tag(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    matches!(text.len(), 1..=64) && text.bytes().all(fits)
}
