//! What goes into a hub and what comes out of it.

use tabmux_wire::{DecodeError, Payload, Position, SessionId, SocketId, TabId};

use crate::OwnedPayload;

/// Numbers the dials of one hub, so that news of an earlier link cannot be taken for the present
/// one's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttemptId(pub u32);

/// One subscription of a tab to a topic, numbered by the tab.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubscriptionId(pub u32);

/// Numbers the questions of one hub to its tabs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AskId(pub u32);

/// What a hub asks a tab.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Ask {
    /// Where the link goes, with which sub-protocols, and what the tab's credentials are. The shell
    /// opens the next link with them. The hub never sees them, since they may be secrets.
    Address = 0,
    /// What the tab's credentials are now, for a link that is open.
    Credentials = 1,
}

/// A fact from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input<'a> {
    /// A tab sent a message through its port.
    TabMessage {
        /// The tab.
        tab: TabId,
        /// What it said.
        message: TabMessage<'a>,
    },
    /// The lock a tab holds while it lives was granted to the hub: the tab died, or let go of it
    /// on its way out. The shell has released it again.
    TabLockGranted {
        /// The tab.
        tab: TabId,
    },
    /// The hub now holds the lock that only the owner of the link may hold.
    LinkLockGranted,
    /// The link is open.
    LinkOpened {
        /// The number of the link.
        attempt: AttemptId,
        /// The sub-protocol the server chose.
        protocol: &'a str,
        /// The extensions in use.
        extensions: &'a str,
    },
    /// A message came on the link.
    LinkMessage {
        /// The number of the link.
        attempt: AttemptId,
        /// The message.
        payload: Payload<'a>,
    },
    /// The link is closed, or could not be opened.
    LinkClosed {
        /// The number of the link.
        attempt: AttemptId,
        /// The close code.
        code: u16,
        /// The close reason.
        reason: &'a str,
        /// True if the closing handshake was completed.
        clean: bool,
        /// True if the shell said that the link failed. A browser says so of a link that could not
        /// be opened, and of one on which the server broke the protocol. It does not say so of one
        /// that just broke.
        failed: bool,
    },
    /// How many bytes the link has not yet given to the network. Shells tell it before every
    /// `handle_timeout`, since browsers have no event for it.
    LinkBuffered {
        /// The number of the link.
        attempt: AttemptId,
        /// The bytes.
        bytes: u64,
    },
    /// The network came or went.
    NetworkChanged {
        /// True if there is one now.
        online: bool,
    },
    /// How a shared connection is to behave. Told once, before anything else, in mirror mode.
    Rules(Rules),
    /// A text came on the link, and names a tab to which alone it is to go (mirror mode).
    LinkMessageTo {
        /// The number of the link.
        attempt: AttemptId,
        /// The name of the tab: what it gave as the path of its views.
        name: &'a str,
        /// The text.
        text: &'a str,
    },
    /// The shared connection is to end for all tabs (mirror mode).
    Reset,
    /// Another hub has the lock of this hub's key and tag: see [`Output::TakeTag`].
    TagTaken,
    /// The answer to [`Output::AskWho`].
    Who {
        /// What the server said; `refused` if it closed with 1008 and said nothing, and empty if it
        /// did not answer.
        text: &'a str,
    },
}

/// How a shared connection behaves (mirror mode).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// How many of the last messages a late tab gets.
    pub replay_last: u64,
    /// How long the link outlives its last view, in milliseconds.
    pub linger_ms: u64,
    /// The first wait before a dial after an outage, in milliseconds.
    pub min_ms: u64,
    /// The longest wait, in milliseconds.
    pub max_ms: u64,
    /// How many dials an outage may take. With 0 views close when the link breaks.
    pub attempts: u64,
}

