//! The second phase: no further faults happen, and the world must come to rest.

use std::{collections::BTreeSet, time::Duration};

use tabmux_core::hub::WakeReason;

use super::{
    browser::{Browser, Group, Life},
    links::Peer,
    page::{Page, SocketState},
    plan::{Special, Tiers},
    workers::PARKED,
    world::{Delivery, World},
};
use crate::{
    invariant::{Checked, Invariant::Convergence},
    rng::Rng,
    seen::Sight,
    topics::NAMES,
};

/// Long enough for the longest sleep to end.
const AWAKE: Duration = Duration::from_secs(1300);
/// Long enough to notice a half-open link, to end a session, and for the longest wait and dial.
const HEALED: Duration = Duration::from_secs(200);
/// Long enough for a socket to open, or for a message to come back.
const SOON: Duration = Duration::from_secs(10);
/// Long enough for a heartbeat, with which each end tells what it has received.
const HEARTBEAT: Duration = Duration::from_secs(40);
/// How often the world is checked for rest. It is not in step with any heartbeat.
const LOOK: Duration = Duration::from_millis(4700);
/// Number of messages that each socket sends at the end.
const LAST_WORDS: u64 = 3;
/// Time for which links stall at the end. It is too short for any to be given up.
const STANDS_STILL: Duration = Duration::from_secs(3);
/// Number of publications to each topic meanwhile.
const FLOOD: usize = 20;

