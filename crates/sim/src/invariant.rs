//! What must hold, by name. A failure begins with the name of what was broken.

use std::{fmt, time::Duration};

/// I11: a socket or a subscription that is asked for is open, or refused with a reason, or has a
/// dial due, within this time of its being asked for and of all that its page or a worker
/// suffered. A half-open link is noticed after 35 s, a dial may take 20 s, WELCOME 10 s, and the
/// application 30 s to answer.
pub const CONNECTING: Duration = Duration::from_secs(120);
/// I14: so much later than a plain socket one of ours may be open.
pub const LATER_THAN_NATIVE: Duration = Duration::from_secs(2);
/// The same if the script of its worker hangs, or its worker died meanwhile.
pub const LATER_THAN_NATIVE_IF_HUNG: Duration = Duration::from_secs(32);

/// What a run is held to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Invariant {
    /// I1: the server never serves two links of one session in one term, and never one that comes
    /// with an older term.
    OneLink,
    /// I2: only the server issues terms, one at a time, and they only grow.
    TermsGrow,
    /// I3: for each tab and socket, in both directions, and for each tab and topic: nothing is
    /// lost, doubled or out of order but with an explicit gap or close. A cut link or a dead worker
    /// loses nothing and closes no socket, unless the server was restarted, the session had no
    /// link for 210 s, or the tab was gone.
    NothingLost,
    /// I4: nothing reaches a tab that did not ask for it, or that is away.
    OnlyWhatWasAsked,
    /// I5: every queue is within its limit.
    Limits,
    /// I6: a dead tab leaves its hub, and then the server, in time.
    DeadTabsLeave,
    /// I7: after `handle_timeout(now)` the next moment lies after `now`, or there is output.
    NoSpinning,
    /// I8: once everything is healed, everyone is connected by one link, and queues are empty.
    Convergence,
    /// I9: neither end finds fault with the other.
    NoError,
    /// I10: the same seed gives the same log, twice.
    Determinism,
    /// I11: each socket and subscription is open, refused with a reason, or has a dial due, within
    /// [`CONNECTING`].
    BoundedConnecting,
    /// I12: attaches, dials, requests for locks, status events and what is said on channels stay
    /// below a ceiling for each page and worker and minute.
    NoStorm,
    /// I13: of tabs that could host the hub one does, and none without its lock. A page acts on the
    /// messages of one hub at a time.
    OneHub,
    /// I14: in mirror and exclusive mode, where a plain `WebSocket` beside it is open, ours is as
    /// well: [`LATER_THAN_NATIVE`], or [`LATER_THAN_NATIVE_IF_HUNG`].
    NeverWorse,
    /// I15: a session goes on only for the user who began it, and no page hears what was said in a
    /// session that it never was part of.
    OneUser,
    /// The code under test panicked.
    Panic,
}

/// What was broken, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// What.
    pub invariant: Invariant,
    /// How.
    pub what: String,
}

/// `Err` says which invariant is broken.
pub type Checked<T = ()> = Result<T, Broken>;

impl Invariant {
    /// It is broken.
    ///
    /// # Errors
    /// Always.
    pub fn broken<T>(self, what: impl Into<String>) -> Checked<T> {
        Err(Broken { invariant: self, what: what.into() })
    }

    /// It is broken unless `holds`.
    ///
    /// # Errors
    /// If not.
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
