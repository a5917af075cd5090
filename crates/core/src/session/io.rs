//! What goes into a registry and what comes out of it.

use std::{borrow::Cow, fmt, sync::Arc};

use tabmux_wire::{
    Alias, DecodeError, HubId, RefusedReason, SessionId, SocketId, TabId, Term, TopicId, close,
};

use super::{Ask, AskId, Encoded, Shares, Visitor};
use crate::OwnedPayload;

/// A link, numbered by the shell. The lower half is a place in a table, so it is small and in use
/// once at a time; the upper half tells the uses of a place apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u64);

/// A virtual socket of this server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SocketRef {
    /// The session of the browser.
    pub session: SessionId,
    /// The tab.
    pub tab: Alias,
    /// The tab's number for it.
    pub socket: SocketId,
}

/// A fact from outside. Facts about a link that is not known, or no longer, are ignored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input<'a> {
    /// A link is open: its WebSocket handshake is done.
    LinkOpened {
        /// Which.
        link: LinkId,
        /// Bytes of the operating system's random source, for the session's id and token.
        entropy: [u8; 32],
        /// What the shell keeps of who opened it; `None` if there is nothing to keep. A session is
        /// only for links of the user who began it, or of nobody if nobody did.
        visitor: Option<Arc<Visitor>>,
    },
    /// A binary message came.
    LinkMessage {
        /// Which.
        link: LinkId,
        /// The whole message.
        bytes: &'a [u8],
    },
    /// A text message came, which no hub sends.
    LinkText {
        /// Which.
        link: LinkId,
    },
    /// A part of a message came on a link, which is a sign of life.
    LinkHeard {
        /// The link.
        link: LinkId,
    },
    /// Bytes of [`Output::Send`] and [`Output::Publish`] went to the kernel.
    LinkWritten {
        /// Which.
        link: LinkId,
        /// How many.
        bytes: usize,
    },
    /// The shell holds so much memory for the link: parts of a message, and what is not yet
    /// written. It is told when that has changed, and need not be told of a link that is closed.
    LinkHolds {
        /// The link.
        link: LinkId,
        /// The bytes of memory; 0 when the shell holds nothing any more.
        bytes: usize,
    },
    /// The shell tells what the other registries of the server hold.
    Shares(Shares),
    /// The link is closed or broken.
    LinkClosed {
        /// Which.
        link: LinkId,
    },
}

/// An order to the shell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send a binary message.
    Send {
        /// On which link.
        link: LinkId,
        /// The whole message. The registry may keep it too, to send it again.
        bytes: Arc<[u8]>,
    },
    /// Close a link, after what was sent before. The registry has forgotten it already.
    CloseLink {
        /// Which.
        link: LinkId,
        /// The close code.
        code: u16,
        /// The close reason, of at most 123 bytes.
        reason: Cow<'static, str>,
    },
    /// A question: answer it by [`Registry::answer`](super::Registry::answer), now or later.
    Ask {
        /// Its number.
        ask: AskId,
        /// What is asked.
        what: Ask,
    },
    /// A question is over that was not answered: the asker is gone, or the deadline has passed. The
    /// shell drops what it began for the answer.
    Withdrawn(AskId),
    /// A message came on an open socket.
    SocketMessage {
        /// Which.
        socket: SocketRef,
        /// The message.
        payload: OwnedPayload,
    },
    /// A socket that was told [`SendError::Full`] may try again.
    SocketWritable {
        /// Which.
        socket: SocketRef,
    },
    /// A socket is closed: comes once for each [`Ask::Open`] that was answered by
    /// [`Answer::Open`](super::Answer::Open), also when the application closed it.
    SocketClosed {
        /// Which.
        socket: SocketRef,
        /// The close code: 1005 when none was given, 1006 when it was not clean.
        code: u16,
        /// The close reason.
        reason: String,
        /// Whether one end closed it on purpose.
        clean: bool,
    },
    /// Send publications, whose bytes are shared.
    Publish {
        /// What to send, in order.
        frames: Vec<Arc<Encoded>>,
        /// On which links.
        links: Vec<LinkId>,
    },
    /// A link is no more: comes once for each link that was opened. The shell releases what it
    /// holds for the link: its place in a limit, and what its user may have.
    LinkDown {
        /// Which.
        link: LinkId,
        /// Why.
        cause: LinkDown,
    },
    /// Nobody here wants a topic any more that was joined.
    TopicUnwanted {
        /// Its number.
        topic: TopicId,
    },
    /// Something worth a line in a log. Nothing depends on it.
    Event(Event),
}

