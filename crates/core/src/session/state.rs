//! What a registry remembers of a browser. An idle link costs all of it, so what most browsers do
//! not have is boxed.

use std::sync::Arc;

use tabmux_wire::{
    Alias, ErrorCode, HubId, MAX_MESSAGE_TEXT, Payload, ServerFrame, SessionId, SocketId, TabId,
    Term, Token,
};

use super::{
    LinkId, SendError, SocketRef, User, Visitor,
    account::Count,
    asks::{Ask, AskId, Asker},
    backlog::Backlog,
    cut,
    detached::Detached,
    effects::Effects,
    lane::Lane,
    ledger::{Charge, ENTRY, Ledger, SESSION},
    list::List,
    recovery::Recoveries,
    subscriptions::{Subscription, Wishes},
    tab::{Presence, Share, Socket, SocketCost, Tab},
    table,
    topic_table::TopicTable,
    visitor,
    waiting::Waiting,
};
use crate::Timestamp;

/// Where a session is in its registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SessionPlace(pub(super) u32);

/// What the server keeps of one browser.
pub(super) struct Session {
    pub(super) id: SessionId,
    pub(super) token: Token,
    pub(super) term: Term,
    /// The hub that has it, or had it last.
    pub(super) hub: HubId,
    pub(super) stage: Stage,
    /// Frames for all tabs.
    pub(super) lane0: Lane,
    /// Bytes that all its lanes keep.
    pub(super) kept: usize,
    /// The memory that it makes the server keep, and who it is that does.
    pub(super) ledger: Ledger,
    pub(super) tabs: List<Tab>,
    pub(super) subscriptions: Vec<Subscription>,
    /// Topics that it may not have yet, since nobody has answered.
    pub(super) wishes: Option<Box<Wishes>>,
    /// Bytes handed to the shell and not yet written.
    pub(super) unwritten: usize,
    /// What there is only while the hub does not read fast enough.
    pub(super) slow: Option<Box<Slow>>,
    /// Aliases grow and are never used again.
    last_alias: u32,
    /// Questions that are open.
    questions: u16,
    /// The version that its link speaks, or spoke last.
    pub(super) version: u8,
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
    /// Topics of which the hub gets what it missed.
    pub(super) recoveries: Recoveries,
    /// The memory that is charged for all this.
    charged: usize,
}

impl Slow {
    /// Returns the memory that it takes.
    fn cost(&self) -> usize {
        let stalled = self.stalled.capacity() * size_of::<(Alias, Timestamp)>();
        let queues = self.backlog.cost() + self.recoveries.cost();
        size_of::<Self>() + queues + self.waiting.len() * ENTRY + stalled
    }
}

/// How a session begins.
pub(super) struct Birth {
    pub(super) id: SessionId,
    pub(super) token: Token,
    pub(super) hub: HubId,
    pub(super) link: LinkId,
}

impl Session {
    pub(super) fn new(Birth { id, token, hub, link }: Birth) -> Self {
        Self {
            id,
            token,
            term: Term(1),
            hub,
            stage: Stage::Attached(link),
            lane0: Lane::default(),
            kept: 0,
            ledger: Ledger::default(),
            tabs: List::new(),
            subscriptions: Vec::new(),
            wishes: None,
            unwritten: 0,
            slow: None,
            last_alias: 0,
            questions: 0,
            version: 1,
        }
    }

    /// Returns where it is in its registry.
    pub(super) fn place(&self) -> SessionPlace {
        table::place(self.id)
    }

    /// Returns its user, if it has one.
    pub(super) fn user(&self) -> Option<&Arc<User>> {
        self.ledger.visitor().and_then(|visitor| visitor.user())
    }