/// What a tab says to its hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TabMessage<'a> {
    /// The tab is there: the first message of its life, the first after a park, and the first to
    /// another hub.
    Attach {
        /// The claim that the last [`HubMessage::Resume`] gave the tab, or nothing if there was
        /// none. A claim that the tab found of another tab's follows after a comma, without its
        /// alias.
        claim: &'a str,
        /// Frames of lane 0 that it has.
        last0: u64,
        /// Frames of its lane that it has.
        last: u64,
    },
    /// The tab enters the back/forward cache: nothing may be posted to it.
    Park,
    /// The tab goes for good.
    Bye,
    /// Open a socket: a virtual socket, or in mirror mode a view of the one there is.
    ///
    /// `n` counts Open, Send and Close from 1 in each session. Those that do not come in their
    /// turn are ignored, since `Resume` makes the tab say them again.
    Open {
        /// Its number among the tab's messages.
        n: u64,
        /// The tab's number for it.
        socket: SocketId,
        /// Path and query; unused in mirror mode.
        path: &'a str,
        /// The sub-protocols offered; unused in mirror mode.
        protocols: Vec<&'a str>,
    },
    /// Send on a socket.
    Send {
        /// Its number among the tab's messages.
        n: u64,
        /// The socket.
        socket: SocketId,
        /// The message.
        payload: Payload<'a>,
    },
    /// Close a socket.
    Close {
        /// Its number among the tab's messages.
        n: u64,
        /// The socket.
        socket: SocketId,
        /// The close code, 0 when none was given.
        code: u16,
        /// The close reason.
        reason: &'a str,
    },
    /// The server may send more on a socket, in mux mode. Counted as the three before it.
    Credit {
        /// Its number among the tab's messages.
        n: u64,
        /// The socket.
        socket: SocketId,
        /// How much more.
        bytes: u64,
    },
    /// Subscribe to a topic, in mux mode.
    Subscribe {
        /// The tab's number for it; a topic may have several.
        subscription: SubscriptionId,
        /// The topic.
        name: &'a str,
        /// Where the tab left it, under this hub or an earlier one.
        since: Option<Position>,
    },
    /// End a subscription. Not answered.
    Unsubscribe {
        /// The subscription.
        subscription: SubscriptionId,
    },
    /// The page asks for a new link: it calls `reconnect()`. The hub dials at once, also if the
    /// server refused it for good or the application ended this tab. A hub that has a link closes
    /// it and dials again. What comes within a second of the last one is ignored.
    Reconnect,
    /// The page is about to open a socket, and asks whose the browser is now.
    /// [`HubMessage::User`] answers.
    Whose,
    /// The page ends the session, for all tabs: it calls `logout()`.
    Logout,
    /// The tab is visible. It is the first to be asked, and the link is looked at.
    Visible {
        /// True if there is a network, as far as the tab knows.
        online: bool,
    },
    /// The answer to [`HubMessage::Ask`].
    Answer {
        /// The question.
        id: AskId,
        /// Whether the answer is another than that of before, or why the tab has none.
        answer: Result<bool, &'a str>,
    },
    /// The page asks for its credentials to be renewed. That is done once a second at most.
    Renew,
    /// The answer to [`HubMessage::Check`], with what that said: all that was posted before has
    /// been heard.
    Got {
        /// Frames of lane 0.
        count0: u64,
        /// Frames of the tab's lane.
        count: u64,
    },
}

/// An order to the shell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Queue for the lock that only the owner of the link may hold.
    RequestLinkLock,
    /// Give that lock back, or stop queueing for it, in this very task.
    ReleaseLinkLock,
    /// Open the link.
    OpenLink {
        /// The number by which the shell names it from now on.
        attempt: AttemptId,
    },
    /// Send a message on the link.
    SendLink {
        /// The number of the link.
        attempt: AttemptId,
        /// The message.
        payload: OwnedPayload,
    },
    /// Send a frame, and behind it the credentials that a tab told last, if one did.
    ShowCredentials(AttemptId, Vec<u8>),
    /// Close the link.
    CloseLink {
        /// The number of the link.
        attempt: AttemptId,
        /// The close code, 0 for none.
        code: u16,
        /// The close reason.
        reason: String,
    },
    /// Post a message to a tab.
    PostToTab {
        /// The tab.
        tab: TabId,
        /// The message.
        message: HubMessage,
    },
    /// Post the same message to several tabs.
    PostToTabs {
        /// The tabs.
        tabs: Vec<TabId>,
        /// The message.
        message: HubMessage,
    },
    /// Ask the server whose the browser is now: by a WebSocket to `/tabmux/who`, which says one
    /// thing.
    AskWho,
    /// Show a ticket to the server, by a WebSocket to a path of the link's host that ends at once.
    /// The browser sends the cookies with it that a native socket of that path would have. The hub
    /// is not told how it went: the server asks again.
    ShowTicket {
        /// The ticket: the second sub-protocol of the WebSocket. The first is `tabmux.ticket`.
        ticket: String,
        /// Path and query of the socket. The path begins with a slash.
        path: String,
    },
    /// The hub knows whose its link is. Take the lock of its key and tag, if nobody has it, and
    /// post nothing before that is known. Tell if another hub has it, also when it takes it later.
    /// The lock is given back with that of the link. From now on the tag is shown to the server.
    TakeTag {
        /// The tag as it stands in names.
        tag: String,
    },
    /// Queue for the lock this tab holds while it lives, and tell when it is granted.
    WatchTab {
        /// The tab.
        tab: TabId,
    },
    /// Forget the tab: its port, and the wait for its lock.
    DropTab {
        /// The tab.
        tab: TabId,
    },
    /// Something worth a line in a log. Nothing depends on it.
    Event(Event),
}