/// Something worth a line in a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A hub was welcomed.
    LinkUp {
        /// Its link.
        link: LinkId,
        /// Its session.
        session: SessionId,
        /// The hub.
        hub: HubId,
        /// Whether the session was there before.
        resumed: bool,
        /// The session's term.
        term: Term,
    },
    /// A tab attached, for the first time or again.
    TabAttached {
        /// Its session.
        session: SessionId,
        /// The tab.
        tab: TabId,
    },
    /// A tab parked.
    TabParked {
        /// Its session.
        session: SessionId,
        /// The tab.
        tab: TabId,
    },
    /// A session without a link is no more.
    SessionEnded {
        /// Which.
        session: SessionId,
        /// Why.
        end: SessionEnd,
    },
    /// A tab is no more. Not told for the tabs of a session that ends.
    TabGone {
        /// Its session.
        session: SessionId,
        /// The tab.
        tab: TabId,
    },
}

/// Why a link is no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkDown {
    /// The hub closed it, or the network did.
    Closed,
    /// The hub broke the protocol.
    Misbehaved(PeerMisbehaved),
    /// The registry refused the hub.
    Refused(RefusedReason),
    /// The application's judge refused the client, for good or for now.
    TurnedAway,
    /// No HELLO in time.
    HandshakeTimeout,
    /// The hub was silent for too long.
    HeartbeatTimeout,
    /// All tabs are parked, and none came back in time.
    Suspended,
    /// The hub did not read, or did not acknowledge, what it made the server answer.
    NotReading,
    /// The same hub came with a newer link.
    Replaced,
    /// Another hub took the session over.
    Fenced,
    /// The server shuts down.
    Shutdown,
    /// The application ended the session, or the hub did.
    Ended,
    /// Memory was short, and the session, or its account, held the most.
    Evicted,
    /// The application asks again what the user of the link may do.
    Rechecked,
    /// The credentials that opened the link have expired.
    Expired,
}

/// Why a session without a link is no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionEnd {
    /// No hub came for it in time.
    Expired,
    /// There were too many, or too much was kept.
    Evicted,
}

/// What a hub did that the protocol forbids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerMisbehaved {
    /// It sent what is no frame.
    Undecodable(DecodeError),
    /// It sent a text message.
    Text,
    /// It sent another frame before HELLO.
    BeforeHello,
    /// It sent HELLO twice.
    HelloTwice,
    /// The count of a tab's reliable frames jumped.
    CountJumped,
    /// It acknowledged, or said that it has, frames that were never sent.
    NoSuchFrame,
    /// A close code was outside of 1000 to 4999.
    BadCloseCode,
}

/// Why a registry wants to be woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum WakeReason {
    /// A link has not said HELLO.
    Handshake,
    /// A link may have been silent for too long.
    Heartbeat,
    /// A link whose tabs are all parked.
    Suspended,
    /// A session may have waited for a link for too long.
    Detached,
    /// A question may have waited for an answer for too long.
    Ask,
    /// The credentials of a link expire.
    Credentials,
}

/// Why a message was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SendError {
    /// The socket is not open, or the session has ended. Nobody is at fault.
    Closed,
    /// Too much waits to be written, or to be acknowledged by the browser, or the tab has given the
    /// socket no more credit. The browser, or its network, is behind.
    /// [`Output::SocketWritable`] tells when to try again.
    Full,
    /// The message is larger than the limit; it can never be sent. The application is at fault.
    TooLarge,
}

impl LinkId {
    /// Its place in the shell's table.
    pub(super) const fn place(self) -> u32 {
        (self.0 & 0xffff_ffff) as u32
    }
}

impl LinkDown {
    /// Whether the session ends with the link.
    pub(super) const fn ends_session(self) -> bool {
        match self {
            Self::Misbehaved(_)
            | Self::NotReading
            | Self::Shutdown
            | Self::Ended
            | Self::Evicted => true,
            Self::Closed
            | Self::Refused(_)
            | Self::TurnedAway
            | Self::HandshakeTimeout
            | Self::HeartbeatTimeout
            | Self::Suspended
            | Self::Replaced
            | Self::Fenced
            | Self::Rechecked
            | Self::Expired => false,
        }
    }
}

impl PeerMisbehaved {
    /// The code its link closes with.
    pub(super) const fn close_code(self) -> u16 {
        match self {
            Self::Text => close::UNSUPPORTED_DATA,
            Self::Undecodable(_)
            | Self::BeforeHello
            | Self::HelloTwice
            | Self::CountJumped
            | Self::NoSuchFrame
            | Self::BadCloseCode => close::PROTOCOL_ERROR,
        }
    }
}

impl fmt::Display for PeerMisbehaved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Undecodable(error) => return error.fmt(f),
            Self::Text => "a link carries binary messages only",
            Self::BeforeHello => "a frame came before HELLO",
            Self::HelloTwice => "HELLO came twice",
            Self::CountJumped => "the count of a tab's reliable frames jumped",
            Self::NoSuchFrame => "frames were acknowledged that were never sent",
            Self::BadCloseCode => "a close code was outside of 1000 to 4999",
        })
    }
}

impl std::error::Error for PeerMisbehaved {}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Closed => "nobody is there: the socket, or the server, is closed",
            Self::Full => "too much waits to be written to the browser",
            Self::TooLarge => "the message is larger than the limit",
        })
    }
}

impl std::error::Error for SendError {}
