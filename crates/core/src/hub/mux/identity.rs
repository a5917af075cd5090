//! Whether a tab that comes, or opens a socket, is of the user whose the link is.
//!
//! A browser may log in as somebody else while the hub has a link. The link stays what it is, as a
//! native socket does, and so do the sockets in it. A tab or a socket that comes later must not
//! share it. So the hub asks the server whose the browser is now, and sends a tab of somebody else
//! to another hub. It asks at most once a second, and an answer serves all that came before it was
//! asked.
//!
//! The hub of a user has a lock, whose name holds the user's tag. A hub that learns from WELCOME
//! whose its link is takes that lock. If another hub has it, this one sends its tabs there. A hub
//! whose next link is of somebody else sends all its tabs to the hub of that user, so no tab sees
//! the user of its hub change. A hub whose names hold a tag has links of that user alone.

use std::{mem, time::Duration};

use tabmux_wire::{IdentityTag, TabId, close as code};

use super::Mux;
use crate::{
    Timestamp,
    hub::{
        base::{Base, Has},
        io::{HubMessage, Output, WakeReason},
        link::Connection,
        resume::Claim,
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

/// What stands in names for a browser of nobody. No tag has a point.
const NOBODY: &str = "nobody.";
/// The same for a browser that may have no link. Its hub dials as all do, and hears for itself.
const REFUSED: &str = "refused.";
/// Why the sockets of a hub are lost whose link is of somebody else.
const CHANGED: &str = "tabmux: the user changed";

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
    /// Returns true for a tab that waits for an answer.
    pub(super) fn is_waiting(&self, tab: TabId) -> bool {
        self.asked.contains(&tab) || self.waiting.contains(&tab)
    }

    /// Called when a tab is no more, or is parked: it asks again when it is back.
    pub(super) fn forget(&mut self, tab: TabId) {
        for tabs in [&mut self.asked, &mut self.waiting, &mut self.cleared] {
            tabs.retain(|it| *it != tab);
        }
    }

    /// Returns true if the link is one of a server that knows users.
    const fn knows_users(&self) -> bool {
        matches!(self.link, Some(IdentityTag::Nobody | IdentityTag::User(_)))
    }

    /// Returns whose the hub is, as names have it. `None` if it may become anybody's.
    fn owner<'a>(&'a self, base: &'a Base) -> Option<&'a str> {
        match &self.link {
            _ if !base.config.tag.is_empty() => Some(&base.config.tag),
            Some(link @ (IdentityTag::Nobody | IdentityTag::User(_))) => Some(name_of(link)),
            Some(IdentityTag::NoUsers) | None => None,
        }
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
        let is_cleared = self.identity.cleared.iter().position(|it| *it == tab);
        if let Some(at) = is_cleared {
            self.identity.cleared.swap_remove(at);
        }
        // A tab that was in the session before stays with what it has there. Without a link the
        // next one shows whose the browser is. And a tab knows whose hub it is at where names tell.
        let session = self.session.as_ref().map(|session| session.id);
        let [own, _] = Claim::both(has.claim);
        let was_here = own.is_some_and(|own| Some(own.session) == session);
        let is_connected = matches!(self.connection, Connection::Connected(_));
        if !base.config.asks_who
            || !base.config.tag.is_empty()
            || !self.identity.knows_users()
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
        let mut come = identity.waiting.iter().filter(|tab| !base.tabs.is_attached(**tab));
        if let Some(oldest) = come.next().copied().filter(|_| come.count() >= MOST) {
            identity.forget(oldest);
            base.order(Output::DropTab { tab: oldest });
        }
        identity.ask(now, base);
        false
    }

    /// Called when a tab wants to know whose the browser is, before it opens a socket.
    pub(super) fn asked_whose(&mut self, now: Timestamp, base: &mut Base, tab: TabId) {
        let is_connected = matches!(self.connection, Connection::Connected(_));
        let identity = &mut self.identity;
        if !is_connected || !identity.knows_users() {
            return self.tell_user(base, tab, true);
        }
        // There are no more of these than tabs. A question that is on its way tells nothing of now.
        if !identity.waiting.contains(&tab) {
            identity.waiting.push(tab);
        }
        identity.ask(now, base);
    }

    /// Tells a tab whose the link is. Nobody needs to know it of a server that knows no users.
    pub(super) fn tell_user(&self, base: &mut Base, tab: TabId, answers: bool) {
        if let Some(user) = self.identity.owner(base).map(str::to_owned) {
            base.post_now(tab, HubMessage::User { answers, user });
        }
    }

    /// Called when the server welcomes the hub. Returns false if the link is of somebody else than
    /// the hub: then its tabs are sent to the hub of that user.
    pub(super) fn fits(&mut self, now: Timestamp, base: &mut Base, link: IdentityTag) -> bool {
        let user = name_of(&link);
        if self.identity.owner(base).is_some_and(|owner| owner != user) {
            self.lose_session(base, CHANGED);
            self.send_all_elsewhere(now, base, user);
            return false;
        }
        if base.config.tag.is_empty() && link != IdentityTag::NoUsers {
            base.take_tag(user.to_owned());
        }
        self.identity.link = Some(link);
        true
    }

    /// Called when the hub that was suspended goes on: it had given its locks back.
    pub(super) fn take_tag_again(&self, base: &mut Base) {
        if let (true, Some(user)) = (base.config.tag.is_empty(), self.identity.owner(base)) {
            let user = user.to_owned();
            base.take_tag(user);
        }
    }

    /// Called when another hub has the lock of the key and tag. If the names of this hub hold the
    /// tag, that is the hub that all attach to that know no tag, which became this user's.
    pub(super) fn tag_is_taken(&mut self, now: Timestamp, base: &mut Base) {
        let Some(owner) = self.identity.owner(base) else { return };
        let user = if base.config.tag.is_empty() { owner.to_owned() } else { String::new() };
        self.send_all_elsewhere(now, base, &user);
    }

    /// Sends all tabs to the hub of this user, and forgets those that are away: they come back as
    /// tabs that this hub does not know. Nothing was said in the session, if it is a new one, and
    /// one in which nothing was said ends with its link. Else the tabs show it to the other hub.
    fn send_all_elsewhere(&mut self, now: Timestamp, base: &mut Base, user: &str) {
        base.close_link(now, code::NORMAL, "");
        self.link_lost(now, base);
        for tab in base.tabs.all() {
            base.post_now(tab, HubMessage::Elsewhere { user: user.to_owned() });
            base.order(Output::DropTab { tab });
            base.tabs.remove(tab);
            base.forget_sent(tab);
            base.asking.forget(tab);
            self.tabs.remove(tab);
            self.dismissals.remove(tab);
            self.topics.tab_gone(base, tab);
        }
        self.others.clear();
        self.reason.clear();
        self.stop(now, base);
    }

    /// No tab is left: the next link may be anybody's.
    pub(super) fn forget_identity(&mut self) {
        self.identity.link = None;
    }

    /// Takes the server's answer: its text, `refused` if it closed with that, or nothing if it gave
    /// none.
    pub(super) fn who_answered(&mut self, now: Timestamp, base: &mut Base, text: &str) {
        let user = match text {
            "no users" | "nobody" => NOBODY,
            "refused" => REFUSED,
            _ => match text.strip_prefix("user ") {
                Some(tag) if is_tag(tag) => tag,
                Some(_) | None => return self.who_failed(now, base),
            },
        };
        let identity = &mut self.identity;
        if identity.until.take().is_none() {
            return;
        }
        identity.failures = 0;
        let is_ours = identity.owner(base) == Some(user);
        for tab in mem::take(&mut identity.asked) {
            let user = user.to_owned();
            if base.tabs.is_attached(tab) {
                base.post_now(tab, HubMessage::User { answers: true, user });
            } else if is_ours {
                identity.let_in(base, tab);
            } else {
                base.order(Output::PostToTab { tab, message: HubMessage::Elsewhere { user } });
                base.order(Output::DropTab { tab });
            }
        }
        identity.ask(now, base);
    }

    /// The link is gone: the next one shows whose the browser is.
    pub(super) fn stop_asking_who(&mut self, base: &mut Base) {
        let identity = &mut self.identity;
        (identity.until, identity.failures) = (None, 0);
        let tabs = mem::take(&mut identity.asked).into_iter();
        for tab in tabs.chain(mem::take(&mut identity.waiting)).collect::<Vec<_>>() {
            if base.tabs.is_attached(tab) {
                self.tell_user(base, tab, true);
            } else {
                self.identity.let_in(base, tab);
            }
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
            self.stop_asking_who(base);
            // It is asked once more for those that come later, who are not to wait as long.
            self.identity.failures = TRIES - 1;
            return;
        }
        let later = mem::take(&mut identity.waiting);
        identity.waiting = mem::take(&mut identity.asked);
        identity.waiting.extend(later);
        identity.ask(now, base);
    }
}

/// Returns what stands in the names of the hub that has links of this identity.
fn name_of(identity: &IdentityTag) -> &str {
    match identity {
        IdentityTag::User(tag) => tag,
        IdentityTag::Nobody | IdentityTag::NoUsers => NOBODY,
    }
}

/// Returns true for what may be a tag: it becomes a part of names.
fn is_tag(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    matches!(text.len(), 1..=64) && text.bytes().all(fits)
}