/// What a hub says to a tab.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HubMessage {
    /// The answer to Attach.
    Attached {
        /// The link.
        state: LinkState,
        /// Tabs of this hub that are not parked.
        tabs: u32,
    },
    /// The link's state or the number of tabs changed.
    State {
        /// The link.
        state: LinkState,
        /// Tabs of this hub that are not parked.
        tabs: u32,
        /// Why the link is as it is, empty when there is nothing to say.
        reason: String,
    },
    /// The other end knows the tab now, and has so many of its messages. The tab says the rest
    /// again.
    Resume {
        /// Messages that were received.
        n_seen: u64,
        /// True if the tab's previous session goes on. If false, its open sockets are lost, all
        /// counts restart at 0, and the tab must first send `Got {0, 0}`. The hub ignores
        /// everything that it receives before that.
        continues: bool,
        /// The number of frames of lane 0 that do not concern a tab which begins anew.
        count0: u64,
        /// What the tab shows to the next hub.
        claim: String,
    },
    /// The session is lost, and with it all sockets that were open.
    Lost {
        /// Why.
        reason: String,
    },
    /// Has the tab heard all that was posted before this? It answers with the same counts.
    Check {
        /// Frames of lane 0.
        count0: u64,
        /// Frames of the tab's lane.
        count: u64,
    },
    /// The server has the tab's messages up to this one: they need not be kept.
    Seen {
        /// Its number.
        n: u64,
    },
    /// A socket is open.
    Opened {
        /// The socket.
        socket: SocketId,
        /// Its number in the tab's lane, or 0 if it is of no lane.
        count: u64,
        /// True if the link was open before this socket asked.
        reused: bool,
        /// The sub-protocol chosen.
        protocol: String,
        /// The extensions in use.
        extensions: String,
        /// What the tab may send before it is given more; nothing where there is no limit.
        credit: Option<u64>,
    },
    /// The tab may send so much more on a virtual socket.
    Credit {
        /// The socket.
        socket: SocketId,
        /// Its number in the tab's lane.
        count: u64,
        /// How much more.
        bytes: u64,
    },
    /// A message of a virtual socket.
    Message {
        /// The socket.
        socket: SocketId,
        /// Its number in the tab's lane.
        count: u64,
        /// The message.
        payload: OwnedPayload,
    },
    /// A message of the server in mirror mode, for every open view of the tab.
    Mirror {
        /// The message.
        payload: OwnedPayload,
    },
    /// A socket is closed.
    Closed {
        /// The socket.
        socket: SocketId,
        /// Its number in the tab's lane, or 0 if it is of no lane.
        count: u64,
        /// The close code.
        code: u16,
        /// True if the closing handshake was completed.
        clean: bool,
        /// The close reason.
        reason: String,
    },
    /// A socket failed; `Closed` follows.
    Error {
        /// The socket.
        socket: SocketId,
        /// What failed and what to do.
        message: String,
    },
    /// The tab's messages up to this one were handed to the link.
    Sent {
        /// Its number.
        n: u64,
    },
    /// A message to all tabs of the browser.
    Browser {
        /// Its number in lane 0.
        count0: u64,
        /// The message.
        payload: OwnedPayload,
    },
    /// A message to this tab alone.
    Direct {
        /// Its number in the tab's lane.
        count: u64,
        /// The message.
        payload: OwnedPayload,
    },
    /// Messages to all tabs are missing here.
    BrowserGap,
    /// A topic is subscribed: everything after the position will come.
    Subscribed {
        /// The subscription.
        subscription: SubscriptionId,
        /// Where the topic is.
        position: Position,
        /// True if the tab left it there. If it left it elsewhere, `Gap` follows.
        recovered: bool,
    },
    /// A publication of a topic.
    Publication {
        /// The subscription.
        subscription: SubscriptionId,
        /// Its place in the topic.
        position: Position,
        /// The message.
        payload: OwnedPayload,
    },
    /// Publications are missing here.
    Gap {
        /// The subscription.
        subscription: SubscriptionId,
        /// Up to where they may be missing.
        position: Position,
    },
    /// The server, or the hub, refuses a subscription; it has ended.
    Unsubscribed {
        /// The subscription.
        subscription: SubscriptionId,
        /// Why.
        message: String,
    },
    /// The hub does not know the tab: attach again.
    Resync,
    /// The tab is to wait: the hub does not know yet whether the tab may attach.
    Wait {
        /// What is awaited.
        reason: String,
    },
    /// The browser is of another user than the link: the tab is to attach to that user's hub.
    Elsewhere {
        /// What tells the hub from others: it becomes a part of its names. Empty for the hub
        /// whose names hold no user.
        user: String,
    },
    /// Whose the link is, before `Resume`; or whose the browser is now, after `Whose`.
    User {
        /// True if this is the answer to `Whose`.
        answers: bool,
        /// As in names.
        user: String,
    },
    /// The tab is asked for what the hub cannot know. `Answer` answers.
    Ask {
        /// The question.
        id: AskId,
        /// What is asked.
        what: Ask,
    },
    /// The hub will not have the tab: all its sockets fail.
    Refused {
        /// Why, and what to do.
        message: String,
    },
}

