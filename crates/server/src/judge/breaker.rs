//! When a judge that keeps failing is asked no more for a while.

use std::time::{Duration, Instant};

/// Failures in a row after which the judge is left alone.
const FAILURES: u32 = 16;
/// How long it is left alone: at first, and at most.
const REST: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(30)];

/// Counts failures in a row.
#[derive(Debug)]
pub(super) enum Breaker {
    /// The judge is asked. It has failed so often in a row.
    Closed { failures: u32 },
    /// The judge is left alone until then; the next rest is this long.
    Open { until: Instant, next: Duration },
    /// One question is under way, which decides. It was asked at this moment.
    Trying { since: Instant, next: Duration },
}

impl Default for Breaker {
    fn default() -> Self {
        Self::Closed { failures: 0 }
    }
}

impl Breaker {
    /// Returns true if the judge may be asked. `patience` is how long a question may take.
    pub(super) fn may_ask(&mut self, now: Instant, patience: Duration) -> bool {
        match *self {
            Self::Closed { .. } => true,
            Self::Open { until, next } if until <= now => {
                *self = Self::Trying { since: now, next };
                true
            }
            // The one that was to decide was withdrawn.
            Self::Trying { since, next } if since + patience < now => {
                *self = Self::Trying { since: now, next };
                true
            }
            Self::Open { .. } | Self::Trying { .. } => false,
        }
    }

    /// The judge answered.
    pub(super) const fn answered(&mut self) {
        *self = Self::Closed { failures: 0 };
    }

    /// The judge did not answer in time, or panicked.
    pub(super) fn failed(&mut self, now: Instant) {
        let rest = match *self {
            Self::Closed { failures } if failures + 1 < FAILURES => {
                *self = Self::Closed { failures: failures + 1 };
                return;
            }
            Self::Closed { .. } => REST[0],
            Self::Trying { next, .. } => next,
            // One of those that were asked before.
            Self::Open { .. } => return,
        };
        *self = Self::Open { until: now + rest, next: (rest * 2).min(REST[1]) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(5);

    fn broken(now: Instant) -> Breaker {
        let mut breaker = Breaker::default();
        (0..FAILURES).for_each(|_| breaker.failed(now));
        breaker
    }

    #[test]
    fn failures_in_a_row_open_it_and_one_answer_closes_it() {
        let now = Instant::now();
        let mut breaker = Breaker::default();
        for _ in 0..10 {
            (1..FAILURES).for_each(|_| breaker.failed(now));
            assert!(breaker.may_ask(now, PATIENCE));
            breaker.answered();
        }
        assert!(!broken(now).may_ask(now, PATIENCE));
    }

    #[test]
    fn after_a_rest_one_question_decides_and_each_rest_is_longer() {
        let mut now = Instant::now();
        let mut breaker = broken(now);
        for rest in [1, 2, 4, 8, 16, 30, 30] {
            now += Duration::from_secs(rest) - Duration::from_millis(1);
            assert!(!breaker.may_ask(now, PATIENCE), "{rest}");
            now += Duration::from_millis(1);
            assert!(breaker.may_ask(now, PATIENCE));
            assert!(!breaker.may_ask(now, PATIENCE), "one is enough");
            breaker.failed(now);
        }
        now += Duration::from_secs(30);
        assert!(breaker.may_ask(now, PATIENCE));
        breaker.answered();
        assert!(breaker.may_ask(now, PATIENCE) && breaker.may_ask(now, PATIENCE));
    }

    #[test]
    fn a_question_that_was_withdrawn_does_not_keep_it_open() {
        let now = Instant::now();
        let mut breaker = broken(now);
        let later = now + Duration::from_secs(1);
        assert!(breaker.may_ask(later, PATIENCE));
        assert!(!breaker.may_ask(later + PATIENCE, PATIENCE));
        assert!(breaker.may_ask(later + PATIENCE + Duration::from_millis(1), PATIENCE));
    }
}
