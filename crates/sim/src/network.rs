//! Links: reliable and ordered until they break. Then what is under way is gone, and each end
//! hears of it at once, late, or never, in which case only its heartbeat can tell.

use std::{collections::BTreeMap, time::Duration};

use tabmux_core::{Timestamp, hub::AttemptId, wire::HubId};

/// All links that any end may still hear of, by number.
#[derive(Debug, Default)]
pub struct Network {
    /// The links.
    pub links: BTreeMap<u64, Link>,
    last: u64,
}

/// One WebSocket.
#[derive(Debug)]
pub struct Link {
    /// The browser it belongs to.
    pub browser: usize,
    /// The worker in that.
    pub host: u32,
    /// The hub.
    pub hub: HubId,
    /// What the hub calls it.
    pub attempt: AttemptId,
    /// The hub has neither closed it nor heard that it is closed.
    pub hub_open: bool,
    /// The same of the server; false until it has arrived there.
    pub server_open: bool,
    /// Nothing passes any more, in either direction.
    pub broken: bool,
    /// Nothing arrives before this moment.
    pub stalled_until: Timestamp,
    /// Bytes the hub has sent that have not arrived.
    pub unsent: u64,
    /// Whether its HELLO arrived, and with which session and term.
    pub hello: Option<Hello>,
    up: Lane,
    down: Lane,
}

/// What a HELLO said, as the oracle needs it.
#[derive(Clone, Copy, Debug)]
pub struct Hello {
    /// Session and term, if it claims one.
    pub claims: Option<(tabmux_core::wire::SessionId, u64)>,
}

/// One direction: what is sent later arrives later.
#[derive(Debug, Default)]
pub struct Lane(Timestamp);

impl Network {
    /// A new link of a hub, not yet at the server.
    pub fn open(&mut self, browser: usize, host: u32, hub: HubId, attempt: AttemptId) -> u64 {
        self.last += 1;
        let link = Link {
            browser,
            host,
            hub,
            attempt,
            hub_open: true,
            server_open: false,
            broken: false,
            stalled_until: Timestamp::default(),
            unsent: 0,
            hello: None,
            up: Lane::default(),
            down: Lane::default(),
        };
        self.links.insert(self.last, link);
        self.last
    }

    /// The link that a hub calls so.
    pub fn find(&self, hub: HubId, attempt: AttemptId) -> Option<u64> {
        let its = |link: &Link| link.hub == hub && link.attempt == attempt;
        self.links.iter().find(|(_, link)| its(link)).map(|(id, _)| *id)
    }

    /// Links that a hub holds open.
    pub fn held_by(&self, hub: HubId) -> Vec<u64> {
        let its = |link: &Link| link.hub == hub && link.hub_open;
        self.links.iter().filter(|(_, link)| its(link)).map(|(id, _)| *id).collect()
    }

    /// Links that the hubs of a browser hold open.
    pub fn of_browser(&self, browser: usize) -> usize {
        self.links.values().filter(|link| link.browser == browser && link.hub_open).count()
    }

    /// Forgets links that both ends have closed.
    pub fn sweep(&mut self) {
        self.links.retain(|_, link| link.hub_open || link.server_open);
    }
}

impl Link {
    /// When something arrives at the server that is sent now.
    pub fn up(&mut self, now: Timestamp, latency: Duration) -> Timestamp {
        self.up.arrival((now + latency).max(self.stalled_until))
    }

    /// When something arrives at the hub that is sent now.
    pub fn down(&mut self, now: Timestamp, latency: Duration) -> Timestamp {
        self.down.arrival((now + latency).max(self.stalled_until))
    }
}

impl Lane {
    /// The moment, or just after what was sent before.
    pub fn arrival(&mut self, at: Timestamp) -> Timestamp {
        self.0 = at.max(self.0 + Duration::from_micros(1));
        self.0
    }
}