    /// Keeps what is known of who opened its newest link, who has the same user.
    pub(super) fn visited_by(&mut self, fx: &mut Effects, visitor: Option<Arc<Visitor>>) {
        let count = self.subscriptions.len();
        if let Some(account) = self.ledger.account() {
            (0..count).for_each(|_| account.remove(Count::Subscriptions));
        }
        let before = self.ledger.pass_to(fx, visitor);
        if let Some(account) = self.ledger.account() {
            (0..count).for_each(|_| account.add(Count::Subscriptions));
        }
        let (before, after) =
            (visitor::cost(before.as_ref()), visitor::cost(self.ledger.visitor()));
        self.ledger.charge(fx, Charge::Visitors, before, after);
    }

    /// Returns its link, if it has one.
    pub(super) const fn link(&self) -> Option<LinkId> {
        match self.stage {
            Stage::Attached(link) => Some(link),
            Stage::Detached { .. } => None,
        }
    }

    /// Returns true if one share of its lanes keeps so many bytes. That is a scan, but only where
    /// as much is kept in all: else every session would have to hold a number more.
    pub(super) fn keeps(&self, share: Share, bytes: usize) -> bool {
        self.kept >= bytes && self.kept_of(share) >= bytes
    }

    fn kept_of(&self, share: Share) -> usize {
        let absent = self.tabs.iter().filter(|tab| tab.share() == Share::Absent);
        let absent = absent.map(Tab::kept).sum::<usize>();
        match share {
            Share::Present => self.kept - absent,
            Share::Absent => absent,
        }
    }

    /// Returns the bytes that its hub is behind: those that it has not acknowledged, and those that
    /// wait uncounted.
    pub(super) fn behind(&self) -> usize {
        self.kept + self.slow.as_ref().map_or(0, |slow| slow.backlog.bytes())
    }

    /// Returns true if a new session would be as good to its hub.
    pub(super) fn is_blank(&self) -> bool {
        let quiet = self.tabs.iter().all(Tab::is_blank);
        quiet && self.subscriptions.is_empty() && self.lane0.sent() == 0
    }

    /// Returns the alias of a tab. That is a scan: tabs are few, and only ATTACH, PARK and GONE
    /// ask.
    pub(super) fn alias(&self, tab: TabId) -> Option<Alias> {
        self.tabs.iter().find(|candidate| candidate.id == tab).map(|tab| tab.alias)
    }

    /// Adds a tab, which is awaited. Returns its alias; `None` when the session has used all there
    /// are.
    pub(super) fn add_tab(&mut self, fx: &mut Effects, id: TabId) -> Option<Alias> {
        self.last_alias = self.last_alias.checked_add(1)?;
        let alias = Alias(self.last_alias);
        let before = self.tabs.cost();
        self.tabs.insert(Tab::new(id, alias));
        self.ledger.charge(fx, Charge::Sessions, before, self.tabs.cost());
        fx.stats.tabs.awaited += 1;
        Some(alias)
    }

    /// Returns the name of a socket of one of its tabs.
    pub(super) const fn name(&self, tab: Alias, socket: SocketId) -> SocketRef {
        SocketRef { session: self.id, tab, socket }
    }

    pub(super) fn socket(&self, tab: Alias, socket: SocketId) -> Option<&Socket> {
        self.tabs.get(tab)?.socket(socket)
    }

    pub(super) fn socket_mut(&mut self, tab: Alias, socket: SocketId) -> Option<&mut Socket> {
        self.tabs.get_mut(tab)?.socket_mut(socket)
    }

    /// Takes a socket out of its tab.
    pub(super) fn take_socket(
        &mut self,
        fx: &mut Effects,
        tab: Alias,
        socket: SocketId,
    ) -> Option<Socket> {
        if let Some(slow) = &mut self.slow {
            fx.stats.sockets.awaiting_credit -= slow.waiting.without_credit();
            slow.waiting.remove((tab, socket));
            fx.stats.sockets.awaiting_credit += slow.waiting.without_credit();
            self.tidy_slow(fx);
        }
        let taken = self.tabs.get_mut(tab)?.take_socket(socket)?;
        if taken.is_asking() {
            self.question_ended();
        }
        self.recharge_socket(fx, taken.cost(), SocketCost::default());
        Some(taken)
    }

