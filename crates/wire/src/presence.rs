//! Who is there. Since version 2.

use crate::{
    DecodeError, TopicId,
    codec::{Put, Reader},
    limit::{MAX_METADATA, MAX_PRESENCE_ENTRIES, MAX_USER},
};

/// A browser's part in the presence of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Present<'a> {
    /// The browser leaves.
    Away,
    /// The browser is there, or tells news of itself.
    Here {
        /// Whether nobody has touched any of its tabs for a while.
        idle: bool,
        /// What it tells of itself, in a form of the application's choice.
        metadata: &'a str,
    },
}

/// News of the presence of a topic, in lane 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Presence<'a> {
    /// The topic.
    pub topic: TopicId,
    /// Whether `members` are all there are; else they are those that came or changed.
    pub whole: bool,
    /// How many members there are now.
    pub count: u64,
    /// Members, with what is known of them.
    pub members: Vec<Member<'a>>,
    /// The users that left.
    pub left: Vec<&'a str>,
}

/// A user who is there, in one browser or several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member<'a> {
    /// The user's name.
    pub user: &'a str,
    /// Browsers of the user.
    pub browsers: u32,
    /// Tabs of these browsers.
    pub tabs: u32,
    /// Whether every one of the browsers is idle.
    pub idle: bool,
    /// What the browser that spoke last told of itself.
    pub metadata: &'a str,
}

const AWAY: u8 = 0;
const ACTIVE: u8 = 1;
const IDLE: u8 = 2;

impl<'a> Present<'a> {
    pub(crate) fn read(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let idle = match r.u8()? {
            AWAY => return Ok(Self::Away),
            ACTIVE => false,
            IDLE => true,
            _ => return Err(DecodeError::BadValue("present")),
        };
        Ok(Self::Here { idle, metadata: r.rest_str(MAX_METADATA, "metadata")? })
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Away => out.push(AWAY),
            Self::Here { idle, metadata } => {
                out.push(if *idle { IDLE } else { ACTIVE });
                out.extend_from_slice(metadata.as_bytes());
            }
        }
    }
}

impl<'a> Presence<'a> {
    pub(crate) fn read(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let (topic, whole, count) = (r.topic()?, r.bool("whole")?, r.u64()?);
        let len = r.len(MAX_PRESENCE_ENTRIES, "members")?;
        let members = (0..len).map(|_| Member::read(r)).collect::<Result<_, _>>()?;
        let len = r.len(MAX_PRESENCE_ENTRIES, "left")?;
        let left = (0..len).map(|_| r.name(MAX_USER, "user")).collect::<Result<_, _>>()?;
        Ok(Self { topic, whole, count, members, left })
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.put_u64(self.topic.0);
        out.push(u8::from(self.whole));
        out.put_u64(self.count);
        out.put_u64(self.members.len() as u64);
        self.members.iter().for_each(|member| member.write(out));
        out.put_u64(self.left.len() as u64);
        self.left.iter().for_each(|user| out.put_bytes(user.as_bytes()));
    }
}

impl<'a> Member<'a> {
    fn read(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self {
            user: r.name(MAX_USER, "user")?,
            browsers: r.u32()?,
            tabs: r.u32()?,
            idle: r.bool("idle")?,
            metadata: r.str(MAX_METADATA, "metadata")?,
        })
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.put_bytes(self.user.as_bytes());
        out.put_u64(u64::from(self.browsers));
        out.put_u64(u64::from(self.tabs));
        out.push(u8::from(self.idle));
        out.put_bytes(self.metadata.as_bytes());
    }
}
