//! What a server says of a hub's subscriptions.

use crate::{
    DecodeError, Position, TopicId, UnsubscribedReason,
    codec::{Put, Reader},
    limit::MAX_MESSAGE_TEXT,
};

/// A topic is subscribed: the answer to SUBSCRIBE, and after the WELCOME of a resumed session the
/// list of its subscriptions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscribed<'a> {
    /// The request it answers; 0 in the list after WELCOME.
    pub request: u64,
    /// The topic's number while this server runs. Never 0.
    pub topic: TopicId,
    /// Whether all that the hub missed since its position follows.
    pub recovered: bool,
    /// Where the topic is now.
    pub position: Position,
    /// The topic's name.
    pub name: &'a str,
}

/// A subscription was refused, or ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsubscribed<'a> {
    /// The request that is refused, or that began the subscription; 0 when the subscription was
    /// in the list after WELCOME.
    pub request: u64,
    /// Why.
    pub reason: UnsubscribedReason,
    /// When to subscribe again, in milliseconds; `None` when that is of no use.
    pub retry_ms: Option<u64>,
    /// The topic's name.
    pub name: &'a str,
    /// For the programmer who reads it.
    pub message: &'a str,
}

impl<'a> Subscribed<'a> {
    pub(crate) fn read(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self {
            request: r.u64()?,
            topic: r.topic()?,
            recovered: r.bool("recovered")?,
            position: r.position()?,
            name: r.rest_topic_name()?,
        })
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.put_u64(self.request);
        out.put_u64(self.topic.0);
        out.push(u8::from(self.recovered));
        out.put_position(self.position);
        out.extend_from_slice(self.name.as_bytes());
    }
}

impl<'a> Unsubscribed<'a> {
    pub(crate) fn read(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self {
            request: r.u64()?,
            reason: UnsubscribedReason::from_byte(r.u8()?),
            retry_ms: r.optional("retry", Reader::u64)?,
            name: r.topic_name()?,
            message: r.rest_str(MAX_MESSAGE_TEXT, "message")?,
        })
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.put_u64(self.request);
        out.push(self.reason.byte());
        out.put_optional(self.retry_ms);
        out.put_bytes(self.name.as_bytes());
        out.extend_from_slice(self.message.as_bytes());
    }
}
