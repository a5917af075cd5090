//! The invariants, by name. A failure begins with the name of the invariant that was broken.

use std::{fmt, time::Duration};

/// I11: the longest time until a socket or a subscription that is asked for is open, is refused
/// with a reason, or has a dial due. It counts from the request, and from the last fault of its
/// page or a worker. A half-open link is noticed after 35 s, a dial may take 20 s, WELCOME 10 s,
/// and the application 30 s to answer.
pub const CONNECTING: Duration = Duration::from_secs(120);
/// I14: how much later than a plain socket one of ours may be open.
pub const LATER_THAN_NATIVE: Duration = Duration::from_secs(2);
/// I14: the same if the script of the worker hangs, or if the worker died meanwhile.
pub const LATER_THAN_NATIVE_IF_HUNG: Duration = Duration::from_secs(32);

/// An invariant that each run must keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Invariant {
    /// I1: the server never serves two links of one session in one term, and never a link that
    /// comes with an older term.
    OneLink,
    /// I2: only the server issues terms, one at a time, and they only grow.
    TermsGrow,
    /// I3: nothing is lost, doubled or out of order without an explicit gap or close. This holds
    /// for each tab and socket in both directions, and for each tab and topic. A cut link or a dead
    /// worker loses nothing and closes no socket. Exceptions: the server was restarted, the session
    /// had no link for 210 s, or the tab was gone.
    NothingLost,
    /// I4: a tab gets only messages that it asked for, and none while it is away.
    OnlyWhatWasAsked,
    /// I5: every queue is within its limit.
    Limits,
    /// I6: a dead tab leaves its hub, and then the server, within a bounded time.
    DeadTabsLeave,
    /// I7: after `handle_timeout(now)` the next timeout lies after `now`, or there is output.
    NoSpinning,
    /// I8: after all faults are healed, each browser has one link, all tabs are connected, and
    /// queues are empty.
    Convergence,
    /// I9: neither end reports an error of the other.
    NoError,
    /// I10: two runs of one seed give the same log.
    Determinism,
    /// I11: each socket and subscription is open, refused with a reason, or has a dial due, within
    /// [`CONNECTING`].
    BoundedConnecting,
    /// I12: attaches, dials, lock requests, status events and channel messages stay below a ceiling
    /// for each page or worker and minute.
    NoStorm,
    /// I13: of the tabs that could host the hub exactly one does, and none without its lock. A page
    /// acts on the messages of one hub at a time.
    OneHub,
    /// I14: in mirror and exclusive mode, our socket is open no later than a plain `WebSocket`
    /// beside it, plus [`LATER_THAN_NATIVE`] or [`LATER_THAN_NATIVE_IF_HUNG`].
    NeverWorse,
    /// I15: a session goes on only for the user who began it, and a page hears only messages of
    /// sessions that it was part of.
    OneUser,
    /// The code under test panicked, which it must never do.
    Panic,
}

/// An invariant that was broken, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// The invariant that was broken.
    pub invariant: Invariant,
    /// A text that says how it was broken.
    pub what: String,
}

/// A result whose `Err` says which invariant was broken.
pub type Checked<T = ()> = Result<T, Broken>;

impl Invariant {
    /// Returns an error that says that this invariant was broken.
    ///
    /// # Errors
    /// Always returns an error.
    pub fn broken<T>(self, what: impl Into<String>) -> Checked<T> {
        Err(Broken { invariant: self, what: what.into() })
    }

    /// Checks this invariant.
    ///
    /// # Errors
    /// Returns an error if `holds` is false.
    pub fn unless(self, holds: bool, what: impl FnOnce() -> String) -> Checked {
        if holds { Ok(()) } else { self.broken(what()) }
    }
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OneLink => "I1 (one link)",
            Self::TermsGrow => "I2 (terms grow)",
            Self::NothingLost => "I3 (nothing lost)",
            Self::OnlyWhatWasAsked => "I4 (only what was asked)",
            Self::Limits => "I5 (limits)",
            Self::DeadTabsLeave => "I6 (dead tabs leave)",
            Self::NoSpinning => "I7 (no spinning)",
            Self::Convergence => "I8 (convergence)",
            Self::NoError => "I9 (no error)",
            Self::Determinism => "I10 (determinism)",
            Self::BoundedConnecting => "I11 (bounded connecting)",
            Self::NoStorm => "I12 (no storm)",
            Self::OneHub => "I13 (one hub)",
            Self::NeverWorse => "I14 (never worse than native)",
            Self::OneUser => "I15 (one user)",
            Self::Panic => "panic",
        })
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.invariant, self.what)
    }
}
