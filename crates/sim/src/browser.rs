//! A browser: its tabs with what a page does, their ports, and the locks.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt,
};

use tabmux_core::{
    OwnedPayload, Timestamp,
    hub::{Hub, HubConfig, HubMessage, Mode, SubscriptionId, TabMessage},
    wire::{HubId, Payload, Position, SocketId, TabId},
};

use crate::{network::Lane, oracle::HubView, topics::Subscription};

/// The code with which pages close their sockets.
pub const PAGE_CLOSE: u16 = 1000;

/// A browser with its one hub.
pub struct Browser {
    /// The hub.
    pub hub: Hub,
    /// What the hub was told of its tabs.
    pub view: HubView,
    /// All tabs that live.
    pub tabs: BTreeMap<TabId, Tab>,
    /// The locks the tabs hold.
    pub locks: Locks,
    /// The number of the hub's latest request for the link's lock.
    pub link_lock: u64,
    /// When the hub is to be woken, in the world's time.
    pub wake_at: Option<Timestamp>,
    /// How far its clock is ahead of the world's, in microseconds.
    pub ahead: u64,
    /// Whether the machine sleeps.
    pub asleep: bool,
    /// When it last woke.
    pub woke: Timestamp,
    /// Whether what it dials is never answered.
    pub offline: bool,
}

/// One page load.
#[derive(Debug, Default)]
pub struct Tab {
    /// How far it is with its hub.
    pub phase: Phase,
    /// Its sockets, those that are closed included.
    pub sockets: BTreeMap<u32, PageSocket>,
    /// Its subscriptions to topics.
    pub subscriptions: BTreeMap<u32, Subscription>,
    /// How many there were so far.
    pub subscriptions_made: u32,
    /// What was posted to it while it is in the back/forward cache.
    pub frozen: VecDeque<HubMessage>,
    /// Whether it is in the back/forward cache.
    pub parked: bool,
    /// The last message to all tabs: of which session, and its number there.
    pub broadcast: Option<(u64, u64)>,
    /// The direction from page to hub.
    pub to_hub: Lane,
    /// The direction from hub to page.
    pub to_page: Lane,
    /// Numbered messages that came back.
    pub echoes: u64,
}

/// How far a page is with its hub.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// It waits for its own lock.
    #[default]
    New,
    /// Attach is posted, and all wishes after it.
    Attaching,
    /// Back from the back/forward cache: the hub may have forgotten it.
    Restored,
    /// The hub answered.
    Attached,
}

/// A virtual socket as its page sees it.
#[derive(Debug, Default)]
pub struct PageSocket {
    /// Like `readyState`.
    pub state: SocketState,
    /// Messages sent.
    pub sent: u64,
    /// Messages that came back.
    pub got: u64,
}

/// Like `readyState`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SocketState {
    /// Wished for.
    #[default]
    Connecting,
    /// Open.
    Open,
    /// The page closed it.
    Closing,
    /// Closed.
    Closed,
}

/// What a page posts to its hub.
#[derive(Clone, Debug)]
pub enum PageMessage {
    /// It is there.
    Attach,
    /// It enters the back/forward cache.
    Park,
    /// It goes.
    Bye,
    /// It wants a socket.
    Open(u32),
    /// It sends a text.
    Send(u32, String),
    /// It closes a socket.
    Close(u32),
    /// It wants a topic, which it left there.
    Subscribe(u32, &'static str, Option<Position>),
    /// It wants it no more.
    Unsubscribe(u32),
}

/// The locks of tabs, each by the tab's id: first come, first served.
#[derive(Debug, Default)]
pub struct Locks {
    held: BTreeSet<TabId>,
    watched: BTreeSet<TabId>,
    /// Pages that want their lock back, behind the hub if that waits.
    wanted: BTreeSet<TabId>,
}

/// To whom a free lock goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Granted {
    /// To the hub that watches the tab.
    Hub,
    /// To the page.
    Page,
}

impl Browser {
    /// A browser whose hub has just begun.
    pub fn new(hub: HubId, seed: u64) -> Self {
        let mut config = HubConfig::new(Mode::Mux, hub, "wss://sim/tabmux/ws");
        // Small, so that messages do wait in the outbox.
        config.link_bytes = 256;
        Self {
            hub: Hub::new(config, seed),
            view: HubView::default(),
            tabs: BTreeMap::new(),
            locks: Locks::default(),
            link_lock: 0,
            wake_at: None,
            ahead: 0,
            asleep: false,
            woke: Timestamp::default(),
            offline: false,
        }
    }

    /// The time its own clock shows.
    pub const fn clock(&self, now: Timestamp) -> Timestamp {
        Timestamp::from_micros(now.as_micros() + self.ahead)
    }

    /// Tabs that are, or are not, in the back/forward cache.
    pub fn tabs_where(&self, parked: bool) -> Vec<TabId> {
        self.tabs.iter().filter(|(_, tab)| tab.parked == parked).map(|(id, _)| *id).collect()
    }
}

impl fmt::Debug for Browser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Browser").field("hub", &self.hub).finish_non_exhaustive()
    }
}

