//! How long to wait before the next dial: full jitter, so that the browsers a server lost do not
//! come back all at once.

use std::time::Duration;

use crate::hub::rng::Rng;

/// Counts failures and draws waits.
#[derive(Debug)]
pub(in crate::hub) struct Backoff {
    first: Duration,
    last: Duration,
    failures: u32,
}

impl Backoff {
    pub(in crate::hub) const fn new(first: Duration, last: Duration) -> Self {
        Self { first, last, failures: 0 }
    }

    /// A wait between zero and a ceiling that doubles with each call.
    pub(in crate::hub) fn next(&mut self, rng: &mut Rng) -> Duration {
        let ceiling = self.first.saturating_mul(1 << self.failures.min(20)).min(self.last);
        self.failures = self.failures.saturating_add(1);
        rng.below(ceiling)
    }

    /// The link worked for long enough: the next wait is a first one.
    pub(in crate::hub) const fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_stay_below_a_ceiling_that_doubles_up_to_the_last() {
        let (first, last) = (Duration::from_millis(500), Duration::from_secs(30));
        let mut rng = Rng::new(1);
        for _ in 0..100 {
            let mut backoff = Backoff::new(first, last);
            for failures in 0..40 {
                let ceiling = first.saturating_mul(1 << failures.min(20)).min(last);
                assert!(backoff.next(&mut rng) <= ceiling);
            }
        }
    }

    #[test]
    fn waits_spread_over_the_whole_range() {
        let mut rng = Rng::new(2);
        let waits: Vec<_> = (0..200)
            .map(|_| {
                let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(1));
                backoff.next(&mut rng)
            })
            .collect();
        assert!(waits.iter().any(|wait| *wait < Duration::from_millis(100)));
        assert!(waits.iter().any(|wait| *wait > Duration::from_millis(900)));
    }

    #[test]
    fn a_reset_starts_over() {
        let mut rng = Rng::new(3);
        let mut backoff = Backoff::new(Duration::from_millis(1), Duration::from_secs(30));
        for _ in 0..20 {
            let _ = backoff.next(&mut rng);
        }
        backoff.reset();
        assert!(backoff.next(&mut rng) <= Duration::from_millis(1));
    }
}
