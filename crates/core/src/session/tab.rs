//! What a registry remembers of a tab and of its virtual sockets.

use tabmux_wire::{Alias, SessionId, SocketId, TabId, close};

use super::{
    Output, PeerMisbehaved, SocketRef,
    asks::AskId,
    credit::Credit,
    effects::Effects,
    lane::Lane,
    ledger::{ASK, SOCKET},
    list::{Keyed, List},
};
use crate::Timestamp;

/// One tab.
pub(super) struct Tab {
    pub(super) id: TabId,
    pub(super) alias: Alias,
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
struct Active {
    lane: Lane,
    /// Reliable frames of the tab that came.
    seen: u64,
    /// How many of them the hub was told of.
    told: u64,
    /// Bytes of those that it was not told of.
    untold: usize,
    /// When it was parked last, if it ever was. Only what is in here is worth an end in time.
    parked: Option<Timestamp>,
    sockets: List<(SocketId, Socket)>,
    /// The bytes of its requests that wait for their answers.
    asked: usize,
}

/// One virtual socket.
pub(super) enum Socket {
    /// The shell has not answered.
    Opening(Box<Opening>),
    Open {
        credit: Credit,
        /// The bytes of its path, which the shell keeps.
        path: u16,
    },
    /// Not a socket but a request, which has a number of the same row.
    Requesting(Box<Requesting>),
}

/// A virtual socket whose OPEN is a question.
pub(super) struct Opening {
    pub(super) ask: AskId,
    pub(super) credit: Credit,
    /// The bytes of its path, which the shell keeps.
    pub(super) path: u16,
    /// The memory of the sub-protocols that it offers.
    pub(super) protocols: u32,
    /// The bytes that the application said it keeps for the question.
    pub(super) kept: u32,
}

/// A request that waits for its last reply.
pub(super) struct Requesting {
    pub(super) ask: AskId,
    pub(super) credit: Credit,
    /// The bytes of method, key and input, which the shell keeps.
    pub(super) text: u32,
}

/// The memory that a socket takes, by what is charged.
#[derive(Clone, Copy, Default)]
pub(super) struct SocketCost {
    pub(super) record: usize,
    pub(super) credit: usize,
    pub(super) ask: usize,
}

impl Socket {
    /// Returns the memory that it takes.
    pub(super) fn cost(&self) -> SocketCost {
        match self {
            Self::Opening(opening) => SocketCost {
                record: SOCKET + usize::from(opening.path),
                credit: 0,
                ask: ASK
                    + size_of::<Opening>()
                    + opening.protocols as usize
                    + opening.kept as usize,
            },
            Self::Open { credit, path } => {
                SocketCost { record: SOCKET + usize::from(*path), credit: credit.held(), ask: 0 }
            }
            Self::Requesting(requesting) => SocketCost {
                record: 0,
                credit: 0,
                ask: ASK + size_of::<Requesting>() + requesting.text as usize,
            },
        }
    }

    /// Returns its credit, open or not.
    pub(super) fn credit_mut(&mut self) -> &mut Credit {
        match self {
            Self::Opening(opening) => &mut opening.credit,
            Self::Open { credit, .. } => credit,
            Self::Requesting(requesting) => &mut requesting.credit,
        }
    }

    /// Returns its credit if it is open.
    pub(super) const fn open(&self) -> Option<Credit> {
        match self {
            Self::Opening(_) | Self::Requesting(_) => None,
            Self::Open { credit, .. } => Some(*credit),
        }
    }

    /// Returns true if a message, or a reply, may be sent to its tab.
    pub(super) const fn has_credit(&self) -> bool {
        match self {
            Self::Opening(_) => false,
            Self::Open { credit, .. } => credit.is_left(),
            Self::Requesting(requesting) => requesting.credit.is_left(),
        }
    }

    /// Returns the bytes of a request.
    fn asked(&self) -> usize {
        match self {
            Self::Requesting(requesting) => requesting.text as usize,
            Self::Opening(_) | Self::Open { .. } => 0,
        }
    }

    /// Returns true if a question of it waits for an answer.
    pub(super) const fn is_asking(&self) -> bool {
        match self {
            Self::Opening(_) | Self::Requesting(_) => true,
            Self::Open { .. } => false,
        }
    }

    /// Tells the shell that the socket, which was taken out of its tab, is no more: an open one is
    /// closed, and the question of one that is not yet open is withdrawn.
    pub(super) fn end(self, fx: &mut Effects, socket: SocketRef, end: SocketEnd<'_>) {
        match self {
            Self::Requesting(requesting) => fx.withdraw(requesting.ask),
            Self::Opening(opening) => {
                fx.stats.sockets.open -= 1;
                fx.withdraw(opening.ask);
            }
            Self::Open { .. } => {
                fx.stats.sockets.open -= 1;
                let SocketEnd { code, reason, clean } = end;
                let reason = reason.to_owned();
                fx.order(Output::SocketClosed { socket, code, reason, clean });
            }
        }
    }
}

/// How a socket ended.
#[derive(Clone, Copy)]
pub(super) struct SocketEnd<'a> {
    pub(super) code: u16,
    pub(super) reason: &'a str,
    pub(super) clean: bool,
}

impl SocketEnd<'_> {
    /// The socket is lost with its tab or its session.
    pub(super) const LOST: Self = Self { code: close::ABNORMAL, reason: "", clean: false };
}

