//! Who pays for what sessions make the server keep.

use std::sync::atomic::{AtomicUsize, Ordering};

/// The sessions that count together: those of one user, or of nobody from one address. All
/// registries of a server share the record, so it says at any time what they hold together.
#[derive(Debug)]
pub struct Account {
    number: u64,
    holder: Holder,
    bytes: AtomicUsize,
    detached: AtomicUsize,
    subscriptions: AtomicUsize,
    topics: AtomicUsize,
}

/// What the sessions of an account have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// One user has them.
    User,
    /// They come from one address, or from one /64 network of IPv6.
    Address,
}

/// What one account may have; 0 for no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccountLimits {
    /// Bytes of memory beyond the minimum of each session.
    pub bytes: usize,
    /// Sessions without a link.
    pub detached: usize,
    /// Subscriptions.
    pub subscriptions: usize,
    /// Topics that nobody else was subscribed to before.
    pub topics: usize,
}

/// A number of an account.
#[derive(Clone, Copy)]
pub(super) enum Count {
    Detached,
    Subscriptions,
    Topics,
}

impl Account {
    /// Makes an account. No other account of the server has its number.
    pub const fn new(number: u64, holder: Holder) -> Self {
        let [bytes, detached, subscriptions, topics] = [const { AtomicUsize::new(0) }; 4];
        Self { number, holder, bytes, detached, subscriptions, topics }
    }

    /// Returns what its sessions have in common.
    pub const fn holder(&self) -> Holder {
        self.holder
    }

    /// Returns the bytes that its sessions hold beyond the minimum of each.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Returns true if no session is left that counts.
    pub fn is_idle(&self) -> bool {
        let Self { number: _, holder: _, bytes, detached, subscriptions, topics } = self;
        let counts = [bytes, detached, subscriptions, topics];
        counts.iter().all(|count| count.load(Ordering::Relaxed) == 0)
    }

    pub(super) const fn number(&self) -> u64 {
        self.number
    }

    /// Counts `after` bytes in place of `before`. Returns what it holds now.
    pub(super) fn hold(&self, before: usize, after: usize) -> usize {
        let change = after.wrapping_sub(before);
        self.bytes.fetch_add(change, Ordering::Relaxed).wrapping_add(change)
    }

    pub(super) fn count(&self, what: Count) -> usize {
        self.counter(what).load(Ordering::Relaxed)
    }

    pub(super) fn add(&self, what: Count) {
        self.counter(what).fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn remove(&self, what: Count) {
        self.counter(what).fetch_sub(1, Ordering::Relaxed);
    }

    const fn counter(&self, what: Count) -> &AtomicUsize {
        match what {
            Count::Detached => &self.detached,
            Count::Subscriptions => &self.subscriptions,
            Count::Topics => &self.topics,
        }
    }
}

impl PartialEq for Account {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Account {}

impl AccountLimits {
    /// Returns true if a number is at its limit.
    pub(super) const fn is_reached(self, what: Count, count: usize) -> bool {
        let limit = match what {
            Count::Detached => self.detached,
            Count::Subscriptions => self.subscriptions,
            Count::Topics => self.topics,
        };
        limit > 0 && count >= limit
    }
}
