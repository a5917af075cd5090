//! The world in which the shipped scripts run: pages with the page library, workers with
//! `worker.js`, each in a realm of its own, bound to the native hub, and the real registry.

mod backend;
pub mod browser;
mod converge;
pub mod hubs;
pub mod links;
pub mod locks;
mod ops;
pub mod page;
pub mod plan;
pub mod storm;
pub mod topics;
mod transition;
mod workers;
pub mod world;

use std::{panic, rc::Rc};

use self::world::{START, World};
use crate::{
    Failure, Summary, engine::scripts::Scripts, invariant::Invariant, plan::Kept, shrink::smallest,
};

/// Seeds that fail today, from `corpus/shipped-open.txt`, and what is broken.
pub fn open() -> impl Iterator<Item = (u64, &'static str)> {
    let lines = include_str!("../../corpus/shipped-open.txt").lines();
    lines.filter_map(|line| {
        let (seed, what) = line.split_once(' ')?;
        Some((seed.parse().ok()?, what))
    })
}

/// Runs one seed, or what is kept of it; `trace` prints the log of events.
///
/// # Errors
/// The first invariant that was broken, a panic of the code under test included.
pub fn run(seed: u64, kept: &Kept, trace: bool, scripts: &Rc<Scripts>) -> Result<Summary, Failure> {
    let mut world = World::new(seed, kept, trace, Rc::clone(scripts));
    let ran = panic::catch_unwind(panic::AssertUnwindSafe(|| world.run()));
    let outcome = ran.unwrap_or_else(|_| Invariant::Panic.broken("its message is above"));
    match outcome {
        Ok(()) => Ok(world.summary()),
        Err(broken) => {
            let (kept, step) = (kept.clone(), world.summary().steps);
            Err(Failure { seed, kept, step, broken, shipped: true })
        }
    }
}

/// The smallest failure that dropping transitions leads to.
pub fn shrink(failure: Failure, scripts: &Rc<Scripts>) -> Failure {
    let all = plan::Plan::draw(failure.seed, START).all();
    let seed = failure.seed;
    smallest(failure, all, |kept| run(seed, kept, false, scripts).err())
}
