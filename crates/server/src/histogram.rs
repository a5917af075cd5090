//! How long something takes, for Prometheus.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// The upper ends of the buckets, in seconds, and the last of them without one.
pub(crate) const BOUNDS: [f64; 11] =
    [0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0];

/// Counts by how long they took.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    /// One for each bound, and one for what took longer.
    buckets: [AtomicU64; BOUNDS.len() + 1],
    micros: AtomicU64,
}

/// The numbers of a moment.
pub(crate) struct Snapshot {
    /// How many took at most as long as each bound.
    pub(crate) within: [u64; BOUNDS.len()],
    pub(crate) count: u64,
    pub(crate) seconds: f64,
}

impl Histogram {
    pub(crate) fn observe(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let bucket = BOUNDS.iter().position(|bound| seconds <= *bound).unwrap_or(BOUNDS.len());
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.micros.fetch_add(micros, Ordering::Relaxed);
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        let buckets = self.buckets.each_ref().map(|bucket| bucket.load(Ordering::Relaxed));
        let (mut within, mut count) = ([0; BOUNDS.len()], 0);
        for (sum, bucket) in within.iter_mut().zip(buckets) {
            count += bucket;
            *sum = count;
        }
        count += buckets[BOUNDS.len()];
        let seconds = self.micros.load(Ordering::Relaxed) as f64 / 1e6;
        Snapshot { within, count, seconds }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bucket_counts_all_that_took_no_longer() {
        let histogram = Histogram::default();
        for millis in [0, 1, 1, 3, 9_000] {
            histogram.observe(Duration::from_millis(millis));
        }
        let Snapshot { within, count, seconds } = histogram.snapshot();
        assert_eq!(within, [1, 1, 3, 3, 4, 4, 4, 4, 4, 4, 4]);
        assert_eq!(count, 5);
        assert!((seconds - 9.005).abs() < 1e-9, "{seconds}");
    }
}
