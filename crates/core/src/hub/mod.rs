//! The hub: the one place per browser profile, origin and key that owns the link and routes its
//! messages to the tabs.

mod ask;
mod base;
mod config;
mod io;
mod link;
mod map;
mod mirror;
mod mux;
mod port;
mod posted;
mod resume;
mod rng;
mod tabs;
mod text;
mod topics;

pub use self::{
    config::{HubConfig, Mode},
    io::{
        Ask, AskId, AttemptId, Event, HubMessage, Input, LinkState, Output, Rules, SubscriptionId,
        TabMessage, WakeReason,
    },
    port::{HubKind, Numbers, PortMessage},
};

use std::{fmt, time::Duration};

use tabmux_wire::{MAX_REASON, SocketId, TabId};

use self::{
    base::{Base, Close, Has, Machine, Said, Subscription},
    mirror::Mirror,
    mux::Mux,
    text::text,
};
use crate::Timestamp;

/// A hub. See the [crate documentation](crate) for how to run it.
///
/// - Facts go in by [`handle_input`](Self::handle_input).
/// - Time goes in by [`handle_timeout`](Self::handle_timeout).
/// - Orders come out of [`poll_output`](Self::poll_output), and are to be carried out in the order
///   in which they come.
/// - The next moment comes out of [`poll_timeout`](Self::poll_timeout).
///
/// After every `handle_*`, either [`poll_output`](Self::poll_output) has orders or
/// [`poll_timeout`](Self::poll_timeout) names a moment, if there is anything left to do; and
/// after `handle_timeout(now)` that moment lies after `now`.
pub struct Hub {
    base: Base,
    machine: Box<dyn Machine>,
    /// The state and the number of tabs that tabs were last told.
    told: (LinkState, usize),
    /// Until when nobody may ask for a new link again.
    reconnects_from: Timestamp,
}

/// All calls of `reconnect()` within so long count as one.
const RECONNECT_INTERVAL: Duration = Duration::from_secs(1);

impl Hub {
    /// Returns a hub without tabs, which does nothing yet. `seed` is for jitter only.
    pub fn new(config: HubConfig, seed: u64) -> Self {
        match config.mode {
            Mode::Mirror => Self::mirror(config, seed),
            Mode::Mux => Self::mux(config, seed),
        }
    }

    /// Returns the same in mux mode, whatever the mode of `config`. A module that calls this and
    /// not [`new`](Self::new) has no code of the mirror machine.
    pub fn mux(config: HubConfig, seed: u64) -> Self {
        Self::of(Box::new(Mux::new(&config)), config, seed)
    }

    /// Returns the same in mirror mode, whatever the mode of `config`. A module that calls this and
    /// not [`new`](Self::new) has no code of the mux machine.
    pub fn mirror(config: HubConfig, seed: u64) -> Self {
        let mut hub = Self::of(Box::new(Mirror::default()), config, seed);
        hub.base.keep_posted();
        hub
    }

    fn of(machine: Box<dyn Machine>, config: HubConfig, seed: u64) -> Self {
        let base = Base::new(config, seed);
        Self { base, machine, told: (LinkState::Idle, 0), reconnects_from: Timestamp::default() }
    }

    /// Returns the state of the link.
    pub fn state(&self) -> LinkState {
        self.machine.state().0
    }

    /// Returns the number of tabs that are not parked.
    pub fn tabs(&self) -> usize {
        self.base.tabs.present().len()
    }

    /// Returns the number of tabs that are parked.
    pub fn parked(&self) -> usize {
        self.base.tabs.parked()
    }

