//! Questions that a tab asks the server, and their answers. Since version 2.
//!
//! A tab numbers its questions and its virtual sockets from one sequence. CREDIT and REJECTED
//! therefore name both in the same way.

use crate::{
    Alias, DecodeError, Payload, Position, SocketId, Upstream,
    codec::{Put, Reader},
    limit::{MAX_KEY, MAX_MESSAGE_TEXT, MAX_METHOD},
};

/// A tab's REQUEST. The server answers it with one or more REPLY frames, or with REJECTED.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// The tab's alias and the frame's number.
    pub up: Upstream,
    /// The number that the tab chose for this request.
    pub socket: SocketId,
    /// Credit for replies: the server may send replies of this cost before it gets more by CREDIT.
    /// See [`message_cost`](crate::message_cost).
    pub credit: u64,
    /// The name of the method. It is never empty.
    pub method: &'a str,
    /// The idempotency key. It is empty if there is none.
    pub key: &'a str,
    /// The input of the method, untouched.
    pub payload: Payload<'a>,
}

/// A tab's PUBLISH: the tab sends a message to a topic. Answered by PUBLISHED or REJECTED.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Publish<'a> {
    /// The tab's alias and the frame's number.
    pub up: Upstream,
    /// The number that the tab chose for this question.
    pub socket: SocketId,
    /// The topic's name. It is never empty.
    pub topic: &'a str,
    /// The idempotency key. It is empty if there is none.
    pub key: &'a str,
    /// The message to publish, untouched.
    pub payload: Payload<'a>,
}

/// A tab's RECOVER: the tab asks for the publications of a topic that it has missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recover<'a> {
    /// The tab's alias and the frame's number.
    pub up: Upstream,
    /// The number that the tab chose for this question.
    pub socket: SocketId,
    /// The position of the last publication that the tab has.
    pub since: Position,
    /// The topic's name. It is never empty.
    pub topic: &'a str,
}

/// REJECTED: the server refuses an OPEN or a question of a tab, or ends a question without the
/// answer that the tab wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rejected<'a> {
    /// The alias of the tab, whose lane carries the frame.
    pub tab: Alias,
    /// The number that the tab chose for the virtual socket or the question.
    pub socket: SocketId,
    /// The reason. Up to 255 it is a code of [`ErrorCode`](crate::ErrorCode). Above 255 the
    /// application chose it.
    pub code: u16,
    /// Milliseconds after which the tab may try again. `None` means that trying again is of no use.
    pub retry_ms: Option<u64>,
    /// A text for the programmer.
    pub message: &'a str,
}

/// One reply to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply<'a> {
    /// The alias of the tab, whose lane carries the frame.
    pub tab: Alias,
    /// The number that the tab chose for the request.
    pub socket: SocketId,
    /// True if no further reply to this request follows.
    pub last: bool,
    /// The content of the reply, untouched.
    pub payload: Payload<'a>,
}

/// A publication that a tab had missed, sent because of its RECOVER.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recovered<'a> {
    /// The alias of the tab, whose lane carries the frame.
    pub tab: Alias,
    /// The number that the tab chose for its RECOVER.
    pub socket: SocketId,
    /// The publication's position in the topic.
    pub position: Position,
    /// The offset of the publication before it.
    pub previous: u64,
    /// The published message, untouched.
    pub payload: Payload<'a>,
}

/// The end of the answer to RECOVER.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CaughtUp {
    /// The alias of the tab, whose lane carries the frame.
    pub tab: Alias,
    /// The number that the tab chose for its RECOVER.
    pub socket: SocketId,
    /// If set, the publications after the tab's position and up to this one are lost. `None` means
    /// that none is lost.
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
