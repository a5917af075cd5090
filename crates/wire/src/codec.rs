//! Reads and writes fields.
//!
//! A varint is LEB128: seven bits a byte, least significant first. The high bit of a byte says that
//! another byte follows. Only the shortest form is valid.

use crate::{
    Alias, DecodeError, HubId, LaneCount, Payload, Position, SessionId, SocketId, TabId, Token,
    TopicId,
    limit::{MAX_ACK_ENTRIES, MAX_TOPIC_NAME},
};

type Result<T> = std::result::Result<T, DecodeError>;

/// Reads fields from the front of a message.
#[derive(Clone, Debug)]
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Returns a reader of these bytes.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Fails with [`DecodeError::TrailingBytes`] unless every byte was read.
    pub const fn end(&self) -> Result<()> {
        if self.0.is_empty() { Ok(()) } else { Err(DecodeError::TrailingBytes) }
    }

    /// Reads a field of one byte.
    pub fn u8(&mut self) -> Result<u8> {
        let (first, rest) = self.0.split_first().ok_or(DecodeError::Truncated)?;
        self.0 = rest;
        Ok(*first)
    }

    /// Reads a byte that must be 0 or 1. `field` names the field in the error.
    pub fn bool(&mut self, field: &'static str) -> Result<bool> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(DecodeError::BadValue(field)),
        }
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or(DecodeError::Truncated)?;
        self.0 = rest;
        Ok(*head)
    }

    /// Reads a varint of at most 64 bits.
    pub fn u64(&mut self) -> Result<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(DecodeError::BadVarint);
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                let minimal = byte != 0 || shift == 0;
                return if minimal { Ok(value) } else { Err(DecodeError::BadVarint) };
            }
        }
        Err(DecodeError::BadVarint)
    }

    /// Reads a varint of at most 32 bits.
    pub fn u32(&mut self) -> Result<u32> {
        u32::try_from(self.u64()?).map_err(|_| DecodeError::BadVarint)
    }

    /// Reads a varint of at most 16 bits.
    pub fn u16(&mut self) -> Result<u16> {
        u16::try_from(self.u64()?).map_err(|_| DecodeError::BadVarint)
    }

    /// Reads a varint length of at most `max`, then as many bytes. `field` names the field in the
    /// error.
    pub fn bytes(&mut self, max: usize, field: &'static str) -> Result<&'a [u8]> {
        let len = self.len(max, field)?;
        let (head, rest) = self.0.split_at_checked(len).ok_or(DecodeError::Truncated)?;
        self.0 = rest;
        Ok(head)
    }

    /// Reads the same as [`bytes`](Self::bytes), which must be UTF-8.
    pub fn str(&mut self, max: usize, field: &'static str) -> Result<&'a str> {
        text(self.bytes(max, field)?)
    }

    /// Reads the same as [`str`](Self::str), which must not be empty.
    pub(crate) fn name(&mut self, max: usize, field: &'static str) -> Result<&'a str> {
        match self.str(max, field)? {
            "" => Err(DecodeError::BadValue(field)),
            name => Ok(name),
        }
    }

    /// Reads a bool, then a field if the bool is 1.
    pub(crate) fn optional<T>(
        &mut self,
        field: &'static str,
        read: impl FnOnce(&mut Self) -> Result<T>,
    ) -> Result<Option<T>> {
        if self.bool(field)? { read(self).map(Some) } else { Ok(None) }
    }

    /// Reads a varint count of at most `max`. `field` names the field in the error.
    pub fn len(&mut self, max: usize, field: &'static str) -> Result<usize> {
        match usize::try_from(self.u64()?) {
            Ok(len) if len <= max => Ok(len),
            _ => Err(DecodeError::TooLong(field)),
        }
    }

    /// Reads all bytes that are left.
    pub(crate) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    /// Reads all bytes that are left as text of at most `max` bytes.
    pub(crate) fn rest_str(&mut self, max: usize, field: &'static str) -> Result<&'a str> {
        let rest = self.rest();
        if rest.len() > max {
            return Err(DecodeError::TooLong(field));
        }
        text(rest)
    }

    pub(crate) fn payload(&mut self, is_text: bool) -> Result<Payload<'a>> {
        let rest = self.rest();
        Ok(if is_text { Payload::Text(text(rest)?) } else { Payload::Binary(rest) })
    }

    pub(crate) fn tab(&mut self) -> Result<TabId> {
        self.array().map(|bytes| TabId(u64::from_be_bytes(bytes)))
    }

    pub(crate) fn hub(&mut self) -> Result<HubId> {
        self.array().map(|bytes| HubId(u64::from_be_bytes(bytes)))
    }

    pub(crate) fn session(&mut self) -> Result<SessionId> {
        self.array().map(SessionId)
    }

    pub(crate) fn token(&mut self) -> Result<Token> {
        self.array().map(Token)
    }

    pub(crate) fn alias(&mut self) -> Result<Alias> {
        match self.u32()? {
            0 => Err(DecodeError::BadValue("alias")),
            alias => Ok(Alias(alias)),
        }
    }

    pub(crate) fn socket(&mut self) -> Result<SocketId> {
        match self.u32()? {
            0 => Err(DecodeError::BadValue("socket")),
            socket => Ok(SocketId(socket)),
        }
    }

    /// Reads the number of a frame or a request. Such numbers begin at 1.
    pub(crate) fn ordinal(&mut self, field: &'static str) -> Result<u64> {
        match self.u64()? {
            0 => Err(DecodeError::BadValue(field)),
            number => Ok(number),
        }
    }

    pub(crate) fn topic(&mut self) -> Result<TopicId> {
        self.ordinal("topic").map(TopicId)
    }

    /// Reads all bytes that are left as the name of a topic.
    pub(crate) fn rest_topic_name(&mut self) -> Result<&'a str> {
        named(self.rest_str(MAX_TOPIC_NAME, "topic")?)
    }

    pub(crate) fn topic_name(&mut self) -> Result<&'a str> {
        self.name(MAX_TOPIC_NAME, "topic")
    }

    pub(crate) fn position(&mut self) -> Result<Position> {
        Ok(Position { epoch: self.u64()?, offset: self.u64()? })
    }

    pub(crate) fn lane_counts(&mut self) -> Result<Vec<LaneCount>> {
        let len = self.len(MAX_ACK_ENTRIES, "lanes")?;
        (0..len).map(|_| Ok(LaneCount { lane: self.u32()?, count: self.u64()? })).collect()
    }
}