impl World {
    pub(crate) fn converge(&mut self) -> Checked {
        self.heal()?;
        if self.plan.special == Special::FailingScripts {
            // Some pages are still told that a script failed.
            self.pass(3 * SOON)?;
            for at in 0..self.browsers.len() {
                self.bury_excused(at)?;
            }
        }
        self.within(HEALED, Self::all_connected)?;
        self.each_page(|world, at| {
            if !world.browsers[at.0].page(at.1).is_some_and(|page| page.doors.tabmux()) {
                return Ok(());
            }
            world.page_opens(at)?;
            NAMES.iter().try_for_each(|name| world.page_subscribes(at, name))
        })?;
        self.all_view()?;
        self.within(HEALED, Self::views_settled)?;
        self.pass(SOON)?;
        self.each_page(|world, at| {
            let open = world.browsers[at.0].page(at.1);
            for socket in open.map_or_else(Vec::new, |page| page.sockets_in(SocketState::Open)) {
                for _ in 0..LAST_WORDS {
                    world.page_sends(at, socket)?;
                }
            }
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
        self.last_views()?;
        self.pass(SOON)?;
        if self.browsers.iter().any(|it| it.groups().iter().map(|of| of.0).sum::<usize>() == 1) {
            self.seen.add(Sight::Frame);
        }
        self.read_slowly()?;
        self.within(HEALED + HEARTBEAT, Self::at_rest).or_else(|broken| {
            // Hubs and the server give up tabs that died in the back/forward cache, or that live
            // and went to another hub when theirs had died.
            let tabs = self.server.as_ref().map(|it| it.registry.stats().tabs);
            let late = tabs.is_some_and(|tabs| tabs.parked > 0 || tabs.awaited > 0);
            Convergence.unless(late, || broken.what)?;
            self.within(PARKED, Self::at_rest)
        })?;
        self.all_have_room()
    }

    /// Stalls links for a moment, while more is published than is kept for them. No publication
    /// follows from which hubs could tell what is missing.
    fn read_slowly(&mut self) -> Checked {
        for link in self.network.links.values_mut() {
            link.stalled_until = self.now + STANDS_STILL;
        }
        for _ in 0..FLOOD {
            for name in NAMES {
                if let Some(server) = &mut self.server {
                    server.publish(self.now, &mut self.feed, name);
                }
                self.drain_server()?;
            }
        }
        self.pass(SOON)?;
        self.within(HEALED, Self::all_caught_up)
    }

    /// Checks that all pages heard all publications, or were told that some are missing.
    fn all_caught_up(&self) -> Checked {
        let browsers = self.browsers.iter();
        browsers.flat_map(Browser::settled).try_for_each(|(_, page)| self.has_caught_up(page))
    }

    fn has_caught_up(&self, page: &Page) -> Checked {
        for (number, it) in &page.subscriptions {
            let there = it.ready && it.last >= self.feed.last(it.name);
            Convergence.unless(there, || {
                let (tab, name, last) = (page.tab, it.name, self.feed.last(it.name));
                format!("{tab} subscription {number} of {name} is at {:?}, not {last:?}", it.last)
            })?;
        }
        Ok(())
    }

    /// Waits until the check passes, but not longer than `limit`.
    fn within(&mut self, limit: Duration, holds: impl Fn(&Self) -> Checked) -> Checked {
        let end = self.now + limit;
        loop {
            let checked = holds(self);
            if checked.is_ok() || self.now >= end {
                return checked;
            }
            self.pass(LOOK)?;
        }
    }

    /// Ends all faults of the first phase.
    fn heal(&mut self) -> Checked {
        self.healed = true;
        self.within(AWAKE, Self::all_awake)?;
        if self.server.is_none() || self.server.as_ref().is_some_and(|it| it.draining) {
            // The server stops and starts, if it is about to.
            self.pass(Duration::from_secs(20))?;
        }
        if self.server.is_none() {
            self.put(self.now, Delivery::ServerUp);
        }
        for at in 0..self.browsers.len() {
            self.make_room(at)?;
            let mut rng = Rng::new(self.browsers[at].rng.next());
            for page in self.browsers[at].pages_that(Life::Blocked) {
                self.unblock((at, page));
            }
            for page in self.browsers[at].pages_that(Life::Frozen) {
                self.set_frozen((at, page), false);
            }
            for page in self.browsers[at].pages_that(Life::Parked) {
                self.restore((at, page), &mut rng)?;
            }
            let no_tier = self.bury_excused(at)?;
            // All pages become visible.
            for page in self.browsers[at].pages_that(Life::Awake) {
                self.look_at((at, page));
            }
            if self.browsers[at].pages().count() == 0 && !no_tier {
                self.open_tab(at, &mut rng)?;
            }
            self.set_online(at, true, true)?;
        }
        if self.plan.names_users() {
            // An open link keeps its user until it breaks.
            let links = self.network.links.iter().filter(|(_, it)| it.to == Peer::Tabmux);
            for link in links.map(|(id, _)| *id).collect::<Vec<_>>() {
                let mut rng = Rng::new(self.rng.next());
                self.cut(link, &mut rng);
            }
        }
        self.plain_heals();
        Ok(())
    }

    /// Closes pages that have no hub for a reason that they were told. Returns true if no page can
    /// have a hub.
    fn bury_excused(&mut self, at: usize) -> Checked<bool> {
        let excused = self.browsers[at].pages();
        let no_tier = self.has_no_tier(at);
        let is_closed = |page: &Page| no_tier || page.status.state == "closed";
        let excused = excused.filter(|(_, it)| it.excused && is_closed(it) && !it.lacks_room());
        for page in excused.map(|(number, _)| number).collect::<Vec<_>>() {
            self.bury((at, page), true)?;
        }
        Ok(no_tier)
    }

    /// Closes tabs until the server has room for all that are left. One of the tabs for which it
    /// had no room is left.
    fn make_room(&mut self, at: usize) -> Checked {
        if self.plan.special != Special::Crowds {
            return Ok(());
        }
        let mut room = self.plan.tabs();
        let all = self.browsers[at].pages();
        let mut all = all.map(|(it, page)| (!page.lacks_room(), it)).collect::<Vec<_>>();
        all.sort_unstable();
        let mut one_waits = false;
        for (settled, number) in all {
            let Some(page) = self.browsers[at].page(number) else { continue };
            let stays = if settled { room > 0 } else { !one_waits && !page.has_sockets() };
            if stays {
                room -= 1;
                one_waits |= !settled;
            } else {
                self.bury((at, number), true)?;
            }
        }
        Ok(())
    }

    /// Checks that a tab for which the server had no room gets its place once there is room.
    fn all_have_room(&self) -> Checked {
        let mut all = self.browsers.iter().flat_map(Browser::pages);
        let waits = all.find(|(_, page)| page.lacks_room());
        Convergence.unless(waits.is_none(), || {
            format!("there is room, and yet a page is {:?}", waits.map(|(_, page)| &page.status))
        })
    }

    fn all_awake(&self) -> Checked {
        let sleeps = self.browsers.iter().any(|browser| browser.asleep);
        Convergence.unless(!sleeps, || "a machine does not wake".to_owned())
    }

    fn each_page(&mut self, mut work: impl FnMut(&mut Self, (usize, u32)) -> Checked) -> Checked {
        for at in 0..self.browsers.len() {
            let awake = self.browsers[at].pages_that(Life::Awake);
            let settled = self.browsers[at].settled().map(|(number, _)| number);
            let settled = settled.filter(|number| awake.contains(number));
            for number in settled.collect::<Vec<_>>() {
                work(self, (at, number))?;
            }
        }
        Ok(())
    }

    fn all_connected(&self) -> Checked {
        for (at, browser) in self.browsers.iter().enumerate() {
            let pages = || browser.settled().filter(|(_, page)| page.doors.tabmux());
            let hubs = |of: Option<Group>| {
                let pages = pages();
                let its =
                    pages.filter(|(number, _)| of.is_none_or(|of| of == browser.group(*number)));
                its.map(|(_, page)| page.status.hub.as_str()).collect::<BTreeSet<_>>()
            };
            let tiers = || pages().map(|(_, page)| &*page.status.tier).collect::<Vec<_>>();
            for (number, page) in pages() {
                let status = &page.status;
                Convergence.unless(status.state == "connected", || {
                    format!("healed, and yet page {number} of browser {at} is {status:?}")
                })?;
            }
            let links = self.network.of_browser(at, Peer::Tabmux);
            for group in browser.groups() {
                let hubs = hubs(Some(group));
                Convergence.unless(!self.is_one_hub(at) || hubs.len() <= 1, || {
                    format!(
                        "healed, and yet browser {at} has the hubs {hubs:?} of {:?}, locks: {}",
                        tiers(),
                        browser.traits.locks
                    )
                })?;
            }
            let hubs = hubs(None);
            Convergence.unless(links == hubs.len(), || {
                format!("browser {at} has {links} links for the hubs {hubs:?}")
            })?;
        }
        Ok(())
    }

    /// Returns true if all pages of a browser share one hub.
    pub(crate) fn is_one_hub(&self, at: usize) -> bool {
        let traits = self.browsers[at].traits;
        let refuses = matches!(self.plan.special, Special::Refuses(_));
        match traits.tiers {
            _ if refuses => false,
            // Without locks and channels nothing tells which hub has the link of a user.
            Tiers::Storage if self.plan.names_users() && !traits.locks => false,
            Tiers::Any | Tiers::Leader | Tiers::Storage => true,
            Tiers::Direct => false,
            Tiers::Mixed => traits.locks,
        }
    }

    fn at_rest(&self) -> Checked {
        self.all_connected()?;
        self.views_at_rest()?;
        let mut sockets = 0;
        for (at, browser) in self.browsers.iter().enumerate() {
            for (_, page) in browser.settled() {
                sockets += self.page_at_rest(page)?;
            }
            for actor in browser.actors.values() {
                for hub in actor.realm.host.hubs.borrow().values().filter(|hub| hub.lives()) {
                    let next = hub.hub().poll_timeout().map(|(_, why)| why);
                    let busy = matches!(next, Some(WakeReason::Outbox | WakeReason::Report));
                    Convergence.unless(!busy, || {
                        format!("the hub of browser {at} has {next:?} left to do")
                    })?;
                }
            }
        }
        let Some(server) = &self.server else {
            return Convergence.broken("the server is down");
        };
        let stats = server.registry.stats();
        // Without locks, tabs that crashed stay.
        let ghosts = self.browsers.iter().any(|browser| !browser.traits.locks);
        let pages = self.browsers.iter().flat_map(Browser::settled);
        let tabs = pages.filter(|(_, page)| page.doors.tabmux()).count();
        let all = 0..self.browsers.len();
        let all = all.map(|at| self.network.of_browser(at, Peer::Tabmux)).sum::<usize>();
        let world = (all, all, 0, sockets, tabs);
        let told = (
            stats.links.open,
            stats.sessions.held,
            stats.tabs.parked,
            stats.sockets.open,
            stats.tabs.attached + stats.tabs.awaited,
        );
        let same = world == told || (ghosts && world.0 == told.0 && world.4 <= told.4);
        Convergence.unless(same, || {
            format!("links, sessions, parked, sockets, tabs: {world:?}, not {told:?}")
        })?;
        let empty =
            stats.memory.queued_bytes == 0 && stats.memory.kept_bytes == 0 && server.is_idle();
        Convergence.unless(empty || ghosts, || format!("something waits to be sent: {stats:?}"))
    }

    /// Checks that all sockets of a page are open or closed and have received everything. Returns
    /// how many are open.
    fn page_at_rest(&self, page: &Page) -> Checked<usize> {
        let tab = page.tab;
        let mut open = 0;
        for (number, state) in &page.sockets {
            match state {
                SocketState::Open => {
                    self.reference.is_complete(tab, *number)?;
                    open += 1;
                }
                SocketState::Closed => {}
                SocketState::Connecting | SocketState::Closing | SocketState::Abandoned => {
                    return Convergence.broken(format!("{tab} socket {number} is {state:?}"));
                }
            }
        }
        self.has_caught_up(page)?;
        Ok(open)
    }
}
