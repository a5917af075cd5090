//! What a fleet has counted.

use std::{collections::BTreeMap, time::Duration};

use hdrhistogram::Histogram;

/// How often something happened, by reason.
pub type Reasons = BTreeMap<String, u64>;

/// What a fleet has counted.
#[derive(Clone, Debug)]
pub struct Tally {
    /// Links whose opening was begun. Each counts once, however often it was tried.
    pub begun: u64,
    /// Links that are open and welcomed, and whose tabs and subscriptions are answered.
    pub ready: u64,
    /// Attempts to open a link that failed, by reason.
    pub refused: Reasons,
    /// Links that were open and have ended, by reason.
    pub lost: Reasons,
    /// Confirmed subscriptions, by the topic's index in the plan.
    pub subscribers: Vec<u64>,
    /// Subscriptions that the server refused or ended, by reason.
    pub unsubscribed: Reasons,
    /// Publications of this run that arrived.
    pub delivered: u64,
    /// Bytes of the frames of these publications.
    pub bytes: u64,
    /// Publications that arrived although one before them was missing and no gap was reported.
    pub skipped: u64,
    /// Publications that arrived twice, or after a later one.
    pub repeated: u64,
    /// GAP frames: publications that the server reports as left out.
    pub gaps: u64,
    /// Time from the publisher's call to the arrival at the link, in microseconds.
    pub latency: Histogram<u64>,
}

impl Tally {
    pub(super) fn new(topics: usize) -> Self {
        Self {
            begun: 0,
            ready: 0,
            refused: Reasons::new(),
            lost: Reasons::new(),
            subscribers: vec![0; topics],
            unsubscribed: Reasons::new(),
            delivered: 0,
            bytes: 0,
            skipped: 0,
            repeated: 0,
            gaps: 0,
            latency: histogram(),
        }
    }

    pub(super) fn deliver(&mut self, bytes: usize, age: Duration) {
        self.delivered += 1;
        self.bytes += bytes as u64;
        self.latency.saturating_record(u64::try_from(age.as_micros()).unwrap_or(u64::MAX));
    }
}

/// Returns a histogram of up to ten minutes, with three significant digits.
fn histogram() -> Histogram<u64> {
    Histogram::new_with_max(600_000_000, 3).expect("the bounds are constants")
}

/// Counts one more occurrence of `what`.
pub(super) fn count(reasons: &mut Reasons, what: impl Into<String>) {
    *reasons.entry(what.into()).or_default() += 1;
}
