//! What happens in a run, and when: drawn from the seed before anything happens. Each run draws
//! its own weights, so that some runs are all cuts and others know no restart.

use std::{fmt, str::FromStr, time::Duration};

use tabmux_core::Timestamp;

use crate::rng::Rng;

/// Transitions of one run.
const COUNT: usize = 400;
/// The longest time between two of them.
const PAUSE_MS: u64 = 1500;

/// One thing that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transition {
    /// A page is loaded.
    OpenTab,
    /// A tab is closed, and says bye.
    CloseTab,
    /// A tab dies without a word.
    CrashTab,
    /// A tab enters the back/forward cache.
    ParkTab,
    /// A tab comes back from it.
    RestoreTab,
    /// A tab is thrown out of it.
    EvictTab,
    /// The browser stops a tab in the background, and its worker if that is a leader's.
    FreezeTab,
    /// A stopped tab goes on.
    ThawTab,
    /// A tab looks for its hub in the other place, as one that got no answer would.
    MoveTab,
    /// A worker dies without a word.
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
}

const ALL: [Transition; 29] = [
    Transition::OpenTab,
    Transition::CloseTab,
    Transition::CrashTab,
    Transition::ParkTab,
    Transition::RestoreTab,
    Transition::EvictTab,
    Transition::FreezeTab,
    Transition::ThawTab,
    Transition::MoveTab,
    Transition::CrashWorker,
    Transition::RerunWorker,
    Transition::TrapHub,
    Transition::StealLock,
    Transition::OpenSocket,
    Transition::Send,
    Transition::CloseSocket,
    Transition::Push,
    Transition::Kick,
    Transition::Broadcast,
    Transition::Subscribe,
    Transition::Unsubscribe,
    Transition::Publish,
    Transition::CutLink,
    Transition::Flap,
    Transition::StallLink,
    Transition::ToggleOffline,
    Transition::RestartServer,
    Transition::Drain,
    Transition::Sleep,
];

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

/// How tabs find their hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tiers {
    /// All in a shared worker.
    Shared,
    /// All in the worker of a leading tab.
    Leader,
    /// Some here, some there: there are two hubs at once.
    Both,
}

/// What a browser is like.
#[derive(Clone, Copy, Debug)]
pub struct Traits {
    /// How tabs find their hub.
    pub tiers: Tiers,
    /// Whether there are Web Locks.
    pub locks: bool,
    /// How long a shared worker outlives its last tab.
    pub lingers: Duration,
    /// How much of a message's way through the browser is luck, in milliseconds.
    pub port_ms: u64,
    /// The same of its way to the server.
    pub link_ms: u64,
}

/// All of a run that is drawn before it begins.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What the browsers are like.
    pub browsers: Vec<Traits>,
    /// What happens, in order.
    pub steps: Vec<Step>,
}

/// Which transitions of a plan happen: all, or these.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept(pub Option<Vec<usize>>);

impl Plan {
    /// The plan of a seed.
    pub fn draw(seed: u64, start: Timestamp) -> Self {
        let mut rng = Rng::of_part(seed, u64::MAX);
        let browsers = (0..1 + rng.below(4)).map(|_| Traits::draw(&mut rng)).collect();
        let weights = ALL.map(|transition| weight(transition, &mut rng));
        let mut at = start;
        let steps = (0..COUNT).map(|_| {
            at = at + rng.millis(0, PAUSE_MS);
            Step { at, what: draw(&weights, &mut rng), dice: rng.next() }
        });
        Self { steps: steps.collect(), browsers }
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
        Self {
            tiers: match rng.below(8) {
                0..=4 => Tiers::Shared,
                5 => Tiers::Leader,
                _ => Tiers::Both,
            },
            locks: !rng.one_in(8),
            lingers: Duration::from_secs(if rng.one_in(3) { 30 } else { 0 }),
            port_ms: [1, 5, 20, 60, 300][rng.index(5)],
            link_ms: [3, 60, 60][rng.index(3)],
        }
    }
}

fn weight(transition: Transition, rng: &mut Rng) -> u64 {
    match transition {
        Transition::OpenTab | Transition::RestoreTab | Transition::ThawTab => 4 + rng.below(6),
        Transition::OpenSocket => 6 + rng.below(8),
        Transition::Subscribe => 3 + rng.below(6),
        Transition::Publish => 5 + rng.below(20),
        Transition::Send => 15 + rng.below(30),
        Transition::Push => 8 + rng.below(20),
        Transition::RestartServer => u64::from(rng.one_in(4)),
        Transition::Drain | Transition::Sleep => rng.below(2),
        _ => rng.below(2) * rng.below(6),
    }
}

fn draw(weights: &[u64; ALL.len()], rng: &mut Rng) -> Transition {
    let mut at = rng.below(weights.iter().sum());
    for (transition, weight) in ALL.into_iter().zip(weights) {
        match at.checked_sub(*weight) {
            Some(rest) => at = rest,
            None => return transition,
        }
    }
    Transition::Send
}

impl fmt::Display for Kept {
    /// Numbers and ranges: `3,7-9`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(kept) = &self.0 else { return f.write_str("all") };
        let mut ranges: Vec<(usize, usize)> = Vec::new();
        for at in kept {
            match ranges.last_mut() {
                Some((_, last)) if *last + 1 == *at => *last = *at,
                _ => ranges.push((*at, *at)),
            }
        }
        if ranges.is_empty() {
            return f.write_str("none");
        }
        for (place, (first, last)) in ranges.iter().enumerate() {
            let comma = if place > 0 { "," } else { "" };
            if first == last {
                write!(f, "{comma}{first}")?;
            } else {
                write!(f, "{comma}{first}-{last}")?;
            }
        }
        Ok(())
    }
}

impl FromStr for Kept {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "all" => return Ok(Self(None)),
            "none" => return Ok(Self(Some(Vec::new()))),
            _ => {}
        }
        let number = |word: &str| word.parse::<usize>().map_err(|_| format!("{word} is no number"));
        let mut kept = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            kept.extend(number(first)?..=number(last)?);
        }
        Ok(Self(Some(kept)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kept_transitions_are_written_as_they_are_read() {
        for text in ["all", "none", "3", "3,7-9,11", "0-4"] {
            assert_eq!(text.parse::<Kept>().unwrap().to_string(), text);
        }
        assert!("3,x".parse::<Kept>().is_err());
    }

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