    /// Adds a socket to one of its tabs.
    pub(super) fn set_socket(
        &mut self,
        fx: &mut Effects,
        tab: Alias,
        number: SocketId,
        socket: Socket,
    ) {
        let Some(entry) = self.tabs.get_mut(tab) else {
            return;
        };
        let (tab_before, before) = (entry.cost(), entry.sockets_cost());
        let cost = socket.cost();
        entry.set_socket(number, socket);
        let (tab_after, after) = (entry.cost(), entry.sockets_cost());
        self.ledger.charge(fx, Charge::Sessions, tab_before, tab_after);
        self.ledger.charge(fx, Charge::Sockets, before, after);
        self.recharge_socket(fx, SocketCost::default(), cost);
    }

    /// Puts a socket in the place of the one that has its number.
    pub(super) fn replace_socket(
        &mut self,
        fx: &mut Effects,
        tab: Alias,
        number: SocketId,
        socket: Socket,
    ) {
        let after = socket.cost();
        if let Some(state) = self.socket_mut(tab, number) {
            let before = std::mem::replace(state, socket).cost();
            self.recharge_socket(fx, before, after);
        }
    }

    /// Charges a socket as it is now in place of what it was.
    pub(super) fn recharge_socket(
        &mut self,
        fx: &mut Effects,
        before: SocketCost,
        after: SocketCost,
    ) {
        self.ledger.charge(fx, Charge::Sockets, before.record, after.record);
        self.ledger.charge(fx, Charge::Credit, before.credit, after.credit);
        self.ledger.charge(fx, Charge::Asks, before.ask, after.ask);
    }

    /// Charges nothing any more for a tab, which goes.
    pub(super) fn discharge_tab(&mut self, fx: &mut Effects, tab: &Tab) {
        let lane = tab.lane().map_or(0, Lane::cost);
        self.ledger.charge(fx, Charge::Lanes, lane, 0);
        self.ledger.charge(fx, Charge::Sessions, tab.cost(), 0);
        self.ledger.charge(fx, Charge::Sockets, tab.sockets_cost(), 0);
        for socket in tab.sockets() {
            self.recharge_socket(fx, socket.cost(), SocketCost::default());
        }
    }

    /// Charges what there is only while the hub does not read, as it is now.
    pub(super) fn charge_waiting(&mut self, fx: &mut Effects) {
        if let Some(slow) = &mut self.slow {
            let after = slow.cost();
            let before = std::mem::replace(&mut slow.charged, after);
            self.ledger.charge(fx, Charge::Waiting, before, after);
        }
    }

    /// Asks the shell for this session. Returns nothing if too many of its questions are open.
    pub(super) fn ask(&mut self, fx: &mut Effects, asker: Asker, what: Ask) -> Option<AskId> {
        if usize::from(self.questions) >= fx.config.asks.min(usize::from(u16::MAX)) {
            fx.stats.asks.refused += 1;
            return None;
        }
        self.questions += 1;
        Some(fx.ask(asker, what))
    }

    /// Notes that one of its questions is answered or withdrawn.
    pub(super) const fn question_ended(&mut self) {
        self.questions = self.questions.saturating_sub(1);
    }

    /// Forgets what has nothing in it.
    pub(super) fn tidy_slow(&mut self, fx: &mut Effects) {
        let Some(slow) = &mut self.slow else {
            return;
        };
        slow.stalled.retain(|(tab, _)| slow.waiting.has_tab(*tab));
        slow.crowded &= !slow.waiting.is_empty();
        slow.crowded_absent &= !slow.waiting.is_empty();
        if slow.waiting.is_empty() && slow.backlog.is_empty() && slow.recoveries.is_empty() {
            self.ledger.charge(fx, Charge::Waiting, slow.charged, 0);
            self.slow = None;
        } else {
            self.charge_waiting(fx);
        }
    }

