//! The simulator: ten real hubs and one real session registry in a modelled browser and network,
//! all from one seed.
//!
//! A run has two phases. In the first, [`transition`]s drawn from the seed open, park and kill
//! tabs, cut and stall links, restart the server and put machines to sleep, and the [`oracle`]
//! looks at every step. In the second everything is healed, and the world must converge within
//! a bounded simulated time. The same seed gives the same log of events, to the last byte.
//!
//! No randomness but the seed's, no wall clock, no thread.

#![forbid(unsafe_code)]

pub mod browser;
mod converge;
pub mod network;
pub mod oracle;
pub mod rng;
pub mod server;
pub mod topics;
pub mod transition;
mod wires;
pub mod world;

use std::{fmt, panic};

use self::world::World;

/// What a run was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Deliveries made.
    pub steps: u64,
    /// Of the whole log of events.
    pub hash: u64,
    /// Numbered messages that came back to their tabs.
    pub echoes: u64,
}

/// A run that broke an invariant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Its seed.
    pub seed: u64,
    /// The step at which it was seen.
    pub step: u64,
    /// What was broken.
    pub what: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, step, what } = self;
        writeln!(f, "seed {seed}, step {step}: {what}")?;
        write!(f, "again: cargo run -p tabmux-sim -- --seed {seed} --trace")
    }
}

impl std::error::Error for Failure {}

/// Runs one seed; `trace` prints the log of events.
///
/// # Errors
/// The first invariant that was broken, a panic of the code under test included.
pub fn run(seed: u64, trace: bool) -> Result<Summary, Failure> {
    let mut world = World::new(seed, trace);
    let ran = panic::catch_unwind(panic::AssertUnwindSafe(|| world.run()));
    let outcome = ran.unwrap_or_else(|_| Err("a panic; its message is above".to_owned()));
    match outcome {
        Ok(()) => Ok(world.summary()),
        Err(what) => Err(Failure { seed, step: world.summary().steps, what }),
    }
}

/// The seeds that once failed, from `corpus/seeds.txt`.
pub fn corpus() -> impl Iterator<Item = u64> {
    let lines = include_str!("../corpus/seeds.txt").lines();
    lines.filter_map(|line| line.split_whitespace().next()?.parse().ok())
}
