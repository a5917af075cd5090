//! A browser: its pages and workers, with their ports, channels and storage.

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
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Identity(pub NonZeroU64);

impl Identity {
    /// Returns the user as the server's shell tells the registry.
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
    /// The traits that were drawn for it.
    pub traits: Traits,
    /// The generator of everything that is random in the browser.
    pub rng: Rng,
    /// Its pages and workers, by number.
    pub actors: BTreeMap<u32, Actor>,
    /// The shared workers, by where pages find them.
    pub shared: BTreeMap<Place, u32>,
    /// All ends of message ports.
    pub ports: BTreeMap<u32, Port>,
    /// All channels, each with its owner and its name.
    pub channels: BTreeMap<u32, (u32, String)>,
    /// The storages, each with its locks. Pages use the last one, and frames may use others.
    pub areas: Vec<Area>,
    /// The latest id of a port, a channel or a socket.
    pub ids: Rc<Cell<u32>>,
    /// How far the clock of the machine is behind the world's, in microseconds.
    pub behind: u64,
    /// True while the machine sleeps.
    pub asleep: bool,
    /// The time when the machine last woke.
    pub woke: Timestamp,
    /// The time when a hub of the browser was last welcomed by a tabmux server.
    pub welcomed: Timestamp,
    /// The user who is logged in, as the cookie of a dial says.
    pub user: u64,
    /// True if dials of the browser are never answered.
    pub offline: bool,
    /// The time since which the browser says that it is offline, if it says so.
    pub offline_since: Option<Timestamp>,
    /// The time when the network last came back.
    pub online_at: Timestamp,
    /// How often hubs dialled each address.
    pub dials: BTreeMap<String, u64>,
    /// For each group of pages and each name: when a page last started a worker of its own of this
    /// name, and which page.
    pub led: BTreeMap<(Group, String), (Timestamp, u32)>,
    /// The time until which a worker may suffer from a fault of its own or of a lock.
    pub suffers: Timestamp,
    /// The time until which a script is missing that pages wait for.
    pub hung_until: Timestamp,
    /// The time when each lock of each area was last stolen, and the thief.
    pub thefts: BTreeMap<(usize, String), (Timestamp, u32)>,
    last_actor: u32,
}

/// The place where a shared worker is found: its partition, address and name.
pub type Place = (usize, String, String);

/// A group of pages that find each other: their partition, and the build of their page library.
pub type Group = (usize, usize);

/// What the pages of one site share, or the frames of this origin in pages of one other site.
#[derive(Default)]
pub struct Area {
    /// The number of the partition. Pages find no channels and no shared workers of another one.
    pub partition: usize,
    /// The localStorage of the partition.
    pub storage: Storage,
    /// The Web Locks of the partition.
    pub locks: Locks,
}

/// A page or a worker.
pub struct Actor {
    /// The realm in which its scripts run.
    pub realm: Realm,
    /// The kind of the actor.
    pub kind: Kind,
    /// The number of the area with its storage and locks.
    pub area: usize,
    /// The build of its script, if the actor is a worker and has one.
    pub build: Option<usize>,
    /// True if it is the worker of a page's exclusive sockets.
    pub is_exclusive: bool,
    /// Whether the actor runs now.
    pub life: Life,
    /// For each timer: when it is due by the clock of the machine, and when its script wants it.
    pub timers: BTreeMap<u32, (u64, u64)>,
    /// Deliveries that wait until the actor runs.
    pub waiting: Vec<Delivery>,
    /// The time since which the actor runs, if it does.
    pub runs_since: Timestamp,
    /// The times when its module trapped.
    pub traps: Vec<Timestamp>,
    /// The actions of the actor, counted for I12.
    pub deeds: Deeds,
    /// The time when it last dialled a tabmux server.
    pub dialled: Option<Timestamp>,
    /// The order of deliveries from elsewhere than a port. A later one arrives later.
    pub inbox: Lane,
}

/// The kind of an actor.
pub enum Kind {
    /// A page with its state.
    Page(Box<Page>),
    /// A shared worker: its place, and the pages that found it.
    Shared {
        /// The place where pages find it.
        place: Place,
        /// The pages that found it, each with its own number for the worker.
        owners: BTreeSet<(u32, u32)>,
    },
    /// A worker of one page.
    Dedicated {
        /// The number of the page.
        owner: u32,
        /// The page's number for the worker.
        worker: u32,
    },
}

/// Whether a page or a worker runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// The script of the worker is on its way.
    Loading,
    /// The page or the worker runs.
    Awake,
    /// The browser stopped it. It keeps its locks and its ports.
    Frozen,
    /// Its script is busy for long. Its workers go on.
    Blocked,
    /// The page is in the back/forward cache.
    Parked,
}

