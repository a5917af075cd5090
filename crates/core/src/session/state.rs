//! What a registry remembers of a link, a session, a tab and a socket.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tabmux_wire::{Alias, SessionId, SocketId, TabId};

use super::{PeerMisbehaved, SessionConfig, WakeReason, io::LinkId, list::List};
use crate::Timestamp;

/// One link.
pub(super) struct Link {
    pub(super) phase: Phase,
    /// When the last message came; at first, when the link opened.
    pub(super) heard: Timestamp,
    /// When SUSPEND came, if nothing came since.
    pub(super) suspended: Option<Timestamp>,
    /// Bytes sent and not yet written.
    pub(super) queued: usize,
    /// Where the link stands in the timer table: never after its deadline.
    pub(super) timer: Timestamp,
}

/// How far a link is.
pub(super) enum Phase {
    /// HELLO has not come; the entropy is for the session it will begin.
    Hello {
        entropy: [u8; 32],
    },
    Session(SessionId),
}

/// What the server keeps of one browser.
pub(super) struct Session {
    pub(super) link: LinkId,
    pub(super) tabs: List<Alias, Tab>,
    /// Sockets that were told that the queue is full.
    pub(super) waiting: BTreeSet<(Alias, SocketId)>,
    /// Aliases grow and are never used again.
    last_alias: u32,
}

/// One tab.
pub(super) struct Tab {
    pub(super) id: TabId,
    pub(super) parked: bool,
    /// Frames sent in its lane.
    pub(super) sent: u64,
    /// Reliable frames of the tab that came.
    seen: u64,
    pub(super) sockets: BTreeMap<SocketId, Socket>,
}

/// One virtual socket.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Socket {
    /// The application has not answered the OPEN.
    Opening,
    Open,
}

impl Link {
    pub(super) const fn new(entropy: [u8; 32], now: Timestamp) -> Self {
        Self { phase: Phase::Hello { entropy }, heard: now, suspended: None, queued: 0, timer: now }
    }

    /// When something must be done about the link unless a message comes.
    pub(super) fn deadline(&self, config: &SessionConfig) -> (Timestamp, WakeReason) {
        match self.phase {
            Phase::Hello { .. } => {
                (self.heard + at_least(config.handshake_timeout), WakeReason::Handshake)
            }
            Phase::Session(_) => {
                let heartbeat = self.heard + at_least(config.silence());
                match self.suspended {
                    Some(since) if since + at_least(config.suspend_timeout) < heartbeat => {
                        (since + at_least(config.suspend_timeout), WakeReason::Suspended)
                    }
                    _ => (heartbeat, WakeReason::Heartbeat),
                }
            }
        }
    }
}

impl Session {
    pub(super) const fn new(link: LinkId) -> Self {
        Self { link, tabs: List::new(), waiting: BTreeSet::new(), last_alias: 0 }
    }

    /// The alias of a tab. A scan: tabs are few, and only ATTACH, PARK and GONE ask.
    pub(super) fn alias(&self, tab: TabId) -> Option<Alias> {
        self.tabs.iter().find(|(_, candidate)| candidate.id == tab).map(|(alias, _)| *alias)
    }

    /// A new tab's alias, `None` when the session has used all there are.
    pub(super) fn add_tab(&mut self, id: TabId) -> Option<Alias> {
        self.last_alias = self.last_alias.checked_add(1)?;
        let alias = Alias(self.last_alias);
        let tab = Tab { id, parked: false, sent: 0, seen: 0, sockets: BTreeMap::new() };
        self.tabs.insert(alias, tab);
        Some(alias)
    }
}

impl Tab {
    /// Reliable frames of the tab that came.
    pub(super) const fn seen(&self) -> u64 {
        self.seen
    }

    /// Counts a reliable frame; `false` if it came before.
    pub(super) fn count(&mut self, n: u64) -> Result<bool, PeerMisbehaved> {
        if n <= self.seen {
            return Ok(false);
        }
        if n != self.seen + 1 {
            return Err(PeerMisbehaved::CountJumped);
        }
        self.seen = n;
        Ok(true)
    }
}

/// A timeout of nothing would make a registry that spins.
fn at_least(span: Duration) -> Duration {
    span.max(Duration::from_micros(1))
}
