//! What a registry remembers of a link, a session, a tab and a socket. An idle link costs all of
//! it, so what most links do not have is boxed.

use tabmux_wire::{Alias, HubId, SessionId, SocketId, TabId, Term, Token};

use super::{
    PeerMisbehaved, SessionConfig, WakeReason,
    backlog::Backlog,
    credit::Credit,
    io::{Identity, LinkId},
    lane::Lane,
    list::List,
    waiting::Waiting,
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
    /// HELLO has not come.
    Hello(Box<Greeting>),
    /// The place of its session.
    Session(u32),
}

/// What the shell said of a link, for the session that its HELLO begins or claims.
#[derive(Clone, Copy)]
pub(super) struct Greeting {
    /// For the id and the token of a session that begins.
    pub(super) entropy: [u8; 32],
    pub(super) identity: Option<Identity>,
}

/// What the server keeps of one browser.
pub(super) struct Session {
    pub(super) id: SessionId,
    pub(super) token: Token,
    /// Who began it: nobody else may go on with it.
    pub(super) identity: Option<Identity>,
    pub(super) term: Term,
    /// The hub that has it, or had it last.
    pub(super) hub: HubId,
    /// The version that its link speaks, or spoke last.
    pub(super) version: u32,
    pub(super) stage: Stage,
    /// Frames for all tabs.
    pub(super) lane0: Lane,
    /// Bytes that all its lanes keep.
    pub(super) kept: usize,
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

/// Whether a session has a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Attached(LinkId),
    /// Its link is gone; it waits for another one.
    Detached {
        since: Timestamp,
    },
}

/// What waits for a hub to read.
#[derive(Default)]
pub(super) struct Slow {
    /// Sockets that were told that there is no room.
    pub(super) waiting: Waiting,
    /// One of an attached tab found no room in the session or on the link: till half of that is
    /// free, none of an attached tab is told. What lies in the lanes of others is no reason to wait
    /// where there is room.
    pub(super) crowded: bool,
    /// The same for what absent tabs share.
    pub(super) crowded_absent: bool,
    /// Tabs whose lane is full, and since when nothing of it was acknowledged.
    pub(super) stalled: Vec<(Alias, Timestamp)>,
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
    pub(super) presence: Presence,
    /// Lane 0 was acknowledged without it.
    pub(super) aside: bool,
    /// Lane, counts and sockets; nothing until a frame of its lane goes either way.
    active: Option<Box<Active>>,
}

/// Whether a tab's lane goes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Presence {
    /// It attached on this link.
    Attached,
    /// It has not attached on this link yet; its lane waits.
    Awaited,
    /// It is in the back/forward cache; its lane waits.
    Parked,
}

/// Whose lanes count together. A tab that leaves or comes back takes what its lane keeps with it,
/// even if that is more than the other share may keep: then only writers wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Share {
    /// Lane 0 and those of attached tabs.
    Present,
    /// Those of the other tabs: nothing of it can be acknowledged till they are back.
    Absent,
}

/// A tab that has said or heard something.
#[derive(Default)]
pub(super) struct Active {
    pub(super) lane: Lane,
    /// Reliable frames of the tab that came.
    seen: u64,
    /// How many of them the hub was told of.
    told: u64,
    /// Bytes of those that it was not told of.
    untold: usize,
    /// When it was parked last, if it ever was. Only what is in here is worth an end in time.
    parked: Option<Timestamp>,
    sockets: List<SocketId, Socket>,
}

