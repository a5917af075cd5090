//! Questions that leave the registry: the shell answers them now, later or never.
//!
//! Each question has a number, so an answer that comes too late finds nothing. It has a deadline,
//! after which the registry answers it itself, and somebody who asks. When the asker is gone the
//! shell is told, so that it can drop what it began.

use std::{collections::BTreeSet, fmt, sync::Arc, time::Duration};

use tabmux_wire::{ErrorCode, Payload, Position, SessionId, TabId, TopicId};

use super::{
    LinkId, SendError, SlowPolicy, SocketRef, Visitor,
    places::{FreeList, Places},
    state::SessionPlace,
    topic_table::TopicPlace,
};
use crate::{OwnedPayload, Timestamp, feed::Recalled};

/// The number of a question. A registry gives a number again after 4,294,967,296 questions at the
/// earliest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AskId(u64);

/// A question for the shell, which answers by [`Registry::answer`](super::Registry::answer).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Whose is the link that shows these credentials? It is asked after HELLO if that has
    /// credentials or if the visitor is [`Visitor::Undecided`], and again for each renewal. It is
    /// not asked for credentials if [`SessionConfig::credentials`](super::SessionConfig) is not
    /// set. It lives as long as the link.
    ///
    /// The shell reads nothing more of a link that is [pending](super::Registry::is_pending).
    Connect {
        /// The link.
        link: LinkId,
        /// True for a link that has its session already, and renews its credentials.
        renews: bool,
        /// What is known so far of who opened the link.
        visitor: Option<Arc<Visitor>>,
        /// The credentials.
        credentials: Secret,
    },
    /// May this tab have a virtual socket? It lives as long as the tab, across links and hubs.
    Open {
        /// The socket's name.
        socket: SocketRef,
        /// The tab's own id.
        tab: TabId,
        /// The path with its query.
        path: String,
        /// The sub-protocols offered, best first.
        protocols: Vec<String>,
    },
    /// Asks what a tab gets for a request. It is asked only if
    /// [`SessionConfig::requests`](super::SessionConfig::requests) is set, and it lives as long as
    /// the tab, across links and hubs.
    Request {
        /// The request's name, in the row of the tab's virtual sockets.
        request: SocketRef,
        /// The tab's own id.
        tab: TabId,
        /// The method.
        method: String,
        /// The idempotency key; empty for none.
        key: String,
        /// The input.
        payload: OwnedPayload,
    },
    /// May this browser subscribe to a topic? It is asked only if
    /// [`SessionConfig::ask_subscriptions`](super::SessionConfig::ask_subscriptions) is set, and
    /// it lives as long as the link.
    Subscribe {
        /// The browser's session.
        session: SessionId,
        /// The topic's name.
        topic: Arc<str>,
        /// The last position that the hub has.
        since: Option<Position>,
        /// True for a subscription that the browser has, and may have lost the right to
        /// ([`Registry::review`](super::Registry::review)). A denial ends it.
        renews: bool,
    },
    /// Where is a topic, which somebody here wants? It lives as long as somebody wants the topic.
    /// Once it is answered, publications of the topic go to
    /// [`Registry::publish`](super::Registry::publish), until
    /// [`Output::TopicUnwanted`](super::Output::TopicUnwanted) says that nobody wants them.
    Join {
        /// The topic's name.
        topic: Arc<str>,
    },
    /// What came of a topic after a position? It is asked only if
    /// [`SessionConfig::history`](super::SessionConfig::history) is set, for a browser that
    /// subscribes and left the topic there, and it lives as long as the subscription. A denial
    /// tells the browser that publications are missing up to where the topic is.
    Recall {
        /// The topic's name.
        topic: Arc<str>,
        /// The last position that the browser has.
        since: Position,
        /// How many bytes of publications are wanted. The registry asks again for those that
        /// follow.
        bytes: usize,
    },
}

/// Credentials of a user. `Debug` does not print them.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub Box<str>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({} bytes)", self.0.len())
    }
}