    /// Forgets what it had of its link, which is gone or is followed by another.
    pub(super) fn unlink(&mut self, fx: &mut Effects) {
        fx.stats.memory.queued_bytes -= std::mem::take(&mut self.unwritten);
        for tab in self.tabs.iter_mut() {
            if tab.presence == Presence::Attached {
                tab.presence = Presence::Awaited;
                fx.stats.tabs.attached -= 1;
                fx.stats.tabs.awaited += 1;
            }
        }
        self.withdraw_wishes(fx);
        self.pardon(fx);
    }

    /// Forgets tabs that were parked for too long. Each hub sees to it, but a hub that is new does
    /// not know since when; where each page brings one, none lives long enough.
    pub(super) fn forget_overdue(&mut self, fx: &mut Effects) {
        let (now, limit) = (fx.now, fx.config.parked);
        let late = |since| now.saturating_since(since) >= limit;
        let overdue = self.tabs.iter().filter(|tab| tab.parked_since().is_some_and(late));
        for tab in overdue.map(|tab| tab.id).collect::<Vec<_>>() {
            self.on_gone(fx, tab);
        }
    }

    /// Ends a session that was taken out of its registry.
    pub(super) fn end(mut self, fx: &mut Effects, topics: &mut TopicTable) {
        fx.stats.sessions.held -= 1;
        if let Stage::Detached { .. } = self.stage {
            fx.stats.sessions.detached -= 1;
            let place = Detached::cost(self.ledger.account());
            self.ledger.charge(fx, Charge::Sessions, place, 0);
        }
        if let Some(slow) = &self.slow {
            fx.stats.memory.queued_bytes -= slow.backlog.bytes();
            fx.stats.sockets.awaiting_credit -= slow.waiting.without_credit();
            self.ledger.charge(fx, Charge::Waiting, slow.charged, 0);
        }
        fx.stats.memory.queued_bytes -= self.unwritten;
        fx.stats.memory.kept_bytes -= self.kept;
        self.withdraw_wishes(fx);
        self.drop_recoveries(fx);
        let place = self.place();
        self.ledger.charge(fx, Charge::Topics, self.subscriptions_cost(), 0);
        for subscription in &self.subscriptions {
            fx.stats.topics.subscriptions -= 1;
            if let Some(account) = self.ledger.account() {
                account.remove(Count::Subscriptions);
            }
            topics.leave(fx, subscription.topic, place);
        }
        self.ledger.charge(fx, Charge::Lanes, self.lane0.cost(), 0);
        self.ledger.charge(fx, Charge::Visitors, visitor::cost(self.ledger.visitor()), 0);
        self.ledger.charge(fx, Charge::Sessions, SESSION + self.tabs.cost(), 0);
        for tab in std::mem::take(&mut self.tabs) {
            self.discharge_tab(fx, &tab);
            tab.end(fx, self.id);
        }
        debug_assert_eq!(self.ledger.charged(), 0, "a session that has ended costs nothing");
    }

    /// Tells the hub that something of a tab or a socket failed. A session without a link tells
    /// nobody.
    pub(super) fn send_error(
        &mut self,
        fx: &mut Effects,
        code: ErrorCode,
        tab: Option<TabId>,
        socket: Option<SocketId>,
        message: &str,
    ) {
        let message = cut(message, MAX_MESSAGE_TEXT);
        self.send_frame(fx, &ServerFrame::Error { code, tab, socket, message });
    }

    /// Sends a message to all tabs of the browser.
    pub(super) fn broadcast(
        &mut self,
        fx: &mut Effects,
        payload: Payload<'_>,
    ) -> Result<(), SendError> {
        let frame = ServerFrame::Message { payload };
        self.send_message(fx, None, &frame, payload.len(), 1)
    }
}

/// Returns a span of at least a microsecond: a timeout of nothing would make a registry that spins.
pub(super) fn at_least(span: std::time::Duration) -> std::time::Duration {
    span.max(std::time::Duration::from_micros(1))
}