/// One end of a message port.
pub struct Port {
    /// The number of the actor that owns it.
    pub owner: u32,
    /// The id of the other end.
    pub peer: u32,
    /// The order of what is on its way to this end.
    pub lane: Lane,
}

impl Browser {
    /// Returns a browser without pages.
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

    /// Returns the time that the clock of the machine shows.
    pub const fn clock(&self, now: Timestamp) -> Timestamp {
        Timestamp::from_micros(now.as_micros() - self.behind)
    }

    /// Returns the user who is logged in, as the server names the user.
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

    /// Returns true if the tag belongs to a user of this browser.
    pub fn was_of(&self, at: usize, tag: &str) -> bool {
        let user = tag.strip_prefix('u').and_then(|number| number.parse::<u64>().ok());
        user.is_some_and(|user| user / 1000 == at as u64)
    }

    /// Returns how long a message takes to the server, or from there.
    pub const fn link_latency(&mut self) -> Duration {
        self.rng.millis(1, self.traits.link_ms)
    }

    /// Returns how long a message takes inside the browser.
    pub const fn port_latency(&mut self) -> Duration {
        self.rng.millis(0, self.traits.port_ms)
    }

    /// Returns a number for another page or worker.
    pub const fn number(&mut self) -> u32 {
        self.last_actor += 1;
        self.last_actor
    }

    /// Returns an id for another port.
    pub fn id(&self) -> u32 {
        self.ids.set(self.ids.get() + 1);
        self.ids.get()
    }

    /// Returns the pages that live, with their numbers.
    pub fn pages(&self) -> impl Iterator<Item = (u32, &Page)> {
        self.actors.iter().filter_map(|(number, actor)| Some((*number, actor.page()?)))
    }

    /// Returns all pages, to be changed.
    pub fn pages_mut(&mut self) -> impl Iterator<Item = &mut Page> {
        self.actors.values_mut().filter_map(|actor| match &mut actor.kind {
            Kind::Page(page) => Some(&mut **page),
            Kind::Shared { .. } | Kind::Dedicated { .. } => None,
        })
    }

    /// Returns the pages for which the server has room, and that have its build.
    pub fn settled(&self) -> impl Iterator<Item = (u32, &Page)> {
        self.pages().filter(|(_, page)| !page.lacks_room() && !page.outdated)
    }

    /// Returns the page with this number.
    pub fn page(&mut self, number: u32) -> Option<&mut Page> {
        match &mut self.actors.get_mut(&number)?.kind {
            Kind::Page(page) => Some(page),
            Kind::Shared { .. } | Kind::Dedicated { .. } => None,
        }
    }

    /// Returns the number of the page of a tab.
    pub fn page_of(&self, tag: u32) -> Option<u32> {
        self.pages().find(|(_, page)| page.tag == tag).map(|(number, _)| number)
    }

    /// Returns the partition of a page or a worker.
    pub fn partition(&self, number: u32) -> usize {
        self.actors.get(&number).map_or(0, |actor| self.areas[actor.area].partition)
    }

    /// Returns the group of pages that a page finds.
    pub fn group(&self, number: u32) -> Group {
        let page = self.actors.get(&number).and_then(Actor::page);
        (self.partition(number), page.map_or(0, |page| page.build))
    }

    /// Returns all groups of pages that are settled.
    pub fn groups(&self) -> BTreeSet<Group> {
        self.settled().map(|(number, _)| self.group(number)).collect()
    }

    /// Returns the pages in this state of life.
    pub fn pages_that(&self, life: Life) -> Vec<u32> {
        let all = self.pages().map(|(number, _)| number);
        all.filter(|number| self.actors[number].life == life).collect()
    }

    /// Returns the pages that a worker lives for.
    pub fn owners(&self, number: u32) -> Vec<u32> {
        match self.actors.get(&number).map(|actor| &actor.kind) {
            Some(Kind::Dedicated { owner, .. }) => vec![*owner],
            Some(Kind::Shared { owners, .. }) => owners.iter().map(|(owner, _)| *owner).collect(),
            Some(Kind::Page(_)) | None => Vec::new(),
        }
    }

    /// Returns the numbers of all workers.
    pub fn workers(&self) -> Vec<u32> {
        let all = self.actors.iter().filter(|(_, actor)| actor.page().is_none());
        all.map(|(number, _)| *number).collect()
    }

    /// Returns true if no script of the page or the worker runs now.
    pub fn is_stopped(&self, number: u32) -> bool {
        self.asleep || self.actors.get(&number).is_some_and(|it| it.life != Life::Awake)
    }

    /// Returns true if all pages that a worker lives for are stopped.
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

    /// Returns true if a worker has no page left to live for.
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
    /// Returns the page, if the actor is one.
    pub const fn page(&self) -> Option<&Page> {
        match &self.kind {
            Kind::Page(page) => Some(page),
            Kind::Shared { .. } | Kind::Dedicated { .. } => None,
        }
    }
}