/// The answer to a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer<'a> {
    /// Answers [`Ask::Connect`]: this is whose the link is. A renewal counts only if that is the
    /// user of the session.
    Admit(&'a Arc<Visitor>),
    /// Answers [`Ask::Open`]: the socket is open, with this sub-protocol; empty for none.
    Open {
        /// The sub-protocol.
        protocol: &'a str,
    },
    /// Answers [`Ask::Request`]. The question is over with the last reply.
    Reply {
        /// The reply.
        payload: Payload<'a>,
        /// True if no other reply follows.
        last: bool,
    },
    /// Answers [`Ask::Subscribe`]: the browser may have the topic.
    Allow,
    /// Answers [`Ask::Join`]: the topic is at `position`, and every publication after that will be
    /// told.
    Joined {
        /// The topic's number.
        topic: TopicId,
        /// Where it is.
        position: Position,
        /// What becomes of publications for a browser that is behind.
        policy: SlowPolicy,
    },
    /// Answers [`Ask::Recall`]. There is nothing in it up to where the topic was when the question
    /// came only if there is no more.
    Recalled(&'a Recalled),
    /// Answers every question: no.
    Deny(Denial<'a>),
}

/// Why something is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Denial<'a> {
    /// The code that the page is told.
    pub code: DenialCode,
    /// For the programmer who reads it.
    pub message: &'a str,
    /// When to try again; `None` when that is of no use.
    pub retry: Option<Duration>,
}

/// What a refusal is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DenialCode {
    /// A code of the protocol.
    Known(ErrorCode),
    /// A code of the application's choice, above 255. One that is not above 255 is told as
    /// [`ErrorCode::Rejected`]. A hub of version 1 hears [`ErrorCode::Rejected`] for all of them.
    Application(u16),
}

impl DenialCode {
    /// Returns the code for frames that carry codes of the protocol alone.
    pub(super) const fn known(self) -> ErrorCode {
        match self {
            Self::Known(code) => code,
            Self::Application(_) => ErrorCode::Rejected,
        }
    }

    /// Returns the code as REJECTED carries it.
    pub(super) fn wire(self) -> u16 {
        match self {
            Self::Application(code @ 256..) => code,
            Self::Known(_) | Self::Application(_) => self.known().byte().into(),
        }
    }
}

impl From<ErrorCode> for DenialCode {
    fn from(code: ErrorCode) -> Self {
        Self::Known(code)
    }
}

/// Why an answer was not taken. The fault is the shell's, or nobody's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AnswerError {
    /// The question is over: it was answered or withdrawn, or its deadline has passed. The shell
    /// undoes what it did for the answer.
    Late,
    /// The answer is one to another kind of question. The question stays open.
    Unfit,
    /// The reply was not sent, and the question stays open. With [`SendError::Full`],
    /// [`Output::SocketWritable`](super::Output::SocketWritable) tells when to try again.
    Unsent(SendError),
}

/// Who waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asker {
    Connect(LinkId),
    Renewal(LinkId),
    Open(SocketRef),
    Request(SocketRef),
    Subscribe(SessionPlace),
    Join(TopicPlace),
    Recall(SessionPlace),
}

/// A question that is open.
struct Question {
    asker: Asker,
    deadline: Timestamp,
}

/// All questions of a registry that are open.
pub(super) struct Asks {
    questions: Places<Question>,
    free: FreeList,
    deadlines: BTreeSet<(Timestamp, AskId)>,
    /// How many questions there were so far.
    asked: u32,
}

impl Asks {
    pub(super) fn new() -> Self {
        Self {
            questions: Places::new(),
            free: FreeList::default(),
            deadlines: BTreeSet::new(),
            asked: 0,
        }
    }

    /// Opens a question, which ends at `deadline` at the latest.
    pub(super) fn open(&mut self, asker: Asker, deadline: Timestamp) -> AskId {
        self.asked = self.asked.wrapping_add(1);
        let id = AskId(u64::from(self.asked) << 32 | u64::from(self.free.take()));
        self.questions.insert(id.0, Question { asker, deadline });
        self.deadlines.insert((deadline, id));
        id
    }

    /// Returns who asks, while the question is open.
    pub(super) fn asker(&self, id: AskId) -> Option<Asker> {
        self.questions.get(id.0).map(|question| question.asker)
    }

    /// Moves the deadline of a question.
    pub(super) fn renew(&mut self, id: AskId, deadline: Timestamp) {
        if let Some(question) = self.questions.get_mut(id.0) {
            let before = std::mem::replace(&mut question.deadline, deadline);
            self.deadlines.remove(&(before, id));
            self.deadlines.insert((deadline, id));
        }
    }

    /// Ends a question. Returns false if it is over already.
    pub(super) fn close(&mut self, id: AskId) -> bool {
        let Some(question) = self.questions.remove(id.0) else {
            return false;
        };
        self.free.give_back((id.0 & 0xffff_ffff) as u32);
        self.deadlines.remove(&(question.deadline, id));
        true
    }

    /// Returns how many questions are open.
    pub(super) const fn len(&self) -> usize {
        self.questions.len()
    }

    /// Returns the first deadline and its question.
    pub(super) fn first(&self) -> Option<(Timestamp, AskId)> {
        self.deadlines.first().copied()
    }
}

impl fmt::Debug for AskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AskId({})", self.0 >> 32)
    }
}

impl fmt::Display for AnswerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Late => "the question is over",
            Self::Unfit => "this is the answer to another kind of question",
            Self::Unsent(error) => return error.fmt(f),
        })
    }
}

impl std::error::Error for AnswerError {}