impl Tab {
    /// A wish for another socket.
    pub fn open(&mut self) -> Option<PageMessage> {
        let number = u32::try_from(self.sockets.len()).ok()? + 1;
        self.sockets.insert(number, PageSocket::default());
        (self.phase != Phase::New).then_some(PageMessage::Open(number))
    }

    /// The next numbered message of a socket.
    pub fn send(&mut self, id: TabId, number: u32) -> Option<PageMessage> {
        let socket = self.sockets.get_mut(&number)?;
        if socket.state != SocketState::Open {
            return None;
        }
        socket.sent += 1;
        Some(PageMessage::Send(number, format!("{id} {number} {}", socket.sent)))
    }

    /// Closes a socket.
    pub fn close(&mut self, number: u32) -> Option<PageMessage> {
        let socket = self.sockets.get_mut(&number)?;
        if matches!(socket.state, SocketState::Closing | SocketState::Closed) {
            return None;
        }
        socket.state = SocketState::Closing;
        Some(PageMessage::Close(number))
    }

    /// Numbers of the sockets in a state.
    pub fn sockets_in(&self, state: SocketState) -> Vec<u32> {
        self.sockets.iter().filter(|(_, it)| it.state == state).map(|(id, _)| *id).collect()
    }

    /// What it posts once it holds its lock.
    pub fn inhabited(&mut self) -> Vec<PageMessage> {
        if self.phase == Phase::New {
            self.attach()
        } else {
            self.phase = Phase::Restored;
            vec![PageMessage::Park, PageMessage::Attach]
        }
    }

    /// What it posts when the hub has forgotten it.
    pub fn resync(&mut self) -> Vec<PageMessage> {
        if !matches!(self.phase, Phase::Attached | Phase::Restored) {
            return Vec::new();
        }
        for socket in self.sockets.values_mut() {
            if socket.state != SocketState::Connecting {
                socket.state = SocketState::Closed;
            }
        }
        self.broadcast = None;
        self.attach()
    }

    fn attach(&mut self) -> Vec<PageMessage> {
        self.phase = Phase::Attaching;
        let sockets = self.sockets_in(SocketState::Connecting).into_iter().map(PageMessage::Open);
        let topics = self.topics_wanted();
        std::iter::once(PageMessage::Attach).chain(sockets).chain(topics).collect()
    }

    /// Whether wishes go out at once.
    pub fn has_attached(&self) -> bool {
        self.phase != Phase::New
    }
}

impl PageMessage {
    /// As the hub is told it.
    pub fn as_input(&self) -> TabMessage<'_> {
        match self {
            Self::Attach => TabMessage::Attach,
            Self::Park => TabMessage::Park,
            Self::Bye => TabMessage::Bye,
            Self::Open(socket) => {
                TabMessage::Open { socket: SocketId(*socket), path: "/echo", protocols: vec![] }
            }
            Self::Send(socket, text) => {
                TabMessage::Send { socket: SocketId(*socket), payload: Payload::Text(text) }
            }
            Self::Close(socket) => {
                TabMessage::Close { socket: SocketId(*socket), code: PAGE_CLOSE, reason: "" }
            }
            Self::Subscribe(number, name, since) => {
                let subscription = SubscriptionId(*number);
                TabMessage::Subscribe { subscription, name, since: *since }
            }
            Self::Unsubscribe(number) => {
                TabMessage::Unsubscribe { subscription: SubscriptionId(*number) }
            }
        }
    }
}

impl Locks {
    /// A page asks for its lock.
    pub fn want(&mut self, tab: TabId) -> Option<Granted> {
        self.wanted.insert(tab);
        self.next(tab)
    }

    /// A page lets go of its lock, or dies.
    pub fn release(&mut self, tab: TabId) -> Option<Granted> {
        self.wanted.remove(&tab);
        self.held.remove(&tab);
        self.next(tab)
    }

    /// The hub waits for a tab's lock.
    pub fn watch(&mut self, tab: TabId) -> Option<Granted> {
        if self.watched.insert(tab) { self.next(tab) } else { None }
    }

    /// The hub no longer waits.
    pub fn unwatch(&mut self, tab: TabId) -> Option<Granted> {
        if self.watched.remove(&tab) { self.next(tab) } else { None }
    }

    /// The lock reached the one it was granted to. False if that one no longer wants it.
    pub fn take(&mut self, tab: TabId, by: Granted) -> bool {
        if self.held.contains(&tab) {
            return false;
        }
        match by {
            Granted::Hub => self.watched.remove(&tab),
            Granted::Page => self.wanted.remove(&tab) && self.held.insert(tab),
        }
    }

    /// To whom the lock goes now.
    pub fn next(&self, tab: TabId) -> Option<Granted> {
        if self.held.contains(&tab) {
            None
        } else if self.watched.contains(&tab) {
            Some(Granted::Hub)
        } else {
            self.wanted.contains(&tab).then_some(Granted::Page)
        }
    }
}

/// The text of a message; what the simulator sends is text throughout.
pub fn text(payload: &OwnedPayload) -> &str {
    match payload {
        OwnedPayload::Text(text) => text,
        OwnedPayload::Binary(_) => "",
    }
}
