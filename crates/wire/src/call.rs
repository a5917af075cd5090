//! What a tab asks the server, and the answers. Since version 2.
//!
//! A tab names each question by a number of the row from which it also numbers its virtual
//! sockets, so that CREDIT and REJECTED name both in the same way.

use crate::{
    Alias, DecodeError, Payload, Position, SocketId, Upstream,
    codec::{Put, Reader},
    limit::{MAX_KEY, MAX_MESSAGE_TEXT, MAX_METHOD},
};

/// A tab asks for one or more replies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// The tab and its count.
    pub up: Upstream,
    /// The tab's number for the request.
    pub socket: SocketId,
    /// Bytes of replies that the server may send before it is given more by CREDIT.
    pub credit: u64,
    /// The method. Never empty.
    pub method: &'a str,
    /// The idempotency key; empty for none.
    pub key: &'a str,
    /// The input.
    pub payload: Payload<'a>,
}

/// A tab publishes a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Publish<'a> {
    /// The tab and its count.
    pub up: Upstream,
    /// The tab's number for the answer.
    pub socket: SocketId,
    /// The topic's name. Never empty.
    pub topic: &'a str,
    /// The idempotency key; empty for none.
    pub key: &'a str,
    /// The message.
    pub payload: Payload<'a>,
}

/// A tab asks for the publications of a topic that it has missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recover<'a> {
    /// The tab and its count.
    pub up: Upstream,
    /// The tab's number for the answer.
    pub socket: SocketId,
    /// The last publication that the tab has.
    pub since: Position,
    /// The topic's name. Never empty.
    pub topic: &'a str,
}

/// An OPEN or a question of a tab is refused, or ends without the answer that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rejected<'a> {
    /// The lane: the tab.
    pub tab: Alias,
    /// The tab's number for the virtual socket or the question.
    pub socket: SocketId,
    /// The reason: up to 255 a code of ERROR, above that one of the application's choice.
    pub code: u16,
    /// When to try again, in milliseconds; `None` when that is of no use.
    pub retry_ms: Option<u64>,
    /// For the programmer who reads it.
    pub message: &'a str,
}

/// One reply to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply<'a> {
    /// The lane: the tab.
    pub tab: Alias,
    /// The tab's number for the request.
    pub socket: SocketId,
    /// Whether it is the last one.
    pub last: bool,
    /// The reply.
    pub payload: Payload<'a>,
}

/// A publication that a tab had missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recovered<'a> {
    /// The lane: the tab.
    pub tab: Alias,
    /// The tab's number for its RECOVER.
    pub socket: SocketId,
    /// The publication's place in the topic.
    pub position: Position,
    /// The offset of the publication before it.
    pub previous: u64,
    /// What was published.
    pub payload: Payload<'a>,
}

/// The end of what a tab had missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CaughtUp {
    /// The lane: the tab.
    pub tab: Alias,
    /// The tab's number for its RECOVER.
    pub socket: SocketId,
    /// Publications from the tab's position up to this one are lost; `None` when none is.
    pub missing: Option<Position>,
    /// The last publication that the tab need not wait for.
    pub position: Position,
}

impl<'a> Request<'a> {
    pub(crate) fn read(
        r: &mut Reader<'a>,
        up: Upstream,
        is_text: bool,
    ) -> Result<Self, DecodeError> {
        Ok(Self {
            up,
            socket: r.socket()?,
            credit: r.u64()?,
            method: r.name(MAX_METHOD, "method")?,
            key: r.str(MAX_KEY, "key")?,
            payload: r.payload(is_text)?,
        })
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.put_u64(u64::from(self.socket.0));
        out.put_u64(self.credit);
        out.put_bytes(self.method.as_bytes());
        out.put_bytes(self.key.as_bytes());
        out.extend_from_slice(self.payload.as_bytes());
    }
}

impl<'a> Publish<'a> {
    pub(crate) fn read(
        r: &mut Reader<'a>,
        up: Upstream,
        is_text: bool,
    ) -> Result<Self, DecodeError> {
        Ok(Self {
            up,
            socket: r.socket()?,
            topic: r.topic_name()?,
            key: r.str(MAX_KEY, "key")?,
            payload: r.payload(is_text)?,
        })
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.put_u64(u64::from(self.socket.0));
        out.put_bytes(self.topic.as_bytes());
        out.put_bytes(self.key.as_bytes());
        out.extend_from_slice(self.payload.as_bytes());
    }
}

impl<'a> Recover<'a> {
    pub(crate) fn read(r: &mut Reader<'a>, up: Upstream) -> Result<Self, DecodeError> {
        Ok(Self { up, socket: r.socket()?, since: r.position()?, topic: r.rest_topic_name()? })
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.put_u64(u64::from(self.socket.0));
        out.put_position(self.since);
        out.extend_from_slice(self.topic.as_bytes());
    }
}

impl<'a> Rejected<'a> {
    pub(crate) fn read(r: &mut Reader<'a>, tab: Alias) -> Result<Self, DecodeError> {
        Ok(Self {
            tab,
            socket: r.socket()?,
            code: r.u16()?,
            retry_ms: r.optional("retry", Reader::u64)?,
            message: r.rest_str(MAX_MESSAGE_TEXT, "message")?,
        })
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.put_u64(u64::from(self.socket.0));
        out.put_u64(u64::from(self.code));
        out.put_optional(self.retry_ms);
        out.extend_from_slice(self.message.as_bytes());
    }
}

impl<'a> Reply<'a> {
    pub(crate) fn read(r: &mut Reader<'a>, tab: Alias, is_text: bool) -> Result<Self, DecodeError> {
        Ok(Self { tab, socket: r.socket()?, last: r.bool("last")?, payload: r.payload(is_text)? })
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.put_u64(u64::from(self.socket.0));
        out.push(u8::from(self.last));
        out.extend_from_slice(self.payload.as_bytes());
    }
}

impl<'a> Recovered<'a> {
    pub(crate) fn read(r: &mut Reader<'a>, tab: Alias, is_text: bool) -> Result<Self, DecodeError> {
        Ok(Self {
            tab,
            socket: r.socket()?,
            position: r.position()?,
            previous: r.u64()?,
            payload: r.payload(is_text)?,
        })
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.put_u64(u64::from(self.socket.0));
        out.put_position(self.position);
        out.put_u64(self.previous);
        out.extend_from_slice(self.payload.as_bytes());
    }
}

impl CaughtUp {
    pub(crate) fn read(r: &mut Reader<'_>, tab: Alias) -> Result<Self, DecodeError> {
        Ok(Self {
            tab,
            socket: r.socket()?,
            missing: r.optional("missing", Reader::position)?,
            position: r.position()?,
        })
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.put_u64(u64::from(self.socket.0));
        out.put_optional_position(self.missing);
        out.put_position(self.position);
    }
}
