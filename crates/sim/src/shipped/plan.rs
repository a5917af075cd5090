//! What happens in a run, and when. It is drawn from the seed before anything happens. Each run
//! draws its own weights, so that some runs are all cuts and others have no restart.

use std::time::Duration;

use tabmux_core::{Timestamp, session::SessionConfig};

use crate::{plan::Kept, rng::Rng};

/// The time at which the world begins.
pub(crate) const START: Timestamp = Timestamp::from_millis(1000);
/// Number of transitions in one run.
const COUNT: usize = 300;
/// Longest time between two transitions, in milliseconds.
const PAUSE_MS: u64 = 1000;

/// How often cookies change in runs with users: some change theirs every few seconds.
const LOG_INS: [u64; 3] = [8, 25, 80];

/// In one run of so many, some sockets need a ticket.
const TICKETS: u64 = 3;

macro_rules! transitions {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// One transition, which is a thing that happens.
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
    /// A script of a page is busy for up to half a minute.
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
    /// The link of a browser breaks.
    CutLink,
    /// A page sends some messages, and its link breaks while they are on their way.
    Flap,
    /// Nothing arrives on a link for a while.
    StallLink,
    /// Dials of a browser are no longer answered, or are answered again.
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

/// A transition with its time, and with the dice for everything that it draws. It does the same,
/// whatever else is dropped from the plan.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// The time of the transition.
    pub at: Timestamp,
    /// The transition that happens then.
    pub what: Transition,
    /// The seed of the numbers that it draws.
    pub dice: u64,
}

/// How the pages of a browser host their hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tiers {
    /// Pages choose, and all tiers are available.
    Any,
    /// In a worker of the tab that holds a lock.
    Leader,
    /// In a worker of the tab that has the lease.
    Storage,
    /// Each page has a hub in a worker of its own.
    Direct,
    /// Pages choose, and some cannot have a SharedWorker.
    Mixed,
}

/// The servers that the pages of a run use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doors {
    /// A tabmux server only.
    Tabmux,
    /// A plain server only, in mirror or exclusive mode.
    Plain,
    /// A tabmux server and a plain server.
    Both,
}

impl Doors {
    /// Returns true if pages use a tabmux server.
    pub fn tabmux(self) -> bool {
        self != Self::Plain
    }

    /// Returns true if pages use a plain server.
    pub fn plain(self) -> bool {
        self != Self::Tabmux
    }
}

/// A special fault of all browsers, which some runs have. Failures name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Special {
    /// The run has no special fault.
    None,
    /// The browsers have these features, which throw or reject.
    Refuses(&'static [&'static str]),
    /// Some scripts take up to a minute to arrive.
    SlowScripts,
    /// Some scripts do not arrive, or HTML arrives in their place.
    FailingScripts,
    /// Storage is cleared under open tabs. Those keep the locks that they have; tabs that are
    /// opened later find none of these.
    ClearedStorage,
    /// Users log in and out.
    Users,
    /// There are more tabs than the server allows in a session.
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

/// The traits of a browser.
#[derive(Clone, Copy, Debug)]
pub struct Traits {
    /// How pages host their hub.
    pub tiers: Tiers,
    /// True if the browser has Web Locks.
    pub locks: bool,
    /// True if the browser has channels.
    pub channels: bool,
    /// Time for which a shared worker outlives its last tab.
    pub lingers: Duration,
    /// Random part of a message's time through the browser, in milliseconds.
    pub port_ms: u64,
    /// Random part of a message's time to the server, in milliseconds.
    pub link_ms: u64,
    /// Random part of the time that a script takes to arrive, in milliseconds.
    pub load_ms: u64,
    /// True if messages to a page that enters the cache may be dropped.
    pub drops: bool,
}

/// Everything of a run that is drawn before it begins.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The traits of the browsers.
    pub browsers: Vec<Traits>,
    /// The transitions, in order.
    pub steps: Vec<Step>,
    /// The special fault of the run.
    pub special: Special,
    /// The servers of the run. If there are both, each page draws its own.
    pub doors: Doors,
    /// The cookie of a browser changes before one step of so many, if that is the special fault of
    /// the run.
    pub log_in_every: u64,
    /// True if some sockets need a ticket.
    pub tickets: bool,
}

impl Plan {
    /// Draws the plan of a seed.
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
        let log_in_every = LOG_INS[Rng::of_part(seed, u64::MAX - 1).index(LOG_INS.len())];
        let tickets = Rng::of_part(seed, u64::MAX - 2).one_in(TICKETS);
        Self { steps, browsers, special, doors, log_in_every, tickets }
    }

    /// Returns the number of tabs that the server allows in a session.
    pub fn tabs(&self) -> u32 {
        if self.special == Special::Crowds { 3 } else { SessionConfig::default().tabs }
    }

    /// Returns the number of sockets that the server allows a tab.
    pub fn sockets(&self) -> u32 {
        if self.special == Special::Crowds { 3 } else { SessionConfig::default().sockets }
    }

    /// Returns true if the server names users, and tells hubs the user of their browser.
    pub fn names_users(&self) -> bool {
        self.special == Special::Users
    }

    /// Returns both limits, of tabs and of sockets.
    pub fn limits(&self) -> (u32, u32) {
        (self.tabs(), self.sockets())
    }

    /// Returns the numbers of all transitions.
    pub fn all(&self) -> Vec<usize> {
        (0..self.steps.len()).collect()
    }

    /// Drops the transitions that are not kept.
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
            // No engine has locks or shared workers but no channels.
            channels: locks || tiers == Tiers::Mixed || !rng.one_in(3),
            lingers: Duration::from_secs(if rng.one_in(3) { 30 } else { 0 }),
            // A page does not wait for a hub of another tier that takes longer than 200 ms to
            // answer.
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

/// Returns whether a transition needs a tabmux server, and whether it needs a plain one.
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
    fn dropped_transitions_do_not_change_the_others() {
        let start = Timestamp::from_millis(1000);
        let whole = Plan::draw(7, start);
        let mut some = whole.clone();
        some.keep(&Kept(Some(vec![5, 9])));
        let same = |a: &Step, b: &Step| (a.at, a.what, a.dice) == (b.at, b.what, b.dice);
        assert!(same(&some.steps[0], &whole.steps[5]) && same(&some.steps[1], &whole.steps[9]));
        assert_eq!(some.steps.len(), 2);
    }
}