/// One virtual socket.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Socket {
    /// The application has not answered the OPEN.
    Opening(Credit),
    Open(Credit),
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
    pub(super) fn new(
        id: SessionId,
        token: Token,
        identity: Option<Identity>,
        hub: HubId,
        link: LinkId,
    ) -> Self {
        Self {
            id,
            token,
            identity,
            term: Term(1),
            hub,
            version: 1,
            stage: Stage::Attached(link),
            lane0: Lane::default(),
            kept: 0,
            tabs: List::new(),
            subscriptions: Vec::new(),
            suspended: None,
            unwritten: 0,
            slow: None,
            last_alias: 0,
        }
    }

    /// Its link, if it has one.
    pub(super) const fn link(&self) -> Option<LinkId> {
        match self.stage {
            Stage::Attached(link) => Some(link),
            Stage::Detached { .. } => None,
        }
    }

    /// Whether one share of its lanes keeps so many bytes. A scan, but only for who keeps as much
    /// in all: else every session would have to hold a number more.
    pub(super) fn keeps(&self, share: Share, bytes: usize) -> bool {
        self.kept >= bytes && self.kept_of(share) >= bytes
    }

    fn kept_of(&self, share: Share) -> usize {
        let absent = self.tabs.iter().filter(|(_, tab)| tab.share() == Share::Absent);
        let absent = absent.map(|(_, tab)| tab.kept()).sum::<usize>();
        match share {
            Share::Present => self.kept - absent,
            Share::Absent => absent,
        }
    }

    /// Whether a new session would be as good to its hub.
    pub(super) fn is_blank(&self) -> bool {
        let quiet = self.tabs.iter().all(|(_, tab)| tab.active.is_none());
        quiet && self.subscriptions.is_empty() && self.lane0.sent() == 0
    }

    /// The alias of a tab. A scan: tabs are few, and only ATTACH, PARK and GONE ask.
    pub(super) fn alias(&self, tab: TabId) -> Option<Alias> {
        self.tabs.iter().find(|(_, candidate)| candidate.id == tab).map(|(alias, _)| *alias)
    }

    /// A new tab's alias, `None` when the session has used all there are.
    pub(super) fn add_tab(&mut self, id: TabId) -> Option<Alias> {
        self.last_alias = self.last_alias.checked_add(1)?;
        let alias = Alias(self.last_alias);
        let presence = Presence::Awaited;
        self.tabs.insert(alias, Tab { id, presence, aside: false, active: None });
        Some(alias)
    }

    /// Forgets what has nothing in it.
    pub(super) fn tidy_slow(&mut self) {
        let Some(slow) = &mut self.slow else {
            return;
        };
        slow.stalled.retain(|(tab, _)| slow.waiting.has_tab(*tab));
        slow.crowded &= !slow.waiting.is_empty();
        slow.crowded_absent &= !slow.waiting.is_empty();
        if slow.waiting.is_empty() && slow.backlog.is_empty() {
            self.slow = None;
        }
    }
}

impl Socket {
    /// Whether it has credit for a message to its tab.
    pub(super) const fn has_credit(self) -> bool {
        matches!(self, Self::Open(credit) if credit.is_left())
    }
}

impl Tab {
    /// Reliable frames of the tab that came.
    pub(super) fn seen(&self) -> u64 {
        self.active.as_ref().map_or(0, |active| active.seen)
    }

    /// Its lane, if it was ever used.
    pub(super) fn lane(&self) -> Option<&Lane> {
        self.active.as_ref().map(|active| &active.lane)
    }

    /// Its lane, to be used.
    pub(super) fn lane_mut(&mut self) -> &mut Lane {
        &mut self.activate().lane
    }

    /// With whose its lane counts.
    pub(super) const fn share(&self) -> Share {
        match self.presence {
            Presence::Attached => Share::Present,
            Presence::Awaited | Presence::Parked => Share::Absent,
        }
    }

    /// Bytes that its lane keeps.
    pub(super) fn kept(&self) -> usize {
        self.lane().map_or(0, Lane::bytes)
    }

    /// Counts a reliable frame; `false` if it came before.
    pub(super) fn count(&mut self, n: u64, len: usize) -> Result<bool, PeerMisbehaved> {
        let seen = self.seen();
        if n <= seen {
            return Ok(false);
        }
        if n != seen + 1 {
            return Err(PeerMisbehaved::CountJumped);
        }
        let active = self.activate();
        active.seen = n;
        active.untold += len;
        Ok(true)
    }

    /// Whether the hub is to be told now what came of the tab.
    pub(super) fn owes(&self, frames: u64, bytes: usize) -> bool {
        self.active.as_ref().is_some_and(|active| {
            active.seen - active.told >= frames.max(1) || active.untold >= bytes.max(1)
        })
    }

    /// What came of the tab, which the hub is told now.
    pub(super) fn tell(&mut self) -> u64 {
        let active = self.activate();
        (active.told, active.untold) = (active.seen, 0);
        active.seen
    }

    /// It goes into the back/forward cache.
    pub(super) fn park(&mut self, now: Timestamp) {
        self.presence = Presence::Parked;
        if let Some(active) = &mut self.active {
            active.parked = Some(now);
        }
    }

    /// Since when it is parked, if it has anything to lose.
    pub(super) fn parked_since(&self) -> Option<Timestamp> {
        let active = self.active.as_ref().filter(|_| self.presence == Presence::Parked);
        active.and_then(|active| active.parked)
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

    pub(super) fn socket_mut(&mut self, socket: SocketId) -> Option<&mut Socket> {
        self.active.as_mut()?.sockets.get_mut(&socket)
    }

    pub(super) fn set_socket(&mut self, socket: SocketId, state: Socket) {
        self.activate().sockets.insert(socket, state);
    }

    pub(super) fn take_socket(&mut self, socket: SocketId) -> Option<Socket> {
        self.active.as_mut()?.sockets.remove(&socket)
    }

    fn activate(&mut self) -> &mut Active {
        self.active.get_or_insert_default()
    }
}

/// A timeout of nothing would make a registry that spins.
fn at_least(span: std::time::Duration) -> std::time::Duration {
    span.max(std::time::Duration::from_micros(1))
}
