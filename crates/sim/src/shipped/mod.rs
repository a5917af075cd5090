//! The world in which the shipped scripts run: pages with the page library, and workers with
//! `worker.js`. Each runs in a realm of its own, bound to the native hub and the real registry.

mod backend;
pub mod browser;
mod converge;
mod forge;
pub mod hubs;
pub mod links;
pub mod locks;
pub mod message;
mod ops;
pub mod page;
pub mod plain;
pub mod plan;
pub mod storm;
pub mod tickets;
pub mod topics;
mod transition;
pub mod users;
pub mod views;
pub mod waits;
mod workers;
pub mod world;

use std::{panic, rc::Rc};

use self::{plan::START, world::World};
use crate::{
    Failure, Summary, engine::scripts::Scripts, invariant::Invariant, plan::Kept, requests,
    shrink::smallest,
};

/// A fault that is known and not mended yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Open {
    /// The name of the fault.
    pub name: &'static str,
    /// A seed that shows the fault.
    pub seed: u64,
    /// The texts that its failures contain.
    says: &'static str,
}

/// Returns the known faults, from `corpus/shipped-open.txt`.
pub fn open() -> impl Iterator<Item = Open> {
    let lines = include_str!("../../corpus/shipped-open.txt").lines();
    lines.filter(|line| !line.starts_with('#')).filter_map(|line| {
        let mut words = line.split(" | ");
        let (name, _, seed) = (words.next()?, words.next()?, words.next()?);
        Some(Open { name, seed: seed.parse().ok()?, says: words.next()? })
    })
}

/// One seed of so many may fail with a known fault.
pub const KNOWN_SHARE: u64 = 4;

/// Returns the known fault that explains this failure, if there is one.
pub fn known(failure: &Failure) -> Option<Open> {
    let what = failure.broken.to_string();
    open().find(|it| it.says.split(" + ").all(|part| what.contains(part)))
}

/// Runs one seed, or the transitions of it that are kept. If `trace`, prints the log of events.
///
/// # Errors
/// Returns the first invariant that was broken, or a panic of the code under test.
pub fn run(seed: u64, kept: &Kept, trace: bool, scripts: &Rc<Scripts>) -> Result<Summary, Failure> {
    let mut world = World::new(seed, kept, trace, Rc::clone(scripts));
    // The simulated page does not make requests yet, so they are drawn by themselves.
    let runs = || requests::run(seed).and_then(|_| world.run());
    let ran = panic::catch_unwind(panic::AssertUnwindSafe(runs));
    let outcome = ran.unwrap_or_else(|_| Invariant::Panic.broken("its message is above"));
    match outcome {
        Ok(()) => Ok(world.summary()),
        Err(broken) => {
            let (kept, step) = (kept.clone(), world.summary().steps);
            Err(Failure { seed, kept, step, broken })
        }
    }
}

/// Returns the smallest failure that dropping transitions leads to.
pub fn shrink(failure: Failure, scripts: &Rc<Scripts>) -> Failure {
    let all = plan::Plan::draw(failure.seed, START).all();
    let seed = failure.seed;
    smallest(failure, all, |kept| run(seed, kept, false, scripts).err())
}
