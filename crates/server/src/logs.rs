//! What an operator reads. The levels mean what to do: error, act now; warn, look; info, a state
//! changed; debug, about one link. What any peer can cause is told at most once a minute, and to
//! who looks at single links each time.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Trouble that comes again within this time is not told again.
const QUIET: Duration = Duration::from_secs(60);

/// Something that is told at most once a minute.
pub(crate) struct Rare(Mutex<Told>);

struct Told {
    last: Option<Instant>,
    since: u64,
}

impl Rare {
    pub(crate) const fn new() -> Self {
        Self(Mutex::new(Told { last: None, since: 0 }))
    }

    /// Whether it is to be told now; if so, how often it happened untold since the last time.
    pub(crate) fn pass(&self) -> Option<u64> {
        self.pass_at(Instant::now())
    }

    fn pass_at(&self, now: Instant) -> Option<u64> {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if told.last.is_some_and(|last| now.duration_since(last) < QUIET) {
            told.since += 1;
            return None;
        }
        told.last = Some(now);
        Some(std::mem::take(&mut told.since))
    }
}

impl Default for Rare {
    fn default() -> Self {
        Self::new()
    }
}

/// Logs at a level at most once a minute at each place, with how often it was not told since,
/// and at the debug level otherwise.
macro_rules! rarely {
    ($level:ident, $($what:tt)+) => {{
        static RARE: $crate::logs::Rare = $crate::logs::Rare::new();
        match RARE.pass() {
            Some(more) => tracing::$level!(more, $($what)+),
            None => tracing::debug!($($what)+),
        }
    }};
}

pub(crate) use rarely;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_once_a_minute_with_what_was_not_told() {
        let (rare, now) = (Rare::default(), Instant::now());
        assert_eq!(rare.pass_at(now), Some(0));
        assert_eq!(rare.pass_at(now), None);
        assert_eq!(rare.pass_at(now + QUIET / 2), None);
        assert_eq!(rare.pass_at(now + QUIET), Some(2));
        assert_eq!(rare.pass_at(now + QUIET * 3), Some(0));
    }
}
