//! A browser: its pages and workers, and what they reach each other by.

use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU64,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use tabmux_core::{
    Timestamp,
    session::{Admitted, User, Visitor},
};

use super::{locks::Locks, page::Page, plan::Traits, storm::Deeds, world::Delivery};
use crate::{
    engine::realm::{Realm, Storage},
    network::Lane,
    rng::Rng,
};

/// A user, as a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity(pub NonZeroU64);

impl Identity {
    /// Returns what the server's shell says of a link of the user.
    pub fn visitor(self) -> Arc<Visitor> {
        let user = Some(Arc::new(User::new(&self.0.to_string(), 0)));
        let tag = Some(self.tag().into());
        Arc::new(Visitor::Admitted(Admitted { user, tag, ..Admitted::default() }))
    }

    /// Returns the user's identity tag.
    pub fn tag(self) -> String {
        format!("u{}", self.0)
    }
}

/// A browser on a machine of its own.
pub struct Browser {
    /// What it is like.
    pub traits: Traits,
    /// Of all that is luck in it.
    pub rng: Rng,
    /// Its pages and workers, by number.
    pub actors: BTreeMap<u32, Actor>,
    /// The shared workers that a page finds.
    pub shared: BTreeMap<Place, u32>,
    /// All ends of message ports.
    pub ports: BTreeMap<u32, Port>,
    /// All channels: whose, and their name.
    pub channels: BTreeMap<u32, (u32, String)>,
    /// Its storages, each with the locks that belong to it. Pages take the last, but frames.
    pub areas: Vec<Area>,
    /// The latest port, channel or socket.
    pub ids: Rc<Cell<u32>>,
    /// How far its clock is behind the world's, in microseconds.
    pub behind: u64,
    /// Whether the machine sleeps.
    pub asleep: bool,
    /// When it last woke.
    pub woke: Timestamp,
    /// When a hub of it was last welcomed by a tabmux server.
    pub welcomed: Timestamp,
    /// The user who is logged in, as the cookie says when it dials.
    pub user: u64,
    /// Whether what it dials is never answered.
    pub offline: bool,
    /// Since when it says that it is offline, if it does.
    pub offline_since: Option<Timestamp>,
    /// When the network last came back.
    pub online_at: Timestamp,
    /// How often hubs dialled each address.
    pub dials: BTreeMap<String, u64>,
    /// When a page of each group last started a worker of its own of each name, and which.
    pub led: BTreeMap<(Group, String), (Timestamp, u32)>,
    /// Until when a worker may suffer from what happened to it or to a lock.
    pub suffers: Timestamp,
    /// Until when a script is missing that pages wait for.
    pub hung_until: Timestamp,
    /// When each lock of each area was last stolen, and by whom.
    pub thefts: BTreeMap<(usize, String), (Timestamp, u32)>,
    last_actor: u32,
}

/// Where a shared worker is found: its partition, address and name.
pub type Place = (usize, String, String);

/// Pages that find each other: their partition, and the build of their page library.
pub type Group = (usize, usize);

/// What pages of one site share, or frames of this origin in pages of one other site.
#[derive(Default)]
pub struct Area {
    /// Pages find no channels and no shared workers of another partition.
    pub partition: usize,
    /// localStorage.
    pub storage: Storage,
    /// The locks.
    pub locks: Locks,
}

/// A page or a worker.
pub struct Actor {
    /// Where its scripts run.
    pub realm: Realm,
    /// What it is.
    pub kind: Kind,
    /// What it has for storage and locks.
    pub area: usize,
    /// The build of its script, if it is a worker and has one.
    pub build: Option<usize>,
    /// Whether it is the worker of a page's exclusive sockets.
    pub is_exclusive: bool,
    /// Whether it runs.
    pub life: Life,
    /// When each timer is due, by the clock of its machine, and when its script wants it.
    pub timers: BTreeMap<u32, (u64, u64)>,
    /// What waits until it runs.
    pub waiting: Vec<Delivery>,
    /// Since when it runs, if it does.
    pub runs_since: Timestamp,
    /// When its module trapped.
    pub traps: Vec<Timestamp>,
    /// What it does, for it not to become a storm.
    pub deeds: Deeds,
    /// When it last dialled a tabmux server.
    pub dialled: Option<Timestamp>,
    /// What comes from elsewhere than a port: what is later sent comes later.
    pub inbox: Lane,
}

