//! Links: reliable and ordered until they break. Then what is under way is gone, and each end
//! hears of it at once, late, or never, in which case only its heartbeat can tell.

use std::{collections::BTreeMap, time::Duration};

use tabmux_core::{Timestamp, hub::AttemptId};

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
    up: Lane,
    down: Lane,
}

/// One direction: what is sent later arrives later.
#[derive(Debug, Default)]
pub struct Lane(Timestamp);

impl Network {
    /// A new link of a hub, not yet at the server.
    pub fn open(&mut self, browser: usize, attempt: AttemptId) -> u64 {
        self.last += 1;
        let link = Link {
            browser,
            attempt,
            hub_open: true,
            server_open: false,
            broken: false,
            stalled_until: Timestamp::default(),
            unsent: 0,
            up: Lane::default(),
            down: Lane::default(),
        };
        self.links.insert(self.last, link);
        self.last
    }

    /// The link a hub calls so.
    pub fn find(&self, browser: usize, attempt: AttemptId) -> Option<u64> {
        let ours = |link: &Link| link.browser == browser && link.attempt == attempt;
        self.links.iter().find(|(_, link)| ours(link)).map(|(id, _)| *id)
    }

    /// Links that a hub holds open.
    pub fn held_by(&self, browser: usize) -> Vec<u64> {
        let ours = |link: &Link| link.browser == browser && link.hub_open;
        self.links.iter().filter(|(_, link)| ours(link)).map(|(id, _)| *id).collect()
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
