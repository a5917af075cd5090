//! Frames by which a server refuses or ends something and tells the page why. Since version 2.

use crate::{
    DecodeError, RefusedReason, TabId, Term,
    codec::{Put, Reader},
    limit::{MAX_MESSAGE_TEXT, MAX_TARGET},
};

/// DENIED: the server refuses a HELLO or ends a session, then closes the link. It replaces REFUSED
/// for a hub whose newest version is 2 or later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Denied<'a> {
    /// The reason for the refusal or the end.
    pub code: RefusedReason,
    /// The session's current term. 0 means that the server tells none.
    pub term: Term,
    /// Milliseconds after which the hub may try again. `None` means never: the hub stays refused
    /// until a page is loaded, a page asks to reconnect, or the hub has another identity tag or
    /// other credentials.
    pub retry_ms: Option<u64>,
    /// The node that the hub should go to. It is empty if any node will do.
    pub target: &'a str,
    /// A text for the programmer.
    pub message: &'a str,
}

/// DISMISSED: the application ended a tab of the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dismissed<'a> {
    /// The tab that was ended.
    pub tab: TabId,
    /// Milliseconds after which the tab may attach again. `None` means never.
    pub retry_ms: Option<u64>,
    /// A text for the programmer.
    pub message: &'a str,
}

/// CREDENTIALS from a server: it tells a hub whether its credentials are accepted and until when.
/// It answers a hub's CREDENTIALS, or is sent unasked after WELCOME.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing<'a> {
    /// The number of the CREDENTIALS that this answers. 0 means that it answers none.
    pub request: u64,
    /// True if the credentials were accepted. Refused credentials change nothing.
    pub accepted: bool,
    /// Milliseconds until the server ends the link, unless the hub sends other credentials. `None`
    /// means that they do not expire.
    pub expires_ms: Option<u64>,
    /// A text for the programmer.
    pub message: &'a str,
}

impl<'a> Denied<'a> {
    pub(crate) fn read(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self {
            code: RefusedReason::from_byte(r.u8()?),
            term: Term(r.u64()?),
            retry_ms: r.optional("retry", Reader::u64)?,
            target: r.str(MAX_TARGET, "target")?,
            message: r.rest_str(MAX_MESSAGE_TEXT, "message")?,
        })
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.push(self.code.byte());
        out.put_u64(self.term.0);
        out.put_optional(self.retry_ms);
        out.put_bytes(self.target.as_bytes());
        out.extend_from_slice(self.message.as_bytes());
    }
}

impl<'a> Dismissed<'a> {
    pub(crate) fn read(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self {
            tab: r.tab()?,
            retry_ms: r.optional("retry", Reader::u64)?,
            message: r.rest_str(MAX_MESSAGE_TEXT, "message")?,
        })
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.tab.0.to_be_bytes());
        out.put_optional(self.retry_ms);
        out.extend_from_slice(self.message.as_bytes());
    }
}

impl<'a> Standing<'a> {
    pub(crate) fn read(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self {
            request: r.u64()?,
            accepted: r.bool("accepted")?,
            expires_ms: r.optional("expires", Reader::u64)?,
            message: r.rest_str(MAX_MESSAGE_TEXT, "message")?,
        })
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.put_u64(self.request);
        out.push(u8::from(self.accepted));
        out.put_optional(self.expires_ms);
        out.extend_from_slice(self.message.as_bytes());
    }
}