impl Keyed for Tab {
    type Key = Alias;

    fn key(&self) -> Alias {
        self.alias
    }
}

impl Keyed for (SocketId, Socket) {
    type Key = SocketId;

    fn key(&self) -> SocketId {
        self.0
    }
}

impl Tab {
    pub(super) const fn new(id: TabId, alias: Alias) -> Self {
        Self { id, alias, presence: Presence::Awaited, aside: false, active: None }
    }

    /// Returns true if nothing of its lane went either way.
    pub(super) const fn is_blank(&self) -> bool {
        self.active.is_none()
    }

    /// Returns how many reliable frames of the tab came.
    pub(super) fn seen(&self) -> u64 {
        self.active.as_ref().map_or(0, |active| active.seen)
    }

    /// Returns its lane, if it was ever used.
    pub(super) fn lane(&self) -> Option<&Lane> {
        self.active.as_ref().map(|active| &active.lane)
    }

    /// Returns its lane, to be used.
    pub(super) fn lane_mut(&mut self) -> &mut Lane {
        &mut self.activate().lane
    }

    /// Returns the share that its lane counts in.
    pub(super) const fn share(&self) -> Share {
        match self.presence {
            Presence::Attached => Share::Present,
            Presence::Awaited | Presence::Parked => Share::Absent,
        }
    }

    /// Returns the bytes that its lane keeps.
    pub(super) fn kept(&self) -> usize {
        self.lane().map_or(0, Lane::bytes)
    }

    /// Counts a reliable frame. Returns false if it came before.
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

    /// Returns true if the hub is to be told now what came of the tab: so many frames or bytes came
    /// since it was told.
    pub(super) fn is_news(&self, frames: u64, bytes: usize) -> bool {
        self.active.as_ref().is_some_and(|active| {
            active.seen - active.told >= frames.max(1) || active.untold >= bytes.max(1)
        })
    }

    /// Returns how many frames came of the tab. The hub is told so now.
    pub(super) fn report(&mut self) -> u64 {
        let active = self.activate();
        (active.told, active.untold) = (active.seen, 0);
        active.seen
    }

    /// Puts the tab into the back/forward cache.
    pub(super) fn park(&mut self, now: Timestamp) {
        self.presence = Presence::Parked;
        if let Some(active) = &mut self.active {
            active.parked = Some(now);
        }
    }

    /// Returns when it was parked, if it is and has anything to lose.
    pub(super) fn parked_since(&self) -> Option<Timestamp> {
        let active = self.active.as_ref().filter(|_| self.presence == Presence::Parked);
        active.and_then(|active| active.parked)
    }

    /// Returns how many sockets it has. That is a scan, which only OPEN asks for.
    pub(super) fn socket_count(&self) -> usize {
        self.sockets().filter(|socket| !matches!(socket, Socket::Requesting(_))).count()
    }

    /// Returns the bytes of its requests that wait for their answers.
    pub(super) fn asked_bytes(&self) -> usize {
        self.active.as_ref().map_or(0, |active| active.asked)
    }

    /// Returns how many of its questions wait for an answer.
    pub(super) fn asking_count(&self) -> usize {
        self.sockets().filter(|socket| socket.is_asking()).count()
    }

    /// Returns the memory that it takes beside its entry in the list of tabs, without its lane and
    /// its sockets.
    pub(super) const fn cost(&self) -> usize {
        if self.active.is_some() { size_of::<Active>() } else { 0 }
    }

    /// Returns the memory of its list of sockets, without what each takes beside its entry.
    pub(super) fn sockets_cost(&self) -> usize {
        self.active.as_ref().map_or(0, |active| active.sockets.cost())
    }

    /// Returns its sockets.
    pub(super) fn sockets(&self) -> impl Iterator<Item = &Socket> {
        self.active.iter().flat_map(|active| active.sockets.iter()).map(|(_, socket)| socket)
    }

    pub(super) fn socket(&self, socket: SocketId) -> Option<&Socket> {
        self.active.as_ref()?.sockets.get(socket).map(|(_, socket)| socket)
    }

    pub(super) fn socket_mut(&mut self, socket: SocketId) -> Option<&mut Socket> {
        self.active.as_mut()?.sockets.get_mut(socket).map(|(_, socket)| socket)
    }

    pub(super) fn set_socket(&mut self, socket: SocketId, state: Socket) {
        let active = self.activate();
        active.asked += state.asked();
        active.sockets.insert((socket, state));
    }

    pub(super) fn take_socket(&mut self, socket: SocketId) -> Option<Socket> {
        let active = self.active.as_mut()?;
        let (_, state) = active.sockets.remove(socket)?;
        active.asked -= state.asked();
        Some(state)
    }

    /// Tells the shell of the end of each socket of a tab that was taken out of its session.
    pub(super) fn end(self, fx: &mut Effects, session: SessionId) {
        *fx.stats.tabs.of(self.presence) -= 1;
        let sockets = self.active.map(|active| active.sockets).unwrap_or_default();
        for (number, socket) in sockets {
            let name = SocketRef { session, tab: self.alias, socket: number };
            socket.end(fx, name, SocketEnd::LOST);
        }
    }

    fn activate(&mut self) -> &mut Active {
        self.active.get_or_insert_default()
    }
}