    /// Takes a fact in. Never fails: facts about links of the past are ignored.
    pub fn handle_input(&mut self, now: Timestamp, input: Input<'_>) {
        let mut fresh = None;
        match input {
            Input::TabMessage { tab, message: TabMessage::Attach { claim, last0, last } } => {
                fresh = self.attach(now, tab, Has { claim, last0, last });
            }
            Input::TabMessage { tab, message } if self.base.tabs.contains(tab) => {
                self.tab_message(now, tab, message);
            }
            Input::TabMessage { tab, message: TabMessage::Bye } => {
                self.base.order(Output::DropTab { tab });
            }
            Input::TabMessage { tab, .. } if self.machine.is_waiting(tab) => {}
            // The tab was thought dead, and lives.
            Input::TabMessage { tab, .. } => {
                self.base.order(Output::PostToTab { tab, message: HubMessage::Resync });
            }
            Input::TabLockGranted { tab } => {
                self.base.tabs.suspect(tab, now + self.base.config.tab_grace);
            }
            Input::LinkLockGranted => {
                if self.base.lock_granted() {
                    self.machine.lock_granted(now, &mut self.base);
                }
            }
            Input::LinkOpened { attempt, protocol, extensions } => {
                if self.base.is_link(attempt) {
                    self.machine.link_opened(now, &mut self.base, protocol, extensions);
                }
            }
            Input::LinkMessage { attempt, payload } => {
                if self.base.is_link(attempt) {
                    self.base.report();
                    self.machine.link_message(now, &mut self.base, payload);
                }
            }
            Input::LinkClosed { attempt, code, reason, clean, failed } => {
                if self.base.is_link(attempt) {
                    self.base.drop_link();
                    let close = Close { code, reason, clean, failed };
                    self.machine.link_closed(now, &mut self.base, close);
                }
            }
            Input::LinkBuffered { attempt, bytes } => {
                if self.base.is_link(attempt) {
                    self.base.set_buffered(bytes);
                }
            }
            Input::Rules(rules) => self.machine.rules(&mut self.base, rules),
            Input::LinkMessageTo { attempt, name, text } => {
                if self.base.is_link(attempt) {
                    self.base.report();
                    self.machine.link_message_to(now, &mut self.base, name, text);
                }
            }
            Input::Who { text } => self.machine.who_answered(now, &mut self.base, text),
            Input::Reset => self.machine.reset(now, &mut self.base),
            Input::TagTaken => self.machine.tag_taken(now, &mut self.base),
            Input::NetworkChanged { online } => {
                self.machine.network_changed(now, &mut self.base, online);
            }
        }
        self.end_turn(now, fresh);
    }

