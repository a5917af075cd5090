//! The world in which the shipped scripts run: pages with the page library, workers with
//! `worker.js`, each in a realm of its own, bound to the native hub, and the real registry.

mod backend;
pub mod browser;
mod converge;
pub mod hubs;
pub mod links;
pub mod locks;
mod message;
mod ops;
pub mod page;
pub mod plain;
pub mod plan;
pub mod storm;
pub mod topics;
mod transition;
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

/// Something that is broken today.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Open {
    /// What it is called.
    pub name: &'static str,
    /// A seed that shows it.
    pub seed: u64,
    /// What its failures say, all of it.
    says: &'static str,
}

/// What is broken today, from `corpus/shipped-open.txt`.
pub fn open() -> impl Iterator<Item = Open> {
    let lines = include_str!("../../corpus/shipped-open.txt").lines();
    lines.filter(|line| !line.starts_with('#')).filter_map(|line| {
        let mut words = line.split(" | ");
        let (name, _, seed) = (words.next()?, words.next()?, words.next()?);
        Some(Open { name, seed: seed.parse().ok()?, says: words.next()? })
    })
}

/// Of so many seeds one may fail as is known.
pub const KNOWN_SHARE: u64 = 4;

/// What is known to be broken, if that is what failed.
pub fn known(failure: &Failure) -> Option<Open> {
    let what = failure.broken.to_string();
    open().find(|it| it.says.split(" + ").all(|part| what.contains(part)))
}

/// Runs one seed, or what is kept of it; `trace` prints the log of events.
///
/// # Errors
/// The first invariant that was broken, a panic of the code under test included.
pub fn run(seed: u64, kept: &Kept, trace: bool, scripts: &Rc<Scripts>) -> Result<Summary, Failure> {
    let mut world = World::new(seed, kept, trace, Rc::clone(scripts));
    // No page can ask for requests yet, so they are drawn by themselves.
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

/// The smallest failure that dropping transitions leads to.
pub fn shrink(failure: Failure, scripts: &Rc<Scripts>) -> Failure {
    let all = plan::Plan::draw(failure.seed, START).all();
    let seed = failure.seed;
    smallest(failure, all, |kept| run(seed, kept, false, scripts).err())
}
