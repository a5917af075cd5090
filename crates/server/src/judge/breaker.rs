//! When a judge that keeps failing is asked no more for a while.
//!
//! There is one breaker for the whole judge, since what makes a judge fail for everybody is what it
//! asks: a database, another service. But a client may know a request that makes the judge panic or
//! takes it too long. So each client counts once, and no client alone opens the breaker.

use std::time::{Duration, Instant};

/// Failures in a row after which the judge is left alone.
const FAILURES: usize = 16;
/// How long it is left alone: at first, and at most.
const REST: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(30)];

/// Who was asked about: a client's address as a number, or `None` where it is not known.
pub(super) type Client = Option<u32>;

/// Counts failures in a row.
#[derive(Debug)]
pub(super) enum Breaker {
    /// The judge is asked. It has failed for these in a row.
    Closed { failed: Vec<Client> },
    /// The judge is left alone until then; the next rest is this long.
    Open { until: Instant, next: Duration },
    /// One question is under way, which decides. It was asked at this moment.
    Trying { since: Instant, next: Duration },
}

impl Default for Breaker {
    fn default() -> Self {
        Self::Closed { failed: Vec::new() }
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
    pub(super) fn answered(&mut self) {
        match self {
            Self::Closed { failed } => failed.clear(),
            Self::Open { .. } | Self::Trying { .. } => *self = Self::default(),
        }
    }

    /// The judge did not answer in time about this client, or panicked. A client whose address is
    /// known counts once.
    pub(super) fn failed(&mut self, now: Instant, client: Client) {
        let rest = match *self {
            Self::Closed { ref mut failed } => {
                if client.is_none() || !failed.contains(&client) {
                    failed.push(client);
                }
                if failed.len() < FAILURES {
                    return;
                }
                REST[0]
            }
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
        (0..FAILURES).for_each(|_| breaker.failed(now, None));
        breaker
    }

    #[test]
    fn failures_in_a_row_open_it_and_one_answer_closes_it() {
        let now = Instant::now();
        let mut breaker = Breaker::default();
        for _ in 0..10 {
            (1..FAILURES).for_each(|_| breaker.failed(now, None));
            assert!(breaker.may_ask(now, PATIENCE));
            breaker.answered();
        }
        assert!(!broken(now).may_ask(now, PATIENCE));
    }

    #[test]
    fn one_client_alone_does_not_open_it() {
        let now = Instant::now();
        let mut breaker = Breaker::default();
        (0..1_000).for_each(|_| breaker.failed(now, Some(7)));
        assert!(breaker.may_ask(now, PATIENCE));
        (1..16).for_each(|other| breaker.failed(now, Some(100 + other)));
        assert!(!breaker.may_ask(now, PATIENCE));
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
            breaker.failed(now, None);
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
