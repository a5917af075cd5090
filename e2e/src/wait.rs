//! Waits for a condition, with a deadline.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    thread::sleep,
    time::{Duration, Instant},
};

use crate::Result;

/// How often a condition is checked.
const INTERVAL: Duration = Duration::from_millis(10);

/// Calls `condition` until it succeeds, for at most `within` times the run's patience.
///
/// An error of the condition means "not yet", and says what was seen. The last such text is part of
/// the failure when the time has passed.
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

/// Lets everything take `factor` times as long from now on.
pub fn set_patience(factor: u32) {
    PATIENCE.store(factor, Ordering::Relaxed);
}

/// Returns how long something may take that takes `time` on an idle machine.
pub fn patient(time: Duration) -> Duration {
    time * PATIENCE.load(Ordering::Relaxed)
}

static PATIENCE: AtomicU32 = AtomicU32::new(1);

/// Returns `Ok` if `actual` is `wanted`, and otherwise an error with both.
pub fn equal<T: PartialEq + std::fmt::Debug>(what: &str, actual: T, wanted: T) -> Result<()> {
    if actual == wanted {
        return Ok(());
    }
    Err(format!("{what}: {actual:?} instead of {wanted:?}"))
}
