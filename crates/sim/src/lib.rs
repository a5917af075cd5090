//! The simulator: the built page library and the built worker, real hubs and a real session
//! registry in modelled browsers and a modelled network, all from one seed.
//!
//! A run has two phases. In the first, transitions drawn from the seed ([`shipped::plan`]) open,
//! park, freeze and kill tabs and workers, cut and stall links, steal locks, restart the server and
//! put machines to sleep; every step is held against the [`mod@reference`], which knows in plain
//! maps what should be true, and against the [`invariant`]s. In the second everything is healed,
//! and the world must converge within a bounded simulated time.
//!
//! Nothing of pages and workers is modelled: their scripts run in an [`engine`]. The browser around
//! them is a model, and so are network, application and a plain WebSocket server. All modes run in
//! all tiers. The models fail in these ways:
//!
//! - a page crashes, closes, freezes, is blocked, goes into the back/forward cache, has throttled
//!   timers;
//! - a worker crashes, is run again with one old port, traps, is frozen with its tabs;
//! - ports are in order while both ends live; of what a worker posted before it crashed, the last
//!   may be lost;
//! - Web Locks are first come first served, let go by death, stolen, refused, or not there at all;
//! - a machine sleeps up to twenty minutes, its clock going on or standing still, and is offline,
//!   whether the browser says so or not;
//! - a link is reliable until it breaks, then what is unread is gone both ways, and each end hears
//!   of it at once, late or never; it stalls;
//! - the server restarts without its sessions, drains, closes and refuses sockets, answers late,
//!   and is shown claims that are forged;
//! - in a third of the runs, half of the sockets need a ticket, which comes late, never, again, or
//!   from another user;
//! - half of the runs have a special fault besides ([`shipped::plan::Special`]).
//!
//! Requests of tabs have no page API yet. [`requests`] draws them by themselves, with a scripted
//! hub in the place of page and worker.
//!
//! A failure names the invariant, the seed and the transitions that are left after it was shrunk
//! ([`mod@shrink`]), as a command that runs it again. The same seed gives the same log of events,
//! to the last byte: no randomness but the seed's, no wall clock, no thread within a run.

#![deny(unsafe_code)]
#![expect(clippy::wildcard_enum_match_arm, reason = "a model looks at few of many kinds")]
#![expect(missing_debug_implementations, reason = "the engine of scripts and its realms have none")]

pub mod credentials;
pub mod credit;
pub mod engine;
pub mod invariant;
pub mod network;
pub mod oracle;
pub mod plan;
pub mod reference;
pub mod requests;
pub mod rng;
pub mod seen;
pub mod server;
pub mod shipped;
pub mod shrink;
pub mod topics;

use std::fmt;

pub use self::shipped::{run, shrink};
use self::{invariant::Broken, plan::Kept, seen::Seen};

/// The result of a run that broke no invariant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Number of deliveries made and outputs carried out.
    pub steps: u64,
    /// The hash of the whole log of events.
    pub hash: u64,
    /// Number of numbered messages of sockets that arrived.
    pub heard: u64,
    /// The faults that the run saw.
    pub seen: Seen,
}

/// A run that broke an invariant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The seed of the run.
    pub seed: u64,
    /// The transitions that the failure needs.
    pub kept: Kept,
    /// The step at which the failure was seen.
    pub step: u64,
    /// The invariant that was broken, and how.
    pub broken: Broken,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, kept, step, broken } = self;
        writeln!(f, "seed {seed}, step {step}: {broken}")?;
        write!(f, "again: cargo xtask sim --seed {seed} --transitions {kept} --trace")
    }
}

impl std::error::Error for Failure {}

/// Returns the runs that once failed, from `corpus/seeds.txt`: seed, transitions and reason.
pub fn corpus() -> impl Iterator<Item = (u64, Kept)> {
    let lines = include_str!("../corpus/seeds.txt").lines();
    lines.filter_map(|line| {
        let mut words = line.split_whitespace();
        Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
    })
}
