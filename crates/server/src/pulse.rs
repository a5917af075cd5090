//! Whether a connection moves.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, Instant},
};

/// When bytes of a connection moved last, and whether the server has a request of it in hand.
pub(crate) struct Pulse {
    began: Instant,
    /// Milliseconds from `began`.
    moved: AtomicU64,
    works: AtomicBool,
}

/// The server has a request in hand for as long as this lives.
pub(crate) struct Working<'a>(&'a Pulse);

impl Pulse {
    pub(crate) fn new() -> Self {
        let (moved, works) = (AtomicU64::new(0), AtomicBool::new(false));
        Self { began: Instant::now(), moved, works }
    }

    /// Notes that bytes moved.
    pub(crate) fn moves(&self) {
        let moved = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.moved.store(moved, Ordering::Relaxed);
    }

    /// Begins to work on a request, for which the peer waits.
    pub(crate) fn work(&self) -> Working<'_> {
        self.works.store(true, Ordering::Relaxed);
        Working(self)
    }

    /// Returns for how long the peer has done nothing. It returns nothing while the server works.
    pub(crate) fn still(&self) -> Option<Duration> {
        let moved = Duration::from_millis(self.moved.load(Ordering::Relaxed));
        let is_idle = !self.works.load(Ordering::Relaxed);
        is_idle.then(|| self.began.elapsed().saturating_sub(moved))
    }
}

impl Drop for Working<'_> {
    fn drop(&mut self) {
        self.0.moves();
        self.0.works.store(false, Ordering::Relaxed);
    }
}
