//! What happens in a run, and when: drawn from the seed before anything happens. Each run draws its
//! own weights, so that some runs are all cuts and others know no restart.

use std::time::Duration;

use tabmux_core::{Timestamp, session::SessionConfig};

use crate::{plan::Kept, rng::Rng};

/// When the world begins.
pub(crate) const START: Timestamp = Timestamp::from_millis(1000);
/// Transitions of one run.
const COUNT: usize = 300;
/// The longest time between two of them.
const PAUSE_MS: u64 = 1000;

macro_rules! transitions {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// One thing that happens.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Transition {
            $($(#[$doc])* $name,)*
        }

        const ALL: &[Transition] = &[$(Transition::$name,)*];
    };
}

transitions! {
    /// A page is loaded.
    OpenTab,
    /// A tab is closed.
    CloseTab,
    /// A tab dies without a word.
    CrashTab,
    /// A tab enters the back/forward cache.
    ParkTab,
    /// A tab comes back from it.
    RestoreTab,
    /// A tab is thrown out of it.
    EvictTab,
    /// The browser stops a tab in the background, and the worker that it has.
    FreezeTab,
    /// A stopped tab goes on.
    ThawTab,
    /// A script of a page does one thing for up to half a minute.
    BlockTab,
    /// A worker dies without a word. Where all servers are tabmux servers, the application has just
    /// sent something that comes through it.
    CrashWorker,
    /// A worker dies and its script is run again, with one of the old ports.
    RerunWorker,
    /// The module of a worker traps.
    TrapHub,
    /// Someone steals the link's lock, and lets go of it after a while.
    StealLock,
    /// A page opens a socket.
    OpenSocket,
    /// A page sends some messages.
    Send,
    /// A page closes a socket.
    CloseSocket,
    /// The application sends some messages on a socket.
    Push,
    /// The application closes a socket.
    Kick,
    /// The application sends a message to all tabs of a browser.
    Broadcast,
    /// A page subscribes to a topic.
    Subscribe,
    /// A page ends a subscription.
    Unsubscribe,
    /// The application publishes some messages.
    Publish,
    /// A link breaks.
    CutLink,
    /// A page sends some messages, and its link breaks while they are on their way.
    Flap,
    /// Nothing arrives on a link for a while.
    StallLink,
    /// Dials of a browser are not answered, or are again.
    ToggleOffline,
    /// The server stops, politely or not, and comes back without its sessions.
    RestartServer,
    /// The server asks some of its links to go.
    Drain,
    /// A machine sleeps; its clock may have stood still meanwhile.
    Sleep,
    /// A link swallows all that is sent on it, and nobody is told.
    SwallowLink,
    /// A stranger claims a session, with another token or as another user.
    Forge,
    /// Another user logs in, or nobody is, if that is the special fault of the run.
    ChangeUser,
    /// Another build is deployed, if that is the special fault of the run.
    Deploy,
    /// A page opens a view in mirror or exclusive mode.
    OpenView,
    /// A page says some messages on its views.
    SayView,
    /// A page closes a view.
    CloseView,
    /// The plain server says some messages on a connection.
    PlainPush,
    /// The plain server closes a connection.
    PlainKick,
    /// The plain server dies, refuses, is slow, or is well again.
    PlainSuffers,
    /// The user clears what the origin has stored, if that is the special fault of the run.
    ClearStorage,
}

/// A transition with its moment, and the dice for all that it draws itself: so it is the same
/// whatever else is dropped from the plan.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// When.
    pub at: Timestamp,
    /// What.
    pub what: Transition,
    /// The seed of what it draws.
    pub dice: u64,
}

/// How pages host their hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tiers {
    /// As they choose; all can have all.
    Any,
    /// In a worker of the tab that holds a lock.
    Leader,
    /// In a worker of the tab that has the lease.
    Storage,
    /// Each in a worker of its own.
    Direct,
    /// As they choose; some cannot have a SharedWorker.
    Mixed,
}

/// Which servers the pages of a run are at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doors {
    /// A tabmux server.
    Tabmux,
    /// A plain one, in mirror or exclusive mode.
    Plain,
    /// Both.
    Both,
}