/// What an actor is.
pub enum Kind {
    /// A page.
    Page(Box<Page>),
    /// A shared worker: where it is found, and the pages that found it.
    Shared {
        /// Where it is found.
        place: Place,
        /// Who found it, and by which of its workers.
        owners: BTreeSet<(u32, u32)>,
    },
    /// A worker of one page, and which of its workers.
    Dedicated {
        /// The page.
        owner: u32,
        /// Its number there.
        worker: u32,
    },
}

/// Whether a page or a worker runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// Its script is on its way.
    Loading,
    /// It does.
    Awake,
    /// The browser stopped it: it keeps its locks and its ports.
    Frozen,
    /// Its script does one thing for long. Workers go on.
    Blocked,
    /// It is in the back/forward cache.
    Parked,
}

/// One end of a message port.
pub struct Port {
    /// Whose it is.
    pub owner: u32,
    /// The other end.
    pub peer: u32,
    /// What is on its way to it.
    pub lane: Lane,
}

impl Browser {
    /// A browser without pages.
    pub fn new(traits: Traits, rng: Rng) -> Self {
        Self {
            traits,
            rng,
            actors: BTreeMap::new(),
            shared: BTreeMap::new(),
            ports: BTreeMap::new(),
            channels: BTreeMap::new(),
            areas: vec![Area::default()],
            ids: Rc::default(),
            behind: 0,
            asleep: false,
            woke: Timestamp::default(),
            welcomed: Timestamp::default(),
            user: 0,
            offline: false,
            offline_since: None,
            online_at: Timestamp::default(),
            dials: BTreeMap::new(),
            led: BTreeMap::new(),
            suffers: Timestamp::default(),
            hung_until: Timestamp::default(),
            thefts: BTreeMap::new(),
            last_actor: 0,
        }
    }

    /// The time that its clock shows.
    pub const fn clock(&self, now: Timestamp) -> Timestamp {
        Timestamp::from_micros(now.as_micros() - self.behind)
    }

    /// The user who is logged in, as the server has it.
    pub const fn identity(&self, at: usize) -> Option<Identity> {
        let user = match self.user {
            1 => return None,
            user => at as u64 * 1000 + user + 1,
        };
        match NonZeroU64::new(user) {
            Some(user) => Some(Identity(user)),
            None => None,
        }
    }

    /// True for the tag of a user of this browser.
    pub fn was_of(&self, at: usize, tag: &str) -> bool {
        let user = tag.strip_prefix('u').and_then(|number| number.parse::<u64>().ok());
        user.is_some_and(|user| user / 1000 == at as u64)
    }

    /// How long something takes to the server, or from there.
    pub const fn link_latency(&mut self) -> Duration {
        self.rng.millis(1, self.traits.link_ms)
    }

    /// How long a message takes inside the browser.
    pub const fn port_latency(&mut self) -> Duration {
        self.rng.millis(0, self.traits.port_ms)
    }

    /// A number for another page or worker.
    pub const fn number(&mut self) -> u32 {
        self.last_actor += 1;
        self.last_actor
    }

    /// A number for another port.
    pub fn id(&self) -> u32 {
        self.ids.set(self.ids.get() + 1);
        self.ids.get()
    }

    /// The pages that live, with their numbers.
    pub fn pages(&self) -> impl Iterator<Item = (u32, &Page)> {
        self.actors.iter().filter_map(|(number, actor)| Some((*number, actor.page()?)))
    }

