//! A browser: its tabs, the workers in which hubs run, and its locks.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use tabmux_core::{
    Timestamp,
    hub::{AttemptId, Hub, HubConfig, HubMessage, Mode},
    wire::{HubId, SessionId, TabId},
};

use crate::{
    credit::CREDIT,
    locks::{Agent, Locks, Request},
    network::Lane,
    oracle::HubView,
    page::{Life, Page},
    plan::{Tiers, Traits},
    rng::Rng,
};

/// Where a shared worker is, and where that of a leading tab.
pub const SHARED: usize = 0;
/// See [`SHARED`].
pub const LEADER: usize = 1;

/// A browser on a machine of its own.
#[derive(Debug)]
pub struct Browser {
    /// What it is like.
    pub traits: Traits,
    /// Of all that is luck in it.
    pub rng: Rng,
    /// All tabs that live.
    pub tabs: BTreeMap<TabId, Page>,
    /// All workers that live, by number.
    pub hosts: BTreeMap<u32, Host>,
    /// All message ports there ever were; a tab uses its latest.
    pub ports: BTreeMap<u64, Port>,
    /// The worker that a tab finds which looks for one now.
    pub places: [Option<u32>; 2],
    /// The locks.
    pub locks: Locks,
    /// What the pages of each place left in storage of their claim.
    pub left: [String; 2],
    /// How far its clock is behind the world's, in microseconds.
    pub behind: u64,
    /// Whether the machine sleeps.
    pub asleep: bool,
    /// When it last woke.
    pub woke: Timestamp,
    /// Whether what it dials is never answered.
    pub offline: bool,
    last_host: u32,
    last_port: u64,
}

/// A worker: it lives as long as one of its tabs, or as its leader.
#[derive(Debug)]
pub struct Host {
    /// Where tabs find it.
    pub place: usize,
    /// The tab in which it runs, if it is not shared.
    pub leader: Option<TabId>,
    /// The tabs that started it or found it, those that died included.
    pub owners: BTreeSet<TabId>,
    /// The port of each tab that attached.
    pub known: BTreeMap<TabId, u64>,
    /// Nothing runs in it.
    pub frozen: bool,
    /// Since when it runs.
    pub ran_since: Timestamp,
    /// Its hub, from the first Attach on.
    pub run: Option<Run>,
}

/// A message port, between a tab and a worker: in order while both live, and to one that is dead
/// messages vanish without a sign.
#[derive(Debug)]
pub struct Port {
    /// The tab.
    pub tab: TabId,
    /// The worker.
    pub host: u32,
    /// The direction from page to hub.
    pub to_hub: Lane,
    /// The direction from hub to page.
    pub to_page: Lane,
}

/// One run of a hub.
pub struct Run {
    /// The hub.
    pub hub: Hub,
    /// Its name.
    pub id: HubId,
    /// What it was told of its tabs.
    pub view: HubView,
    /// What waits to be posted until it holds the lock that tells the tabs it lives.
    pub waiting: Option<Vec<(u64, HubMessage)>>,
    /// The request for that lock.
    pub life: Option<Request>,
    /// The request for the link's lock.
    pub link_lock: Option<Request>,
    /// The tabs it waits for.
    pub watches: BTreeMap<TabId, Request>,
    /// Its latest link.
    pub link: Option<AttemptId>,
    /// When it is to be woken, in the world's time.
    pub wake_at: Option<Timestamp>,
    /// The session it was welcomed to last.
    pub session: Option<SessionId>,
    /// Since when it has no link that works; nothing while it has one.
    pub link_lost_at: Option<Timestamp>,
    /// The session each tab showed it, or was told of by it.
    pub shown: BTreeMap<TabId, SessionId>,
    /// The session that each tab found in storage when it attached.
    pub found: BTreeMap<TabId, SessionId>,
    /// The sessions that it claimed.
    pub tried: BTreeSet<SessionId>,
}

impl Browser {
    /// A browser without tabs.
    pub fn new(traits: Traits, rng: Rng) -> Self {
        Self {
            traits,
            rng,
            tabs: BTreeMap::new(),
            hosts: BTreeMap::new(),
            ports: BTreeMap::new(),
            places: [None; 2],
            locks: Locks::default(),
            left: [String::new(), String::new()],
            behind: 0,
            asleep: false,
            woke: Timestamp::default(),
            offline: false,
            last_host: 0,
            last_port: 0,
        }
    }

    /// The time its own clock shows.
    pub const fn clock(&self, now: Timestamp) -> Timestamp {
        Timestamp::from_micros(now.as_micros() - self.behind)
    }

