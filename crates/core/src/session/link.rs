//! What a registry remembers of a link.

use std::sync::Arc;

use super::{
    SessionConfig, Visitor, WakeReason,
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

impl Link {
    /// Returns when something must be done about the link unless a message comes, and what.
    pub(super) fn deadline(&self, config: &SessionConfig) -> (Timestamp, WakeReason) {
        let (span, reason) = match self.phase {
            Phase::Hello(_) => (config.handshake_timeout, WakeReason::Handshake),
            Phase::Session(_) if self.suspended && config.suspend_timeout < config.silence() => {
                (config.suspend_timeout, WakeReason::Suspended)
            }
            Phase::Session(_) => (config.silence(), WakeReason::Heartbeat),
        };
        (self.heard + at_least(span), reason)
    }
}
