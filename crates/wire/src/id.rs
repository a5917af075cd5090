//! Names and numbers that frames carry.

use std::fmt;

/// The id of a tab: 64 random bits. A page draws it once per page load and never stores it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TabId(pub u64);

/// The id of one run of a hub: 64 random bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HubId(pub u64);

/// The id of a session. The server chooses it, and writes into it which node and shard hold the
/// session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub [u8; 16]);

/// The secret that proves the right to resume a session. `Debug` does not print it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Token(pub [u8; 16]);

/// A number of the session that only the server issues and that only grows. It tells the current
/// hub of a session from earlier ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Term(pub u64);

/// The short name that the server gives a tab inside its session. It is also the number of the
/// tab's lane. It is never 0, which is the lane of all tabs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Alias(pub u32);

/// The number that a tab gives a virtual socket or a question. It is never 0, and a tab never uses
/// one twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SocketId(pub u32);

/// The number that a server gives a topic. It is the same for all sessions while the server runs.
/// In GAP, 0 stands for the messages to all tabs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicId(pub u64);

/// A place in a topic's history. `offset` grows within an `epoch`. Another epoch means another
/// history, whose offsets cannot be compared with these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The number of the history in which the offset counts.
    pub epoch: u64,
    /// The publication's number in this history.
    pub offset: u64,
}

/// Number of reliable frames of a lane that were received. Lane 0 is the lane of all tabs. Any
/// other number is the [`Alias`] of a tab.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LaneCount {
    /// The number of the lane.
    pub lane: u32,
    /// Frames of the lane that were received since the session began.
    pub count: u64,
}

/// A message of an application: text (UTF-8) or bytes, as in RFC 6455 section 5.6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload<'a> {
    /// A text message, in UTF-8.
    Text(&'a str),
    /// A binary message of any bytes.
    Binary(&'a [u8]),
}

impl<'a> Payload<'a> {
    /// Returns the bytes that are sent.
    pub const fn as_bytes(self) -> &'a [u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Binary(bytes) => bytes,
        }
    }

    /// Returns the length in bytes.
    pub const fn len(self) -> usize {
        self.as_bytes().len()
    }

    /// Returns true if the message has no bytes.
    pub const fn is_empty(self) -> bool {
        self.len() == 0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

impl fmt::Display for TabId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Display for HubId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}