    /// How long something takes to the server, or from there.
    pub const fn link_latency(&mut self) -> Duration {
        self.rng.millis(1, self.traits.link_ms)
    }

    /// Tabs that live so.
    pub fn tabs_that(&self, life: Life) -> Vec<TabId> {
        self.tabs.values().filter(|tab| tab.life == life).map(|tab| tab.id).collect()
    }

    /// Whether nothing runs in a page or a worker now.
    pub fn is_frozen(&self, agent: Agent) -> bool {
        self.asleep
            || match agent {
                Agent::Tab(tab) => self.tabs.get(&tab).is_some_and(|it| it.life != Life::Awake),
                Agent::Host(host) => self.hosts.get(&host).is_some_and(|it| it.frozen),
                Agent::Stranger => false,
            }
    }

    /// A tab looks for a worker: one is started if there is none.
    pub fn connect(&mut self, tab: TabId, place: usize) -> u64 {
        let found = self.places.get(place).copied().flatten();
        let host = found.unwrap_or_else(|| self.start_host(place, tab));
        if let Some(host) = self.hosts.get_mut(&host) {
            host.owners.insert(tab);
        }
        self.last_port += 1;
        let (to_hub, to_page) = (Lane::default(), Lane::default());
        self.ports.insert(self.last_port, Port { tab, host, to_hub, to_page });
        self.last_port
    }

    /// A worker begins.
    pub fn start_host(&mut self, place: usize, tab: TabId) -> u32 {
        self.last_host += 1;
        let host = Host {
            place,
            leader: (place == LEADER).then_some(tab),
            owners: BTreeSet::from([tab]),
            known: BTreeMap::new(),
            frozen: false,
            ran_since: Timestamp::default(),
            run: None,
        };
        self.hosts.insert(self.last_host, host);
        if let Some(at) = self.places.get_mut(place) {
            *at = Some(self.last_host);
        }
        self.last_host
    }

    /// Where a new tab looks for its hub.
    pub fn place_of_new_tab(&mut self, rng: &mut Rng) -> usize {
        match self.traits.tiers {
            Tiers::Shared => SHARED,
            Tiers::Leader => LEADER,
            Tiers::Both => rng.index(2),
        }
    }

    /// The run of a hub, if that still runs in this worker.
    pub fn run(&mut self, host: u32) -> Option<&mut Run> {
        self.hosts.get_mut(&host)?.run.as_mut()
    }

    /// The worker in which a hub runs.
    pub fn host_of(&self, hub: HubId) -> Option<u32> {
        let is = |host: &Host| host.run.as_ref().is_some_and(|run| run.id == hub);
        self.hosts.iter().find(|(_, host)| is(host)).map(|(number, _)| *number)
    }

    /// Whether a worker has the only tabs it lives for in the back/forward cache.
    pub fn should_freeze(&self, host: u32) -> bool {
        let Some(it) = self.hosts.get(&host) else { return false };
        if let Some(leader) = it.leader {
            return self.tabs.get(&leader).is_some_and(|tab| tab.life != Life::Awake);
        }
        let mut lives = it.owners.iter().filter_map(|tab| self.tabs.get(tab)).peekable();
        lives.peek().is_some() && lives.all(|tab| tab.life == Life::Parked)
    }

    /// Whether a worker has nothing left to live for.
    pub fn should_die(&self, host: u32) -> bool {
        let Some(it) = self.hosts.get(&host) else { return false };
        match it.leader {
            Some(leader) => !self.tabs.contains_key(&leader),
            None => !it.owners.iter().any(|tab| self.tabs.contains_key(tab)),
        }
    }
}

impl Run {
    /// A hub that has just begun.
    pub fn new(id: HubId, seed: u64, now: Timestamp) -> Self {
        let mut config = HubConfig::new(Mode::Mux, id, "wss://sim/tabmux/ws");
        // Small, so that messages do wait in the outbox, and acknowledgements are due.
        config.link_bytes = 256;
        config.ack_frames = 4;
        config.ack_bytes = 200;
        config.credit_bytes = CREDIT.into();
        Self {
            hub: Hub::new(config, seed),
            id,
            view: HubView::default(),
            waiting: None,
            life: None,
            link_lock: None,
            watches: BTreeMap::new(),
            link: None,
            wake_at: None,
            session: None,
            link_lost_at: Some(now),
            shown: BTreeMap::new(),
            found: BTreeMap::new(),
            tried: BTreeSet::new(),
        }
    }
}

impl fmt::Debug for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Run").field("id", &self.id).finish_non_exhaustive()
    }
}