    /// Those of them that the server has room for, and that are of its build.
    pub fn settled(&self) -> impl Iterator<Item = (u32, &Page)> {
        self.pages().filter(|(_, page)| !page.lacks_room() && !page.outdated)
    }

    /// One page.
    pub fn page(&mut self, number: u32) -> Option<&mut Page> {
        match &mut self.actors.get_mut(&number)?.kind {
            Kind::Page(page) => Some(page),
            Kind::Shared { .. } | Kind::Dedicated { .. } => None,
        }
    }

    /// The page of a tab.
    pub fn page_of(&self, tag: u32) -> Option<u32> {
        self.pages().find(|(_, page)| page.tag == tag).map(|(number, _)| number)
    }

    /// The partition of a page or a worker.
    pub fn partition(&self, number: u32) -> usize {
        self.actors.get(&number).map_or(0, |actor| self.areas[actor.area].partition)
    }

    /// The pages that a page finds.
    pub fn group(&self, number: u32) -> Group {
        let page = self.actors.get(&number).and_then(Actor::page);
        (self.partition(number), page.map_or(0, |page| page.build))
    }

    /// All groups of pages that are settled.
    pub fn groups(&self) -> BTreeSet<Group> {
        self.settled().map(|(number, _)| self.group(number)).collect()
    }

    /// Pages that live so.
    pub fn pages_that(&self, life: Life) -> Vec<u32> {
        let all = self.pages().map(|(number, _)| number);
        all.filter(|number| self.actors[number].life == life).collect()
    }

    /// The pages that a worker lives for.
    pub fn owners(&self, number: u32) -> Vec<u32> {
        match self.actors.get(&number).map(|actor| &actor.kind) {
            Some(Kind::Dedicated { owner, .. }) => vec![*owner],
            Some(Kind::Shared { owners, .. }) => owners.iter().map(|(owner, _)| *owner).collect(),
            Some(Kind::Page(_)) | None => Vec::new(),
        }
    }

    /// Its workers.
    pub fn workers(&self) -> Vec<u32> {
        let all = self.actors.iter().filter(|(_, actor)| actor.page().is_none());
        all.map(|(number, _)| *number).collect()
    }

    /// Whether nothing runs in a page or a worker now.
    pub fn is_stopped(&self, number: u32) -> bool {
        self.asleep || self.actors.get(&number).is_some_and(|it| it.life != Life::Awake)
    }

    /// Whether a worker has the only pages it lives for stopped.
    pub fn should_freeze(&self, number: u32) -> bool {
        let life = |number: &u32| self.actors.get(number).map(|actor| actor.life);
        match self.actors.get(&number).map(|actor| &actor.kind) {
            Some(Kind::Dedicated { owner, .. }) => {
                matches!(life(owner), Some(Life::Parked | Life::Frozen))
            }
            Some(Kind::Shared { owners, .. }) => {
                let mut lives = owners.iter().filter_map(|(owner, _)| life(owner)).peekable();
                lives.peek().is_some() && lives.all(|life| life == Life::Parked)
            }
            Some(Kind::Page(_)) | None => false,
        }
    }

    /// Whether a worker has nothing left to live for.
    pub fn should_die(&self, number: u32) -> bool {
        match self.actors.get(&number).map(|actor| &actor.kind) {
            Some(Kind::Dedicated { owner, .. }) => !self.actors.contains_key(owner),
            Some(Kind::Shared { owners, .. }) => {
                !owners.iter().any(|(owner, _)| self.actors.contains_key(owner))
            }
            Some(Kind::Page(_)) | None => false,
        }
    }
}

impl Actor {
    /// The page, if it is one.
    pub const fn page(&self) -> Option<&Page> {
        match &self.kind {
            Kind::Page(page) => Some(page),
            Kind::Shared { .. } | Kind::Dedicated { .. } => None,
        }
    }
}
