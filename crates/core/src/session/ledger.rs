//! The memory that browsers make the server keep.
//!
//! A charge is what the allocator was asked for: a record counts with its size, and a buffer with
//! its capacity. All subscribers of a topic share its frames, so the frames are charged to the
//! topic ([`Meter`](super::Meter)) and to no session.

use std::sync::Arc;

use super::{
    Visitor,
    account::Account,
    asks::Ask,
    effects::Effects,
    link::{Greeting, Link},
    state::Session,
    stats::ChargeStats,
};

/// The bytes that an `Arc` adds to its value.
pub(super) const ARC: usize = 16;

/// The bytes of a link and of its places in the tables of its registry.
pub(super) const LINK: usize = size_of::<Link>() + 12;

/// The bytes that a link takes in addition before HELLO.
pub(super) const GREETING: usize = size_of::<Greeting>();

/// The bytes of a session and of its place in the table of its registry.
pub(super) const SESSION: usize = size_of::<Session>() + 8;

/// The bytes that a shell is taken to keep of a virtual socket beside its path: the socket's name
/// and its handler.
pub(super) const SOCKET: usize = 144;

/// The bytes of a question beside its text: its record, its deadline, and the question itself,
/// which the shell has until it answers.
pub(super) const ASK: usize = 128 + size_of::<Ask>();

/// The bytes of an entry of a small map.
pub(super) const ENTRY: usize = 32;

/// The bytes that one session makes the server keep, and whose they are.
#[derive(Default)]
pub(super) struct Ledger {
    bytes: usize,
    /// Who has the session: nobody else may go on with it.
    visitor: Option<Arc<Visitor>>,
}

/// A kind of memory that is charged.
#[derive(Clone, Copy)]
pub(super) enum Charge {
    /// Links, sessions and tabs.
    Sessions,
    /// What is kept of the requests that opened links: users and headers.
    Visitors,
    /// The lanes: frames of the session alone, and entries of those that it shares.
    Lanes,
    /// Entries of publications and sockets that wait for a hub to read.
    Waiting,
    /// Virtual sockets and their paths.
    Sockets,
    /// Messages that the application holds.
    Credit,
    /// Open questions.
    Asks,
    /// Topics and subscriptions.
    Topics,
    /// Parts of messages, and messages that are not yet written, which the shell holds.
    Links,
}

impl Ledger {
    /// Charges `after` bytes in place of `before`.
    pub(super) fn charge(&mut self, fx: &mut Effects, what: Charge, before: usize, after: usize) {
        let held = self.excess(fx);
        self.bytes = self.bytes + after - before;
        fx.charge(what, before, after);
        let holds = self.excess(fx);
        if held != holds
            && let Some(account) = self.account()
        {
            let all = account.hold(held, holds);
            fx.account_holds(account, all + held - holds, all);
        }
    }

    /// Returns the bytes that are charged.
    pub(super) const fn charged(&self) -> usize {
        self.bytes
    }

    /// Returns the bytes that are charged beyond what each session may have whatever others hold.
    pub(super) const fn excess(&self, fx: &Effects) -> usize {
        self.bytes.saturating_sub(fx.config.minimum_bytes)
    }

    /// Returns the bytes that count against it when memory is short: those of its account.
    pub(super) fn held(&self, fx: &Effects) -> usize {
        self.account().map_or_else(|| self.excess(fx), |account| account.bytes())
    }

    /// Returns what is known of who opened the session's newest link.
    pub(super) const fn visitor(&self) -> Option<&Arc<Visitor>> {
        self.visitor.as_ref()
    }

    /// Returns who pays, where that is known.
    pub(super) fn account(&self) -> Option<&Arc<Account>> {
        self.visitor.as_ref()?.account()
    }

    /// Moves what is charged to another visitor. Returns the one before.
    pub(super) fn pass_to(
        &mut self,
        fx: &Effects,
        visitor: Option<Arc<Visitor>>,
    ) -> Option<Arc<Visitor>> {
        let excess = self.excess(fx);
        if let Some(account) = self.account() {
            account.hold(excess, 0);
        }
        let before = std::mem::replace(&mut self.visitor, visitor);
        if let Some(account) = self.account() {
            account.hold(0, excess);
        }
        before
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
        let Self { sessions, visitors, lanes, waiting, sockets, credit, asks, topics, links } =
            *self;
        sessions + visitors + lanes + waiting + sockets + credit + asks + topics + links
    }

    /// Returns the number of a kind.
    const fn of(&mut self, what: Charge) -> &mut usize {
        match what {
            Charge::Sessions => &mut self.sessions,
            Charge::Visitors => &mut self.visitors,
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
