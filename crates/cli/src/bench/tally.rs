//! What a fleet has seen.

use std::{collections::BTreeMap, time::Duration};

use hdrhistogram::Histogram;

/// How often something happened, by what it was.
pub type Reasons = BTreeMap<String, u64>;

/// What a fleet has seen.
#[derive(Clone, Debug)]
pub struct Tally {
    /// Links whose opening was begun, each once however often it was tried.
    pub begun: u64,
    /// Links that are open: welcomed, with their tabs and subscriptions answered.
    pub ready: u64,
    /// Attempts that did not become a link.
    pub refused: Reasons,
    /// Links that were open and are not any more.
    pub lost: Reasons,
    /// Subscriptions confirmed, by the topic's place in the plan.
    pub subscribers: Vec<u64>,
    /// Subscriptions refused or ended by the server.
    pub unsubscribed: Reasons,
    /// Publications of this run that came.
    pub delivered: u64,
    /// Their frames' bytes.
    pub bytes: u64,
    /// Publications that came although something before them had not, and nothing told so.
    pub skipped: u64,
    /// Publications that came again, or after a later one.
    pub repeated: u64,
    /// GAP frames: publications that the server says it left out.
    pub gaps: u64,
    /// From the publisher's call to the link, in microseconds.
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

/// Up to ten minutes, three digits.
fn histogram() -> Histogram<u64> {
    Histogram::new_with_max(600_000_000, 3).expect("the bounds are constants")
}

/// Counts one more.
pub(super) fn count(reasons: &mut Reasons, what: impl Into<String>) {
    *reasons.entry(what.into()).or_default() += 1;
}
