//! The second phase: nothing goes wrong any more, and the world must come to rest.

use std::{collections::BTreeSet, time::Duration};

use tabmux_core::{
    hub::{LinkState, WakeReason},
    wire::TabId,
};

use crate::{
    browser::Browser,
    invariant::{Checked, Invariant::Convergence},
    page::{Life, Page, Phase, SocketState},
    plan::Tiers,
    rng::Rng,
    topics::NAMES,
    world::{Delivery, World},
};

/// Enough for the longest sleep to end.
const AWAKE: Duration = Duration::from_secs(3700);
/// Enough for a half-open link to be noticed, a session to end, the longest wait and dial, and for
/// hubs to give up tabs that died in the back/forward cache.
const HEALED: Duration = Duration::from_secs(700);
/// Enough for a socket to open, or a message to come back.
const SOON: Duration = Duration::from_secs(10);
/// Enough for a heartbeat, with which each end tells what it has.
const HEARTBEAT: Duration = Duration::from_secs(40);
/// Messages that each socket sends at the end.
const LAST_WORDS: u64 = 3;

impl World {
    pub(crate) fn converge(&mut self) -> Checked {
        self.heal()?;
        self.pass(HEALED)?;
        self.all_connected()?;
        self.each_tab(|world, at, id| {
            let Some(page) = world.browsers[at].tabs.get_mut(&id) else {
                return Ok(());
            };
            let mut acts = page.open(&mut world.reference);
            acts.extend(page.subscribe(NAMES[0]));
            world.act(at, id, acts);
            Ok(())
        })?;
        self.pass(SOON)?;
        self.each_tab(|world, at, id| {
            let Some(page) = world.browsers[at].tabs.get_mut(&id) else {
                return Ok(());
            };
            let mut acts = Vec::new();
            for socket in page.sockets_in(SocketState::Open) {
                for _ in 0..LAST_WORDS {
                    acts.extend(page.send(socket, &mut world.reference)?);
                }
            }
            world.act(at, id, acts);
            Ok(())
        })?;
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
        self.pass(HEARTBEAT)?;
        // A heartbeat may be under way at any one moment, but not at two so close together.
        self.at_rest().or_else(|_| {
            self.pass(Duration::from_secs(2))?;
            self.at_rest()
        })
    }

    /// All faults end.
    fn heal(&mut self) -> Checked {
        if self.browsers.iter().any(|browser| browser.asleep) {
            self.pass(AWAKE)?;
        }
        if self.server.is_none() || self.server.as_ref().is_some_and(|it| it.draining) {
            // It stops and starts, if it is about to.
            self.pass(Duration::from_secs(20))?;
        }
        if self.server.is_none() {
            self.put(self.now, Delivery::ServerUp);
        }
        for at in 0..self.browsers.len() {
            for tab in self.browsers[at].tabs_that(Life::Frozen) {
                self.set_frozen(at, tab, false)?;
            }
            for tab in self.browsers[at].tabs_that(Life::Parked) {
                self.restore(at, tab)?;
            }
            self.agree_on_tier(at);
            if self.browsers[at].tabs.is_empty() {
                let mut rng = Rng::new(self.browsers[at].rng.next());
                self.new_tab(at, &mut rng);
            }
            self.set_online(at, true)?;
        }
        Ok(())
    }

    /// Tabs that disagree about their tier are closed: two hubs wait for one lock for ever.
    fn agree_on_tier(&mut self, at: usize) {
        if self.browsers[at].traits.tiers == Tiers::Both {
            for tab in self.browsers[at].tabs.keys().copied().collect::<Vec<_>>() {
                self.bury(at, tab, true);
            }
        }
    }

    fn each_tab(&mut self, mut work: impl FnMut(&mut Self, usize, TabId) -> Checked) -> Checked {
        for at in 0..self.browsers.len() {
            for id in self.browsers[at].tabs_that(Life::Awake) {
                work(self, at, id)?;
            }
        }
        Ok(())
    }

