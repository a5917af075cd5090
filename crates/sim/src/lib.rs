//! The simulator: real hubs and a real session registry in modelled browsers and a modelled
//! network, all from one seed.
//!
//! A run has two phases. In the first, transitions drawn from the seed (the [`plan`]) open, park,
//! freeze and kill tabs and workers, cut and stall links, steal locks, restart the server and put
//! machines to sleep; every step is held against the [`mod@reference`], which knows in plain maps
//! what should be true, and against the [`invariant`]s. In the second everything is healed, and the
//! world must converge within a bounded simulated time.
//!
//! What is modelled, and how it fails:
//!
//! - a page (`page`, `pages`), what the page library keeps: it crashes, closes, freezes, goes into
//!   the back/forward cache, has throttled timers, looks at another tier;
//! - a worker (`hosts`), what `worker.js` does for a hub: it crashes, is run again with one old
//!   port, traps, is frozen with its tabs;
//! - ports: in order while both ends live; to a dead end messages vanish;
//! - Web Locks (`locks`): first come first served, let go by death, stolen, or not there at all;
//! - a machine (`browser`): it sleeps up to an hour, its clock going on or standing still; offline;
//! - a link (`network`, `wires`): reliable until it breaks, then what is unread is gone both ways,
//!   and each end hears of it at once, late or never; it stalls;
//! - the server (`server`, `backend`): it restarts without its sessions, drains, closes and refuses
//!   sockets, answers late.
//!
//! All of this models by hand what pages and workers do. In [`shipped`] nothing of theirs is
//! modelled: the built page library and the built worker run in an [`engine`], and only the browser
//! around them, the network, the application and a plain WebSocket server are models. It covers all
//! three modes in all four tiers. It is to replace the model by hand.
//!
//! Requests of tabs have no page API yet. [`requests`] draws them by themselves, with a scripted
//! hub in the place of page and worker.
//!
//! A failure names the invariant, the seed and the transitions that are left after [`shrink`]ing,
//! as a command that runs it again. The same seed gives the same log of events, to the last byte:
//! no randomness but the seed's, no wall clock, no thread within a run.

#![forbid(unsafe_code)]

mod backend;
pub mod browser;
mod converge;
pub mod credit;
pub mod engine;
mod hosts;
pub mod invariant;
pub mod locks;
pub mod network;
pub mod oracle;
pub mod page;
mod pages;
pub mod plan;
pub mod reference;
pub mod requests;
pub mod rng;
pub mod seen;
pub mod server;
mod sessions;
pub mod shipped;
pub mod shrink;
pub mod topics;
mod transition;
mod wires;
pub mod world;

use std::{fmt, panic};

use self::{
    invariant::{Broken, Invariant},
    plan::Kept,
    seen::Seen,
    world::World,
};

/// What a run was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Deliveries made and outputs carried out.
    pub steps: u64,
    /// Of the whole log of events.
    pub hash: u64,
    /// Numbered messages of sockets that arrived.
    pub heard: u64,
    /// What it saw, where the shipped scripts run.
    pub seen: Seen,
}

/// A run that broke an invariant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Its seed.
    pub seed: u64,
    /// The transitions that it needs.
    pub kept: Kept,
    /// The step at which it was seen.
    pub step: u64,
    /// What was broken.
    pub broken: Broken,
    /// Whether the shipped scripts ran.
    pub shipped: bool,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, kept, step, broken, shipped } = self;
        let shipped = if *shipped { " --shipped" } else { "" };
        writeln!(f, "seed {seed}, step {step}: {broken}")?;
        write!(f, "again: cargo xtask sim{shipped} --seed {seed} --transitions {kept} --trace")
    }
}

impl std::error::Error for Failure {}

/// Runs one seed, or what is kept of it; `trace` prints the log of events.
///
/// # Errors
/// The first invariant that was broken, a panic of the code under test included.
pub fn run(seed: u64, kept: &Kept, trace: bool) -> Result<Summary, Failure> {
    let mut world = World::new(seed, kept, trace);
    let ran = panic::catch_unwind(panic::AssertUnwindSafe(|| world.run()));
    let outcome = ran.unwrap_or_else(|_| Invariant::Panic.broken("its message is above"));
    match outcome {
        Ok(()) => Ok(world.summary()),
        Err(broken) => {
            let (kept, step) = (kept.clone(), world.summary().steps);
            Err(Failure { seed, kept, step, broken, shipped: false })
        }
    }
}

/// The runs that once failed, from `corpus/seeds.txt`: seed, transitions, reason.
pub fn corpus() -> impl Iterator<Item = (u64, Kept)> {
    let lines = include_str!("../corpus/seeds.txt").lines();
    lines.filter_map(|line| {
        let mut words = line.split_whitespace();
        Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
    })
}

/// Seeds that fail today, from `corpus/open.txt`: what is broken is known, and not yet mended.
pub fn open() -> impl Iterator<Item = u64> {
    let lines = include_str!("../corpus/open.txt").lines();
    lines.filter_map(|line| line.split_whitespace().next()?.parse().ok())
}
