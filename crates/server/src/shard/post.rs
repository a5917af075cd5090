//! What other threads can tell a shard's sessions.

use std::{sync::Arc, time::Duration};

use tabmux_core::{
    OwnedPayload,
    feed::Recalled,
    session::{AskId, Farewell, Joined, Publication, SessionInfo, SlowPolicy, SocketRef},
    wire::{SessionId, TabId},
};
use tokio::sync::oneshot;

use crate::{Decision, Refusal, broker::BrokerError, judge};

/// The answer to a shard that wants a topic.
pub(crate) type JoinAnswer = Result<(Joined, SlowPolicy), BrokerError>;

pub(crate) enum Word {
    Post(Post),
    People(Errand),
    Publication(Publication),
    /// The broker has answered where a topic is.
    Joined {
        ask: AskId,
        answer: JoinAnswer,
    },
    /// The broker has answered what came of a topic.
    Recalled((AskId, Option<Recalled>)),
    /// The judge has answered whose a link is.
    Judged {
        ask: AskId,
        answer: Result<judge::Answer, judge::NoVerdict>,
    },
    /// There may be room for publications again.
    Room,
    /// The application has answered whether a browser may have a topic.
    Topic {
        ask: AskId,
        verdict: Result<(), Refusal>,
    },
    /// The rules of topics are others: look at all subscriptions.
    Review,
    /// Look at what the other shards hold.
    Shares,
    /// Send away the first of so many equal parts of the links.
    Drain {
        slices: u32,
        spread: Duration,
    },
    /// Close what is left.
    CloseLinks,
    /// Have handlers close the streams that they have watched.
    #[cfg(unix)]
    CloseStreams,
}

/// What the application does with users, browsers and tabs.
pub(crate) enum Errand {
    /// Send a message to all browsers of a user.
    TellUser {
        user: Arc<str>,
        message: Arc<OwnedPayload>,
    },
    /// Send a message to all tabs of a browser.
    TellBrowser {
        session: SessionId,
        message: OwnedPayload,
    },
    /// Send a message to one tab.
    TellTab {
        session: SessionId,
        tab: TabId,
        message: OwnedPayload,
    },
    EndUser {
        user: Arc<str>,
        farewell: Arc<Farewell>,
    },
    EndBrowser {
        session: SessionId,
        farewell: Farewell,
    },
    EndTab {
        session: SessionId,
        tab: TabId,
        farewell: Farewell,
    },
    /// Have a user's hubs dial again.
    Recheck {
        user: Arc<str>,
        spread: Duration,
    },
    /// Tell which sessions there are: of one user, or all.
    List {
        user: Option<Arc<str>>,
        answer: oneshot::Sender<Vec<SessionInfo>>,
    },
}

impl Errand {
    /// The bytes that it holds on to.
    pub(crate) fn cost(&self) -> usize {
        let own = match self {
            Self::TellUser { message, .. } => message.len(),
            Self::TellBrowser { message, .. } | Self::TellTab { message, .. } => message.len(),
            // These are never refused for want of room.
            Self::EndUser { .. }
            | Self::EndBrowser { .. }
            | Self::EndTab { .. }
            | Self::Recheck { .. }
            | Self::List { .. } => 0,
        };
        own + size_of::<Self>()
    }
}

/// A wish about a socket.
pub(crate) struct Post {
    pub(crate) socket: SocketRef,
    pub(crate) command: Command,
}

pub(crate) enum Command {
    Send(OwnedPayload),
    Close {
        code: u16,
        reason: String,
    },
    /// Have the hub show this ticket at the path of the socket.
    Ticket(Box<str>),
    /// Charge the browser so many bytes that are kept for the socket, which is about to open.
    Keep(usize),
    /// Call the handler's `writable`.
    Poke,
    /// The handler has dealt with a message whose credit it held.
    GiveBack {
        cost: u64,
    },
    /// Answer the question whether the socket may be opened.
    Answer {
        ask: AskId,
        decision: Decision,
    },
}

impl Post {
    /// The bytes it holds on to.
    pub(crate) fn cost(&self) -> usize {
        let own = match &self.command {
            Command::Send(payload) => payload.len(),
            Command::Close { reason, .. } => reason.len(),
            Command::Ticket(ticket) => ticket.len(),
            Command::Keep(_) | Command::Poke | Command::GiveBack { .. } => 0,
            Command::Answer { decision: Decision::Accept { protocol }, .. } => protocol.len(),
            Command::Answer { decision: Decision::Reject { message, .. }, .. } => message.len(),
            Command::Answer { decision: Decision::Later, .. } => 0,
        };
        own + size_of::<Self>()
    }
}
