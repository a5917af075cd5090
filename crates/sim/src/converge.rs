//! The second phase: nothing goes wrong any more, and the world must come to rest.

use std::{collections::BTreeSet, time::Duration};

use tabmux_core::hub::{Input, LinkState, WakeReason};

use crate::{
    browser::{Browser, SocketState},
    oracle::Checked,
    topics::NAMES,
    world::{BROWSERS, Delivery, World},
};

/// Enough for a machine to wake, a half-open link to be noticed, and the longest wait and dial.
const HEALED: Duration = Duration::from_secs(300);
/// Enough for a socket to open, or a message to come back.
const SOON: Duration = Duration::from_secs(5);
/// Messages that each socket sends at the end.
const LAST_WORDS: u64 = 3;

impl World {
    pub(crate) fn converge(&mut self) -> Checked {
        self.faults = false;
        if self.server.is_none() {
            self.put(self.now, Delivery::ServerUp);
        }
        // Machines that sleep wake by themselves; what is offline comes back.
        self.pass(Duration::from_secs(120))?;
        for at in 0..BROWSERS {
            self.browsers[at].offline = false;
            self.hub_input(at, Input::NetworkChanged { online: true })?;
            for tab in self.browsers[at].tabs_where(true) {
                self.restore(at, tab)?;
            }
            if self.browsers[at].tabs.is_empty() {
                self.open_tab(at);
            }
        }
        self.pass(HEALED)?;
        self.all_connected()?;
        self.each_tab(|world, at, id| {
            if let Some(tab) = world.browsers[at].tabs.get_mut(&id) {
                let wishes = tab.open().into_iter().chain(tab.subscribe(NAMES[0])).collect();
                world.post(at, id, wishes);
            }
        });
        self.pass(SOON)?;
        self.each_tab(|world, at, id| {
            let Some(tab) = world.browsers[at].tabs.get_mut(&id) else {
                return;
            };
            tab.broadcast = None;
            let open = tab.sockets_in(SocketState::Open);
            let sends = open.into_iter().flat_map(|number| (0..LAST_WORDS).map(move |_| number));
            let sends = sends.filter_map(|number| tab.send(id, number)).collect();
            world.post(at, id, sends);
        });
        if let Some(server) = &mut self.server {
            for session in server.sessions.keys().copied().collect::<Vec<_>>() {
                server.broadcast(self.now, session);
            }
            for name in NAMES {
                server.publish(self.now, &mut self.feed, name);
            }
        }
        self.drain_server()?;
        self.pass(SOON)?;
        // A heartbeat may be under way at any one moment, but not at two so close together.
        self.at_rest().or_else(|_| {
            self.pass(Duration::from_secs(1))?;
            self.at_rest()
        })
    }

    fn each_tab(&mut self, mut work: impl FnMut(&mut Self, usize, tabmux_core::wire::TabId)) {
        for at in 0..BROWSERS {
            for id in self.browsers[at].tabs_where(false) {
                work(self, at, id);
            }
        }
    }

    fn all_connected(&self) -> Checked {
        for (at, browser) in self.browsers.iter().enumerate() {
            let state = browser.hub.state();
            if state != LinkState::Connected {
                return Err(format!("healed, and yet hub {at} is {state:?}"));
            }
            if self.network.held_by(at).len() != 1 {
                return Err(format!("hub {at} does not have one link"));
            }
        }
        Ok(())
    }

    fn at_rest(&self) -> Checked {
        self.all_connected()?;
        let mut sockets = 0;
        for (at, browser) in self.browsers.iter().enumerate() {
            for (id, tab) in &browser.tabs {
                sockets += self.tab_at_rest(*id, tab)?;
            }
            if let Some((_, why @ (WakeReason::Outbox | WakeReason::Report))) =
                browser.hub.poll_timeout()
            {
                return Err(format!("hub {at} has {why:?} left to do"));
            }
        }
        let Some(server) = &self.server else {
            return Err("the server is down".to_owned());
        };
        let stats = server.registry.stats();
        let topics = |browser: &Browser| {
            let names = browser.tabs.values().flat_map(|tab| tab.subscriptions.values());
            names.map(|it| it.name).collect::<BTreeSet<_>>().len()
        };
        let subscriptions = self.browsers.iter().map(topics).sum::<usize>();
        if subscriptions != stats.subscriptions || stats.queued_bytes > 0 {
            return Err(format!("browsers want {subscriptions} topics, not as {stats:?}"));
        }
        let tabs = self.browsers.iter().map(|browser| browser.tabs.len()).sum::<usize>();
        let world = (BROWSERS, BROWSERS, tabs, 0, sockets);
        let told = (stats.links, stats.sessions, stats.tabs, stats.parked, stats.sockets);
        if world != told {
            return Err(format!("the registry counts {told:?}, the world {world:?}"));
        }
        if !server.is_idle() || self.network.links.values().any(|it| it.hub_open && it.unsent > 0) {
            return Err("messages are still under way".to_owned());
        }
        Ok(())
    }

    /// Returns how many of its sockets are open.
    fn tab_at_rest(
        &self,
        id: tabmux_core::wire::TabId,
        tab: &crate::browser::Tab,
    ) -> Checked<usize> {
        if tab.broadcast.is_none() {
            return Err(format!("{id} did not get the message to all tabs"));
        }
        let newest = tab.sockets.values().next_back().map(|socket| socket.state);
        if newest != Some(SocketState::Open) {
            return Err(format!("{id} has a new socket that is {newest:?}"));
        }
        for (number, it) in &tab.subscriptions {
            if !it.ready || it.last != self.feed.last(it.name) {
                return Err(format!("{id} subscription {number} is not at the end: {it:?}"));
            }
        }
        for (number, socket) in &tab.sockets {
            match socket.state {
                SocketState::Closed => {}
                SocketState::Open if socket.got == socket.sent => {}
                state => return Err(format!("{id} socket {number} is {state:?}: {socket:?}")),
            }
        }
        Ok(tab.sockets_in(SocketState::Open).len())
    }
}
