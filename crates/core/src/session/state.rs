//! What a registry remembers of a link, a session, a tab and a socket. An idle link costs all of
//! it, so what most links do not have is boxed.

use std::collections::BTreeSet;

use tabmux_wire::{Alias, SessionId, SocketId, TabId};

use super::{
    PeerMisbehaved, SessionConfig, WakeReason, backlog::Backlog, io::LinkId, list::List,
    wheel::Tick,
};
use crate::Timestamp;

/// One link.
pub(super) struct Link {
    pub(super) phase: Phase,
    /// When the last message came; at first, when the link opened.
    pub(super) heard: Timestamp,
    /// Where the link stands in the wheel: never after its deadline.
    pub(super) tick: Tick,
}

/// How far a link is.
pub(super) enum Phase {
    /// HELLO has not come; the entropy is for the session it will begin.
    Hello(Box<[u8; 32]>),
    /// The place of its session.
    Session(u32),
}

/// What the server keeps of one browser.
pub(super) struct Session {
    pub(super) id: SessionId,
    pub(super) link: LinkId,
    pub(super) tabs: List<Alias, Tab>,
    pub(super) subscriptions: Vec<Subscription>,
    /// When SUSPEND came, if nothing came since.
    pub(super) suspended: Option<Box<Timestamp>>,
    /// Bytes handed to the shell and not yet written.
    pub(super) unwritten: usize,
    /// What there is only while the hub does not read fast enough.
    pub(super) slow: Option<Box<Slow>>,
    /// Aliases grow and are never used again.
    last_alias: u32,
}

/// What waits for a hub to read.
#[derive(Default)]
pub(super) struct Slow {
    /// Sockets that were told that the queue is full.
    pub(super) waiting: BTreeSet<(Alias, SocketId)>,
    /// Publications that are not counted yet.
    pub(super) backlog: Backlog,
}

/// A topic that a browser wants.
#[derive(Clone, Copy)]
pub(super) struct Subscription {
    /// The topic's place in this registry.
    pub(super) topic: u32,
    /// The session's index among the topic's subscribers.
    pub(super) index: u32,
    /// The SUBSCRIBE that began it.
    pub(super) request: u64,
}

/// One tab.
pub(super) struct Tab {
    pub(super) id: TabId,
    pub(super) parked: bool,
    /// Counts and sockets; nothing until a frame of its lane goes either way.
    active: Option<Box<Active>>,
}

/// A tab that has said or heard something.
pub(super) struct Active {
    /// Frames sent in its lane.
    sent: u64,
    /// Reliable frames of the tab that came.
    seen: u64,
    sockets: List<SocketId, Socket>,
}

/// One virtual socket.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Socket {
    /// The application has not answered the OPEN.
    Opening,
    Open,
}

impl Link {
    /// When something must be done about the link unless a message comes.
    pub(super) fn deadline(
        &self,
        suspended: Option<Timestamp>,
        config: &SessionConfig,
    ) -> (Timestamp, WakeReason) {
        match self.phase {
            Phase::Hello(_) => {
                (self.heard + at_least(config.handshake_timeout), WakeReason::Handshake)
            }
            Phase::Session(_) => {
                let heartbeat = self.heard + at_least(config.silence());
                match suspended {
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
    pub(super) const fn new(id: SessionId, link: LinkId) -> Self {
        Self {
            id,
            link,
            tabs: List::new(),
            subscriptions: Vec::new(),
            suspended: None,
            unwritten: 0,
            slow: None,
            last_alias: 0,
        }
    }

    /// The alias of a tab. A scan: tabs are few, and only ATTACH, PARK and GONE ask.
    pub(super) fn alias(&self, tab: TabId) -> Option<Alias> {
        self.tabs.iter().find(|(_, candidate)| candidate.id == tab).map(|(alias, _)| *alias)
    }

    /// A new tab's alias, `None` when the session has used all there are.
    pub(super) fn add_tab(&mut self, id: TabId) -> Option<Alias> {
        self.last_alias = self.last_alias.checked_add(1)?;
        let alias = Alias(self.last_alias);
        self.tabs.insert(alias, Tab { id, parked: false, active: None });
        Some(alias)
    }

    /// Forgets what has nothing in it.
    pub(super) fn tidy_slow(&mut self) {
        if self.slow.as_ref().is_some_and(|it| it.waiting.is_empty() && it.backlog.is_empty()) {
            self.slow = None;
        }
    }
}

impl Tab {
    /// Reliable frames of the tab that came.
    pub(super) fn seen(&self) -> u64 {
        self.active.as_ref().map_or(0, |active| active.seen)
    }

    /// Frames sent in its lane.
    pub(super) fn sent(&self) -> u64 {
        self.active.as_ref().map_or(0, |active| active.sent)
    }

    /// Counts a frame that is sent.
    pub(super) fn count_sent(&mut self) {
        self.activate().sent += 1;
    }

    /// Counts a reliable frame; `false` if it came before.
    pub(super) fn count(&mut self, n: u64) -> Result<bool, PeerMisbehaved> {
        let seen = self.seen();
        if n <= seen {
            return Ok(false);
        }
        if n != seen + 1 {
            return Err(PeerMisbehaved::CountJumped);
        }
        self.activate().seen = n;
        Ok(true)
    }

    pub(super) fn sockets(&self) -> impl Iterator<Item = SocketId> {
        let sockets = self.active.iter().flat_map(|active| active.sockets.iter());
        sockets.map(|(socket, _)| *socket)
    }

    pub(super) fn socket_count(&self) -> usize {
        self.active.as_ref().map_or(0, |active| active.sockets.len())
    }

    pub(super) fn socket(&self, socket: SocketId) -> Option<Socket> {
        self.active.as_ref()?.sockets.get(&socket).copied()
    }

    pub(super) fn set_socket(&mut self, socket: SocketId, state: Socket) {
        self.activate().sockets.insert(socket, state);
    }

    pub(super) fn take_socket(&mut self, socket: SocketId) -> Option<Socket> {
        self.active.as_mut()?.sockets.remove(&socket)
    }

    fn activate(&mut self) -> &mut Active {
        self.active
            .get_or_insert_with(|| Box::new(Active { sent: 0, seen: 0, sockets: List::new() }))
    }
}

/// A timeout of nothing would make a registry that spins.
fn at_least(span: std::time::Duration) -> std::time::Duration {
    span.max(std::time::Duration::from_micros(1))
}
