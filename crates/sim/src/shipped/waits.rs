//! I11: nothing waits for ever, and whatever waits has something due.

use std::time::Duration;

use tabmux_core::{
    Timestamp,
    hub::{LinkState, WakeReason},
};

use super::{
    browser::Browser,
    links::Peer,
    page::{Page, SocketState},
    views::View,
    world::{Delivery, World},
};
use crate::{
    invariant::{CONNECTING, Checked, Invariant::BoundedConnecting},
    server::Server,
};

/// Number of timer ticks that a page needs to find a hub.
const TICKS: u32 = 3;

/// Time that the server may take, after a hub was welcomed, for what the hub asks at once. The
/// application has 30 s to answer.
const ANSWER: Duration = Duration::from_secs(40);

/// Longest time that a socket without room may wait after it is asked for.
const ROOM: Duration = Duration::from_secs(2);

/// Something that a page asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// A virtual socket in mode mux.
    Socket(u32),
    /// A socket in mirror or exclusive mode.
    View(u32),
    /// A subscription to a topic.
    Subscription(u32),
    /// A virtual socket, for which there may be no room.
    Room(u32),
}

impl World {
    /// Called when a page asks for something.
    pub(crate) fn must_connect(&mut self, at: (usize, u32), what: Wanted) {
        self.put(self.now + CONNECTING, Delivery::Bounded { at, what });
    }

    /// Called when a page asks for a virtual socket. If there is no room for it, the page is told
    /// soon.
    pub(crate) fn must_have_room(&mut self, at: (usize, u32), number: u32) {
        self.put(self.now + ROOM, Delivery::Bounded { at, what: Wanted::Room(number) });
    }

    /// Checks that a socket for which there was no room all the while is refused by now.
    fn has_room(&mut self, at: (usize, u32), number: u32) -> Checked {
        let browser = &self.browsers[at.0];
        let (now, limit) = (self.now, self.plan.sockets() as usize);
        let suffers = browser.suffers.max(browser.woke);
        let others = browser.pages().filter(|(other, _)| *other != at.1);
        let connected = others.filter(|(_, page)| page.status.state == "connected").count();
        let is_full = u32::try_from(connected).is_ok_and(|count| count >= self.plan.tabs());
        // A hub may await tabs that are dead. Whether there is room is known once they have come.
        let awaits = |server: &Server| server.registry.stats().tabs.awaited > 0;
        let awaits = self.server.as_ref().is_none_or(awaits);
        let well_since = self.well_since(at.0).filter(|_| !awaits);
        let Some(page) = self.browsers[at.0].page(at.1) else {
            return Ok(());
        };
        let open = page.sockets_in(SocketState::Open).len();
        let finds_none = page.lacks_room() && is_full || open >= limit;
        if page.sockets.get(&number) != Some(&SocketState::Connecting) || !finds_none {
            return Ok(());
        }
        let ticks = Duration::from_millis(page.throttle_ms) * TICKS;
        if well_since.is_none() {
            page.unsure_at = now;
        }
        let since = suffers.max(page.away_at).max(well_since.unwrap_or(now)).max(page.unsure_at);
        if now < since + ROOM + ticks {
            self.put(since + ROOM + ticks, Delivery::Bounded { at, what: Wanted::Room(number) });
            return Ok(());
        }
        BoundedConnecting.broken(format!(
            "socket {number} of page {at:?} finds no room, {open} are open, and it waits"
        ))
    }

    /// Returns the time since which a browser has a link that works, or `None` if it has none now.
    pub(super) fn well_since(&self, browser: usize) -> Option<Timestamp> {
        let server = self.server.as_ref().is_some_and(|server| !server.draining);
        let links = self.network.links.values().filter(|it| it.at.0 == browser);
        let mut links = links.filter(|it| it.to == Peer::Tabmux && it.worker_open);
        let stalled = links.clone().map(|it| it.stalled_until).max();
        let is_well = server && links.all(|it| it.was_opened && !it.broken && it.hello.is_some());
        stalled.filter(|_| is_well).map(|until| until.max(self.browsers[browser].welcomed))
    }

    /// Checks that what a page asked for is there or was refused, or that something is due for it.
    pub(crate) fn bounded(&mut self, at: (usize, u32), what: Wanted) -> Checked {
        if let Wanted::Room(number) = what {
            return self.has_room(at, number);
        }
        let Browser { suffers, woke, welcomed, offline_since, online_at, .. } = self.browsers[at.0];
        // Without a network nothing is due before the network comes back.
        let suffers = suffers.max(woke).max(online_at);
        let now = self.now;
        let suffers = if offline_since.is_some() { now } else { suffers };
        let Some(page) = self.browsers[at.0].page(at.1) else {
            return Ok(());
        };
        let is_excused = page.excused || page.outdated || page.lacks_room();
        if !waits(page, what) || is_excused {
            return Ok(());
        }
        let ticks = Duration::from_millis(page.throttle_ms) * TICKS;
        let until = suffers.max(page.away_at) + CONNECTING + ticks;
        let (hub, status) = (page.status.hub.clone(), page.status.clone());
        let is_view = matches!(what, Wanted::View(_));
        // A hub that was long without a link has just asked the server.
        let until = if is_view { until } else { until.max(welcomed + ANSWER) };
        if now < until {
            self.put(until, Delivery::Bounded { at, what });
            return Ok(());
        }
        if !is_view && self.is_due(at.0, &hub) {
            self.put(now + CONNECTING, Delivery::Bounded { at, what });
            return Ok(());
        }
        BoundedConnecting.broken(format!(
            "{what:?} of page {at:?} waits, nothing is due for it, and its client is {status:?}"
        ))
    }

    /// Returns true if this hub is about to do something for its link, or if its worker dialled not
    /// long ago. A hub that dials or waits to dial may be woken for something else that is due
    /// before.
    fn is_due(&self, browser: usize, hub: &str) -> bool {
        self.browsers[browser].actors.values().any(|actor| {
            let hubs = actor.realm.host.hubs.borrow();
            let Some(hub) = hubs.values().find(|it| it.id().to_string() == hub) else {
                return false;
            };
            let dialled = actor.dialled.is_some_and(|at| self.now < at + CONNECTING);
            let is_open = hub.hub().state() == LinkState::Connected;
            match hub.hub().poll_timeout() {
                Some((_, WakeReason::Dial | WakeReason::Backoff | WakeReason::Subscribe)) => true,
                Some(_) => dialled && !is_open,
                None => false,
            }
        })
    }
}

fn waits(page: &Page, what: Wanted) -> bool {
    match what {
        Wanted::Socket(number) | Wanted::Room(number) => {
            page.sockets.get(&number) == Some(&SocketState::Connecting)
        }
        Wanted::View(number) => page.views.get(&number).is_some_and(View::is_connecting),
        Wanted::Subscription(number) => page.subscriptions.get(&number).is_some_and(|it| !it.ready),
    }
}
