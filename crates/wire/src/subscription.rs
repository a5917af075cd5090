//! Frames by which a server tells a hub of its subscriptions.

use crate::{
    DecodeError, Position, TopicId, UnsubscribedReason,
    codec::{Put, Reader},
    limit::MAX_MESSAGE_TEXT,
};

/// SUBSCRIBED: the browser is subscribed to a topic. It answers SUBSCRIBE. After the WELCOME of a
/// resumed session, the server also sends one for each subscription of the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscribed<'a> {
    /// The number of the SUBSCRIBE that this answers. It is 0 in the list after WELCOME.
    pub request: u64,
    /// The topic's number while this server runs. It is never 0.
    pub topic: TopicId,
    /// True if the server sends all publications that the hub missed since its position.
    pub recovered: bool,
    /// The position of the topic now. In the list after WELCOME, the position before the
    /// publications that follow.
    pub position: Position,
    /// The name of the topic. It is never empty.
    pub name: &'a str,
}

/// UNSUBSCRIBED: the server refuses a subscription, or ends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsubscribed<'a> {
    /// The number of the SUBSCRIBE that is refused, or that began the subscription. It is 0 if the
    /// subscription was in the list after WELCOME.
    pub request: u64,
    /// The reason for the refusal or the end.
    pub reason: UnsubscribedReason,
    /// Milliseconds after which the hub may subscribe again. `None` means that subscribing again is
    /// of no use.
    pub retry_ms: Option<u64>,
    /// The name of the topic. It is never empty.
    pub name: &'a str,
    /// A text for the programmer.
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
