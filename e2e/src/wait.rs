//! Waiting for a condition with a deadline.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    thread::sleep,
    time::{Duration, Instant},
};

use crate::Result;

/// How often a condition is looked at.
const INTERVAL: Duration = Duration::from_millis(10);

/// Asks `condition` again and again until it holds, at most `within` times the run's patience.
///
/// `Err` of the condition means "not yet" and says what was seen instead; the last such text is
/// part of the failure when `within` has passed.
pub fn until<T>(
    what: &str,
    within: Duration,
    mut condition: impl FnMut() -> Result<T>,
) -> Result<T> {
    let start = Instant::now();
    let within = patient(within);
    loop {
        match condition() {
            Ok(value) => return Ok(value),
            Err(seen) if start.elapsed() >= within => {
                return Err(format!("waited {within:?} for {what}; in the end: {seen}"));
            }
            Err(_) => sleep(INTERVAL),
        }
    }
}

/// From now on everything may take `factor` times as long.
pub fn set_patience(factor: u32) {
    PATIENCE.store(factor, Ordering::Relaxed);
}

/// How long something may take that is given `time` on an idle machine.
pub fn patient(time: Duration) -> Duration {
    time * PATIENCE.load(Ordering::Relaxed)
}

static PATIENCE: AtomicU32 = AtomicU32::new(1);

/// `Ok` where `actual` is `wanted`, else what was seen; for [`until`] and for plain checks.
pub fn equal<T: PartialEq + std::fmt::Debug>(what: &str, actual: T, wanted: T) -> Result<()> {
    if actual == wanted {
        return Ok(());
    }
    Err(format!("{what}: {actual:?} instead of {wanted:?}"))
}
