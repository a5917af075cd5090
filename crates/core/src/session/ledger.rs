//! What browsers make the server keep, at what it costs in memory.
//!
//! Costs are the bytes that are asked of the allocator: a record counts with its size, a buffer
//! with its capacity. The frames of a topic are shared by all its subscribers, so they are not
//! charged here but to the topic ([`Meter`](super::Meter)).

use super::{effects::Effects, stats::ChargeStats};

/// What an `Arc` has beside its value.
pub(super) const ARC: usize = 16;

/// What a shell is taken to keep of a virtual socket beside its path: its name and its handler.
pub(super) const SOCKET: usize = 144;

/// What a question takes beside its text: its record and its deadline.
pub(super) const ASK: usize = 96;

/// What an entry of a small map takes.
pub(super) const ENTRY: usize = 32;

/// The memory that one session makes the server keep.
#[derive(Default)]
pub(super) struct Ledger(usize);

/// What memory is charged for.
#[derive(Clone, Copy)]
pub(super) enum Charge {
    /// Frames that a hub has not acknowledged: those of the session alone, and its entries of those
    /// that it shares.
    Lanes,
    /// What there is only while a hub does not read: entries of publications, sockets that wait.
    Waiting,
    /// Virtual sockets and their paths.
    Sockets,
    /// Messages that the application holds.
    Credit,
    /// Open questions.
    Asks,
    /// Topics and subscriptions.
    Topics,
    /// What the shell holds for links: parts of messages, and what is not yet written.
    Links,
}

impl Ledger {
    /// Charges `after` bytes in place of `before`.
    pub(super) fn charge(&mut self, fx: &mut Effects, what: Charge, before: usize, after: usize) {
        self.0 = self.0 + after - before;
        fx.charge(what, before, after);
    }

    /// Returns the bytes that are charged.
    pub(super) const fn charged(&self) -> usize {
        self.0
    }
}

impl Effects {
    /// Charges `after` bytes in place of `before` to nobody's ledger.
    pub(super) fn charge(&mut self, what: Charge, before: usize, after: usize) {
        let total = self.stats.charged.of(what);
        *total = *total + after - before;
    }
}

impl ChargeStats {
    /// Returns the sum of all charges, in bytes.
    pub const fn bytes(&self) -> usize {
        let Self { lanes, waiting, sockets, credit, asks, topics, links } = *self;
        lanes + waiting + sockets + credit + asks + topics + links
    }

    /// Returns the number of what is charged for.
    const fn of(&mut self, what: Charge) -> &mut usize {
        match what {
            Charge::Lanes => &mut self.lanes,
            Charge::Waiting => &mut self.waiting,
            Charge::Sockets => &mut self.sockets,
            Charge::Credit => &mut self.credit,
            Charge::Asks => &mut self.asks,
            Charge::Topics => &mut self.topics,
            Charge::Links => &mut self.links,
        }
    }
}
