//! HELLO, the first frame of a link.

use crate::{
    DecodeError, HubId, MAGIC, NEWEST_VERSION, OLDEST_VERSION, SessionId, Term, Token,
    codec::{Put, Reader},
    limit::MAX_CREDENTIALS,
};

/// HELLO, the first frame of a link. The hub sends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello<'a> {
    /// The oldest version that the hub speaks.
    pub min_version: u32,
    /// The newest version that the hub speaks.
    pub max_version: u32,
    /// The id of this run of the hub.
    pub hub: HubId,
    /// The session that the hub wants to resume, if it has one.
    pub resume: Option<Resume>,
    /// Credentials of the browser's user, in a form that the application chose. They are empty if
    /// unused.
    pub credentials: &'a str,
}

/// What a hub knows of the session that it wants to resume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resume {
    /// The id of the session.
    pub session: SessionId,
    /// The secret that proves the right to the session.
    pub token: Token,
    /// The newest term of the session that the hub knows.
    pub term: Term,
    /// Number of frames of lane 0 that this run of the hub has received. `None` means that it has
    /// received none itself.
    pub have0: Option<u64>,
}

impl<'a> Hello<'a> {
    /// Returns the newest version that both ends speak.
    pub fn version(&self) -> u32 {
        self.max_version.min(NEWEST_VERSION)
    }

    pub(crate) fn read(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        // The magic and the versions never move, so that a server of any version can read this far.
        if r.array()? != MAGIC {
            return Err(DecodeError::NotTabmux);
        }
        let (min_version, max_version) = (r.u32()?, r.u32()?);
        let common = min_version.max(OLDEST_VERSION)..=max_version.min(NEWEST_VERSION);
        if min_version > max_version || common.is_empty() {
            return Err(DecodeError::UnsupportedVersion { min: min_version, max: max_version });
        }
        let hub = r.hub()?;
        let resume = r.optional("resume", Resume::read)?;
        let credentials = r.rest_str(MAX_CREDENTIALS, "credentials")?;
        Ok(Self { min_version, max_version, hub, resume, credentials })
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&MAGIC);
        out.put_u64(u64::from(self.min_version));
        out.put_u64(u64::from(self.max_version));
        out.extend_from_slice(&self.hub.0.to_be_bytes());
        out.push(u8::from(self.resume.is_some()));
        if let Some(resume) = &self.resume {
            out.extend_from_slice(&resume.session.0);
            out.extend_from_slice(&resume.token.0);
            out.put_u64(resume.term.0);
            out.put_optional(resume.have0);
        }
        out.extend_from_slice(self.credentials.as_bytes());
    }
}

impl Resume {
    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            session: r.session()?,
            token: r.token()?,
            term: Term(r.u64()?),
            have0: r.optional("have0", Reader::u64)?,
        })
    }
}