impl Doors {
    /// True if it is, among others perhaps, a tabmux server.
    pub fn tabmux(self) -> bool {
        self != Self::Plain
    }

    /// True if it is, among others perhaps, a plain server.
    pub fn plain(self) -> bool {
        self != Self::Tabmux
    }
}

/// What is wrong with all browsers of some runs. Failures name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Special {
    /// Nothing.
    None,
    /// These are there, and throw, or reject.
    Refuses(&'static [&'static str]),
    /// Some scripts take up to a minute.
    SlowScripts,
    /// Some scripts do not arrive, or not as scripts.
    FailingScripts,
    /// Storage is cleared under open tabs. Those keep the locks that they have; tabs that are
    /// opened later find none of these.
    ClearedStorage,
    /// Users log in and out.
    Users,
    /// There are more tabs than the server lets a session have.
    Crowds,
    /// Other builds are deployed: what is loaded from then on is of the last one. Pages keep what
    /// they have.
    Deploys,
    /// Some pages are frames in pages of another site, which share nothing with the others.
    Frames,
}

const REFUSALS: [&[&str]; 5] = [
    &["locks"],
    &["storage"],
    &["channels"],
    &["shared"],
    &["locks", "storage", "channels", "shared"],
];

/// What a browser is like.
#[derive(Clone, Copy, Debug)]
pub struct Traits {
    /// How pages host their hub.
    pub tiers: Tiers,
    /// Whether there are Web Locks.
    pub locks: bool,
    /// Whether there are channels.
    pub channels: bool,
    /// How long a shared worker outlives its last tab.
    pub lingers: Duration,
    /// How much of a message's way through the browser is luck, in milliseconds.
    pub port_ms: u64,
    /// The same of its way to the server.
    pub link_ms: u64,
    /// The same of the way of a script.
    pub load_ms: u64,
    /// Whether what is on its way to a page that enters the cache may be dropped.
    pub drops: bool,
}

/// All of a run that is drawn before it begins.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What the browsers are like.
    pub browsers: Vec<Traits>,
    /// What happens, in order.
    pub steps: Vec<Step>,
    /// What is wrong besides.
    pub special: Special,
    /// Which servers there are. In a run of both, each page draws its own.
    pub doors: Doors,
}

impl Plan {
    /// The plan of a seed.
    pub fn draw(seed: u64, start: Timestamp) -> Self {
        let mut rng = Rng::of_part(seed, u64::MAX);
        let browsers = (0..1 + rng.below(3)).map(|_| Traits::draw(&mut rng)).collect();
        let doors = match rng.below(8) {
            0..=3 => Doors::Tabmux,
            4 | 5 => Doors::Plain,
            _ => Doors::Both,
        };
        let weights = ALL.iter().map(|it| weight(*it, doors, &mut rng)).collect::<Vec<_>>();
        let mut at = start;
        let steps = (0..COUNT).map(|_| {
            at = at + rng.millis(0, PAUSE_MS);
            Step { at, what: draw(&weights, &mut rng), dice: rng.next() }
        });
        let steps = steps.collect();
        let special = match rng.below(36) {
            0..=4 => Special::Refuses(REFUSALS[rng.index(REFUSALS.len())]),
            5 | 6 => Special::SlowScripts,
            7 | 8 => Special::FailingScripts,
            9 | 10 => Special::ClearedStorage,
            11..=13 => Special::Deploys,
            14 | 15 => Special::Frames,
            16..=18 => Special::Users,
            19 | 20 => Special::Crowds,
            _ => Special::None,
        };
        Self { steps, browsers, special, doors }
    }

    /// Tabs that the server lets a session have.
    pub fn tabs(&self) -> u32 {
        if self.special == Special::Crowds { 3 } else { SessionConfig::default().tabs }
    }

    /// Sockets that the server lets a tab have.
    pub fn sockets(&self) -> u32 {
        if self.special == Special::Crowds { 3 } else { SessionConfig::default().sockets }
    }

    /// True if the server names users, and tells hubs whose a browser is.
    pub fn names_users(&self) -> bool {
        self.special == Special::Users
    }

