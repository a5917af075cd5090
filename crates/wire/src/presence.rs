//! The presence of browsers and users in topics. Since version 2.

use crate::{
    DecodeError, TopicId,
    codec::{Put, Reader},
    limit::{MAX_METADATA, MAX_PRESENCE_ENTRIES, MAX_USER},
};

/// A browser's part in the presence of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Present<'a> {
    /// The browser leaves the topic.
    Away,
    /// The browser is present, or has changed its metadata or its idle state.
    Here {
        /// True if nobody has touched any tab of the browser for a while.
        idle: bool,
        /// What the browser tells of itself, in a form that the application chose.
        metadata: &'a str,
    },
}

/// PRESENCE from a server: the members of a topic, or changes of them. It travels in lane 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Presence<'a> {
    /// The number of the topic.
    pub topic: TopicId,
    /// True if `members` lists all members. If false, it lists those that came or changed.
    pub whole: bool,
    /// The number of members that there are now.
    pub count: u64,
    /// The members, with what is known of each.
    pub members: Vec<Member<'a>>,
    /// The names of the users that left.
    pub left: Vec<&'a str>,
}

/// A user who is present, in one browser or in several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member<'a> {
    /// The name of the user.
    pub user: &'a str,
    /// The number of the user's browsers that are present.
    pub browsers: u32,
    /// The number of tabs in these browsers.
    pub tabs: u32,
    /// True if all of these browsers are idle.
    pub idle: bool,
    /// The metadata of the browser that sent PRESENCE last.
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
