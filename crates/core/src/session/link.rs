//! What a registry remembers of a link.

use std::sync::Arc;

use tabmux_wire::{Hello, HubId, Resume};

use super::{
    AskId, SessionConfig, Visitor, WakeReason,
    state::{SessionPlace, at_least},
    wheel::Tick,
};
use crate::Timestamp;

/// One link.
pub(super) struct Link {
    pub(super) phase: Phase,
    /// When the last message came; at first, when the link opened.
    pub(super) heard: Timestamp,
    /// Bytes of memory that the shell holds for the link.
    pub(super) held: u32,
    /// Where the link stands in the wheel: never after its deadline.
    pub(super) tick: Tick,
    /// The last message was SUSPEND.
    pub(super) suspended: bool,
}

/// How far a link is.
pub(super) enum Phase {
    /// HELLO has not come.
    Hello(Box<Greeting>),
    /// HELLO has come, and the shell is asked whose the link is.
    Pending(Box<Pending>),
    /// It is the link of the session at this place.
    Session(SessionPlace),
}

/// What the shell said of a link, for the session that its HELLO begins or claims.
#[derive(Clone)]
pub(super) struct Greeting {
    /// For the id and the token of a session that begins.
    pub(super) entropy: [u8; 32],
    pub(super) visitor: Option<Arc<Visitor>>,
}

/// A link about which the shell is asked.
pub(super) struct Pending {
    pub(super) greeting: Greeting,
    pub(super) hello: Hi,
    pub(super) ask: AskId,
    /// The memory that is charged for the question.
    pub(super) cost: usize,
}

/// What is left of HELLO without its credentials.
#[derive(Clone, Copy)]
pub(super) struct Hi {
    pub(super) version: u32,
    pub(super) hub: HubId,
    pub(super) resume: Option<Resume>,
}

impl From<&Hello<'_>> for Hi {
    fn from(hello: &Hello<'_>) -> Self {
        Self { version: hello.version(), hub: hello.hub, resume: hello.resume }
    }
}

impl Phase {
    /// Returns what the shell said of a link that has no session yet.
    pub(super) const fn greeting(&self) -> Option<&Greeting> {
        match self {
            Self::Hello(greeting) => Some(greeting),
            Self::Pending(pending) => Some(&pending.greeting),
            Self::Session(_) => None,
        }
    }

    /// Returns what is known of a link about which the shell is asked.
    pub(super) const fn pending(&self) -> Option<&Pending> {
        match self {
            Self::Pending(pending) => Some(pending),
            Self::Hello(_) | Self::Session(_) => None,
        }
    }

    /// Returns the session of a link that has one.
    pub(super) const fn session(&self) -> Option<SessionPlace> {
        match self {
            Self::Session(place) => Some(*place),
            Self::Hello(_) | Self::Pending(_) => None,
        }
    }
}

impl Link {
    /// Returns when something must be done about the link unless a message comes, and what.
    pub(super) fn deadline(&self, config: &SessionConfig) -> (Timestamp, WakeReason) {
        let (span, reason) = match self.phase {
            Phase::Hello(_) => (config.handshake_timeout, WakeReason::Handshake),
            // The question ends at the same moment, and the link with it.
            Phase::Pending(_) => (config.handshake_timeout, WakeReason::Ask),
            Phase::Session(_) if self.suspended && config.suspend_timeout < config.silence() => {
                (config.suspend_timeout, WakeReason::Suspended)
            }
            Phase::Session(_) => (config.silence(), WakeReason::Heartbeat),
        };
        (self.heard + at_least(span), reason)
    }
}