    /// Both.
    pub fn limits(&self) -> (u32, u32) {
        (self.tabs(), self.sockets())
    }

    /// The numbers of all transitions.
    pub fn all(&self) -> Vec<usize> {
        (0..self.steps.len()).collect()
    }

    /// Drops what is not kept.
    pub fn keep(&mut self, kept: &Kept) {
        if let Some(kept) = &kept.0 {
            let steps = kept.iter().filter_map(|at| self.steps.get(*at).copied());
            self.steps = steps.collect();
        }
    }
}

impl Traits {
    fn draw(rng: &mut Rng) -> Self {
        let tiers = match rng.below(16) {
            0..=6 => Tiers::Any,
            7..=9 => Tiers::Leader,
            10..=12 => Tiers::Storage,
            13 => Tiers::Direct,
            _ => Tiers::Mixed,
        };
        let locks = tiers == Tiers::Leader || !rng.one_in(6);
        Self {
            tiers,
            locks,
            // No engine has locks, or shared workers, and no channels.
            channels: locks || tiers == Tiers::Mixed || !rng.one_in(3),
            lingers: Duration::from_secs(if rng.one_in(3) { 30 } else { 0 }),
            // A hub of another tier that takes longer than 200 ms to answer is not waited for.
            port_ms: [1, 5, 20, 60, if tiers == Tiers::Mixed { 60 } else { 300 }][rng.index(5)],
            link_ms: [3, 60, 60][rng.index(3)],
            load_ms: [5, 50, 500][rng.index(3)],
            drops: rng.one_in(3),
        }
    }
}

fn weight(transition: Transition, doors: Doors, rng: &mut Rng) -> u64 {
    let drawn = match transition {
        Transition::OpenTab | Transition::RestoreTab | Transition::ThawTab => 4 + rng.below(6),
        Transition::OpenSocket => 6 + rng.below(8),
        Transition::Subscribe => 3 + rng.below(6),
        Transition::Publish => 5 + rng.below(20),
        Transition::Send => 15 + rng.below(30),
        Transition::Push => 8 + rng.below(20),
        Transition::RestartServer => u64::from(rng.one_in(4)),
        Transition::Drain | Transition::Sleep => rng.below(2),
        Transition::OpenView => 6 + rng.below(8),
        Transition::SayView => 10 + rng.below(20),
        Transition::PlainPush => 5 + rng.below(20),
        _ => rng.below(2) * rng.below(6),
    };
    let (tabmux, plain) = needs(transition);
    let there = (!tabmux || doors.tabmux()) && (!plain || doors.plain());
    if there { drawn } else { 0 }
}

/// True if a transition needs a tabmux server, and whether a plain one.
const fn needs(transition: Transition) -> (bool, bool) {
    match transition {
        Transition::OpenSocket
        | Transition::Send
        | Transition::CloseSocket
        | Transition::Push
        | Transition::Kick
        | Transition::Broadcast
        | Transition::Subscribe
        | Transition::Unsubscribe
        | Transition::Publish
        | Transition::RestartServer
        | Transition::Drain
        | Transition::Forge => (true, false),
        Transition::OpenView
        | Transition::SayView
        | Transition::CloseView
        | Transition::PlainPush
        | Transition::PlainKick
        | Transition::PlainSuffers => (false, true),
        _ => (false, false),
    }
}

fn draw(weights: &[u64], rng: &mut Rng) -> Transition {
    let mut at = rng.below(weights.iter().sum());
    for (transition, weight) in ALL.iter().zip(weights) {
        match at.checked_sub(*weight) {
            Some(rest) => at = rest,
            None => return *transition,
        }
    }
    Transition::Send
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dropped_changes_nothing_of_the_rest() {
        let start = Timestamp::from_millis(1000);
        let whole = Plan::draw(7, start);
        let mut some = whole.clone();
        some.keep(&Kept(Some(vec![5, 9])));
        let same = |a: &Step, b: &Step| (a.at, a.what, a.dice) == (b.at, b.what, b.dice);
        assert!(same(&some.steps[0], &whole.steps[5]) && same(&some.steps[1], &whole.steps[9]));
        assert_eq!(some.steps.len(), 2);
    }
}