fn text(bytes: &[u8]) -> Result<&str> {
    std::str::from_utf8(bytes).map_err(|_| DecodeError::BadText)
}

const fn named(topic: &str) -> Result<&str> {
    if topic.is_empty() { Err(DecodeError::BadValue("topic")) } else { Ok(topic) }
}

/// Appends fields to a message.
pub trait Put {
    /// Appends a varint, in its shortest form.
    fn put_u64(&mut self, value: u64);
    /// Appends the length as a varint, then the bytes.
    fn put_bytes(&mut self, bytes: &[u8]);
    /// Appends the number of entries, then the lane and the count of each.
    fn put_lane_counts(&mut self, lanes: &[LaneCount]);
    /// Appends the epoch, then the offset.
    fn put_position(&mut self, position: Position);
    /// Appends a bool, then the value as a varint if there is one.
    fn put_optional(&mut self, value: Option<u64>);
    /// Appends a bool, then the position if there is one.
    fn put_optional_position(&mut self, position: Option<Position>);
}

impl Put for Vec<u8> {
    fn put_u64(&mut self, mut value: u64) {
        while value >= 0x80 {
            #[expect(clippy::cast_possible_truncation, reason = "the low seven bits are wanted")]
            self.push(value as u8 | 0x80);
            value >>= 7;
        }
        #[expect(clippy::cast_possible_truncation, reason = "less than 0x80")]
        self.push(value as u8);
    }

    fn put_bytes(&mut self, bytes: &[u8]) {
        self.put_u64(bytes.len() as u64);
        self.extend_from_slice(bytes);
    }

    fn put_lane_counts(&mut self, lanes: &[LaneCount]) {
        self.put_u64(lanes.len() as u64);
        for LaneCount { lane, count } in lanes {
            self.put_u64(u64::from(*lane));
            self.put_u64(*count);
        }
    }

    fn put_position(&mut self, position: Position) {
        self.put_u64(position.epoch);
        self.put_u64(position.offset);
    }

    fn put_optional(&mut self, value: Option<u64>) {
        self.push(u8::from(value.is_some()));
        if let Some(value) = value {
            self.put_u64(value);
        }
    }

    fn put_optional_position(&mut self, position: Option<Position>) {
        self.push(u8::from(position.is_some()));
        if let Some(position) = position {
            self.put_position(position);
        }
    }
}