    fn all_connected(&self) -> Checked {
        for (at, browser) in self.browsers.iter().enumerate() {
            let runs = browser.hosts.values().filter_map(|host| host.run.as_ref());
            let states = runs.map(|run| run.hub.state()).collect::<Vec<_>>();
            // A tab may have left a hub that lives on in its worker, and waits for the lock.
            let works = states.iter().filter(|state| **state == LinkState::Connected).count();
            Convergence.unless(works == 1, || {
                format!("healed, and yet the hubs of browser {at} are {states:?}")
            })?;
            let links = self.network.of_browser(at);
            Convergence.unless(links == 1, || format!("browser {at} has {links} links"))?;
            for page in browser.tabs.values() {
                Convergence.unless(page.phase == Phase::Attached, || {
                    format!("healed, and yet {} is {:?}", page.id, page.phase)
                })?;
            }
        }
        Ok(())
    }

    fn at_rest(&self) -> Checked {
        self.all_connected()?;
        let mut sockets = 0;
        for (at, browser) in self.browsers.iter().enumerate() {
            for page in browser.tabs.values() {
                sockets += self.page_at_rest(page)?;
            }
            for run in browser.hosts.values().filter_map(|host| host.run.as_ref()) {
                let next = run.hub.poll_timeout().map(|(_, why)| why);
                let busy = matches!(next, Some(WakeReason::Outbox | WakeReason::Report));
                Convergence
                    .unless(!busy, || format!("the hub of browser {at} has {next:?} left to do"))?;
            }
        }
        let Some(server) = &self.server else {
            return Convergence.broken("the server is down");
        };
        let stats = server.registry.stats();
        let topics = |browser: &Browser| {
            let names = browser.tabs.values().flat_map(|tab| tab.subscriptions.values());
            names.map(|it| it.name).collect::<BTreeSet<_>>().len()
        };
        // Without locks, tabs that crashed stay.
        let ghosts = self.browsers.iter().any(|browser| !browser.traits.locks);
        let subscriptions = self.browsers.iter().map(topics).sum::<usize>();
        let tabs = self.browsers.iter().map(|browser| browser.tabs.len()).sum::<usize>();
        let all = self.browsers.len();
        let world = (all, all, 0, sockets, tabs, subscriptions);
        let told = (stats.links.open, stats.sessions.held, stats.tabs.parked, stats.sockets.open);
        let told =
            (told.0, told.1, told.2, told.3, stats.tabs.attached, stats.topics.subscriptions);
        let same = world == told || (ghosts && world.0 == told.0 && world.4 <= told.4);
        Convergence.unless(same, || {
            format!("links, sessions, parked, sockets, tabs, topics: {world:?}, not {told:?}")
        })?;
        let empty =
            stats.memory.queued_bytes == 0 && stats.memory.kept_bytes == 0 && server.is_idle();
        Convergence.unless(empty || ghosts, || format!("something waits to be sent: {stats:?}"))?;
        Convergence.unless(stats.tabs.awaited == 0 || ghosts, || {
            format!("{} tabs are awaited that are gone", stats.tabs.awaited)
        })
    }

    /// All its sockets are open or closed, and heard all there was. How many are open.
    fn page_at_rest(&self, page: &Page) -> Checked<usize> {
        let id = page.id;
        let mut open = 0;
        for (number, state) in &page.sockets {
            match state {
                SocketState::Open => {
                    self.reference.is_complete(id, *number)?;
                    open += 1;
                }
                SocketState::Closed | SocketState::Abandoned => {}
                SocketState::Connecting | SocketState::Closing => {
                    return Convergence.broken(format!("{id} socket {number} is {state:?}"));
                }
            }
        }
        let waits = page.session.unacked.len();
        Convergence.unless(waits == 0, || format!("{id} still keeps {waits} messages"))?;
        for (number, it) in &page.subscriptions {
            let there = it.ready && it.last >= self.feed.last(it.name);
            Convergence.unless(there, || {
                let stats = self.server.as_ref().map(|server| server.registry.stats());
                let name = it.name;
                format!("{id} subscription {number} of {name} is at {:?}: {stats:?}", it.last)
            })?;
        }
        Ok(open)
    }
}