    /// Does what is due by now. A call before its time does nothing.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        for tab in self.base.tabs.expired(now) {
            self.remove(now, tab);
        }
        self.machine.handle_timeout(now, &mut self.base);
        self.base.handle_timeout(now);
        self.end_turn(now, None);
    }

    /// Returns the next order to carry out.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.base.poll_output()
    }

    /// Returns when to call [`handle_timeout`](Self::handle_timeout), and why.
    pub fn poll_timeout(&self) -> Option<(Timestamp, WakeReason)> {
        [self.base.poll_timeout(), self.machine.poll_timeout(&self.base)]
            .into_iter()
            .flatten()
            .min()
    }

    /// Returns the tab if it is attached: `Attached` has told it the news already.
    fn attach(&mut self, now: Timestamp, tab: TabId, has: Has<'_>) -> Option<TabId> {
        if !self.base.tabs.contains(tab) && self.base.tabs.len() >= self.base.config.tabs {
            let message = text!("tabmux: a hub has ", self.base.config.tabs, " tabs at most");
            self.base.order(Output::PostToTab { tab, message: HubMessage::Refused { message } });
            self.base.order(Output::DropTab { tab });
            self.base.event(Event::Overflow(tab));
            return None;
        }
        let is_new = !self.base.tabs.contains(tab);
        if is_new && !self.machine.admits(now, &mut self.base, tab, &has) {
            return None;
        }
        let held = self.base.tabs.attach(tab);
        self.base.order(Output::WatchTab { tab });
        self.base.event(Event::TabAttached(tab));
        let last0 = has.last0;
        self.machine.tab_attached(now, &mut self.base, tab, has);
        let state = self.machine.left_out(tab).map_or_else(|| self.state(), |(state, _)| state);
        let attached = HubMessage::Attached { state, tabs: self.tab_count() };
        self.base.order(Output::PostToTab { tab, message: attached });
        self.machine.tab_returned(now, &mut self.base, tab, last0, held);
        Some(tab)
    }

    fn tab_message(&mut self, now: Timestamp, tab: TabId, message: TabMessage<'_>) {
        let Self { base, machine, reconnects_from, .. } = self;
        match message {
            TabMessage::Attach { .. } => unreachable!("handle_input took it"),
            TabMessage::Park => {
                if base.tabs.park(tab, now + base.config.parked_ttl) {
                    base.event(Event::TabParked(tab));
                    machine.tab_parked(now, base, tab);
                }
            }
            TabMessage::Bye => self.remove(now, tab),
            TabMessage::Open { socket: SocketId(0), .. } => base.event(Event::BadTabMessage(tab)),
            TabMessage::Open { n, socket, path, protocols } => {
                machine.said(now, base, n, (tab, socket), Said::Open { path, protocols });
            }
            TabMessage::Send { n, socket, payload } => {
                machine.said(now, base, n, (tab, socket), Said::Send(payload));
            }
            TabMessage::Close { n, socket, code, reason } => {
                // Only what a browser's own `close` takes may go further.
                let code = if matches!(code, 1000 | 3000..=4999) { code } else { 0 };
                let end = if code == 0 { 0 } else { reason.floor_char_boundary(MAX_REASON) };
                // Slicing by index would bring its panic and tables of Unicode into the module.
                let reason = reason.get(..end).unwrap_or_default();
                machine.said(now, base, n, (tab, socket), Said::Close { code, reason });
            }
            TabMessage::Credit { n, socket, bytes } => {
                machine.said(now, base, n, (tab, socket), Said::Credit(bytes));
            }
            TabMessage::Reconnect => {
                if now >= *reconnects_from && base.tabs.is_attached(tab) {
                    *reconnects_from = now + RECONNECT_INTERVAL;
                    machine.reconnect(now, base, tab);
                }
            }
            TabMessage::Whose => machine.asks_whose(now, base, tab),
            TabMessage::Logout => machine.logout(now, base),
            TabMessage::Renew => {
                if base.tabs.is_attached(tab) {
                    machine.renew(now, base);
                }
            }
            TabMessage::Visible { online } => {
                base.asking.saw(tab);
                machine.network_changed(now, base, online);
            }
            TabMessage::Answer { id, answer } => {
                if let Some(what) = base.asking.answered(tab, id, answer) {
                    machine.answered(now, base, what, Ok(answer.unwrap_or_default()));
                }
            }
            TabMessage::Got { count0, count } => machine.got(now, base, tab, [count0, count]),
            TabMessage::Subscribe { subscription: number, name, since } => {
                machine.subscribe(base, Subscription { tab, number, name, since });
            }
            TabMessage::Unsubscribe { subscription } => {
                machine.unsubscribe(base, tab, subscription);
            }
        }
    }

    fn remove(&mut self, now: Timestamp, tab: TabId) {
        if self.base.tabs.remove(tab) {
            self.base.order(Output::DropTab { tab });
            self.base.event(Event::TabGone(tab));
            self.base.forget_sent(tab);
            self.base.forget_posted(tab);
            self.base.asking.forget(tab);
            self.machine.tab_gone(now, &mut self.base, tab);
        }
    }

    /// Called at the end of each input and time-out: sends what may be sent, and tells the tabs
    /// what changed in the link's state and their number, but for the tab `fresh`, which knows.
    fn end_turn(&mut self, now: Timestamp, fresh: Option<TabId>) {
        while let Some(tab) = self.base.pop_overflowed() {
            self.base.event(Event::Overflow(tab));
            self.machine.tab_overflowed(now, &mut self.base, tab);
        }
        // A tab that is asked knows how the link is.
        self.tell_news(fresh);
        while let Some((what, why)) = self.base.ask_next(now) {
            self.machine.answered(now, &mut self.base, what, Err(&why));
        }
        self.base.flush(now);
        self.tell_news(fresh);
    }

    /// Tells the tabs how the link is, if that has changed.
    fn tell_news(&mut self, fresh: Option<TabId>) {
        let (state, reason) = self.machine.state();
        let news = (state, self.tabs());
        if news == self.told {
            return;
        }
        self.told = news;
        let tabs = self.tab_count();
        let reason = reason.to_owned();
        let mut others = self.base.tabs.attached();
        others.retain(|tab| Some(*tab) != fresh);
        for tab in &others {
            if let Some((state, reason)) = self.machine.left_out(*tab) {
                let reason = reason.to_owned();
                self.base.post(*tab, HubMessage::State { state, tabs, reason });
            }
        }
        others.retain(|tab| self.machine.left_out(*tab).is_none());
        if !others.is_empty() {
            let message = HubMessage::State { state, tabs, reason };
            self.base.order(Output::PostToTabs { tabs: others, message });
        }
    }

    fn tab_count(&self) -> u32 {
        self.base.tab_count()
    }
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub").field("told", &self.told).finish_non_exhaustive()
    }
}