/// What a tab is told of the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum LinkState {
    /// Nobody needs it.
    Idle = 0,
    /// It is being opened: waiting for the lock, dialling, or saying hello.
    Connecting = 1,
    /// It works.
    Connected = 2,
    /// It failed; the hub waits before it tries again.
    Backoff = 3,
    /// It works, and the server has no room for this tab, which gets its place once there is. Or
    /// the application ended this tab, which comes back after a time.
    Full = 4,
    /// The server refused the hub for good: nothing is tried before another tab attaches, or a tab
    /// asks for it by [`TabMessage::Reconnect`]. Or the application ended this tab for good.
    Refused = 5,
}

/// Why a hub wants to be woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum WakeReason {
    /// The link took too long to open or to be welcomed.
    Dial,
    /// Time to try again.
    Backoff,
    /// Time for a PING, or no answer to one.
    Heartbeat,
    /// A tab whose lock was granted has not said park or bye.
    TabGrace,
    /// A tab was parked, or awaited, for too long.
    ParkedTab,
    /// The link has outlived its last tab for long enough.
    Linger,
    /// Time to subscribe to a topic again.
    Subscribe,
    /// Messages wait until the link has sent others.
    Outbox,
    /// Tabs wait to hear what was sent.
    Report,
    /// The server waits to hear what was received.
    Ack,
    /// A session whose link is gone for too long.
    Session,
    /// The tabs of a session that another hub had have had time to say what they want.
    History,
    /// Tabs that the server has no room for are to be told so.
    NoRoom,
    /// A tab that the application ended may come back.
    Dismissed,
    /// A tab that was asked is silent: the next one is asked, or none.
    Ask,
    /// The server has not said whose the browser is, or is asked again.
    Who,
    /// Time to ask a tab for its credentials.
    Renewal,
}

/// Something worth a line in a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A link is being opened.
    Dialled(AttemptId),
    /// The server said WELCOME.
    Welcomed {
        /// The session.
        session: SessionId,
        /// True if it is the one that the hub had.
        resumed: bool,
    },
    /// The link is gone.
    LinkDown(String),
    /// A tab attached.
    TabAttached(TabId),
    /// A tab parked.
    TabParked(TabId),
    /// A tab is no more.
    TabGone(TabId),
    /// The server sent what is no frame.
    BadFrame(DecodeError),
    /// A tab sent what has no meaning.
    BadTabMessage(TabId),
    /// A queue was full; the socket of this tab was closed.
    Overflow(TabId),
}
