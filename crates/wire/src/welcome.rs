//! WELCOME, the answer to HELLO.

use crate::{
    Alias, DecodeError, Feature, MAGIC, SessionId, TabId, Term, Token,
    codec::{Put, Reader},
    limit::{MAX_FEATURES, MAX_TAG, MAX_WELCOME_TABS},
};

/// WELCOME, the answer to HELLO. The server sends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// The id of the session.
    pub session: SessionId,
    /// The secret with which the hub may resume the session.
    pub token: Token,
    /// The session's term from now on.
    pub term: Term,
    /// True if this is the session that the hub asked for. False means a new session.
    pub resumed: bool,
    /// The number of the next frame of lane 0.
    pub next0: u64,
    /// The interval at which the hub sends PING, in milliseconds.
    pub heartbeat_ms: u64,
    /// The limits that the server sets for the hub.
    pub limits: Limits,
    /// The tabs of a resumed session. Empty in a new session.
    pub tabs: Vec<WelcomeTab>,
    /// The fields that version 2 adds. `None` means that the link speaks version 1.
    pub tail: Option<WelcomeTail>,
}

/// The fields that version 2 adds to WELCOME.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WelcomeTail {
    /// The user of the link, in a form that hides the user's name.
    pub identity: IdentityTag,
    /// The features that the server offers, in ascending order of their codes.
    pub features: Vec<Feature>,
}

/// The user of a link, in a form that does not tell browsers the user's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdentityTag {
    /// The server knows no users.
    NoUsers,
    /// The server knows users, and this link belongs to none of them.
    Nobody,
    /// The link belongs to the user with this tag.
    User(Box<str>),
}

/// The limits that a server sets for a hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest size of one message on the link, in bytes. It holds in both directions.
    pub message_bytes: u64,
    /// Largest number of unacknowledged bytes in one lane.
    pub lane_bytes: u64,
    /// Largest number of unacknowledged bytes in the whole session.
    pub session_bytes: u64,
    /// Milliseconds for which a session outlives its link.
    pub detached_ms: u64,
    /// Milliseconds for which a parked tab is kept.
    pub parked_ms: u64,
    /// Largest number of tabs in one session.
    pub tabs: u32,
    /// Largest number of virtual sockets of one tab.
    pub sockets: u32,
}

/// A tab of a resumed session, as WELCOME lists it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WelcomeTab {
    /// The id of the tab.
    pub tab: TabId,
    /// The alias of the tab in this session.
    pub alias: Alias,
    /// True if the tab was parked.
    pub parked: bool,
    /// True if lane 0 went on without the tab. No frame of lane 0 waits for its acknowledgement.
    pub aside: bool,
}

/// Bits of a listed tab's state.
const PARKED: u8 = 1;
const ASIDE: u8 = 2;

const NO_USERS: u8 = 0;
const NOBODY: u8 = 1;
const USER: u8 = 2;

impl Welcome {
    /// Returns the version that both ends speak from now on.
    pub const fn version(&self) -> u32 {
        if self.tail.is_some() { 2 } else { 1 }
    }

    pub(crate) fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        // The magic and the version never move, so that a hub of any version can read this far.
        if r.array()? != MAGIC {
            return Err(DecodeError::NotTabmux);
        }
        let version = r.u32()?;
        if !matches!(version, 1 | 2) {
            return Err(DecodeError::UnsupportedVersion { min: version, max: version });
        }
        Ok(Self {
            session: r.session()?,
            token: r.token()?,
            term: Term(r.u64()?),
            resumed: r.bool("resumed")?,
            next0: r.ordinal("next0")?,
            heartbeat_ms: r.u64()?,
            limits: Limits::read(r)?,
            tabs: {
                let len = r.len(MAX_WELCOME_TABS, "tabs")?;
                (0..len).map(|_| WelcomeTab::read(r)).collect::<Result<_, _>>()?
            },
            tail: if version == 1 { None } else { Some(WelcomeTail::read(r)?) },
        })
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&MAGIC);
        out.put_u64(u64::from(self.version()));
        out.extend_from_slice(&self.session.0);
        out.extend_from_slice(&self.token.0);
        out.put_u64(self.term.0);
        out.push(u8::from(self.resumed));
        out.put_u64(self.next0);
        out.put_u64(self.heartbeat_ms);
        self.limits.write(out);
        out.put_u64(self.tabs.len() as u64);
        self.tabs.iter().for_each(|tab| tab.write(out));
        if let Some(tail) = &self.tail {
            tail.write(out);
        }
    }
}

impl WelcomeTail {
    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let identity = match r.u8()? {
            NO_USERS => IdentityTag::NoUsers,
            NOBODY => IdentityTag::Nobody,
            USER => IdentityTag::User(r.name(MAX_TAG, "tag")?.into()),
            _ => return Err(DecodeError::BadValue("identity")),
        };
        let len = r.len(MAX_FEATURES, "features")?;
        let codes = (0..len).map(|_| r.u8()).collect::<Result<Vec<_>, _>>()?;
        if !codes.is_sorted_by(|one, next| one < next) {
            return Err(DecodeError::BadValue("features"));
        }
        Ok(Self { identity, features: codes.into_iter().map(Feature::from_byte).collect() })
    }

    fn write(&self, out: &mut Vec<u8>) {
        match &self.identity {
            IdentityTag::NoUsers => out.push(NO_USERS),
            IdentityTag::Nobody => out.push(NOBODY),
            IdentityTag::User(tag) => {
                out.push(USER);
                out.put_bytes(tag.as_bytes());
            }
        }
        out.put_u64(self.features.len() as u64);
        out.extend(self.features.iter().map(|feature| feature.byte()));
    }
}

impl WelcomeTab {
    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (tab, alias, state) = (r.tab()?, r.alias()?, r.u8()?);
        if state & !(PARKED | ASIDE) != 0 {
            return Err(DecodeError::BadValue("tab state"));
        }
        Ok(Self { tab, alias, parked: state & PARKED != 0, aside: state & ASIDE != 0 })
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.tab.0.to_be_bytes());
        out.put_u64(u64::from(self.alias.0));
        let parked = if self.parked { PARKED } else { 0 };
        let aside = if self.aside { ASIDE } else { 0 };
        out.push(parked | aside);
    }
}

impl Limits {
    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            message_bytes: r.u64()?,
            lane_bytes: r.u64()?,
            session_bytes: r.u64()?,
            detached_ms: r.u64()?,
            parked_ms: r.u64()?,
            tabs: r.u32()?,
            sockets: r.u32()?,
        })
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.put_u64(self.message_bytes);
        out.put_u64(self.lane_bytes);
        out.put_u64(self.session_bytes);
        out.put_u64(self.detached_ms);
        out.put_u64(self.parked_ms);
        out.put_u64(u64::from(self.tabs));
        out.put_u64(u64::from(self.sockets));
    }
}
