//! Whose a link is, and what the shell keeps of the request that opened it.

use std::{cmp::Ordering, net::IpAddr, sync::Arc, time::Duration};

use tabmux_wire::{IdentityTag, RefusedReason};

use super::{Account, ledger::ARC};
use crate::Timestamp;

/// A user of the application. Two records with one name are the same user.
#[derive(Clone, Debug)]
pub struct User {
    name: Arc<str>,
    generation: u64,
}

/// What is known of who opened a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Visitor {
    /// The link may have a session.
    Admitted(Admitted),
    /// The hub is refused once it has said HELLO, so that its pages learn why.
    Refused(Farewell),
    /// The shell decides once the hub has said HELLO, with credentials or without. The client's
    /// address stands here where the stream of the link does not tell it.
    Undecided(Option<IpAddr>),
}

/// What handlers see of who opened a link.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Admitted {
    /// The user, if the application named one. A session is only for links of one user.
    pub user: Option<Arc<User>>,
    /// The user's identity tag, which hubs learn from WELCOME. `None` for nobody.
    pub tag: Option<Box<str>>,
    /// When the credentials of the link expire. The link ends then, and its session waits for
    /// another one. `None` for never.
    pub until: Option<Timestamp>,
    /// The client's address, where the stream of the link does not tell it.
    pub address: Option<IpAddr>,
    /// Who pays for what the session makes the server keep. `None`: the session for itself.
    pub account: Option<Arc<Account>>,
    /// Headers that the application asked to keep.
    pub headers: Vec<(Box<str>, Box<[u8]>)>,
    /// Patterns of topics that the application lets the browser have.
    pub granted: Box<[Box<str>]>,
}

/// Why a hub, a session or a tab is sent away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Farewell {
    /// The code that the hub is told.
    pub code: RefusedReason,
    /// When to try again. `None` means never, until a page is loaded or asks for it.
    pub retry: Option<Duration>,
    /// For the programmer who reads it.
    pub message: Box<str>,
}

impl User {
    /// Makes a record of a user. The shell counts in `generation` how often it ended the user's
    /// links, so that it can tell a link that was admitted before from one that came after.
    pub fn new(name: &str, generation: u64) -> Self {
        Self { name: name.into(), generation }
    }

    /// Returns the name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the name, shared.
    pub(super) const fn shared_name(&self) -> &Arc<str> {
        &self.name
    }

    /// Returns the number that the record was made with.
    pub const fn generation(&self) -> u64 {
        self.generation
    }
}

impl PartialEq for User {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for User {}

impl PartialOrd for User {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for User {
    fn cmp(&self, other: &Self) -> Ordering {
        self.name.cmp(&other.name)
    }
}

impl Visitor {
    /// Returns the user of an admitted link.
    pub const fn user(&self) -> Option<&Arc<User>> {
        match self {
            Self::Admitted(admitted) => admitted.user.as_ref(),
            Self::Refused(_) | Self::Undecided(_) => None,
        }
    }

    /// Returns who pays for the session.
    pub const fn account(&self) -> Option<&Arc<Account>> {
        match self {
            Self::Admitted(admitted) => admitted.account.as_ref(),
            Self::Refused(_) | Self::Undecided(_) => None,
        }
    }

    /// Returns the patterns of topics that the application lets the browser have.
    pub fn granted(&self) -> impl Iterator<Item = &str> {
        let granted = match self {
            Self::Admitted(admitted) => &*admitted.granted,
            Self::Refused(_) | Self::Undecided(_) => &[],
        };
        granted.iter().map(|pattern| &**pattern)
    }

    /// Returns when the credentials of the link expire, if they do.
    pub(super) fn until(&self) -> Option<Timestamp> {
        match self {
            Self::Admitted(admitted) => admitted.until,
            Self::Refused(_) | Self::Undecided(_) => None,
        }
    }

    /// Returns whose the link is, as hubs are told on a server that knows users.
    pub(super) fn identity(&self) -> IdentityTag {
        match self {
            Self::Admitted(Admitted { tag: Some(tag), .. }) => IdentityTag::User(tag.clone()),
            Self::Admitted(_) | Self::Refused(_) | Self::Undecided(_) => IdentityTag::Nobody,
        }
    }

    /// Returns the bytes that it takes, its user's record included.
    pub(super) fn cost(&self) -> usize {
        let inner = match self {
            Self::Admitted(Admitted {
                user,
                tag,
                until: _,
                address: _,
                account: _,
                headers,
                granted,
            }) => {
                let granted = granted.iter().map(|it| size_of::<Box<str>>() + it.len());
                let granted = granted.sum::<usize>();
                let tag = tag.as_ref().map_or(0, |tag| tag.len());
                let user =
                    user.as_ref().map_or(0, |user| 2 * ARC + size_of::<User>() + user.name.len());
                let texts = headers.iter().map(|(name, value)| name.len() + value.len());
                let entries = headers.capacity() * size_of::<(Box<str>, Box<[u8]>)>();
                user + tag + entries + granted + texts.sum::<usize>()
            }
            Self::Refused(farewell) => farewell.message.len(),
            Self::Undecided(_) => 0,
        };
        ARC + size_of::<Self>() + inner
    }
}

/// Returns the bytes of what is known of who opened a link, and of its user's entry in the index.
pub(super) fn cost(visitor: Option<&Arc<Visitor>>) -> usize {
    visitor.map_or(0, |visitor| visitor.cost())
}
