//! What a server refuses or ends, in words that a page understands. Since version 2.

use crate::{
    DecodeError, RefusedReason, TabId, Term,
    codec::{Put, Reader},
    limit::{MAX_MESSAGE_TEXT, MAX_TARGET},
};

/// The HELLO is refused, or the session is ended; the link closes. A server says it in place of
/// REFUSED to a hub whose newest version is 2 or later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Denied<'a> {
    /// Why.
    pub code: RefusedReason,
    /// The session's current term, 0 when there is none to tell.
    pub term: Term,
    /// When to try again, in milliseconds. `None` means never: until a page is loaded, a page asks
    /// for it, or the hub has another identity tag or other credentials.
    pub retry_ms: Option<u64>,
    /// The node to go to; empty for any.
    pub target: &'a str,
    /// For the programmer who reads it.
    pub message: &'a str,
}

/// A tab of the session is ended by the application. It may attach again after `retry_ms`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dismissed<'a> {
    /// The tab.
    pub tab: TabId,
    /// When it may attach again, in milliseconds; `None` means never.
    pub retry_ms: Option<u64>,
    /// For the programmer who reads it.
    pub message: &'a str,
}

/// Tells a hub how its credentials stand: the answer to CREDENTIALS, or news after WELCOME.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing<'a> {
    /// The CREDENTIALS that it answers; 0 for none.
    pub request: u64,
    /// Whether they were accepted. Credentials that are refused change nothing.
    pub accepted: bool,
    /// When the link ends unless it gets others, in milliseconds; `None` means never.
    pub expires_ms: Option<u64>,
    /// For the programmer who reads it.
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
